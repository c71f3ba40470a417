"""Structural similarity in torch: scikit-image's, with a gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity as of_scikit_image

from napari_mep.training.structure import structural_similarity


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Two volumes, (2, 8, 20, 24), and what they should be: peaks on a level background."""
    rng = np.random.default_rng(0)
    truth = 3 * rng.random((2, 8, 20, 24)) ** 4 - 0.1
    volumes = 0.7 * truth + 0.3 * rng.random(truth.shape)
    return torch.from_numpy(volumes), torch.from_numpy(truth)


@pytest.mark.parametrize("slices", [8, 7])
def test_it_is_that_of_scikit_image(pair, slices):
    volumes, truth = (v[:, :slices] for v in pair)
    found = structural_similarity(volumes, truth)
    for value, volume, true in zip(found.tolist(), volumes.numpy(), truth.numpy(), strict=True):
        scaled = [(v - true.min()) / np.ptp(true) for v in (volume, true)]
        expected = of_scikit_image(*scaled, win_size=7, data_range=1.0)
        assert value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("slices", [1, 2, 4])
def test_thin_volumes_have_thin_windows(pair, slices):
    volumes, truth = (v[:, :slices] for v in pair)
    assert (structural_similarity(volumes, truth) < 0.95).all()
    torch.testing.assert_close(structural_similarity(truth, truth), torch.ones(2).double())


def test_its_gradient_is_that_of_finite_differences(pair):
    volumes, truth = (v[:, :, :9, :8].contiguous() for v in pair)
    volumes.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: structural_similarity(v, truth), volumes)
