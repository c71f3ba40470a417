"""From pixels of a canvas to finer ones."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

from napari_mep.physics.interpolation import finer_pixels


@pytest.mark.parametrize("ratio", [Fraction(5, 4), Fraction(29, 23), Fraction(2)])
def test_what_pixels_hold_is_found_between_them(ratio):
    # A Gaussian far from the borders, band-limited for all practical purposes.
    def spot(pixels_y, pixels_x):
        y, x = pixels_y[:, None] - 21.3, pixels_x[None] - 26.8
        return torch.exp(-(y**2 + 1.2 * x**2) / (2 * 2.0**2))

    height, width = 41, 50
    coarse = spot(torch.arange(height, dtype=torch.float64), torch.arange(width) * 1.0)
    fine = finer_pixels((height, width), ratio).finer(coarse.float()[None])[0]
    rows, columns = (torch.arange(n, dtype=torch.float64) / float(ratio) for n in fine.shape)
    torch.testing.assert_close(fine.double(), spot(rows, columns), atol=2e-5, rtol=0)
    # Both grids end together, at most a denominator of the ratio beyond the canvas.
    for n, m in zip((height, width), fine.shape, strict=True):
        assert n <= m / ratio < n + ratio.denominator


def test_frequencies_of_the_canvas_are_kept_and_no_others_appear():
    n, ratio = 40, Fraction(5, 4)
    canvas = torch.rand(3, n, n, generator=torch.Generator().manual_seed(0))
    fine = finer_pixels((n, n), ratio).finer(canvas)
    assert fine.shape == (3, 50, 50)
    before = torch.fft.fft2(canvas.double(), norm="forward")
    after = torch.fft.fft2(fine.double(), norm="forward")
    # All but the highest frequency of an even canvas, of which only a cosine is known.
    kept = torch.fft.fftshift(after, dim=(1, 2))[:, 25 - 19 : 25 + 20, 25 - 19 : 25 + 20]
    was = torch.fft.fftshift(before, dim=(1, 2))[:, 1:, 1:]
    torch.testing.assert_close(kept, was, atol=1e-6, rtol=0)
    highest = torch.fft.fftfreq(50, 1 / 50).abs() > n // 2
    assert float(after[:, highest].abs().max()) < 1e-6


@pytest.mark.parametrize("shape", [(20, 21), (23, 16)])
def test_the_transpose_is_one(shape):
    generator = torch.Generator().manual_seed(1)
    pixels = finer_pixels(shape, Fraction(5, 4))
    canvas = torch.rand(2, *shape, generator=generator)
    fine = torch.rand(pixels.finer(canvas).shape, generator=generator)
    there = float((pixels.finer(canvas) * fine).sum())
    assert float((canvas * pixels.transpose(fine)).sum()) == pytest.approx(there, rel=1e-5)


def test_the_first_pixel_stays():
    canvas = torch.zeros(1, 16, 16)
    canvas[0, 0, 0] = 1.0
    fine = finer_pixels((16, 16), Fraction(5, 4)).finer(canvas)[0]
    assert fine.argmax() == 0
    assert float(fine[0, 0]) == pytest.approx(1.0, abs=1e-6)
    assert math.isclose(float(fine.sum()), 1.25**2, rel_tol=1e-4)  # the same integral
