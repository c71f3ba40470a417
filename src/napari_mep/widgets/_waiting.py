"""Work that must be done before a function of the GUI thread may return."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from qtpy.QtCore import QCoreApplication, QEventLoop, Qt, QTimer
from qtpy.QtWidgets import QApplication, QMainWindow, QProgressDialog, QWidget

__all__ = ["Cancelled", "Progress", "wait_for"]

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""``progress(done, total)``"""

_POLL_MS = 50


class Cancelled(Exception):
    """The user did not want to wait."""


def wait_for(function: Callable[[Progress], T], label: str) -> T:
    """Call a function in a thread while a dialog shows its progress and the window stays alive.

    napari asks for sample data in its GUI thread and wants the layers as the return value, which
    would freeze the window for as long as a simulation takes. Without an application, or outside
    its thread, the function is simply called.

    Parameters
    ----------
    function : callable
        Called as ``function(progress)``. Once the user has pressed Cancel, ``progress`` raises
        `Cancelled` to end it; what it returns is dropped in any case.
    label : str
        What is being done, for the dialog.

    Returns
    -------
    object
        What the function returns.

    Raises
    ------
    Cancelled
        The user pressed Cancel.
    Exception
        Whatever the function raises.
    """
    application = QCoreApplication.instance()
    if not isinstance(application, QApplication) or (
        threading.current_thread() is not threading.main_thread()
    ):
        return function(lambda _done, _total: None)

    cancelled = threading.Event()
    state = {"done": 0, "total": 0}
    results: list[T] = []
    failures: list[Exception] = []

    def progress(done: int, total: int) -> None:
        if cancelled.is_set():
            raise Cancelled(label)
        state.update(done=done, total=total)

    def work() -> None:
        try:
            results.append(function(progress))
        except Exception as error:  # noqa: BLE001  (raised again in the GUI thread)
            failures.append(error)

    dialog = QProgressDialog(label, "Cancel", 0, 0, _main_window())
    dialog.setWindowTitle("napari-mep")
    dialog.setWindowModality(Qt.WindowModality.ApplicationModal)
    dialog.setMinimumDuration(0)
    dialog.setAutoReset(False)
    dialog.setAutoClose(False)
    dialog.canceled.connect(cancelled.set)
    thread = threading.Thread(target=work, name="napari-mep sample", daemon=True)
    loop, timer = QEventLoop(), QTimer()

    def look() -> None:
        if cancelled.is_set() or not thread.is_alive():
            loop.quit()
        else:
            dialog.setMaximum(state["total"])
            dialog.setValue(state["done"])

    timer.timeout.connect(look)
    timer.start(_POLL_MS)
    dialog.show()
    thread.start()
    try:
        loop.exec()
    finally:
        timer.stop()
        dialog.deleteLater()
    if cancelled.is_set():  # the thread finds out at its next step; nobody needs to wait for it
        raise Cancelled(label)
    if failures:
        raise failures[0]
    return results[0]


def _main_window() -> QWidget | None:
    """What the dialog belongs to, and takes its style from: napari's window.

    Never another dialog: the one in which the file was chosen goes, and would take ours with it.
    """
    active = QApplication.activeWindow()
    if isinstance(active, QMainWindow):
        return active
    windows = (w for w in QApplication.topLevelWidgets() if isinstance(w, QMainWindow))
    return next((w for w in windows if w.isVisible()), None)
