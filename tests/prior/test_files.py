"""Weights on disk: what is written is what is read, and what is broken is told in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from napari_mep.errors import WeightsError
from napari_mep.prior.files import (
    ModelCard,
    load_card,
    load_prior,
    save_prior,
    shipped_priors,
    weights_path,
)
from napari_mep.prior.unet import LevelConfig, UNet3D, UNetConfig

CONFIG = UNetConfig((1, 4, 4), (LevelConfig(8, 1, (2, 2, 2)), LevelConfig(8, 1)), embedding=16)
WIDER = UNetConfig((1, 4, 4), (LevelConfig(16, 1, (2, 2, 2)), LevelConfig(8, 1)), embedding=16)


def _card(**changes) -> ModelCard:
    values = {
        "name": "test",
        "architecture": CONFIG.to_dict(),
        "scale_per_rad": 21.5,
        "voxel_size_A": (1.6, 0.2, 0.2),
        "tile_shape": (4, 16, 16),
        "logsnr_range": (-12.0, 6.0),
        "energy_keV": 300.0,
        "trained_volumes": 160,
        "loss_curve": {"edges": [-2.0, 0.0, 2.0], "v_loss": [0.5, None]},
        "training_data": {"table.csv": "made up"},
        "settings": {"batch": 2},
        "licence": "GPL-3.0-or-later",
    }
    return ModelCard(**(values | changes))


@pytest.fixture
def network() -> UNet3D:
    torch.manual_seed(0)
    network = UNet3D(CONFIG)
    with torch.no_grad():
        network.head.weight.normal_(0, 0.1)
    return network


@pytest.fixture
def path(tmp_path: Path, network: UNet3D) -> Path:
    save_prior(tmp_path / "test.safetensors", network.state_dict(), _card())
    return tmp_path / "test.safetensors"


def _one_line(path: Path, match: str) -> None:
    with pytest.raises(WeightsError, match=match) as info:
        load_prior(path)
    assert "\n" not in str(info.value)
    assert str(path) in str(info.value)


def test_round_trip_in_half_precision(path, network):
    denoiser = load_prior(path)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(denoiser.network.state_dict()[name], value.half().float())
    assert denoiser.scale == 21.5
    assert denoiser.voxel_size_A == (1.6, 0.2, 0.2)
    assert denoiser.tile_shape == (4, 16, 16)
    assert denoiser.logsnr_range == (-12.0, 6.0)
    assert not any(p.requires_grad for p in denoiser.network.parameters())
    assert not denoiser.network.training
    x = torch.randn(2, 4, 16, 16)
    assert denoiser(x, 0.0).shape == x.shape


def test_card_is_written_with_the_checksum(path):
    card = load_card(path)
    assert len(card.sha256) == 64
    assert card.to_json() == _card(sha256=card.sha256).to_json()
    assert json.loads(path.with_suffix(".json").read_text())["trained_volumes"] == 160


def test_card_gives_the_denoising_variance_where_it_was_measured():
    levels, variances = _card().denoising_variance()
    assert levels == [-1.0]
    assert variances == pytest.approx([0.5 / (1 + torch.e**-1.0)])


def test_unknown_name_lists_what_there_is():
    with pytest.raises(WeightsError, match=r"'nonesuch': not shipped .*\.safetensors file"):
        weights_path("nonesuch")


def test_shipped_priors_are_whole():
    for name in shipped_priors():
        card = load_card(name)
        assert card.training_data
        assert card.licence
        assert load_prior(name).scale == card.scale_per_rad


def test_missing_weights(tmp_path):
    _one_line(tmp_path / "none.safetensors", "no such weights file")


def test_missing_card(path):
    path.with_suffix(".json").unlink()
    _one_line(path, r"card test\.json is missing")


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"name": "test"}', '{"unknown": 1}'])
def test_broken_card(path, text):
    path.with_suffix(".json").write_text(text)
    _one_line(path, "not readable")


def test_corrupted_weights(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    _one_line(path, "corrupted")


def test_truncated_weights(path):
    path.write_bytes(path.read_bytes()[:100])
    _one_line(path, "corrupted")


def test_no_safetensors_at_all(path):
    # A card whose checksum is right, for a file that holds something else.
    import hashlib

    path.write_bytes(b"not tensors")
    card = json.loads(path.with_suffix(".json").read_text())
    card["sha256"] = hashlib.sha256(b"not tensors").hexdigest()
    path.with_suffix(".json").write_text(json.dumps(card))
    _one_line(path, "weights do not load")


@pytest.mark.parametrize(
    "architecture", [WIDER.to_dict(), {}, {"patch": [1, 4, 4], "levels": [{}], "embedding": 16}]
)
def test_weights_of_another_architecture(path, network, architecture):
    save_prior(path, network.state_dict(), _card(architecture=architecture))
    _one_line(path, "weights do not load")
