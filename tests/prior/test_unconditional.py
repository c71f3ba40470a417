"""Samples of a prior whose samples are known."""

from __future__ import annotations

import pytest
import torch

from napari_mep.prior.denoiser import Denoiser
from napari_mep.prior.unconditional import sample_prior


class _WhiteGaussian(torch.nn.Module):
    """The exact network for white data of unit variance: E[v | z] = 0."""

    def forward(self, z, logsnr):
        return torch.zeros_like(z)


def test_white_gaussian_data_are_sampled_with_their_spread():
    prior = Denoiser(_WhiteGaussian(), 20.0, (1.6, 0.2, 0.2), (4, 32, 32), (-12.0, 6.0))
    samples = sample_prior(prior, [1, 2], steps=60)
    assert samples.shape == (2, 4, 32, 32)
    # the last prediction is short of the data's spread by the last noise level, 1 % of variance
    assert samples.std().item() * 20 == pytest.approx(0.995, abs=0.02)
    assert torch.equal(samples[1], sample_prior(prior, [2], steps=60)[0])
