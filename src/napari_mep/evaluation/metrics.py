"""How close a reconstruction is to the truth, over the field of view that both cover."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_mep.errors import DataError
from napari_mep.volume import PhaseVolume

__all__ = ["Scores", "common_volumes", "compare_volumes"]

_SAME = 1e-3  # voxels: grids closer than this are the same
_WINDOW = 7  # skimage's default SSIM window


@dataclass(frozen=True, slots=True)
class Scores:
    """Agreement of two volumes after scaling each to [0, 1].

    Parameters
    ----------
    psnr, ssim : float
        Peak signal-to-noise ratio in dB (infinite for equal volumes) and structural similarity of
        the volume.
    psnr_sum, ssim_sum : float
        The same of the sums over depth.
    shape : tuple of 3 ints
        Voxels (z, y, x) of the truth's grid that were compared.
    window : int
        Width of the SSIM window in voxels: 7, or the largest odd number that fits. With fewer
        than three slices the SSIM of the volume is the mean over its slices.
    """

    psnr: float
    ssim: float
    psnr_sum: float
    ssim_sum: float
    shape: tuple[int, int, int]
    window: int


def compare_volumes(recon: PhaseVolume, truth: PhaseVolume) -> Scores:
    """PSNR and SSIM of a reconstruction over the common field of view in world coordinates.

    Each volume, and each depth sum, is scaled to [0, 1] by its own minimum and maximum within the
    common field of view, as in Belardi et al. (arXiv 2507.17800, Table 1).

    Parameters
    ----------
    recon, truth : PhaseVolume
        May lie on different grids; the truth keeps its own, see `common_volumes`.

    Returns
    -------
    Scores

    Raises
    ------
    DataError
        The volumes do not overlap by three pixels and a slice, or have values that are not finite.

    References
    ----------
    Wang et al., "Image quality assessment: from error visibility to structural similarity",
    IEEE Trans. Image Process. 13, 600 (2004), as implemented in scikit-image.
    """
    compared, reference = common_volumes(recon, truth)
    for label, data in (("reconstruction", compared), ("truth", reference)):
        if not np.isfinite(data).all():
            raise DataError(f"{label}: has values that are not finite, nothing to compare")
    slices, height, width = reference.shape
    window = _odd_window(height, width) if slices < 3 else _odd_window(slices, height, width)
    a, b = _unit(compared), _unit(reference)
    if slices < 3:
        ssim = float(np.mean([_ssim(x, y, window) for x, y in zip(a, b, strict=True)]))
    else:
        ssim = _ssim(a, b, window)
    a_sum, b_sum = _unit(compared.sum(axis=0)), _unit(reference.sum(axis=0))
    return Scores(
        psnr=_psnr(a, b),
        ssim=ssim,
        psnr_sum=_psnr(a_sum, b_sum),
        ssim_sum=_ssim(a_sum, b_sum, _odd_window(height, width)),
        shape=(slices, height, width),
        window=window,
    )


def common_volumes(recon: PhaseVolume, truth: PhaseVolume) -> tuple[np.ndarray, np.ndarray]:
    """Both volumes on the truth's grid, cut to what both cover.

    Axis by axis, grids that agree to 1e-3 voxel are only cut. Otherwise slices are resampled so
    that the projected phase is conserved (each slice of the truth collects the phase of the
    reconstruction's slices in proportion to their overlap), and (y, x) by cubic splines. A slice
    of the truth counts if the reconstruction covers all of it, a pixel if its centre is covered.

    Parameters
    ----------
    recon, truth : PhaseVolume
        Any grids.

    Returns
    -------
    recon, truth : (z, y, x) float64 ndarray
        Radians per slice of the truth.

    Raises
    ------
    DataError
        No overlap, or less than three pixels of it.
    """
    kept = [_covered(axis, recon, truth) for axis in range(3)]
    if any(part.stop - part.start < least for part, least in zip(kept, (1, 3, 3), strict=True)):
        raise DataError(
            "reconstruction and truth share no field of view of at least 1 slice x 3 x 3 pixels: "
            f"{_box(recon)} against {_box(truth)}; check that both belong to the same scan"
        )
    z, y, x = kept
    return _resample(recon, truth, kept), truth.data[z, y, x].astype(np.float64)


def _covered(axis: int, recon: PhaseVolume, truth: PhaseVolume) -> slice:
    """Voxels of the truth along one axis that the reconstruction covers."""
    step, n = truth.voxel_size_A[axis], truth.data.shape[axis]
    centres = truth.origin_A[axis] + step * np.arange(n)
    low, high = _edges(axis, recon)
    # A slice holds phase over its whole thickness; a pixel is a sample at its centre.
    reach = step / 2 if axis == 0 else 0.0
    slack = _SAME * step
    inside = (centres - reach >= low - slack) & (centres + reach <= high + slack)
    if not inside.any():
        return slice(0, 0)
    indices = np.flatnonzero(inside)
    return slice(int(indices[0]), int(indices[-1]) + 1)


def _edges(axis: int, volume: PhaseVolume) -> tuple[float, float]:
    step, n = volume.voxel_size_A[axis], volume.data.shape[axis]
    low = volume.origin_A[axis] - step / 2
    return low, low + n * step


def _resample(recon: PhaseVolume, truth: PhaseVolume, kept: list[slice]) -> np.ndarray:
    """The reconstruction on the kept part of the truth's grid."""
    data = recon.data.astype(np.float64)
    offset = _same_grid(0, recon, truth, kept[0])
    if offset is None:
        data = np.tensordot(_slice_weights(recon, truth, kept[0]), data, axes=(1, 0))
    else:
        data = data[offset : offset + kept[0].stop - kept[0].start]
    y, x = (_same_grid(axis, recon, truth, kept[axis]) for axis in (1, 2))
    if y is not None and x is not None:
        height, width = (part.stop - part.start for part in kept[1:])
        return data[:, y : y + height, x : x + width]
    from scipy.ndimage import map_coordinates

    where = np.meshgrid(
        *(_coordinates(axis, recon, truth, kept[axis]) for axis in (1, 2)), indexing="ij"
    )
    return np.stack([map_coordinates(s, where, order=3, mode="nearest") for s in data])


def _coordinates(axis: int, recon: PhaseVolume, truth: PhaseVolume, kept: slice) -> np.ndarray:
    """Centres of the kept voxels of the truth, in voxels of the reconstruction."""
    centres = truth.origin_A[axis] + truth.voxel_size_A[axis] * np.arange(kept.start, kept.stop)
    return (centres - recon.origin_A[axis]) / recon.voxel_size_A[axis]


def _same_grid(axis: int, recon: PhaseVolume, truth: PhaseVolume, kept: slice) -> int | None:
    """Index of the first kept voxel in the reconstruction if no resampling is needed."""
    where = _coordinates(axis, recon, truth, kept)
    first, last = round(float(where[0])), round(float(where[-1]))
    inside = first >= 0 and first + len(where) <= recon.data.shape[axis]
    # The voxel itself too: a single slice of the truth may be thicker than the reconstruction's.
    ratio = truth.voxel_size_A[axis] / recon.voxel_size_A[axis]
    same = abs(where[0] - first) < _SAME and abs(where[-1] - last) < _SAME
    return first if same and inside and abs(ratio - 1) < _SAME else None


def _slice_weights(recon: PhaseVolume, truth: PhaseVolume, kept: slice) -> np.ndarray:
    """(kept slices, slices of the reconstruction): fraction of the latter inside the former."""
    dz, dr = truth.voxel_size_A[0], recon.voxel_size_A[0]
    top = (_edges(0, truth)[0] + dz * np.arange(kept.start, kept.stop))[:, None]
    other = (_edges(0, recon)[0] + dr * np.arange(recon.data.shape[0]))[None, :]
    overlap = np.minimum(top + dz, other + dr) - np.maximum(top, other)
    return np.clip(overlap, 0, None) / dr


def _unit(data: np.ndarray) -> np.ndarray:
    """Scaled to [0, 1]; a constant volume becomes zero."""
    low, high = float(data.min()), float(data.max())
    return (data - low) / (high - low) if high > low else np.zeros_like(data)


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    from skimage.metrics import peak_signal_noise_ratio

    with np.errstate(divide="ignore"):  # equal volumes: infinite, as it should be
        return float(peak_signal_noise_ratio(b, a, data_range=1.0))


def _ssim(a: np.ndarray, b: np.ndarray, window: int) -> float:
    from skimage.metrics import structural_similarity

    return float(structural_similarity(b, a, data_range=1.0, win_size=window))


def _odd_window(*lengths: int) -> int:
    shortest = min(lengths)
    return min(_WINDOW, shortest if shortest % 2 else shortest - 1)


def _box(volume: PhaseVolume) -> str:
    spans = (_edges(axis, volume) for axis in range(3))
    return " x ".join(f"{low:.4g}..{high:.4g}" for low, high in spans) + " A"
