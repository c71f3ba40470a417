"""Grids and windows on which a scan of any size is simulated exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from napari_mep.physics.scan import raster_positions_A

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
    scan_rotation_deg: float = 0.0,
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
    scan_rotation_deg : float
        Turn of the scan against the region's axes.

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

    def plan_axis(spans_A: list[tuple[float, float]]) -> tuple[int, float, list[int]]:
        """Size in fine pixels, place of the first position, and corner of each span's window."""
        starts_A = [(low + high) / 2 - windows * window_A / 2 for low, high in spans_A]
        # The region begins where the first window does, shifted by less than a pixel so that the
        # first scan position is the centre of a voxel.
        first_A = -math.floor(starts_A[0] / pixel_A) * pixel_A
        corners = [round((start + first_A) / fine_A) for start in starts_A]
        corners[0] = 0
        size = math.ceil((corners[-1] + windows * fine_per_window) / unit) * unit
        return size, first_A, corners

    split = _split_raster if scan_rotation_deg == 0 else _split_box
    spans, members = split(scan_shape, scan_step_A, scan_rotation_deg, room_A)
    size_y, first_y, tops = plan_axis(spans[0])
    size_x, first_x, lefts = plan_axis(spans[1])
    blocks = tuple(
        Block(indices, corner)
        for indices, corner in zip(members, product(tops, lefts), strict=True)
        if len(indices)
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


_Spans = list[tuple[float, float]]


def _split_raster(
    scan_shape: tuple[int, int], step_A: float, _rotation_deg: float, room_A: float
) -> tuple[tuple[_Spans, _Spans], list[NDArray[np.int64]]]:
    """Runs of rows and of columns that fit into the room: their spans (y, x) and raster indices."""
    per_block = max(1, math.floor(room_A / step_A) + 1)
    rows, columns = (
        np.array_split(np.arange(count), math.ceil(count / per_block)) for count in scan_shape
    )
    spans = tuple(
        [(float(run[0] * step_A), float(run[-1] * step_A)) for run in runs]
        for runs in (rows, columns)
    )
    members = [(y[:, None] * scan_shape[1] + x).ravel() for y, x in product(rows, columns)]
    return (spans[0], spans[1]), members


def _split_box(
    scan_shape: tuple[int, int], step_A: float, rotation_deg: float, room_A: float
) -> tuple[tuple[_Spans, _Spans], list[NDArray[np.int64]]]:
    """Equal cells of the box around a turned scan, each no larger than the room."""
    positions = raster_positions_A(scan_shape, step_A, rotation_deg)
    spans: list[_Spans] = []
    cells = []
    for along in positions.T:
        low, extent = float(along.min()), float(np.ptp(along))
        count = max(1, math.ceil(extent / room_A))
        width = extent / count if extent > 0 else 1.0
        spans.append(
            [(low + i * extent / count, low + (i + 1) * extent / count) for i in range(count)]
        )
        cells.append(np.minimum(((along - low) / width).astype(int), count - 1))
    members = [
        np.flatnonzero((cells[0] == y) & (cells[1] == x))
        for y, x in product(range(len(spans[0])), range(len(spans[1])))
    ]
    return (spans[0], spans[1]), members


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
