"""The centre of mass of each pattern as what it means: a deflection in the axes of the scan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_mep.data.estimate.rotation import turn_back

__all__ = ["deflection"]


def deflection(
    centre_of_mass: NDArray[np.floating],
    known: Mapping[str, Any],
    *,
    every: tuple[int, int] = (1, 1),
    descan_px: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
) -> NDArray[np.float64]:
    """Centre of mass along the scan axes, free of drift, mean zero.

    Transposition and flips put it into world axes, the scan rotation turns those into the axes of
    the scan; what is not known counts as "as stored" and 0 degrees.

    Parameters
    ----------
    centre_of_mass : (rows, columns, 2) ndarray
        (ky, kx) in detector pixels as stored, from `napari_mep.data.virtual.scan_images`.
    known : mapping
        Calibration values by key: orientation, rotation, and what says how wide a pixel is.
    every : tuple of 2 ints
        Every how manieth scan row and column it was measured at.
    descan_px : tuple of 4 floats
        Drift that is taken out; see `napari_mep.data.preprocessing.PreprocessingPlan`.

    Returns
    -------
    (rows, columns, 2) float64 ndarray
        (slow, fast) in detector pixels.
    """
    field = np.array(centre_of_mass, dtype=np.float64)
    rows, columns, _ = field.shape
    y = (np.arange(rows) - (rows - 1) / 2)[:, None, None] * every[0]
    x = (np.arange(columns) - (columns - 1) / 2)[None, :, None] * every[1]
    slopes = np.array(descan_px).reshape(2, 2)
    field -= y * slopes[0] + x * slopes[1]
    field -= field.mean(axis=(0, 1))
    if known.get("detector_transpose"):
        field = field[..., ::-1].copy()
    for axis, name in enumerate(("detector_flip_y", "detector_flip_x")):
        if known.get(name):
            field[..., axis] *= -1
    return turn_back(field, float(known.get("scan_rotation_deg", 0.0)))
