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


@pytest.mark.parametrize("own_ranges", [False, True])
@pytest.mark.parametrize("slices", [8, 7])
def test_it_is_that_of_scikit_image(pair, slices, own_ranges):
    volumes, truth = (v[:, :slices] for v in pair)
    found = structural_similarity(volumes, truth, own_ranges=own_ranges)
    for value, volume, true in zip(found.tolist(), volumes.numpy(), truth.numpy(), strict=True):
        by = (volume if own_ranges else true, true)
        scaled = [(v - r.min()) / np.ptp(r) for v, r in zip((volume, true), by, strict=True)]
        expected = of_scikit_image(*scaled, win_size=7, data_range=1.0)
        assert value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("slices", [1, 2, 4])
def test_thin_volumes_have_thin_windows(pair, slices):
    volumes, truth = (v[:, :slices] for v in pair)
    assert (structural_similarity(volumes, truth) < 0.95).all()
    torch.testing.assert_close(structural_similarity(truth, truth), torch.ones(2).double())


@pytest.mark.parametrize("own_ranges", [False, True])
def test_its_gradient_is_that_of_finite_differences(pair, own_ranges):
    volumes, truth = (v[:, :, :9, :8].contiguous() for v in pair)
    volumes.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v: structural_similarity(v, truth, own_ranges=own_ranges), volumes
    )


def test_a_volume_with_a_scale_of_its_own_is_told(pair):
    """What both ranges say: the same of a volume that has the specimen's, not of a louder one."""
    _, truth = pair
    loud = truth * 1.3 + 0.05
    torch.testing.assert_close(
        structural_similarity(loud, truth, own_ranges=True), torch.ones(2).double()
    )
    assert (structural_similarity(loud, truth) < 0.99).all()
