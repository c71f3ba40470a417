"""What of the user's preprocessing counts while the calibration is measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_mep.data._pattern_operations import read_image
from napari_mep.data._preprocessed import PreprocessedPatterns
from napari_mep.data.dataset import PatternArray
from napari_mep.data.estimate import BadPixels, find_bad_pixels
from napari_mep.data.preprocessing import PreprocessingPlan
from napari_mep.data.virtual import ScanImages

__all__ = [
    "at_scan_middle",
    "clean_patterns",
    "corrections",
    "find_all_bad_pixels",
    "known_bad_pixels",
    "only_afterwards",
]

_CLEANING = (
    "scan_rows", "scan_columns", "background", "background_file", "gain_file", "clip_negative",
)  # fmt: skip
_PLACING = ("bad_pixels_file", "centre_px", "descan_px", "subpixel")
_AFTERWARDS = {
    "scan_every": "kept; every position is measured",
    "bin_detector": "kept; measured on the detector as stored",
    "detector_pixels": "kept; measured on the detector as stored",
    "positions_file": "kept; quick reconstructions take the raster",
}


def corrections(plan: PreprocessingPlan | None) -> PreprocessingPlan:
    """The part of the scan that is wanted, and all that corrects its patterns.

    Nothing that resamples scan or detector: the calibration is that of the stored pixels.
    """
    plan = plan or PreprocessingPlan()
    return PreprocessingPlan(**{name: getattr(plan, name) for name in (*_CLEANING, *_PLACING)})


def only_afterwards(plan: PreprocessingPlan) -> dict[str, str]:
    """What cannot count in measuring, and what happens to it instead, by entry of the plan."""
    changed = plan.model_dump(exclude_defaults=True)
    return {name: reason for name, reason in _AFTERWARDS.items() if name in changed}


def clean_patterns(
    patterns: PatternArray, plan: PreprocessingPlan | None, name: str
) -> PatternArray:
    """Patterns (scan_y, scan_x, ky, kx) of the wanted part, without background; unmoved.

    Bad pixels are as they were: they have yet to be found.

    Raises
    ------
    PlanError, DataError
        The plan does not fit the patterns, or one of its files cannot be read.
    """
    plan = plan or PreprocessingPlan()
    cleaning = PreprocessingPlan(**{field: getattr(plan, field) for field in _CLEANING})
    return patterns if cleaning.is_identity else PreprocessedPatterns(patterns, cleaning, name)


def known_bad_pixels(
    plan: PreprocessingPlan | None, detector: tuple[int, int]
) -> NDArray[np.bool_] | None:
    """The mask (ky, kx) that the plan names, None if it names none or marks no pixel.

    Raises
    ------
    DataError
        The file cannot be read or has another shape.
    """
    if plan is None or plan.bad_pixels_file is None:
        return None
    bad = read_image(plan.bad_pixels_file, detector, "bad_pixels_file") != 0
    return bad if bad.any() else None


def find_all_bad_pixels(
    images: ScanImages, known: NDArray[np.bool_] | None
) -> tuple[BadPixels, NDArray[np.bool_] | None]:
    """Bad pixels of the mean pattern, and these with the known ones (None: there are none).

    Raises
    ------
    DataError
        No detector pixel is good.
    """
    found = find_bad_pixels(images.mean_pattern, images.sums.size)
    bad = found.bad if known is None else found.bad | known
    return found, bad if bad.any() else None


def at_scan_middle(
    centre_px: tuple[float, float],
    descan_px: tuple[float, float, float, float],
    plan: PreprocessingPlan,
    scan_shape: tuple[int, int],
) -> tuple[float, float]:
    """The disk's centre (ky, kx) at the middle of the whole scan, in detector pixels as stored.

    Parameters
    ----------
    centre_px : tuple of 2 floats
        Centre at the middle of the part of the scan that `plan` keeps.
    descan_px : tuple of 4 floats
        How it moves; see `PreprocessingPlan`.
    plan : PreprocessingPlan
        Names the part.
    scan_shape : tuple of 2 ints
        Rows and columns of the whole scan.
    """
    parts = (plan.scan_rows, plan.scan_columns)
    away = [
        0.0 if part is None else (length - 1) / 2 - (part[0] + part[1] - 1) / 2
        for part, length in zip(parts, scan_shape, strict=True)
    ]
    y, x = np.array(centre_px) + np.array(away) @ np.array(descan_px).reshape(2, 2)
    return float(y), float(x)
