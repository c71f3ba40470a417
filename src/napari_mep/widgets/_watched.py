"""A long call off the GUI thread that tells how far it is and can be stopped; the newest wins."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal
from superqt.utils import create_worker

from napari_mep.widgets._job import describe_failure

__all__ = ["Watch", "WatchedCall"]

log = logging.getLogger(__name__)

_POLL_MS = 100


@dataclass(slots=True, eq=False)
class Watch:
    """What a function in the thread and the GUI say to each other.

    Parameters
    ----------
    stop : threading.Event
        Set when the result is not wanted any more.
    state : tuple of (int, int, str)
        Done, in all, and what is being done.
    """

    stop: threading.Event = field(default_factory=threading.Event)
    state: tuple[int, int, str] = (0, 0, "")

    def tell(self, done: int, total: int, what: str = "") -> None:
        """Report progress; the GUI looks at it now and then, so this costs nothing."""
        self.state = (done, total, what)


class WatchedCall(QObject):
    """Runs one function at a time; a newer one stops the older and starts when that has ended.

    So a mouse that drags something never piles up threads, and no stale answer arrives.

    Attributes
    ----------
    succeeded : Signal(object)
        What the newest function returned.
    failed : Signal(str)
        Why it failed, one line.
    stopped : Signal()
        The user cancelled it, and it has ended.
    progressed : Signal(int, int, str)
        Done, in all, and what is being done; a few times a second.
    """

    succeeded = Signal(object)
    failed = Signal(str)
    stopped = Signal()
    progressed = Signal(int, int, str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._running: Watch | None = None
        self._next: Callable[[Watch], Any] | None = None
        self._closed = False
        self._poll = QTimer(self)
        self._poll.setInterval(_POLL_MS)
        self._poll.timeout.connect(self._look)

    @property
    def busy(self) -> bool:
        """Whether an answer is still to come."""
        return not self._closed and (self._running is not None or self._next is not None)

    def submit(self, function: Callable[[Watch], Any]) -> None:
        """Call ``function(watch)`` in a thread, as soon as the one before has ended."""
        if self._closed:
            return
        self._next = function
        if self._running is None:
            self._start()
        else:
            self._running.stop.set()

    def cancel(self) -> None:
        """Stop; `stopped` says when."""
        self._next = None
        if self._running is not None:
            self._running.stop.set()

    def close_down(self) -> None:
        """Stop, and let nothing arrive any more."""
        self._closed = True
        self._poll.stop()
        self.cancel()

    def _start(self) -> None:
        function, self._next = self._next, None
        assert function is not None
        self._running = watch = Watch()
        # A widget that is deleted cannot stop its call any more.
        self.destroyed.connect(watch.stop.set)
        worker = create_worker(_answer, function, watch, _ignore_errors=True)
        worker.returned.connect(self._on_answer)
        self._poll.start()
        worker.start()

    def _look(self) -> None:
        if self._running is not None and not self._running.stop.is_set():
            self.progressed.emit(*self._running.state)

    def _on_answer(self, answer: tuple[Watch, Any, str | None]) -> None:
        watch, value, failure = answer
        self.destroyed.disconnect(watch.stop.set)
        self._running = None
        if self._closed:
            return
        if self._next is not None:
            self._start()
            return
        self._poll.stop()
        if watch.stop.is_set():
            self.stopped.emit()
        elif failure is None:
            self.succeeded.emit(value)
        else:
            self.failed.emit(failure)


def _answer(function: Callable[[Watch], Any], watch: Watch) -> tuple[Watch, Any, str | None]:
    try:
        return watch, function(watch), None
    except Exception as error:  # noqa: BLE001  (whatever it is, it must not reach the worker)
        if not watch.stop.is_set():
            log.info("call failed\n%s", "".join(traceback.format_exception(error)))
        traceback.clear_frames(error.__traceback__)
        return watch, None, describe_failure(error)
