"""A short call off the GUI thread: opening a file, writing a result."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, Signal
from superqt.utils import create_worker

from napari_mep.widgets._job import describe_failure

__all__ = ["BackgroundCall"]

log = logging.getLogger(__name__)


class BackgroundCall(QObject):
    """Runs functions in a thread; of several requests only the newest one answers.

    superqt's worker is used instead of napari's: napari keeps each of its workers, and with it all
    that the function holds, until the window closes.

    Attributes
    ----------
    succeeded : Signal(object)
        What the newest function returned.
    failed : Signal(str)
        Why it failed, one line.
    """

    succeeded = Signal(object)
    failed = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._newest = 0
        self._busy = False

    @property
    def busy(self) -> bool:
        """Whether an answer is still to come."""
        return self._busy

    def submit(self, function: Callable[[], Any]) -> None:
        """Call a function in a thread."""
        self._newest += 1
        self._busy = True
        worker = create_worker(_answer, function, self._newest, _ignore_errors=True)
        worker.returned.connect(self._on_answer)
        worker.start()

    def cancel(self) -> None:
        """Forget whatever is under way."""
        self._newest += 1
        self._busy = False

    def _on_answer(self, answer: tuple[int, Any, str | None]) -> None:
        ticket, value, failure = answer
        if ticket != self._newest:
            return
        self._busy = False
        if failure is None:
            self.succeeded.emit(value)
        else:
            self.failed.emit(failure)


def _answer(function: Callable[[], Any], ticket: int) -> tuple[int, Any, str | None]:
    # Failures travel as text, so that no exception keeps the frames of a reader alive.
    try:
        return ticket, function(), None
    except Exception as error:  # noqa: BLE001  (a reader may raise anything)
        log.info("background call failed\n%s", "".join(traceback.format_exception(error)))
        return ticket, None, describe_failure(error)
