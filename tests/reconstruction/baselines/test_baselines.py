"""The real packages on a small scan, from the command line and from Python."""

from __future__ import annotations

import json
import math
import threading
import time

import numpy as np
import pytest
import torch

from napari_mep.cli import main
from napari_mep.data.native import write_dataset
from napari_mep.errors import DeviceError, PlanError
from napari_mep.export.ome_zarr import read_reconstruction
from napari_mep.reconstruction import reconstruct
from napari_mep.reconstruction.baselines import BASELINES
from napari_mep.reconstruction.baselines.catalogue import (
    baseline_record,
    baseline_settings,
    check_baseline,
)
from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.reconstruction.preflight import preflight

# Enough to see the specimen, and no more.
FEW = {
    "lsq-ml": {"iterations": 4, "batch": 12},
    "ptyrad-adam": {"iterations": 5, "learning_rate": 0.02, "batch": 9},
    "ptyrad-lbfgs": {"iterations": 3, "batch": 18},
}


@pytest.fixture(scope="module")
def beam_stop(make_dataset):
    """Patterns in which a part of the bright field was not measured."""
    mask = np.ones((32, 32), bool)
    mask[10:13, 14:20] = False
    return make_dataset(mask=mask)


@pytest.fixture
def few(plan):
    """The plan of a baseline that takes seconds."""

    def make(method: str, **baseline) -> ReconstructionPlan:
        return plan.replace(method=method, seed=3, baseline={**FEW[method], **baseline})

    return make


def agreement(volume, truth) -> float:
    """Correlation of the depth sums."""
    true = truth(volume).sum(0)
    return float(np.corrcoef(volume.depth_sum().ravel(), true.ravel())[0, 1])


@pytest.fixture
def command(tmp_path, capsys):
    """``napari-mep reconstruct`` on a dataset with a plan; returns summary, volume and record."""

    def run(dataset, plan, *options: str):
        write_dataset(tmp_path / "scan.zarr", dataset)
        lines = [f"{k} = {json.dumps(v)}" for k, v in plan.baseline if v is not None]
        (tmp_path / "plan.toml").write_text("\n".join(["[baseline]", *lines]))
        out = tmp_path / "out.ome.zarr"
        arguments = ["reconstruct", tmp_path / "scan.zarr", "-o", out, "--method", plan.method]
        arguments += ["--plan", tmp_path / "plan.toml", "--device", "cpu", "--json", *options]
        code = main([str(a) for a in arguments])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        # Nothing of what the packages print may be there.
        return json.loads(printed.out), *read_reconstruction(out)

    return run


@pytest.mark.parametrize("method", sorted(BASELINES))
def test_each_of_them_works(method, beam_stop, few, truth, command):
    plan = few(method, preset="tuned")
    total = FEW[method]["iterations"]
    summary, volume, record = command(beam_stop, plan, "--seed", "3", "--iterations", str(total))
    assert summary["method"] == record["method"] == method
    assert summary["steps"] == summary["total"] == total
    assert record["plan"]["baseline"]["iterations"] == total
    assert record["baseline"]["package"] == BASELINES[method].package
    assert record["baseline"]["options"] == BASELINES[method].presets["tuned"].options
    assert summary["residual"] < 0.15
    assert agreement(volume, truth) > 0.85

    if method == "ptyrad-lbfgs":
        return
    snapshots = list(reconstruct(beam_stop, plan, preview_seconds=math.inf))
    assert [s.step for s in snapshots] == list(range(1, total + 1))
    assert [s.volume is not None for s in snapshots] == [True, *(total - 2) * [False], True]
    assert {(s.method, s.total, s.stage) for s in snapshots} == {
        (method, total, BASELINES[method].title)
    }
    assert snapshots[-1].residual < snapshots[0].residual
    assert all(math.isnan(s.logsnr) and math.isnan(s.guidance_weight) for s in snapshots)
    # same plan, same data, same seed: same result
    # On several threads the packages add up in an order of their own.
    np.testing.assert_allclose(snapshots[-1].volume.data, volume.data, atol=1e-5)


def test_stop_keeps_the_last_iteration_and_the_residual_is_ours(dataset, few, plan):
    stop = threading.Event()
    snapshots = []
    before = torch.get_rng_state()
    # One mini-batch of all patterns: the first residual is that of vacuum, by either definition.
    theirs = few("ptyrad-adam", iterations=100_000, batch=72)
    for snapshot in reconstruct(dataset, theirs, stop, preview_seconds=math.inf):
        snapshots.append(snapshot)
        if snapshot.step == 2:
            stop.set()
            began = time.monotonic()
    # The generator has ended, so the package's process has, however long its 100,000 passes take.
    assert time.monotonic() - began < 1.0
    first, last = snapshots[0], snapshots[-1]
    assert last.step == 2
    assert last.volume is not None
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_float32_matmul_precision() == "highest"  # which PtyRAD changes on import

    ours = next(reconstruct(dataset, plan))
    assert first.residual == pytest.approx(ours.residual, rel=1e-3)
    assert first.residual_floor == ours.residual_floor
    assert first.volume.origin_A == ours.volume.origin_A
    assert first.volume.data.shape == ours.volume.data.shape


def test_divergence_names_the_setting(dataset, few, monkeypatch):
    from napari_mep.errors import SolverError
    from napari_mep.reconstruction.baselines.job import Frame

    def diverged(job, *_others):
        yield Frame(1, 0.5, np.full(job.crop(np.empty(job.object_shape)).shape, np.nan, np.float32))

    monkeypatch.setattr("napari_mep.reconstruction.baselines.solve.run_job", diverged)
    with pytest.raises(SolverError, match=r"lower baseline\.learning_rate"):
        list(reconstruct(dataset, few("ptyrad-adam")))


# --- settings and what is checked before anything runs --------------------------------------------


def test_a_package_that_is_missing_is_one_sentence(dataset, few, monkeypatch):
    monkeypatch.setattr(
        "napari_mep.reconstruction.baselines.catalogue.find_spec", lambda name: None
    )
    for call in (preflight, lambda *a: next(reconstruct(*a))):
        with pytest.raises(PlanError, match=r"needs the package ptychi.*pip install") as info:
            call(dataset, few("lsq-ml"))
        assert "napari-mep[baselines]" in str(info.value)
        assert "\n" not in str(info.value)


def test_a_device_that_a_package_does_not_know(few):
    with pytest.raises(DeviceError, match="ptychi does not run on it; use cpu or cuda"):
        check_baseline(few("lsq-ml").replace(device="mps"), torch.device("mps"))
    check_baseline(few("ptyrad-adam"), torch.device("mps"))


@pytest.mark.parametrize("method", sorted(BASELINES))
def test_presets_and_what_overrides_them(method, plan):
    for preset in ("paper", "tuned"):
        one = plan.replace(method=method, baseline={"preset": preset})
        known = BASELINES[method].presets[preset]
        assert baseline_settings(one) == known
        changed = one.replace(baseline={"preset": preset, "iterations": 7})
        assert baseline_settings(changed).iterations == 7
        assert baseline_settings(changed).options == known.options


def test_the_papers_settings():
    # Belardi et al., Table 1
    adam = BASELINES["ptyrad-adam"].presets["paper"]
    assert (adam.learning_rate, adam.batch, adam.iterations) == (5e-4, 32, 200)
    lbfgs = BASELINES["ptyrad-lbfgs"].presets["paper"]
    assert (lbfgs.iterations, 676 // lbfgs.patterns_per_batch(676)) == (5, 20)
    assert lbfgs.learning_rate in (1.0, 0.1, 0.01)


def test_tuned_l_bfgs_has_one_function_for_its_line_search(dataset, few, truth):
    """However small the mini-batches; a step of 1 on each of them by itself would diverge."""
    plan = few("ptyrad-lbfgs", preset="tuned", batch=18)
    whole = few("ptyrad-lbfgs", preset="tuned", batch=72)
    one, other = (list(reconstruct(dataset, p))[-1] for p in (plan, whole))
    assert one.residual == pytest.approx(other.residual, rel=0.05)
    assert agreement(one.volume, truth) > 0.9


def test_the_record_says_what_ran(few, plan):
    assert baseline_record(plan) == {}
    record = baseline_record(few("ptyrad-adam"))["baseline"]
    assert (record["package"], record["iterations"], record["batch"]) == ("ptyrad", 5, 9)
    assert record["version"].count(".") == 2
    assert json.loads(json.dumps(record)) == record
