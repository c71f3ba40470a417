"""Long calls: progress, stop, newest wins, and every way in which a thread can end."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from napari_mep.data.virtual import Stopped
from napari_mep.errors import DataError
from napari_mep.widgets._watched import WatchedCall


@pytest.fixture
def call(qapp):
    call = WatchedCall()
    yield call
    call.close_down()


class Held:
    """A function that works until it is told to stop or to go on."""

    def __init__(self) -> None:
        self.began, self.go, self.ended = (threading.Event() for _ in range(3))

    def __call__(self, watch):
        self.began.set()
        watch.tell(1, 3, "holding")
        while not self.go.wait(0.01):
            if watch.stop.is_set():
                self.ended.set()
                raise Stopped
        self.ended.set()
        return "held"


def test_answers_and_tells(call, qtbot):
    held = Held()
    told = []
    call.progressed.connect(lambda *state: told.append(state))
    call.submit(held)
    qtbot.waitUntil(lambda: (1, 3, "holding") in told)
    assert call.busy
    with qtbot.waitSignal(call.succeeded) as answer:
        held.go.set()
    assert answer.args == ["held"]
    assert not call.busy


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DataError("scan row 3 cannot be read"), "scan row 3 cannot be read"),
        (RuntimeError("a torch error"), "RuntimeError: a torch error"),
        (MemoryError("64 GB"), "out of memory"),
    ],
)
def test_failures_arrive_in_one_line(call, qtbot, error, words):
    def fail(watch):
        raise error

    with qtbot.waitSignal(call.failed) as failure:
        call.submit(fail)
    assert words in failure.args[0]
    assert "\n" not in failure.args[0]
    assert not call.busy


def test_cancel(call, qtbot):
    held = Held()
    failed = []
    call.failed.connect(failed.append)
    call.submit(held)
    held.began.wait(5)
    with qtbot.waitSignal(call.stopped):
        call.cancel()
    assert held.ended.is_set()
    assert failed == []


def test_the_newest_wins_and_only_one_runs(call, qtbot):
    first, answers = Held(), []
    call.succeeded.connect(answers.append)
    call.submit(first)
    first.began.wait(5)
    for number in range(5):
        call.submit(lambda watch, number=number: number)
    qtbot.waitUntil(lambda: not call.busy)
    assert first.ended.is_set()
    assert answers == [4]


def test_nothing_arrives_after_closing(call, qtbot):
    held, answers = Held(), []
    for signal in (call.succeeded, call.failed, call.stopped):
        signal.connect(lambda *_args: answers.append(1))
    call.submit(held)
    held.began.wait(5)
    call.close_down()
    assert held.ended.wait(5)
    qtbot.wait(50)
    call.submit(held)
    assert answers == []
    assert not call.busy


def test_a_deleted_owner_stops_its_call(qtbot):
    call, held = WatchedCall(), Held()
    call.submit(held)
    held.began.wait(5)
    call.deleteLater()
    qtbot.waitUntil(held.ended.is_set)


def test_a_failure_keeps_nothing_alive(call, qtbot):
    class Patterns:
        pass

    def fail(watch):
        patterns = Patterns()
        kept.append(weakref.ref(patterns))
        raise ValueError("no")

    kept: list[weakref.ref] = []
    with qtbot.waitSignal(call.failed):
        call.submit(fail)
    qtbot.wait(20)
    gc.collect()
    assert kept[0]() is None
