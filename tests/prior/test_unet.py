"""The network's contract: sizes, shapes and what its output may depend on."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from napari_mep.prior.unet import PRESETS, LevelConfig, UNet3D, UNetConfig

SMALL = UNetConfig(
    (1, 2, 2),
    (
        LevelConfig(8, 1, (1, 2, 2)),
        LevelConfig(16, 1, (2, 2, 2), attention=True),
        LevelConfig(16, 2),
    ),
    embedding=16,
)


def _network(config: UNetConfig = SMALL) -> UNet3D:
    """A network that says something: as made, its last layers are zero."""
    network = UNet3D(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(0.2 * torch.randn(p.shape, generator=generator))
    return network.requires_grad_(False)


def _parameters(preset: str) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in UNet3D(PRESETS[preset]).parameters())


def test_tiny_is_tiny_and_small_and_base_fit_a_package():
    assert _parameters("tiny") < 6e6
    # in half precision, within the 32 MB that a shipped prior may weigh
    assert 10e6 < _parameters("small") < _parameters("base") < 32e6 / 2


def test_paper_has_as_many_parameters_as_the_paper():
    assert 85e6 < _parameters("paper") < 115e6


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_take_the_tile_of_the_paper(preset):
    assert all(n % m == 0 for n, m in zip((8, 64, 64), PRESETS[preset].multiple, strict=True))


def test_multiple_is_patch_times_all_downsampling():
    assert SMALL.multiple == (2, 8, 8)
    assert PRESETS["paper"].multiple == (4, 32, 32)


@pytest.mark.parametrize("shape", [(2, 8, 8), (4, 16, 24)])
def test_output_has_the_shape_of_the_input(shape):
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    v = _network()(x, torch.tensor([-8.0, 0.0, 5.0]))
    assert v.shape == x.shape
    assert bool(torch.isfinite(v).all())
    assert float(v.std()) > 0


def test_untrained_network_predicts_zero():
    # The best guess before anything is learned: v has zero mean.
    v = UNet3D(SMALL)(torch.randn(1, 4, 16, 16), torch.zeros(1))
    assert torch.equal(v, torch.zeros_like(v))


def test_output_depends_on_the_noise_level():
    network = _network()
    x = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1)).expand(4, -1, -1, -1)
    v = network(x, torch.tensor([-8.0, -7.5, 0.0, 5.0]))
    for i in range(3):
        assert float((v[i + 1] - v[i]).std()) > 0.01 * float(v.std())


def test_volumes_of_a_batch_do_not_see_each_other():
    network = _network()
    x = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    levels = torch.tensor([-6.0, 0.0, 4.0])
    together = network(x, levels)
    for i in range(3):
        alone = network(x[i : i + 1], levels[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-4)


def test_attention_reaches_across_the_tile():
    network = _network()
    x = torch.randn(1, 4, 16, 64, generator=torch.Generator().manual_seed(1))
    changed = x.clone()
    changed[0, 0, 0, 0] += 3.0
    difference = network(changed, torch.zeros(1)) - network(x, torch.zeros(1))
    assert float(difference[..., -8:].abs().max()) > 0


def test_patch_stem_keeps_every_voxel():
    # Gradients reach each voxel of the input: space to depth loses none.
    network = _network()
    x = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x, torch.zeros(1)).square().sum(), x)
    assert float(gradient.abs().min()) > 0


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, estimate=True), *PRESETS.values()])
def test_architecture_survives_json(config):
    assert UNetConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_estimate_is_seen_and_none_is_like_an_empty_one():
    network = _network(replace(SMALL, estimate=True))
    nn.init.zeros_(network.estimate_stem.weight)
    x, level = torch.randn(2, 4, 16, 16), torch.zeros(2)
    estimate = torch.randn(x.shape)
    plain = network(x, level)
    torch.testing.assert_close(network(x, level, estimate), plain)
    nn.init.normal_(network.estimate_stem.weight)
    assert (network(x, level, estimate) - plain).abs().max() > 1e-2
    torch.testing.assert_close(network(x, level, torch.zeros_like(x)), plain)
