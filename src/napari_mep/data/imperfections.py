"""What a real camera and a real microscope add to simulated patterns, with the answers known.

For testing calibration helpers and preprocessing: patterns as a file would hold them, unoriented,
drifting and with bad pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_mep.data._pattern_operations import shift_patterns
from napari_mep.data.dataset import orient_detector
from napari_mep.data.simulate import ExpectedPatterns
from napari_mep.errors import DataError

__all__ = ["Imperfections", "Recording", "record"]


@dataclass(frozen=True, slots=True)
class Imperfections:
    """How the patterns are recorded.

    Parameters
    ----------
    transpose, flip_y, flip_x : bool
        Orientation that a calibration must name to undo it: transposed first, then flipped.
    dead_share, hot_share : float
        Shares of detector pixels that count nothing, or far too much.
    centre_px : tuple of 2 floats
        Offset of the zero frequency from ``K // 2`` at the middle of the scan, (ky, kx) as stored.
    descan_px : tuple of 4 floats
        Its drift: d ky and d kx in pixels per scan row, then per scan column.
    """

    transpose: bool = False
    flip_y: bool = False
    flip_x: bool = False
    dead_share: float = 0.0
    hot_share: float = 0.0
    centre_px: tuple[float, float] = (0.0, 0.0)
    descan_px: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Patterns as stored, with what is wrong with them.

    Parameters
    ----------
    patterns : (scan_y, scan_x, ky, kx) uint16 or uint32 ndarray
        Electron counts.
    bad : (ky, kx) bool ndarray
        Dead and hot pixels.
    """

    patterns: NDArray[np.unsignedinteger]
    bad: NDArray[np.bool_]


def record(
    expected: ExpectedPatterns, imperfections: Imperfections, dose_e_per_A2: float, *, seed: int = 0
) -> Recording:
    """Count electrons with an imperfect instrument.

    Parameters
    ----------
    expected : ExpectedPatterns
        From `napari_mep.data.simulate.simulate_expected`.
    imperfections : Imperfections
        What is wrong.
    dose_e_per_A2 : float
        Dose, e/A^2.
    seed : int
        Of counting noise and of the places of bad pixels.

    Raises
    ------
    DataError
        The dose is not positive.
    """
    from napari_mep.physics.noise import poisson_counts

    if not dose_e_per_A2 > 0:
        raise DataError(f"dose = {dose_e_per_A2} e/A2: must be positive")
    rng = np.random.default_rng(seed)
    step_y, step_x = expected.calibration.scan_step_yx_A
    # A flip is its own inverse, and the transposition comes first when undoing, so last here.
    stored = orient_detector(expected.patterns, False, imperfections.flip_y, imperfections.flip_x)
    stored = orient_detector(stored, imperfections.transpose, False, False)
    rows, columns, ky, kx = stored.shape
    drift = np.array(imperfections.descan_px).reshape(2, 2)
    patterns = np.empty(stored.shape, dtype=np.uint32)
    for row in range(rows):
        shifts = (
            np.array(imperfections.centre_px)
            + (row - (rows - 1) / 2) * drift[0]
            + (np.arange(columns) - (columns - 1) / 2)[:, None] * drift[1]
        )
        mean = shift_patterns(np.ascontiguousarray(stored[row]), shifts, subpixel=True)
        patterns[row] = poisson_counts(mean * (dose_e_per_A2 * step_y * step_x), rng)
    kind = rng.random((ky, kx))
    dead, hot = kind < imperfections.dead_share, kind > 1 - imperfections.hot_share
    patterns[..., dead] = 0
    if hot.any():
        level = 4 * int(patterns.max())
        patterns[..., hot] = rng.poisson(level, (rows, columns, int(hot.sum())))
    narrow = np.uint16 if patterns.max() < 2**16 else np.uint32
    return Recording(patterns.astype(narrow), dead | hot)
