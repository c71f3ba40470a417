"""Real work in other processes and on a real Dask cluster."""

from __future__ import annotations

import multiprocessing
import threading
import time
from concurrent.futures import BrokenExecutor

import numpy as np
import pytest
from distributed import LocalCluster

from napari_mep.benchmark.cases import SimulationCache, make_tasks, read_views
from napari_mep.benchmark.methods import parse_methods
from napari_mep.benchmark.records import Records
from napari_mep.benchmark.run import run_tasks
from napari_mep.benchmark.schedulers import open_backend
from napari_mep.benchmark.specimens import find_specimens
from napari_mep.benchmark.work import Stopped, simulate
from napari_mep.crystals.samples import resolve
from napari_mep.data.experiment import Experiment
from napari_mep.errors import DeviceError
from napari_mep.reconstruction.plan import ReconstructionPlan


@pytest.mark.slow
def test_processes_compute_die_and_stop(small_experiment):
    """Two children; one piece of work outlives the death of its process, one is given up."""
    sample = resolve("si")
    before = set(multiprocessing.active_children())
    stop = threading.Event()
    with open_backend(2, stop=stop) as backend:
        assert backend.slots == 2
        lost = backend.submit(simulate, sample, Experiment())  # half a minute
        _until(lost.running)
        for child in set(multiprocessing.active_children()) - before:
            child.kill()
        assert isinstance(lost.exception(timeout=60), BrokenExecutor)
        here = simulate(sample, small_experiment)
        there = backend.submit(simulate, sample, small_experiment).result(timeout=120)
        assert np.array_equal(there.patterns, here.patterns)
        given_up = backend.submit(simulate, sample, Experiment())
        _until(given_up.running)
        stop.set()
        assert isinstance(given_up.exception(timeout=60), Stopped)
    assert not set(multiprocessing.active_children()) - before


def test_a_dask_cluster(small_experiment, tmp_path):
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        dashboard_address=None,
    ) as cluster:
        views, _ = read_views(find_specimens(["MgO"]), small_experiment)
        plan = ReconstructionPlan.parse({"gradient": {"iterations": 2}, "device": "cpu"})
        tasks = make_tasks(views, [1e5], parse_methods(["gradient"], plan), seed=1)
        records, cache = Records(tmp_path / "results.jsonl"), SimulationCache(tmp_path / "cache")
        with open_backend(scheduler=cluster.scheduler_address) as backend:
            assert run_tasks(tasks, records, cache, backend) == []
    result = records.get(tasks[0].key)
    assert result is not None
    assert result.ssim > 0.3
    # The same in this process, from the simulation that came back from the cluster.
    again = Records(tmp_path / "again.jsonl")
    with open_backend() as backend:
        assert run_tasks(tasks, again, cache, backend) == []
    assert again.get(tasks[0].key).ssim == pytest.approx(result.ssim, rel=1e-4)


def test_no_cluster_there(monkeypatch):
    monkeypatch.setattr("napari_mep.benchmark.schedulers._CONNECT_SECONDS", 0.5)
    with (
        pytest.raises(
            DeviceError, match=r"scheduler tcp://127\.0\.0\.1:1: no Dask scheduler answers"
        ),
        open_backend(scheduler="tcp://127.0.0.1:1"),
    ):
        pass


def _until(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
