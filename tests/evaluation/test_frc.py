from __future__ import annotations

import numpy as np
import pytest

from napari_mep.errors import DataError
from napari_mep.evaluation.frc import FourierCorrelation, compare_frc, fourier_correlation
from napari_mep.volume import PhaseVolume

PIXEL = (0.2, 0.2)


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(64, 64))


def low_pass(image: np.ndarray, cut_invA: float) -> np.ndarray:
    k = np.fft.fftfreq(64, 0.2)
    kept = np.hypot(k[:, None], k[None, :]) < cut_invA
    return np.fft.ifft2(np.fft.fft2(image) * kept).real


def test_equal_images_agree_up_to_nyquist(noise):
    result = fourier_correlation(noise, 3 * noise + 7, PIXEL)
    np.testing.assert_allclose(result.correlation, 1, atol=1e-9)
    assert result.crossing_invA() == pytest.approx(result.frequency_invA[-1])
    assert result.frequency_invA[-1] == pytest.approx(2.5, abs=0.05)
    assert result.frequency_invA[0] == pytest.approx(3 / 12.8, rel=0.05)


def test_opposite_images_anticorrelate(noise):
    result = fourier_correlation(noise, -noise, PIXEL)
    np.testing.assert_allclose(result.correlation, -1, atol=1e-9)
    assert result.crossing_invA() == 0


def test_the_crossing_is_where_the_common_signal_ends(noise):
    """Equal below 1.2 1/A, independent above."""
    other = np.random.default_rng(1).normal(size=(64, 64))
    mixed = low_pass(noise, 1.2) + other - low_pass(other, 1.2)
    result = fourier_correlation(mixed, noise, PIXEL)
    assert result.crossing_invA(0.5) == pytest.approx(1.2, abs=0.1)
    assert result.crossing_invA(1 / 7) == pytest.approx(1.2, abs=0.15)
    inner = result.correlation[result.frequency_invA < 1.0]
    outer = result.correlation[result.frequency_invA > 1.4]
    assert inner.min() > 0.95
    assert abs(outer.mean()) < 0.1


def test_the_crossing_is_interpolated():
    curve = FourierCorrelation(np.array([1.0, 2.0, 3.0]), np.array([0.9, 0.7, 0.3]))
    assert curve.crossing_invA(0.5) == pytest.approx(2.5)
    assert curve.crossing_invA(0.2) == 3.0


def test_rings_between_the_lattice_frequencies_of_a_crystal_do_not_count():
    """There is nothing but noise in them, of the volume or of rounding."""
    y, x = np.mgrid[:96, :96] * 0.2
    distance = np.hypot((y + 1.95) % 3.9 - 1.95, (x + 1.95) % 3.9 - 1.95)
    crystal = np.exp(-((distance / 0.4) ** 2))
    noisy = crystal + 0.03 * np.random.default_rng(3).normal(size=crystal.shape)
    result = fourier_correlation(noisy, crystal, PIXEL)
    assert result.frequency_invA[0] == pytest.approx(1 / 3.9, rel=0.3)
    assert result.crossing_invA() > 1
    # What is lost does count: the reference has it.
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(96, 0.2), np.fft.fftfreq(96, 0.2)))
    blurred = np.fft.ifft2(np.fft.fft2(noisy) * (k < 0.6)).real
    assert fourier_correlation(blurred, crystal, PIXEL).crossing_invA() == pytest.approx(
        0.6, abs=0.1
    )


def test_the_constant_of_a_slice_does_not_count():
    """No diffraction pattern tells it."""
    a = np.random.default_rng(4).normal(size=(8, 32, 32))
    offset = np.arange(8.0)[:, None, None]
    result = fourier_correlation(a, a + 5 * offset, (1.6, 0.2, 0.2))
    np.testing.assert_allclose(result.correlation, 1, atol=1e-6)


def test_shells_of_an_anisotropic_volume():
    """Noise of equal power makes the correlation 1 / 2 everywhere."""
    rng = np.random.default_rng(2)
    signal, a, b = rng.normal(size=(3, 16, 32, 32))
    result = fourier_correlation(signal + a, signal + b, (1.6, 0.2, 0.2))
    assert result.frequency_invA[-1] == pytest.approx(2.5, abs=0.1)
    assert result.correlation.mean() == pytest.approx(0.5, abs=0.05)


def test_volumes_on_different_grids():
    y, x = np.mgrid[:60, :60] * 0.2
    z = np.arange(8)[:, None, None]
    data = np.cos(2 * np.pi * y / 3.9) + np.cos(2 * np.pi * x / 2.1) * (1 + 0.1 * z)
    reference = PhaseVolume(data, (1.6, 0.2, 0.2), (0.8, 0, 0))
    same = PhaseVolume(2 * data[:, 5:-5, 5:-5], (1.6, 0.2, 0.2), (0.8, 1, 1))
    ring, shell = compare_frc(same, reference)
    for curve in (ring, shell):
        assert curve.crossing_invA() == curve.limit_invA > 2.4
    _, shell = compare_frc(PhaseVolume(data[:1], (1.6, 0.2, 0.2), (0.8, 0, 0)), reference)
    assert shell is None


def test_what_cannot_be_correlated_is_refused(noise):
    with pytest.raises(DataError, match="shapes"):
        fourier_correlation(noise, noise[1:], PIXEL)
    with pytest.raises(DataError, match="not finite"):
        fourier_correlation(noise, np.where(noise > 3, np.nan, noise), PIXEL)
