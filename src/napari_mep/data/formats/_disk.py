"""The bright-field disk in a mean pattern: where it is and how large."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["disk", "disk_mask"]


def disk(mean: np.ndarray) -> tuple[tuple[float, float], float]:
    """Centre (ky, kx) and radius of the bright-field disk, in detector pixels.

    The disk is what exceeds half of its own median brightness.

    Parameters
    ----------
    mean : (ky, kx) ndarray
        Mean pattern. NaN counts as dark.
    """
    mean = np.nan_to_num(np.asarray(mean, dtype=np.float64), nan=0.0, posinf=0.0)
    # The brightest pixels may be hot ones: a percentile of the bright part is none of them.
    bright = mean > 0.5 * np.quantile(mean, 1 - 4 / mean.size)
    if not bright.any():
        return (mean.shape[0] // 2, mean.shape[1] // 2), 0.0
    bright = mean > np.median(mean[bright]) / 2
    y, x = np.nonzero(bright)
    return (float(y.mean()), float(x.mean())), math.sqrt(bright.sum() / math.pi)


def disk_mask(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    """Detector pixels whose centres lie in a disk, (ky, kx) bool."""
    ky, kx = (np.arange(n) - c for n, c in zip(shape, centre, strict=True))
    return np.hypot(ky[:, None], kx[None, :]) <= radius
