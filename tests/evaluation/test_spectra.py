from __future__ import annotations

import numpy as np
import pytest

from napari_mep.errors import DataError
from napari_mep.evaluation.spectra import fft_magnitude


def wave(period_y: float, period_x: float) -> np.ndarray:
    y, x = np.mgrid[:60, :80]
    return 5 + np.cos(2 * np.pi * 0.2 * y / period_y) + np.cos(2 * np.pi * 0.1 * x / period_x)


@pytest.mark.parametrize("window", [False, True])
@pytest.mark.parametrize("padding", [1, 3])
def test_peaks_lie_at_the_lattice_frequencies(window, padding):
    """4 A along y and 2 A along x: 0.25 and 0.5 1/A, amplitude 1 makes 0.5."""
    spectrum = fft_magnitude(wave(4, 2), (0.2, 0.1), window=window, padding=padding)
    m, (dky, dkx) = spectrum.magnitude, spectrum.step_invA
    assert m.shape == (60 * padding, 80 * padding)
    assert (dky, dkx) == pytest.approx((1 / (12 * padding), 1 / (8 * padding)))
    cy, cx = m.shape[0] // 2, m.shape[1] // 2
    for row, column in (
        (cy + round(0.25 / dky), cx), (cy - round(0.25 / dky), cx),
        (cy, cx + round(0.5 / dkx)), (cy, cx - round(0.5 / dkx)),
    ):  # fmt: skip
        assert m[row, column] == pytest.approx(0.5, rel=0.02)
    assert m[cy, cx] < 0.01  # the mean is gone
    assert np.median(m) < 0.01


def test_the_window_removes_the_cross_of_the_edges():
    """A ramp has no lattice, but its edges scatter along the axes."""
    ramp = np.add.outer(np.arange(64.0), np.arange(64.0))
    plain, windowed = (
        fft_magnitude(ramp, (0.2, 0.2), window=w).magnitude[32, 45:].max() for w in (False, True)
    )
    assert windowed < 0.02 * plain


def test_too_little_is_refused():
    with pytest.raises(DataError, match="widen the ROI"):
        fft_magnitude(np.zeros((3, 9)), (0.2, 0.2))
    with pytest.raises(DataError, match="not finite"):
        fft_magnitude(np.full((9, 9), np.inf), (0.2, 0.2))
