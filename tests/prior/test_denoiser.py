"""The denoiser against Gaussian priors, whose posterior mean is known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from napari_mep.prior.denoiser import Denoiser
from napari_mep.prior.schedule import alpha_sigma

SHAPE = (2, 4, 4)


class GaussianNetwork(nn.Module):
    """The v that a perfect network predicts for white data of a given variance."""

    def __init__(self, variance: float) -> None:
        super().__init__()
        self.variance = variance
        self.levels: list[Tensor] = []

    def forward(self, z: Tensor, logsnr: Tensor) -> Tensor:
        self.levels.append(logsnr)
        alpha, sigma = (a[:, None, None, None] for a in alpha_sigma(logsnr))
        clean = alpha * self.variance / (alpha**2 * self.variance + sigma**2) * z
        return (alpha * z - clean) / sigma


def _denoiser(variance: float, logsnr_range=(-12.0, 6.0)) -> Denoiser:
    return Denoiser(GaussianNetwork(variance), 20.0, (1.6, 0.2, 0.2), SHAPE, logsnr_range)


@pytest.mark.parametrize("k", [30.0, 1.0, 0.1])
def test_unit_prior_shrinks_by_one_plus_k_squared(k):
    x = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(_denoiser(1.0)(x, -2 * math.log(k)), x / (1 + k**2))


@pytest.mark.parametrize("k", [30.0, 1.0, 0.1])
def test_other_variances_shrink_by_their_wiener_filter(k):
    x = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    guess = _denoiser(4.0)(x, -2 * math.log(k))
    torch.testing.assert_close(guess, 4 * x / (4 + k**2), rtol=1e-4, atol=1e-5)


def test_network_sees_each_volume_with_its_level_and_double_precision_survives():
    denoiser = _denoiser(1.0)
    guess = denoiser(torch.zeros(5, *SHAPE, dtype=torch.float64), 1.5)
    assert guess.dtype == torch.float64
    torch.testing.assert_close(denoiser.network.levels[0], torch.full((5,), 1.5))


@pytest.mark.parametrize(("asked", "seen"), [(-13.37, -12.0), (9.0, 6.0), (0.5, 0.5)])
def test_network_is_never_asked_beyond_its_training(asked, seen):
    denoiser = _denoiser(1.0)
    x = 1000 * torch.ones(1, *SHAPE)
    torch.testing.assert_close(denoiser(x, asked), x / (1 + math.exp(-asked)))
    assert float(denoiser.network.levels[0]) == seen
