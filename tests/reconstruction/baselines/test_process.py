"""A child of our own making: what arrives, how it is stopped, how it fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from napari_mep.errors import SolverError
from napari_mep.reconstruction.baselines.process import run_job
from tests.reconstruction.baselines.conftest import canvas_of

REPORT = "report(i, 0.5 / i, np.full(job.object_shape, i, np.float32))"
THREE = f"for i in (1, 2, 3):\n    {REPORT}"
PID = "open(os.environ['PID_FILE'], 'w').write(str(os.getpid()))"


@pytest.fixture
def pid_file(tmp_path, monkeypatch) -> Path:
    """Where a child writes its number."""
    path = tmp_path / "pid"
    monkeypatch.setenv("PID_FILE", str(path))
    return path


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def gone_within(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not is_alive(pid):
            return True
        time.sleep(0.05)
    return False


def test_frames_arrive_in_order_and_cut_to_the_canvas(job, child):
    frames = list(run_job(job, child(THREE), "A child"))
    assert [(f.iteration, f.residual) for f in frames] == [(1, 0.5), (2, 0.25), (3, 0.5 / 3)]
    for frame in frames:
        np.testing.assert_array_equal(frame.canvas, canvas_of(job, frame.iteration))


def test_what_a_package_prints_does_no_harm(job, child):
    body = f"print('noise'); os.write(1, b'more noise')\n{THREE}\nos.system('echo and more')"
    assert len(list(run_job(job, child(body), "A child"))) == 3


def test_the_child_computes_with_the_threads_it_is_given(job, child):
    body = "n = float(os.environ['OMP_NUM_THREADS'])\n" + THREE.replace("0.5 / i", "n")
    assert next(run_job(job, child(body), "A child")).residual == job.threads


def test_stopping_kills_the_child_and_keeps_what_came_before(job, child, pid_file):
    class Stopped(Exception):
        pass

    received = []

    def check_stop() -> None:
        if received:
            raise Stopped

    body = f"{PID}\ni = 1\n{REPORT}\ntime.sleep(600)"
    frames = run_job(job, child(body), "A child", check_stop)
    received.append(next(frames))
    began = time.monotonic()
    with pytest.raises(Stopped):
        next(frames)
    assert time.monotonic() - began < 1.0  # a tenth on an idle machine; the child sleeps on
    assert not is_alive(int(pid_file.read_text()))
    assert [f.iteration for f in received] == [1]


def test_ctrl_c_in_the_terminal_does_not_reach_the_child(job, child, pid_file):
    body = f"open(os.environ['PID_FILE'], 'w').write(str(os.getpgid(0)))\n{THREE}"
    list(run_job(job, child(body), "A child"))
    assert int(pid_file.read_text()) != os.getpgid(0)


def test_a_closed_generator_leaves_no_child_and_no_folder(job, child, pid_file, tmp_path):
    body = f"{PID}\nopen(os.environ['PID_FILE'] + '-folder', 'w').write(sys.argv[1])\n{THREE}"
    frames = run_job(job, child(f"{body}\ntime.sleep(600)"), "A child")
    next(frames)
    folder = Path(Path(f"{pid_file}-folder").read_text())
    assert folder.is_dir()
    frames.close()
    assert not is_alive(int(pid_file.read_text()))
    assert not folder.exists()


def test_a_crash_shows_the_last_lines_and_leaves_the_caller_alive(job, child):
    body = (
        "i = 1\n"
        f"{REPORT}\n"
        "print('progress 10%\\rprogress 20%', file=sys.stderr)\n"
        "raise ValueError('pattern 7 is bad')"
    )
    frames = run_job(job, child(body), "A child")
    assert next(frames).iteration == 1
    with pytest.raises(SolverError, match="ValueError: pattern 7 is bad") as info:
        next(frames)
    message = str(info.value)
    assert message.startswith("A child ended with exit code 1 after 1 of 3 iterations; ")
    assert "\n" not in message
    assert "\r" not in message


def test_a_child_that_is_killed_from_outside(job, child):
    body = "os.kill(os.getpid(), 9)"
    with pytest.raises(SolverError, match=r"9 \(out of memory.*\) after 0 of 3 .* wrote nothing"):
        list(run_job(job, child(body), "A child"))


def test_a_child_that_ends_too_early(job, child):
    with pytest.raises(SolverError, match="ended with exit code 0 after 1 of 3 iterations"):
        list(run_job(job, child(f"i = 1\n{REPORT}"), "A child"))


def test_a_slow_caller_holds_the_child(job, child, pid_file):
    # Two frames wait in the queue, one at its door, and the rest of the pipe is soon full.
    many = 400
    body = (
        f"for i in range(1, {many + 1}):\n    {REPORT}\n"
        "    open(os.environ['PID_FILE'], 'w').write(str(i))"
    )
    object.__setattr__(job, "iterations", many)
    frames = run_job(job, child(body), "A child")
    next(frames)
    time.sleep(1.0)
    assert int(pid_file.read_text()) < many
    assert [f.iteration for f in frames] == list(range(2, many + 1))


def test_the_child_dies_with_its_parent(job, child, pid_file, tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()
    job.save(folder)
    module = child(f"{PID}\ntime.sleep(600)")
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from napari_mep.reconstruction.baselines.job import Job\n"
        "from napari_mep.reconstruction.baselines.process import run_job\n"
        f"list(run_job(Job.load(Path(sys.argv[1])), {module!r}, 'A child'))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(folder)])
    try:
        end = time.monotonic() + 60
        while not (pid_file.exists() and pid_file.read_text()):
            assert time.monotonic() < end
            time.sleep(0.05)
        pid = int(pid_file.read_text())
        assert is_alive(pid)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert gone_within(pid, 30)
