"""Up to which spatial frequency two images or volumes agree: Fourier ring and shell correlation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter1d

from napari_mep.errors import DataError
from napari_mep.evaluation.resample import common_grid, sample_on
from napari_mep.volume import PhaseVolume

__all__ = ["FourierCorrelation", "compare_frc", "fourier_correlation"]

_LOBE = 2  # half the width of the main lobe of a Hann window in frequency steps
# A ring is empty with less than this share of the strongest one that is no further away.
_EMPTY, _NEARBY_INVA = 0.01, 0.5


@dataclass(frozen=True, slots=True, eq=False)
class FourierCorrelation:
    """Correlation of two spectra, ring by ring or shell by shell.

    Parameters
    ----------
    frequency_invA : (n,) float64 ndarray
        Mean frequency of each ring in 1/A, rising.
    correlation : (n,) float64 ndarray
        Real part of the normalised correlation, -1 to 1.
    """

    frequency_invA: np.ndarray
    correlation: np.ndarray

    @property
    def limit_invA(self) -> float:
        """The highest frequency that was compared, 1/A."""
        return float(self.frequency_invA[-1])

    def crossing_invA(self, threshold: float = 0.5) -> float:
        """Frequency at which the correlation first falls below a threshold.

        Parameters
        ----------
        threshold : float
            0.5 against a known truth, 1/7 between two halves of the data (Rosenthal and Henderson,
            J. Mol. Biol. 333, 721 (2003)).

        Returns
        -------
        float
            In 1/A, interpolated; `limit_invA` if it never falls below, 0 if the first ring is below
            already.
        """
        below = np.flatnonzero(self.correlation < threshold)
        if not below.size:
            return self.limit_invA
        last = int(below[0])
        if last == 0:
            return 0.0
        (f0, f1), (c0, c1) = (
            values[last - 1 : last + 1] for values in (self.frequency_invA, self.correlation)
        )
        return float(f0 + (f1 - f0) * (c0 - threshold) / (c0 - c1))


def fourier_correlation(
    a: np.ndarray, reference: np.ndarray, voxel_size_A: tuple[float, ...]
) -> FourierCorrelation:
    """Fourier ring correlation of images, Fourier shell correlation of volumes.

    Each slice is freed of its mean, a constant phase that no diffraction pattern tells, and
    multiplied with a Hann window along y and x, so that the edges of the field do not correlate.
    Rings are as wide as the coarsest frequency step and end at the lateral Nyquist frequency. The
    zero frequency and the two rings around it are left out: that is as far as the window spreads
    what was just removed. So are rings in which the reference holds next to nothing, as between the
    lattice frequencies of a crystal: of those the correlation only tells the noise. Along a coarse
    depth axis the spectrum ends earlier, so that the outer shells of a volume are only belts.

    Parameters
    ----------
    a, reference : (y, x) or (z, y, x) ndarray
        On the same grid.
    voxel_size_A : tuple of 2 or 3 floats
        Voxel in angstrom.

    Returns
    -------
    FourierCorrelation

    Raises
    ------
    DataError
        Shapes differ, or values are not finite.

    References
    ----------
    Saxton and Baumeister, J. Microsc. 127, 127 (1982); Harauz and van Heel, Optik 73, 146 (1986).
    """
    if a.shape != reference.shape or a.ndim != len(voxel_size_A):
        raise DataError(
            f"shapes {a.shape} and {reference.shape}: cannot be correlated; resample one"
        )
    if not (np.isfinite(a).all() and np.isfinite(reference).all()):
        raise DataError("volumes have values that are not finite, nothing to correlate")
    window = np.hanning(a.shape[-2] + 2)[1:-1, None] * np.hanning(a.shape[-1] + 2)[None, 1:-1]
    window /= window.mean()
    means = (
        (v * window).mean(axis=(-2, -1), keepdims=True, dtype=np.float64) for v in (a, reference)
    )
    f, g = (np.fft.fftn((v - m) * window) for v, m in zip((a, reference), means, strict=True))
    axes = [np.fft.fftfreq(n, d) for n, d in zip(a.shape, voxel_size_A, strict=True)]
    radius = np.sqrt(sum(k**2 for k in np.meshgrid(*axes, indexing="ij", sparse=True)))
    width = max(1 / (n * d) for n, d in zip(a.shape, voxel_size_A, strict=True) if n > 1)
    nyquist = min(0.5 / d for d in voxel_size_A[-2:])
    ring = np.round(radius / width).astype(int).ravel()
    ring[radius.ravel() > nyquist * (1 + 1e-9)] = 0
    number = np.bincount(ring)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(ring, values.ravel(), minlength=len(number))

    both = total((f * g.conj()).real)
    held = total(np.abs(g) ** 2)
    power = np.sqrt(total(np.abs(f) ** 2) * held)
    kept = np.arange(_LOBE + 1, len(number))
    kept = kept[number[kept] > 0]
    reach = 2 * round(_NEARBY_INVA / width) + 1
    kept = kept[held[kept] >= _EMPTY * maximum_filter1d(held[kept], reach, mode="nearest")]
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.where(power > 0, both / power, 0.0)
    return FourierCorrelation(total(radius)[kept] / number[kept], correlation[kept])


def compare_frc(
    volume: PhaseVolume, reference: PhaseVolume
) -> tuple[FourierCorrelation, FourierCorrelation | None]:
    """Ring and shell correlation with a reference.

    Parameters
    ----------
    volume, reference : PhaseVolume
        Any grids; compared over the field that both cover, on the reference's.

    Returns
    -------
    ring : FourierCorrelation
        Of the depth sums.
    shell : FourierCorrelation or None
        Of the volumes; None for one slice.

    Raises
    ------
    DataError
        No common field.
    """
    grid = common_grid(reference, [volume])
    a, b = sample_on(volume, grid), sample_on(reference, grid)
    lateral = grid.voxel_size_A[1:]
    ring = fourier_correlation(a.depth_sum(), b.depth_sum(), lateral)
    if grid.shape[0] < 2:
        return ring, None
    return ring, fourier_correlation(a.data, b.data, grid.voxel_size_A)
