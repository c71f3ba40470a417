"""Follows the run in a folder by looking at it every second; starts and stops its process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from qtpy.QtCore import QObject, QTimer, Signal

from napari_mep.widgets._background import BackgroundCall
from napari_mep.widgets._train_actions import ask_to_stop, launch
from napari_mep.widgets._train_look import RunLook, look_at
from napari_mep.widgets._train_process import PROGRAM, Started
from napari_mep.widgets._train_request import TrainRequest
from napari_mep.widgets._train_state import Phase, early_end, phase_of

__all__ = ["RunMonitor"]

_LOOK_MS = 1000


class RunMonitor(QObject):
    """What is known of the run in a folder, whoever started it.

    Parameters
    ----------
    program : sequence of str
        What trains; it is given the arguments of ``napari-mep train``.

    Attributes
    ----------
    attached : Signal(RunLook)
        There is a run in the folder that was not started here; again once its settings are there.
    looked : Signal(RunLook)
        A look at the folder, after `attached`.
    changed : Signal()
        Something may have changed: look, phase or failure.
    refused : Signal(str)
        The process cannot be asked to end, one line.
    """

    attached = Signal(object)
    looked = Signal(object)
    changed = Signal()
    refused = Signal(str)

    def __init__(self, program: Sequence[str] = PROGRAM, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._program = program
        self._run_dir: Path | None = None
        self._forget()
        self._looking, self._launching = BackgroundCall(self), BackgroundCall(self)
        self._asking = BackgroundCall(self)
        self._looking.succeeded.connect(self._on_look)
        self._launching.succeeded.connect(self._on_launched)
        self._launching.failed.connect(self._on_failed)
        self._asking.failed.connect(self._on_refused)
        self._timer = QTimer(self)
        self._timer.setInterval(_LOOK_MS)
        self._timer.timeout.connect(self.look_again)

    @property
    def run_dir(self) -> Path | None:
        """The folder, None while none is chosen."""
        return self._run_dir

    @property
    def look(self) -> RunLook | None:
        """The newest look, None before the first."""
        return self._look

    @property
    def failure(self) -> str:
        """Why the last process ended early, one line; empty if it did not."""
        if self._failure or self._look is None:
            return self._failure
        return self._look.failure

    @property
    def phase(self) -> Phase:
        """Where the run stands."""
        alive = self._started is not None or self._launching.busy
        return phase_of(
            self._look, alive=alive, ran=self._ran, stopping=self._stopping, failure=self.failure
        )

    def set_run_dir(self, run_dir: Path | None) -> None:
        """Follow another folder; the process in the one before goes on."""
        self._looking.cancel()
        self._launching.cancel()  # a process that is just being started is found by looking
        self._run_dir = run_dir
        self._forget()
        if run_dir is None:
            self._timer.stop()
        else:
            self._timer.start()
            self.look_again()
        self.changed.emit()

    def look_again(self) -> None:
        """Look now, in a thread."""
        if self._run_dir is not None and not self._looking.busy:
            self._looking.submit(partial(look_at, self._run_dir, self._offset))

    def start(self, request: TrainRequest, library: Path) -> None:
        """Start a process, from the checkpoint if there is one."""
        look, run_dir = self._look, self._run_dir
        if look is None or run_dir is None or self.phase.busy:
            return
        self._looking.cancel()
        self._failure, self._ran, self._stopping = "", False, False
        resume = look.checkpoint is not None
        if not resume:
            self._offset = 0
        self._launching.submit(
            partial(launch, request, library, run_dir, resume=resume, program=self._program)
        )
        self.changed.emit()

    def stop(self) -> None:
        """Ask the run to save a checkpoint and end."""
        look, run_dir, started = self._look, self._run_dir, self._started
        if not self.phase.busy or run_dir is None:
            return
        self._stopping = True
        if look is not None and look.running:
            self._asking.submit(partial(ask_to_stop, run_dir, look.process))
        elif started is not None and not (self._ran and run_dir.exists()):
            started.terminate()  # it loads, or trains for a folder that is gone
        self.changed.emit()

    def close_down(self) -> None:
        """Stop following. Training goes on."""
        self._timer.stop()
        for call in (self._looking, self._launching, self._asking):
            call.cancel()

    def _forget(self) -> None:
        self._look: RunLook | None = None
        self._started: Started | None = None
        self._ran = self._stopping = False
        self._failure = ""  # of what was started here
        self._offset = 0

    def _on_look(self, look: RunLook) -> None:
        before, self._look = self._look, look
        self._offset = look.offset
        ours = self._started is not None or self._launching.busy
        known = before is not None and before.exists
        told = before is not None and before.settings is not None
        # A process writes its settings some seconds after it has taken the folder.
        if not ours and ((look.exists and not known) or (look.settings is not None and not told)):
            self.attached.emit(look)
        if before is not None and before.exists and not look.exists:
            self._failure = f"run folder {look.path}: is gone, and with it what was trained"
        if look.running:
            self._ran = True
        started = self._started
        if started is not None and started.exit_code is not None:
            self._started = None
            self._failure = early_end(started, stopping=self._stopping) or self._failure
            self.look_again()  # at what it wrote last
        self._stopping = self._stopping and self.phase.busy
        self.looked.emit(look)
        self.changed.emit()

    def _on_launched(self, started: Started) -> None:
        self._started = started
        if self._stopping:
            started.terminate()
        self.changed.emit()

    def _on_failed(self, reason: str) -> None:
        self._failure = reason
        self.changed.emit()

    def _on_refused(self, reason: str) -> None:
        self._stopping = False
        self.changed.emit()
        self.refused.emit(reason)
