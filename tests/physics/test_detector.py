from __future__ import annotations

import pytest
import torch

from napari_mep.physics.detector import (
    add_beyond,
    bin_intensities,
    crop_beyond,
    spread_to_fine,
)


def test_even_binning_shares_the_borders():
    fine = torch.arange(8.0).expand(2, 8).clone()
    fine[1] = 0.0
    binned = bin_intensities(fine, 2)
    # along x: pixel j = fine[2j] + (fine[2j - 1] + fine[2j + 1]) / 2, periodic
    along_x = torch.tensor([0.0 + (7 + 1) / 2, 2 + (1 + 3) / 2, 4 + (3 + 5) / 2, 6 + (5 + 7) / 2])
    torch.testing.assert_close(binned, along_x[None])


def test_odd_binning_is_a_plain_sum_around_the_pixel():
    fine = torch.zeros(9, 9)
    fine[8, 1] = 1.0  # one below in y, one above in x: pixel (0, 0)
    fine[4, 2] = 2.0  # pixel (1, 1)
    expected = torch.zeros(3, 3)
    expected[0, 0], expected[1, 1] = 1.0, 2.0
    torch.testing.assert_close(bin_intensities(fine, 3), expected)


@pytest.mark.parametrize("s", [1, 2, 3, 4])
def test_total_is_conserved_and_the_transpose_is_one(s):
    generator = torch.Generator().manual_seed(s)
    fine = torch.rand(3, 6 * s, 4 * s, dtype=torch.float64, generator=generator)
    coarse = torch.rand(3, 6, 4, dtype=torch.float64, generator=generator)
    binned = bin_intensities(fine, s)
    assert binned.shape == coarse.shape
    torch.testing.assert_close(binned.sum((1, 2)), fine.sum((1, 2)))
    torch.testing.assert_close((binned * coarse).sum(), (fine * spread_to_fine(coarse, s)).sum())


@pytest.mark.parametrize("s", [2, 3, 4])
def test_binning_keeps_the_centre_of_mass(s):
    # a spot between the pixels -1, 0 and 1 must not drift when it is binned
    fine = torch.zeros(8 * s, dtype=torch.float64)
    fine[: s // 2 + 1] = 1.0
    fine[-(s // 2) :] = 1.0
    binned = bin_intensities(fine.expand(1, -1).repeat(8 * s, 1), s)[0]
    torch.testing.assert_close(binned[1], binned[-1])


@pytest.mark.parametrize("shape", [(6, 7), (5, 8)])
def test_what_falls_beside_the_detector_is_left_out(shape):
    beyond = 3
    reached = torch.rand(2, *(n + 2 * beyond for n in shape), dtype=torch.float64)
    centred = torch.fft.fftshift(reached, dim=(1, 2))[:, beyond:-beyond, beyond:-beyond]
    patterns = torch.fft.fftshift(crop_beyond(reached, beyond), dim=(1, 2))
    torch.testing.assert_close(patterns, centred)
    slopes = torch.rand(2, *shape, dtype=torch.float64)
    there = (crop_beyond(reached, beyond) * slopes).sum()
    torch.testing.assert_close((reached * add_beyond(slopes, beyond)).sum(), there)
    assert crop_beyond(reached, 0) is reached
