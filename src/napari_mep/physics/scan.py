"""Where the probe stood: scan positions in world coordinates."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["raster_positions_A"]


def raster_positions_A(
    scan_shape: tuple[int, int],
    step_A: float | tuple[float, float],
    rotation_deg: float = 0.0,
) -> np.ndarray:
    """Positions of a raster scan.

    The axes are those of the detector and of the reconstruction; ``rotation_deg`` turns the scan
    against them. A positive angle turns it counter-clockwise as napari shows it, with y downwards
    and x to the right: at +90 degrees the fast axis points up and the slow axis to the right. So
    position (slow s, fast f) lies at y = s cos(r) - f sin(r), x = s sin(r) + f cos(r).

    Parameters
    ----------
    scan_shape : (scan_y, scan_x)
        Number of positions along the slow and the fast axis.
    step_A : float or (y, x)
        Distance of neighbouring positions in angstrom.
    rotation_deg : float
        Scan rotation in degrees.

    Returns
    -------
    (scan_y * scan_x, 2) float64 ndarray
        (y, x) in angstrom, row by row, the first at (0, 0), which is the world origin.
    """
    step_y, step_x = (step_A, step_A) if isinstance(step_A, (int, float)) else step_A
    slow, fast = np.meshgrid(
        step_y * np.arange(scan_shape[0]), step_x * np.arange(scan_shape[1]), indexing="ij"
    )
    cos, sin = math.cos(math.radians(rotation_deg)), math.sin(math.radians(rotation_deg))
    positions = np.stack((slow * cos - fast * sin, slow * sin + fast * cos), axis=-1)
    return positions.reshape(-1, 2)
