"""The training loop: runs that can be cut anywhere."""

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
from napari_mep.training import loop
from napari_mep.training.checkpoint import read_checkpoint
from napari_mep.training.export import export_prior
from napari_mep.training.loop import train
from napari_mep.training.run_directory import CHECKPOINT_NAME, sample_files
from napari_mep.training.schedules import learning_rate
from napari_mep.training.settings import TrainingSettings


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
        {"loss": "relative"},  # to what, without estimates
        {"structure_weight": 1.0, "tile_shape": [8, 64, 6]},
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
        learning_rate(n, n / 20, settings) for n in range(0, 20, 2)
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
@pytest.mark.parametrize("share", [0.0, 0.8])
def test_resuming_continues_bit_for_bit(library, settings, tmp_path, share):
    settings = replace(settings, estimate_share=share)
    straight = _run(library, settings, tmp_path / "straight")
    first = _run(library, settings, tmp_path / "cut", steps=5)
    second = _run(library, settings, tmp_path / "cut", resume=True)
    assert [r["loss"] for r in first + second] == [r["loss"] for r in straight]
    (tensors_a, state_a), (tensors_b, state_b) = (
        read_checkpoint(tmp_path / name) for name in ("straight", "cut")
    )
    assert state_a.pop("seconds") > 0
    assert state_b.pop("seconds") > 0
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
        lambda network, clean, *_: (torch.full((len(clean),), torch.nan), clean),
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
def test_samples_of_the_averaged_weights_are_kept(library, settings, tmp_path):
    _run(library, settings, tmp_path, steps=3, sample_seconds=0.0)
    files = sample_files(tmp_path)
    assert [f.name for f in files] == ["000000002.npz", "000000004.npz"]  # none when it stops
    with np.load(files[-1]) as sample:
        assert sample["phase_rad"].shape == (4, 2, 16, 16)
        assert sample["voxel_size_A"].tolist() == list(settings.voxel_size_A)
        first = sample["phase_rad"].astype(float)
    # An untrained network predicts v = 0, so x^ = alpha z: noise that shrinks, not crystals.
    assert np.isfinite(first).all()
    assert first.std() > 0


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


@pytest.mark.usefixtures("small_network")
def test_a_prior_is_taken_over_and_learns_to_see_estimates(library, settings, tmp_path):
    _run(library, settings, tmp_path / "plain")
    export_prior(tmp_path / "plain", tmp_path / "plain.safetensors")
    plain = load_prior(tmp_path / "plain.safetensors")
    seeing = replace(settings, estimate_share=1.0, learning_rate=1e-12)
    _run(library, seeing, tmp_path / "seeing", initial=plain, steps=3)
    card = export_prior(tmp_path / "seeing", tmp_path / "seeing.safetensors")
    denoiser = load_prior(tmp_path / "seeing.safetensors")
    assert card.sees_estimate
    assert denoiser.sees_estimate
    assert not plain.sees_estimate
    assert denoiser.scale == plain.scale
    x = torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    # Without learning it is the prior that it was, whatever the estimate says.
    torch.testing.assert_close(denoiser(x, 1.0, x), plain(x, 1.0), rtol=0, atol=2e-3)

    _run(library, replace(seeing, learning_rate=1e-2), tmp_path / "learned", initial=plain)
    tensors, _ = read_checkpoint(tmp_path / "learned")
    assert tensors["model.estimate_stem.weight"].abs().max() > 1e-3


def test_a_relative_loss_counts_light_crystals_as_much_as_heavy_ones():
    """Errors that are one share of the specimen weigh alike; no estimate, no weight."""
    rng = torch.Generator().manual_seed(0)
    shape = torch.rand(8, 16, 16, generator=rng)
    unit = shape / shape.sum(0).std()
    light, heavy, none = loop._relative(torch.stack([0.2 * unit, 0.6 * unit, 0 * unit])).tolist()
    assert light * (0.2**2 + 0.1**2) == pytest.approx(heavy * (0.6**2 + 0.1**2), rel=1e-4)
    assert none == 1


@pytest.mark.usefixtures("small_network")
def test_a_relative_loss_scales_what_each_volume_teaches(library, settings, tmp_path, monkeypatch):
    alone = replace(settings, estimate_share=1.0, batch=1)
    (plain,) = _run(library, alone, tmp_path / "absolute", steps=1)
    monkeypatch.setattr(loop, "_relative", lambda estimate: torch.full((len(estimate),), 3.0))
    (weighted,) = _run(library, replace(alone, loss="relative"), tmp_path / "relative", steps=1)
    assert weighted["gradient_norm"] == pytest.approx(3 * plain["gradient_norm"], rel=1e-4)
    assert weighted["loss"] == plain["loss"]  # what is reported stays comparable


@pytest.mark.usefixtures("small_network")
@pytest.mark.parametrize(("logsnr", "teaches"), [(-10.0, True), (-7.0, False)])
def test_structure_counts_where_results_are_predicted(
    library, settings, tmp_path, monkeypatch, logsnr, teaches
):
    there = replace(
        settings,
        logsnr_mean=logsnr,
        logsnr_width=0.1,
        uniform_fraction=0.0,
        noise_levels="weighting",
    )
    (plain,) = _run(library, there, tmp_path / "plain", steps=1)
    # A similarity that has the prediction's own gradient, times a number none is small beside.
    monkeypatch.setattr(
        loop, "structural_similarity", lambda x, truth: 1e3 * (x - truth).sum((1, 2, 3))
    )
    (both,) = _run(library, replace(there, structure_weight=1.0), tmp_path / "both", steps=1)
    assert (both["gradient_norm"] > 100 * plain["gradient_norm"]) == teaches
    assert teaches or both["gradient_norm"] == plain["gradient_norm"]


@pytest.mark.usefixtures("small_network")
def test_a_prior_of_another_architecture_is_not_taken_over(
    library, settings, tmp_path, monkeypatch
):
    _run(library, replace(settings, estimate_share=0.5), tmp_path / "a", steps=1)
    export_prior(tmp_path / "a", tmp_path / "a.safetensors")
    seeing = load_prior(tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"initial prior: .*estimate_stem") as info:
        _run(library, settings, tmp_path / "b", initial=seeing)
    assert "\n" not in str(info.value)
    wider = UNetConfig((1, 4, 4), (LevelConfig(24, 1, (2, 2, 2)), LevelConfig(16, 1)), 16)
    monkeypatch.setitem(PRESETS, "tiny", wider)
    with pytest.raises(WeightsError, match="initial prior: has another architecture") as info:
        _run(library, replace(settings, estimate_share=0.5), tmp_path / "c", initial=seeing)
    assert "\n" not in str(info.value)


@pytest.mark.usefixtures("small_network")
@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"voxel_size_A": (1.6, 0.25, 0.25)}, r"voxel_size_A = \(1\.6, 0\.25, 0\.25\) A"),
        ({"energy_keV": 80.0}, r"energy_keV = 80\.0 keV"),
    ],
)
def test_a_prior_of_other_voxels_or_energy_is_not_taken_over(
    library, settings, tmp_path, other, said
):
    _run(library, replace(settings, **other), tmp_path / "a", steps=1)
    export_prior(tmp_path / "a", tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=rf"initial prior: has {said}, the settings"):
        _run(library, settings, tmp_path / "b", initial=load_prior(tmp_path / "a.safetensors"))


def test_a_run_without_checkpoint_cannot_be_exported(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        export_prior(tmp_path, tmp_path / "mine.safetensors")
