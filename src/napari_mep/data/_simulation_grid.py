"""Grids and windows on which a scan of any size is simulated exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

__all__ = ["Block", "SimulationGrid", "plan_grid"]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Scan positions that share one wave window.

    Parameters
    ----------
    indices : (n,) int64 ndarray
        Flat raster indices.
    corner_px : tuple of 2 ints
        First fine pixel (y, x) of the window in the simulated region.
    """

    indices: NDArray[np.int64]
    corner_px: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class SimulationGrid:
    """Where potential, waves and truth are sampled.

    Parameters
    ----------
    fine_A : float
        Pixel of potential and waves, A.
    pixel_A : float
        Pixel of the truth, 1 / (K dk), A.
    windows : int
        Width of the wave window in detector windows 1 / dk; odd, so that detector pixels are
        sums of whole fine frequencies.
    window_px : int
        Width of the wave window in fine pixels.
    size_px, coarse_px : tuple of 2 ints
        Simulated region (y, x) in fine pixels, and in pixels of the truth.
    first_A : tuple of 2 floats
        First scan position (y, x) in the region, A; the centre of a pixel of the truth.
    blocks : tuple of Block
        All scan positions, each in exactly one block.
    """

    fine_A: float
    pixel_A: float
    windows: int
    window_px: int
    size_px: tuple[int, int]
    coarse_px: tuple[int, int]
    first_A: tuple[float, float]
    blocks: tuple[Block, ...]

    @property
    def size_A(self) -> tuple[float, float]:
        """Simulated region (y, x) in A."""
        return self.size_px[0] * self.fine_A, self.size_px[1] * self.fine_A


def plan_grid(
    scan_shape: tuple[int, int],
    scan_step_A: float,
    *,
    detector_pixels: int,
    detector_step_invA: float,
    margin_A: float,
) -> SimulationGrid:
    """Choose pixels and windows for a scan.

    Parameters
    ----------
    scan_shape : tuple of 2 ints
        Scan positions (y, x).
    scan_step_A : float
        Scan step, A.
    detector_pixels, detector_step_invA
        Detector: K pixels of width dk in 1/A.
    margin_A : float
        Least distance of any scan position from the border of its wave window, A.

    Returns
    -------
    SimulationGrid
        Scans larger than a window are cut into blocks, so the cost of a pattern does not grow
        with the scan.
    """
    window_A = 1.0 / detector_step_invA
    fine_per_window = _fine_pixels(detector_pixels)
    fine_A = window_A / fine_per_window
    pixel_A = window_A / detector_pixels
    # Three windows at least; beyond the margins half a window is left for scan positions.
    windows = max(3, math.ceil((2 * margin_A + window_A / 2) / window_A))
    windows += 1 - windows % 2
    room_A = windows * window_A - 2 * margin_A
    # Region sizes that are whole numbers of fine and of coarse pixels alike.
    unit = fine_per_window // math.gcd(fine_per_window, detector_pixels)

    def plan_axis(positions: int) -> tuple[int, float, list[tuple[int, range]]]:
        per_block = max(1, math.floor(room_A / scan_step_A) + 1)
        runs = [
            range(int(run[0]), int(run[-1]) + 1)
            for run in np.array_split(np.arange(positions), math.ceil(positions / per_block))
        ]
        starts_A = [(run[0] + run[-1]) / 2 * scan_step_A - windows * window_A / 2 for run in runs]
        # The region begins where the first window does, shifted by less than a pixel so that the
        # first scan position is the centre of a voxel.
        first_A = -math.floor(starts_A[0] / pixel_A) * pixel_A
        corners = [round((start + first_A) / fine_A) for start in starts_A]
        corners[0] = 0
        size = math.ceil((corners[-1] + windows * fine_per_window) / unit) * unit
        return size, first_A, list(zip(corners, runs, strict=True))

    size_y, first_y, rows = plan_axis(scan_shape[0])
    size_x, first_x, columns = plan_axis(scan_shape[1])
    blocks = tuple(
        Block((np.array(ys)[:, None] * scan_shape[1] + np.array(xs)[None, :]).ravel(), (top, left))
        for (top, ys), (left, xs) in product(rows, columns)
    )
    coarse_per_unit = unit * detector_pixels // fine_per_window
    return SimulationGrid(
        fine_A=fine_A,
        pixel_A=pixel_A,
        windows=windows,
        window_px=windows * fine_per_window,
        size_px=(size_y, size_x),
        coarse_px=(size_y // unit * coarse_per_unit, size_x // unit * coarse_per_unit),
        first_A=(first_y, first_x),
        blocks=blocks,
    )


_ANTIALIAS = 0.3333333 - 0.01  # abTEM's aperture less its taper, in units of 1 / pixel


def _fine_pixels(detector_pixels: int) -> int:
    """Fine pixels per detector window: antialiasing beyond the detector's corners, fast FFTs."""
    least = math.ceil(detector_pixels / 2 * math.sqrt(2) / _ANTIALIAS)
    while not _is_smooth(least):
        least += 1
    return least


def _is_smooth(n: int) -> bool:
    for prime in (2, 3, 5, 7):
        while n % prime == 0:
            n //= prime
    return n == 1
