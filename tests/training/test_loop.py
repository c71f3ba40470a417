"""The training loop: its schedules in closed form, and runs that can be cut anywhere."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_mep.errors import PlanError, SolverError, WeightsError
from napari_mep.prior.files import load_prior
from napari_mep.prior.unet import PRESETS, LevelConfig, UNetConfig
from napari_mep.training.checkpoint import CHECKPOINT_NAME, read_checkpoint
from napari_mep.training.export import export_prior
from napari_mep.training.loop import (
    LossCurve,
    ema_decay,
    learning_rate,
    sample_logsnr,
    train,
)
from napari_mep.training.settings import TrainingSettings

# --- schedules ------------------------------------------------------------------------------------


def test_learning_rate_warms_up_stays_and_falls_to_zero():
    settings = TrainingSettings(
        volumes=1000, warmup_volumes=100, decay_fraction=0.3, learning_rate=2e-3
    )
    assert learning_rate(0, settings) == pytest.approx(2e-3 / 100)
    assert learning_rate(49, settings) == pytest.approx(1e-3)
    assert {learning_rate(n, settings) for n in range(99, 701)} == {2e-3}
    assert learning_rate(850, settings) == pytest.approx(1e-3)
    assert learning_rate(1000, settings) == 0
    assert learning_rate(1200, settings) == 0
    falling = [learning_rate(n, settings) for n in range(700, 1001)]
    assert np.diff(falling).max() < 0


def test_learning_rate_without_decay_is_flat():
    settings = TrainingSettings(volumes=1000, warmup_volumes=1, decay_fraction=0.0)
    assert {learning_rate(n, settings) for n in range(1000)} == {settings.learning_rate}


@pytest.mark.parametrize(("length", "gamma"), [(0.05, 16.97), (0.10, 6.94)])
def test_ema_decay_has_the_exponents_of_edm2(length, gamma):
    # Karras et al. 2024: beta_n = (1 - 1 / n)^(gamma + 1)
    assert ema_decay(1, length) == 0
    assert ema_decay(100, length) == pytest.approx(0.99 ** (gamma + 1), rel=1e-4)


def test_ema_has_the_relative_width_it_is_named_for():
    steps, length = 2000, 0.1
    decay = np.array([ema_decay(n, length) for n in range(1, steps + 1)])
    kept = np.append(np.cumprod(decay[::-1])[::-1][1:], 1.0)
    weight = (1 - decay) * kept
    time = np.arange(1, steps + 1) / steps
    mean = (weight * time).sum()
    assert weight.sum() == pytest.approx(1)
    assert np.sqrt((weight * (time - mean) ** 2).sum()) == pytest.approx(length, rel=0.01)


def test_logsnr_draws_follow_the_weighting():
    settings = TrainingSettings(logsnr_mean=-3.0, logsnr_width=2.0, uniform_fraction=0.2)
    rng = np.random.default_rng(0)
    draws = torch.cat([sample_logsnr(8, settings, rng) for _ in range(2500)]).numpy()
    edges = np.linspace(settings.logsnr_low, settings.logsnr_high, 19)
    fine = np.linspace(settings.logsnr_low, settings.logsnr_high, 18 * 100 + 1)
    gauss = np.exp(-0.5 * ((fine + 3.0) / 2.0) ** 2)
    density = 0.8 * gauss / gauss.mean() + 0.2
    share = 0.5 * (density[1:] + density[:-1]).reshape(18, 100).sum(1)
    expected = len(draws) * share / share.sum()
    counts = np.histogram(draws, edges)[0]
    assert counts.sum() == len(draws)
    # Stratified draws scatter less than independent ones, so chi-square stays below 18 +- 6.
    assert ((counts - expected) ** 2 / expected).sum() < 30


def test_logsnr_draws_of_a_batch_are_stratified():
    settings = TrainingSettings(uniform_fraction=1.0, logsnr_low=-10.0, logsnr_high=10.0)
    draws = sample_logsnr(20, settings, np.random.default_rng(0))
    assert draws.dtype == torch.float32
    # one draw in each twentieth, in random order
    assert sorted(torch.floor(draws).int().tolist()) == list(range(-10, 10))
    assert draws.tolist() != sorted(draws.tolist())


def test_loss_curve_averages_by_level():
    curve = LossCurve(TrainingSettings(logsnr_low=-2.0, logsnr_high=2.0))
    assert curve.edges.tolist() == [-2, -1, 0, 1, 2]
    assert np.isnan(curve.value).all()
    curve.update(torch.tensor([-1.5, 0.5]), torch.tensor([3.0, 1.0]))
    curve.update(torch.tensor([-1.2]), torch.tensor([4.0]))
    assert curve.value[0] == pytest.approx(3.02)
    assert curve.value[2] == 1
    assert np.isnan(curve.value[[1, 3]]).all()


@pytest.mark.parametrize(
    "values",
    [
        {"batch": 0},
        {"learning_rate": 0.0},
        {"learning_rate": "fast"},
        {"unknown": 1},
        {"ema_relative_length": 0.3},
        {"precision": "float16"},
        {"logsnr_low": 6.0},
        {"voxel_size_A": [1.6, 0.0, 0.2]},
    ],
)
def test_impossible_settings_are_refused(values):
    with pytest.raises(PlanError, match=next(iter(values))) as info:
        TrainingSettings.from_dict(values)
    assert "\n" not in str(info.value)


# --- runs -----------------------------------------------------------------------------------------


def _run(library, settings, run_dir: Path, steps: int | None = None, **options) -> list[dict]:
    """Train; after `steps` steps of this call the stop event is set."""
    stop = threading.Event()
    records = []
    for record in train(library, settings, run_dir, log_every=1, stop=stop, **options):
        records.append(record)
        if len(records) == steps:
            stop.set()
    return records


@pytest.mark.usefixtures("small_network")
def test_a_run_reports_and_saves_what_it_did(library, settings, tmp_path):
    records = _run(library, settings, tmp_path)
    assert [r["volumes"] for r in records] == list(range(2, 22, 2))
    assert all(np.isfinite(r["loss"]) and r["volumes_per_second"] > 0 for r in records)
    assert [r["learning_rate"] for r in records] == [
        learning_rate(n, settings) for n in range(0, 20, 2)
    ]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == records
    assert (
        TrainingSettings.from_dict(json.loads((tmp_path / "settings.json").read_text())) == settings
    )
    _, state = read_checkpoint(tmp_path)
    assert (state["step"], state["volumes"]) == (10, 20)
    assert state["sources"] == {"test": "made up"}


@pytest.mark.usefixtures("small_network")
def test_training_lowers_the_loss(library, settings, tmp_path):
    # A zero network starts at the variance of v, about 1.
    settings = replace(settings, volumes=480, batch=8, learning_rate=3e-3)
    records = _run(library, settings, tmp_path)
    first, last = (np.mean([r["loss"] for r in part]) for part in (records[:10], records[-10:]))
    assert last < 0.9 * first


@pytest.mark.usefixtures("small_network")
def test_resuming_continues_bit_for_bit(library, settings, tmp_path):
    straight = _run(library, settings, tmp_path / "straight")
    first = _run(library, settings, tmp_path / "cut", steps=5)
    second = _run(library, settings, tmp_path / "cut", resume=True)
    assert [r["loss"] for r in first + second] == [r["loss"] for r in straight]
    (tensors_a, state_a), (tensors_b, state_b) = (
        read_checkpoint(tmp_path / name) for name in ("straight", "cut")
    )
    assert state_a == state_b
    assert tensors_a.keys() == tensors_b.keys()
    assert all(torch.equal(tensors_a[name], tensors_b[name]) for name in tensors_a)


@pytest.mark.usefixtures("small_network")
def test_sigterm_saves_after_the_current_step(library, settings, tmp_path):
    handler = signal.getsignal(signal.SIGTERM)
    records = train(library, settings, tmp_path, log_every=1)
    next(records)
    os.kill(os.getpid(), signal.SIGTERM)
    assert len(list(records)) <= 1
    assert signal.getsignal(signal.SIGTERM) is handler
    _, state = read_checkpoint(tmp_path)
    assert 2 <= state["volumes"] <= 4


@pytest.mark.usefixtures("small_network")
def test_checkpoints_are_saved_on_the_way(library, settings, tmp_path):
    records = train(library, settings, tmp_path, log_every=1, checkpoint_seconds=0.0)
    next(records)
    next(records)
    assert read_checkpoint(tmp_path)[1]["volumes"] == 2
    records.close()


@pytest.mark.usefixtures("small_network")
def test_a_loss_that_is_not_finite_ends_the_run_and_spares_the_checkpoint(
    library, settings, tmp_path, monkeypatch
):
    _run(library, settings, tmp_path, steps=2)
    before = (tmp_path / CHECKPOINT_NAME).read_bytes()
    monkeypatch.setattr(
        "napari_mep.training.loop._v_loss",
        lambda network, clean, noise, logsnr: torch.full((len(clean),), torch.nan),
    )
    with pytest.raises(SolverError, match="not finite after 4 volumes; lower learning_rate"):
        _run(library, settings, tmp_path, resume=True)
    assert (tmp_path / CHECKPOINT_NAME).read_bytes() == before


@pytest.mark.usefixtures("small_network")
def test_there_must_be_something_to_resume(library, settings, tmp_path):
    with pytest.raises(WeightsError, match="no such file; start without --resume"):
        _run(library, settings, tmp_path, resume=True)
    (tmp_path / CHECKPOINT_NAME).write_bytes(b"half a checkpoint")
    with pytest.raises(WeightsError, match="not readable"):
        _run(library, settings, tmp_path, resume=True)


@pytest.mark.usefixtures("small_network")
def test_another_architecture_cannot_resume(library, settings, tmp_path, monkeypatch):
    _run(library, settings, tmp_path, steps=1)
    wider = UNetConfig((1, 4, 4), (LevelConfig(24, 1, (2, 2, 2)), LevelConfig(16, 1)), 16)
    monkeypatch.setitem(PRESETS, "tiny", wider)
    with pytest.raises(WeightsError, match="made for another architecture") as info:
        _run(library, settings, tmp_path, resume=True)
    assert "\n" not in str(info.value)


@pytest.mark.usefixtures("small_network")
def test_global_random_state_is_left_alone(library, settings, tmp_path):
    before = torch.get_rng_state()
    _run(library, settings, tmp_path, steps=1)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.usefixtures("small_network")
def test_a_run_becomes_a_prior(library, settings, tmp_path):
    _run(library, settings, tmp_path, steps=3)
    card = export_prior(tmp_path, tmp_path / "mine.safetensors")
    assert card.name == "mine"
    assert card.trained_volumes == 6
    assert card.training_data == {"test": "made up"}
    tensors, state = read_checkpoint(tmp_path)
    denoiser = load_prior(tmp_path / "mine.safetensors")
    assert denoiser.scale == state["scale"]
    assert denoiser.tile_shape == (2, 16, 16)
    assert denoiser.logsnr_range == (settings.logsnr_low, settings.logsnr_high)
    for name, value in denoiser.network.named_parameters():
        assert torch.equal(value, tensors[f"ema.{name}"].half().float())


def test_a_run_without_checkpoint_cannot_be_exported(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        export_prior(tmp_path, tmp_path / "mine.safetensors")
