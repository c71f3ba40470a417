"""A function that takes long, and a window that lives on meanwhile."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QDialog, QProgressDialog

from napari_mep.errors import DataError
from napari_mep.widgets._waiting import Cancelled, wait_for


def dialogs() -> list[QProgressDialog]:
    return [w for w in QApplication.topLevelWidgets() if isinstance(w, QProgressDialog)]


@pytest.fixture(autouse=True)
def _clean(qtbot: Any):
    yield
    qtbot.waitUntil(lambda: not dialogs())


def test_the_window_lives_while_a_thread_works(qtbot):
    ticks, seen = [], []
    timer = QTimer()
    timer.timeout.connect(lambda: ticks.append(1))
    timer.timeout.connect(lambda: seen.extend((d.value(), d.maximum()) for d in dialogs()))
    timer.start(20)

    def work(progress):
        assert threading.current_thread() is not threading.main_thread()
        for done in range(1, 6):
            progress(done, 5)
            time.sleep(0.06)
        return "layers"

    assert wait_for(work, "Simulating") == "layers"
    timer.stop()
    assert len(ticks) >= 5
    assert any(value > 0 and maximum == 5 for value, maximum in seen)


def test_errors_arrive_as_they_are(qtbot):
    def work(progress):
        raise DataError("dose: must be positive")

    with pytest.raises(DataError, match="must be positive"):
        wait_for(work, "Simulating")


def test_cancel_returns_at_once_and_ends_the_work(qtbot):
    ended = threading.Event()
    QTimer.singleShot(100, lambda: dialogs()[0].canceled.emit())

    def work(progress):
        try:
            for done in range(10_000):
                progress(done, 10_000)
                time.sleep(0.002)
        finally:
            ended.set()

    began = time.perf_counter()
    with pytest.raises(Cancelled):
        wait_for(work, "Simulating")
    assert time.perf_counter() - began < 2
    assert ended.wait(2)


def test_a_dialog_that_closes_meanwhile_does_not_take_ours_along(qtbot):
    chooser = QDialog()
    with qtbot.waitActive(chooser):
        chooser.show()
        chooser.activateWindow()
    chooser.deleteLater()

    def work(progress):
        time.sleep(0.2)
        return "layers"

    assert wait_for(work, "Opening") == "layers"


def test_outside_the_gui_thread_it_is_a_plain_call(qtbot):
    results = []
    thread = threading.Thread(
        target=lambda: results.append(wait_for(lambda p: threading.current_thread(), "x"))
    )
    thread.start()
    thread.join(5)
    assert results == [thread]
