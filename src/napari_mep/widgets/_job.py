"""One reconstruction at a time, off the GUI thread.

`ReconstructionJob` runs a generator of snapshots in a napari worker and is the only module that
knows the traps of such workers:

1. A generator worker swallows ``RuntimeError`` (all of torch's errors) and then never emits
   ``finished``. Here nothing but `JobFailedError` leaves the generator.
2. ``worker.quit()`` leaves the generator suspended, with everything it holds. Here stopping is an
   event that the engine reads; it ends by itself and its ``finally`` blocks run.
3. An exception pins the frames of its traceback, and with them tensors. Here frames are cleared
   and only the message travels on; the traceback goes to the log as text.
4. While a worker runs, the warnings of the whole process go to its ``warned`` signal. Here they
   are collected, each once.
5. Signals queue without limit. Here the newest snapshot waits in a slot for one, and a signal is
   sent only when that slot was empty.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import traceback
from collections.abc import Callable, Generator, Iterable
from enum import Enum
from typing import Any

from napari.qt.threading import GeneratorWorker, create_worker
from qtpy.QtCore import QObject, Signal

from napari_mep.errors import MepError
from napari_mep.reconstruction.snapshot import Snapshot

__all__ = ["Engine", "JobFailedError", "JobState", "ReconstructionJob", "describe_failure"]

log = logging.getLogger(__name__)

Engine = Callable[[threading.Event], Iterable[Snapshot]]
"""Called in the worker's thread with the stop event; yields snapshots until done or stopped."""


class JobState(Enum):
    """Where a job stands."""

    IDLE = "idle"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    DONE = "done"
    FAILED = "failed"

    @property
    def busy(self) -> bool:
        """Whether the engine is at work or held."""
        return self in (JobState.RUNNING, JobState.PAUSED, JobState.STOPPING)


class JobFailedError(Exception):
    """The message of a failed engine; deliberately no RuntimeError, and without a cause."""


class ReconstructionJob(QObject):
    """State machine around a worker: idle, running, paused, stopping, done or failed.

    All methods belong to the GUI thread, where all signals arrive too.

    Attributes
    ----------
    state_changed : Signal(JobState)
        After every transition. The last of a run, ``DONE``, ``FAILED`` or (discarded) ``IDLE``,
        always comes, and after the last `advanced`.
    advanced : Signal(Snapshot)
        The newest snapshot. When the GUI is slower than the engine, steps are left out, but never
        the newest volume.
    warned : Signal(str)
        A warning from the worker's thread, each text once per run.
    """

    state_changed = Signal(object)
    advanced = Signal(object)
    warned = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._state = JobState.IDLE
        self._failure = ""
        self._channel = _Channel()
        self._worker: Any = None
        self._warnings: set[str] = set()

    @property
    def state(self) -> JobState:
        """Where the job stands."""
        return self._state

    @property
    def failure(self) -> str:
        """Why the last run failed, one line; empty if it did not."""
        return self._failure

    def start(self, engine: Engine) -> bool:
        """Run an engine.

        Parameters
        ----------
        engine : callable
            Called with the stop event in the worker's thread; see `Engine`.

        Returns
        -------
        bool
            False, and nothing happens, while another run is busy.
        """
        if self._state.busy:
            return False
        self._failure = ""
        self._warnings.clear()
        self._channel = channel = _Channel()
        # No bar in napari's activity dock: as long as it has one, an animation in the status bar
        # repaints the whole window, which costs most of a core where OpenGL runs in software.
        self._worker = worker = create_worker(
            _reconstruction,
            engine,
            channel,
            _worker_class=_StoppableWorker,
            _ignore_errors=True,  # the message arrives through `errored` below
            _start_thread=False,
        )
        worker.channel = channel
        worker.yielded.connect(self._deliver)
        worker.warned.connect(self._on_warned)
        worker.errored.connect(self._on_errored)
        worker.finished.connect(self._on_finished)
        # A job that is deleted while it runs cannot stop its engine any more.
        self.destroyed.connect(channel.request_stop)
        self._enter(JobState.RUNNING)
        worker.start()
        return True

    def pause(self) -> None:
        """Hold the engine after its current step."""
        if self._state is JobState.RUNNING:
            self._channel.hold()
            self._enter(JobState.PAUSED)

    def resume(self) -> None:
        """Let a paused engine go on."""
        if self._state is JobState.PAUSED:
            self._channel.release()
            self._enter(JobState.RUNNING)

    def stop(self) -> None:
        """Ask the engine to end after its current step; its last snapshot still arrives."""
        if self._state in (JobState.RUNNING, JobState.PAUSED):
            self._channel.request_stop()
            self._enter(JobState.STOPPING)

    def discard(self) -> None:
        """Like `stop`, but nothing arrives any more and the job ends up idle."""
        if self._state.busy:
            self._channel.discard()
            if self._state is not JobState.STOPPING:
                self._enter(JobState.STOPPING)
        elif self._state is not JobState.IDLE:
            self._enter(JobState.IDLE)

    def _enter(self, state: JobState) -> None:
        self._state = state
        self.state_changed.emit(state)

    def _deliver(self, _token: object = None) -> None:
        snapshot = self._channel.take()
        if snapshot is not None:
            self.advanced.emit(snapshot)

    def _on_warned(self, shown: tuple[Any, ...]) -> None:
        text = f"{shown[1].__name__}: {shown[0]}"
        if text not in self._warnings:
            self._warnings.add(text)
            log.warning("%s (%s:%s)", text, shown[2], shown[3])
            self.warned.emit(text)

    def _on_errored(self, error: Exception) -> None:
        self._failure = str(error)

    def _on_finished(self) -> None:
        self._deliver()
        self.destroyed.disconnect(self._channel.request_stop)
        self._worker = None  # napari keeps every worker, we need not
        if self._channel.discarded:
            self._enter(JobState.IDLE)
        else:
            self._enter(JobState.FAILED if self._failure else JobState.DONE)


def describe_failure(error: BaseException) -> str:
    """What to tell the user about an exception of the engine, in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, MepError):
        return text
    # By name, so that torch need not be loaded to ask.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory ({text}); use fewer patterns per step or another device"
    return f"{type(error).__name__}: {text}; the full traceback is in the log"


class _Channel:
    """What two threads say to each other: hold, stop, and the newest snapshot."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.discarded = False
        self._go = threading.Event()
        self._go.set()
        self._lock = threading.Lock()
        self._newest: Snapshot | None = None

    def hold(self) -> None:
        self._go.clear()

    def release(self) -> None:
        self._go.set()

    def wait_while_held(self) -> None:
        self._go.wait()

    def request_stop(self, _object: object = None) -> None:
        self.stop.set()
        self._go.set()

    def discard(self) -> None:
        self.discarded = True
        self.request_stop()
        self.take()

    def put(self, snapshot: Snapshot) -> bool:
        """Leave a snapshot for the GUI; True if that has to be told, because none was waiting."""
        with self._lock:
            waiting = self._newest
            if waiting is not None and snapshot.volume is None:
                snapshot = dataclasses.replace(snapshot, volume=waiting.volume)
            self._newest = snapshot
            return waiting is None

    def take(self) -> Snapshot | None:
        with self._lock:
            snapshot, self._newest = self._newest, None
            return None if self.discarded else snapshot


class _StoppableWorker(GeneratorWorker):
    """A worker that is stopped only through the engine, also by napari's own ``quit``."""

    channel: _Channel | None = None

    def quit(self) -> None:
        """Ask the engine to end; called by napari when a window closes."""
        if self.channel is not None:
            self.channel.request_stop()


def _reconstruction(engine: Engine, channel: _Channel) -> Generator[None, None, None]:
    """Run the engine to its end; each yield says that a snapshot waits in the channel."""
    failure = yield from _consume(engine, channel)
    # Raised here, where the frames of the engine are gone, and outside any except block: `from
    # None` would hide the original exception but keep it as __context__.
    if failure is not None:
        raise JobFailedError(failure)


def _consume(engine: Engine, channel: _Channel) -> Generator[None, None, str | None]:
    """Feed the channel; returns the description of a failure."""
    try:
        snapshots = engine(channel.stop)
        try:
            for snapshot in snapshots:
                announce = channel.put(snapshot)
                del snapshot  # the GUI may free it while the next step is computed
                if announce:
                    yield
                channel.wait_while_held()
                if channel.discarded:
                    break
        finally:
            close = getattr(snapshots, "close", None)
            if close is not None:
                close()
    except Exception as error:  # noqa: BLE001  (whatever it is, it must not reach the worker)
        log.error("reconstruction failed\n%s", "".join(traceback.format_exception(error)))
        traceback.clear_frames(error.__traceback__)
        return describe_failure(error)
    return None
