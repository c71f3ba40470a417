"""The five traps of napari's workers, and the states of a job."""

from __future__ import annotations

import gc
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from napari_mep.errors import DeviceError
from napari_mep.widgets._job import JobState, ReconstructionJob, describe_failure
from tests.widgets.conftest import snapshot, volume


class FakeOutOfMemoryError(RuntimeError):
    """Like torch's: a RuntimeError."""


class Tensor:
    """Something heavy that a weak reference can watch."""


@pytest.fixture
def job(qtbot: Any) -> Iterator[ReconstructionJob]:
    job = ReconstructionJob()
    yield job
    job.discard()
    qtbot.waitUntil(lambda: not job.state.busy)


def run(qtbot: Any, job: ReconstructionJob, engine: Any, timeout: int = 5000) -> list[JobState]:
    """Run to the end; all states on the way."""
    states: list[JobState] = []
    job.state_changed.connect(states.append)
    assert job.start(engine)
    qtbot.waitUntil(lambda: not job.state.busy, timeout=timeout)
    return states


def test_snapshots_arrive_in_order_and_the_last_one_always(qtbot, job):
    steps = []
    job.advanced.connect(lambda s: steps.append(s.step))
    states = run(qtbot, job, lambda stop: (snapshot(i, 20) for i in range(1, 21)))
    assert states == [JobState.RUNNING, JobState.DONE]
    assert steps == sorted(steps)
    assert steps[-1] == 20


@pytest.mark.parametrize(
    "error", [FakeOutOfMemoryError("CUDA"), RuntimeError("shape"), ValueError()]
)
def test_any_exception_ends_in_failed(qtbot, job, error):
    """Trap 1: superqt swallows RuntimeErrors and never emits finished."""

    def engine(stop):
        yield snapshot(1, 3, volume())
        raise error

    states = run(qtbot, job, engine)
    assert states == [JobState.RUNNING, JobState.FAILED]
    assert job.failure
    assert job.start(lambda stop: iter(()))  # and the next run can begin


def test_an_engine_that_cannot_begin_fails_too(qtbot, job):
    def engine(stop):
        raise DeviceError("device 'cuda:7': not there")

    run(qtbot, job, engine)
    assert job.state is JobState.FAILED
    assert job.failure == "device 'cuda:7': not there"


def test_stop_runs_the_finally_of_the_engine(qtbot, job):
    """Trap 2: worker.quit() would leave the generator suspended."""
    cleaned = threading.Event()

    def engine(stop):
        try:
            for step in range(1, 1000):
                yield snapshot(step, 1000)
                if stop.wait(0.005):
                    return
        finally:
            cleaned.set()

    job.start(engine)
    with qtbot.waitSignal(job.advanced):
        pass
    job.stop()
    assert job.state is JobState.STOPPING
    qtbot.waitUntil(lambda: job.state is JobState.DONE)
    assert cleaned.is_set()


def test_quit_by_napari_stops_the_engine_too(qtbot, job, gated):
    """napari calls worker.quit when its window closes, and then waits for the thread."""
    job.start(lambda stop: gated(None, None, stop))
    gated.step()
    with qtbot.waitSignal(job.advanced):
        pass
    job._worker.quit()
    qtbot.waitUntil(lambda: job.state is JobState.DONE)
    assert gated.closed.is_set()


@pytest.mark.parametrize("fails", [True, False])
def test_nothing_pins_the_frames_of_the_engine(qtbot, job, fails):
    """Trap 3: exceptions, workers and logs would keep tensors alive."""
    watched = []

    def inner():
        tensor = Tensor()
        watched.append(weakref.ref(tensor))
        if fails:
            raise FakeOutOfMemoryError("no memory")
        return tensor

    def engine(stop):
        tensor = Tensor()
        watched.append(weakref.ref(tensor))
        yield snapshot(1, 2)
        other = inner()
        yield snapshot(2, 2)
        del tensor, other

    worker = []
    job.start(engine)
    worker.append(job._worker)  # as napari keeps it
    qtbot.waitUntil(lambda: not job.state.busy)
    assert job.state is (JobState.FAILED if fails else JobState.DONE)
    gc.collect()
    assert len(watched) == 2
    assert [ref() for ref in watched] == [None, None]


def test_warnings_are_collected_once_each(qtbot, job):
    """Trap 4: in a worker, all warnings go to a signal that nobody listens to."""
    heard = []
    job.warned.connect(heard.append)

    def engine(stop):
        for step in range(1, 4):
            warnings.warn("probe is wider than the window", UserWarning, stacklevel=1)
            yield snapshot(step, 3)

    run(qtbot, job, engine)
    assert heard == ["UserWarning: probe is wider than the window"]


def test_fast_snapshots_are_not_queued(qtbot, job):
    """Trap 5: a thousand snapshots, delivered while the GUI was busy, are one update."""
    finished = threading.Event()
    delivered = []
    job.advanced.connect(delivered.append)

    def engine(stop):
        for step in range(1, 1001):
            # Only every tenth has a volume, not the last.
            yield snapshot(step, 1000, volume(step) if step % 10 == 5 else None)
        finished.set()

    job.start(engine)
    qtbot.wait(20)  # superqt starts the thread from the event loop
    assert finished.wait(5)  # the GUI thread is blocked meanwhile
    before = len(delivered)
    qtbot.waitUntil(lambda: job.state is JobState.DONE)
    assert len(delivered) - before <= 2
    assert delivered[-1].step == 1000
    volumes = [s.volume for s in delivered if s.volume is not None]
    assert volumes[-1].data[0, 0, 0] == 995  # the newest one survives


def test_pause_holds_the_engine_and_resume_lets_it_go_on(qtbot, job):
    taken = []

    def engine(stop):
        for step in range(1, 10_000):
            taken.append(step)
            yield snapshot(step, 10_000)
            if stop.wait(0.002):
                return

    job.start(engine)
    qtbot.waitUntil(lambda: len(taken) > 3)
    job.pause()
    assert job.state is JobState.PAUSED
    qtbot.wait(50)
    held = len(taken)
    qtbot.wait(100)
    assert len(taken) == held
    job.resume()
    qtbot.waitUntil(lambda: len(taken) > held)
    job.stop()
    qtbot.waitUntil(lambda: job.state is JobState.DONE)


def test_stop_ends_a_paused_job(qtbot, job, gated):
    job.start(lambda stop: gated(None, None, stop))
    gated.step()
    with qtbot.waitSignal(job.advanced):
        pass
    job.pause()
    job.stop()
    qtbot.waitUntil(lambda: job.state is JobState.DONE)


def test_stop_is_answered_at_once_though_a_step_takes_long(qtbot, job):
    release = threading.Event()

    def engine(stop):
        yield snapshot(1, 2)
        release.wait(5)
        yield snapshot(2, 2, volume(7))

    last = []
    job.advanced.connect(last.append)
    job.start(engine)
    with qtbot.waitSignal(job.advanced):
        pass
    began = time.perf_counter()
    job.stop()
    assert time.perf_counter() - began < 0.2
    assert job.state is JobState.STOPPING
    release.set()
    qtbot.waitUntil(lambda: job.state is JobState.DONE)
    assert last[-1].volume.data[0, 0, 0] == 7  # the result of the interrupted run is kept


def test_a_busy_job_refuses_a_second_engine(qtbot, job, gated):
    assert job.start(lambda stop: gated(None, None, stop))
    assert not job.start(lambda stop: pytest.fail("must not be called"))
    gated.step(10)
    qtbot.waitUntil(lambda: job.state is JobState.DONE)


def test_discard_delivers_nothing_more_and_ends_idle(qtbot, job, gated):
    delivered = []
    job.advanced.connect(delivered.append)
    job.start(lambda stop: gated(None, None, stop))
    gated.step()
    qtbot.waitUntil(lambda: len(delivered) == 1)
    job.discard()
    gated.step(2)
    qtbot.waitUntil(lambda: job.state is JobState.IDLE)
    assert len(delivered) == 1
    assert gated.closed.is_set()


def test_a_deleted_job_stops_its_engine(qtbot, gated):
    job = ReconstructionJob()
    job.start(lambda stop: gated(None, None, stop))
    gated.step()
    with qtbot.waitSignal(job.advanced):
        pass
    job.deleteLater()
    qtbot.waitUntil(gated.closed.is_set)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DeviceError("device 'x'"), "device 'x'"),
        (MemoryError("9 GiB"), "out of memory (9 GiB)"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), "fewer patterns per step"),
        (KeyError("a\n b"), "KeyError"),
    ],
)
def test_failures_are_described_in_one_line(error, words):
    text = describe_failure(error)
    assert words in text
    assert "\n" not in text
