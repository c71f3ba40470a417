"""Hot and dead detector pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_mep.data.estimate._estimate import Estimate, Picture
from napari_mep.errors import DataError

__all__ = ["BadPixels", "find_bad_pixels"]

# A dead pixel counts less than this share of what nearly all its neighbours count, a hot one more
# than that many times it. The edge of the bright-field disk is steeper than either, which is why
# the comparison is with the lowest and highest neighbours, not with their middle.
_DEAD, _HOT = 0.35, 2.5
_SIGMA = 5.0
_NEIGHBOURHOOD = 5


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BadPixels(Estimate):
    """Detector pixels that do not count as their neighbours do.

    Parameters
    ----------
    bad, dead, hot : (ky, kx) bool ndarray
        Oriented as stored; `bad` is either.
    """

    bad: NDArray[np.bool_]
    dead: NDArray[np.bool_]
    hot: NDArray[np.bool_]


def find_bad_pixels(mean_pattern: NDArray[np.floating], n_patterns: int) -> BadPixels:
    """Pixels that differ from all their neighbours by more than counting noise allows.

    Where the neighbours count next to nothing a dead pixel cannot be told, and does no harm.

    Parameters
    ----------
    mean_pattern : (ky, kx) ndarray
        Mean over the scan, counts.
    n_patterns : int
        How many patterns the mean is made of.

    Returns
    -------
    BadPixels

    Raises
    ------
    DataError
        No detector pixel holds a number in every pattern.
    """
    counts = np.asarray(mean_pattern, dtype=np.float64)
    number = np.isfinite(counts)
    broken = ~number
    if broken.all():
        raise DataError(
            f"bad pixels: every detector pixel is NaN or infinite in at least one of the "
            f"{n_patterns} patterns looked at; replace these values, or leave the patterns out "
            "with scan_rows and scan_columns of preprocessing"
        )
    total = np.where(broken, 0.0, counts) * n_patterns
    low, high = _neighbour_range(total, broken)
    # Second look without the first finds, which may have hidden each other.
    for _ in range(3):
        dead = (total < _DEAD * low) & (low - total > _SIGMA * np.sqrt(low + 1)) & number
        excess = total - high
        hot = (total > _HOT * high) & (excess > _SIGMA * np.sqrt(high + 1))
        found = dead | hot | ~number
        if (found == broken).all():
            break
        broken = found
        low, high = _neighbour_range(total, broken)
    hot = hot | ~number
    bad = dead | hot
    summary = (
        f"{int(dead.sum())} dead and {int(hot.sum())} hot of {bad.size} detector pixels "
        f"({100 * bad.mean():.2g} %)"
    )
    return BadPixels(
        title="Bad pixels",
        summary=summary,
        proof=(
            Picture(
                np.where(number, counts, 0),
                "mean pattern, bad pixels marked",
                points=np.argwhere(bad),
                logarithmic=True,
            ),
        ),
        bad=bad,
        dead=dead,
        hot=hot,
    )


def _neighbour_range(
    total: NDArray[np.float64], broken: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fourth lowest and fourth highest good neighbour of each pixel, itself left out.

    Up to three bad ones among the 24 neighbours do no harm, and along an edge of any direction at
    least ten of them lie on either side.
    """
    reach = _NEIGHBOURHOOD // 2
    padded = np.pad(np.where(broken, np.nan, total), reach, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (_NEIGHBOURHOOD,) * 2)
    around = windows.reshape(*total.shape, -1)
    around = np.delete(around, _NEIGHBOURHOOD**2 // 2, axis=-1)
    ordered = np.sort(around, axis=-1)  # NaN last
    present = np.isfinite(around).sum(axis=-1)
    low = np.take_along_axis(ordered, np.minimum(3, np.maximum(present - 1, 0))[..., None], -1)
    high = np.take_along_axis(ordered, np.maximum(present - 4, 0)[..., None], -1)
    return np.nan_to_num(low[..., 0], nan=0.0), np.nan_to_num(high[..., 0], nan=np.inf)
