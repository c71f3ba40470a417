"""Descan drift: how the bright-field disk wanders over the detector during the scan."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Event

import numpy as np
from numpy.typing import NDArray

from napari_mep.data.dataset import PatternArray
from napari_mep.data.estimate._estimate import Estimate, Picture
from napari_mep.data.estimate.disk import find_disk
from napari_mep.data.virtual import Progress, Stopped, coarse_raster, read_part
from napari_mep.errors import DataError

__all__ = ["DriftEstimate", "find_drift"]

_SIGNIFICANT = 4.0  # standard deviations, and
_SMALLEST_PX = 0.1  # over the whole scan, below which drift is none


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DriftEstimate(Estimate):
    """A plane through the disk centres of the parts of a scan.

    Parameters
    ----------
    centre_px : tuple of 2 floats
        Centre (ky, kx) at the middle of the scan, detector pixels as stored.
    descan_px : tuple of 4 floats
        d ky and d kx in pixels per scan row, then per scan column; zeros where not significant.
    total_px : float
        Largest distance between two disk centres of the plane.
    scatter_px : float
        Root mean square distance of the parts' centres from the plane, per axis.
    """

    centre_px: tuple[float, float]
    descan_px: tuple[float, float, float, float]
    total_px: float
    scatter_px: float


def find_drift(
    patterns: PatternArray,
    *,
    radius_px: float,
    bad: NDArray[np.bool_] | None = None,
    parts: int = 5,
    max_patterns: int | None = 4096,
    stop: Event | None = None,
    progress: Progress | None = None,
) -> DriftEstimate:
    """Disk centres in parts x parts regions of the scan, and the plane through them.

    Centre of mass would do without a specimen; the edge of the disk does with one.

    Parameters
    ----------
    patterns : PatternArray
        (scan_y, scan_x, ky, kx) as stored.
    radius_px : float
        Radius of the disk.
    bad : (ky, kx) bool ndarray, optional
        Pixels to be ignored.
    parts : int
        Regions along each scan axis.
    max_patterns : int or None
        Read about that many at most.
    stop, progress
        See `napari_mep.data.virtual.scan_images`.

    Raises
    ------
    Stopped
        `stop` was set.
    DataError
        The scan is too small, or most of its parts show no disk.
    """
    scan = (int(patterns.shape[0]), int(patterns.shape[1]))
    rows, columns = coarse_raster(scan, max_patterns)
    parts_y, parts_x = min(parts, len(rows)), min(parts, len(columns))
    if min(parts_y, parts_x) < 2:
        raise DataError(f"descan drift: a scan of {scan[0]} x {scan[1]} positions is too small")
    part_of_row = np.arange(len(rows)) * parts_y // len(rows)
    part_of_column = np.arange(len(columns)) * parts_x // len(columns)
    total = np.zeros((parts_y, parts_x, int(patterns.shape[2]), int(patterns.shape[3])))
    for i, row in enumerate(rows):
        if stop is not None and stop.is_set():
            raise Stopped
        block = read_part(patterns, int(row), columns)
        for part in range(parts_x):
            total[part_of_row[i], part] += block[part_of_column == part].sum(0, dtype=np.float64)
        if progress is not None:
            progress((i + 1) * len(columns), len(rows) * len(columns))
    places, centres = [], []
    for y in range(parts_y):
        for x in range(parts_x):
            try:
                disk = find_disk(total[y, x], bad=bad, radius_px=radius_px)
            except DataError:
                continue
            places.append((rows[part_of_row == y].mean(), columns[part_of_column == x].mean()))
            centres.append(disk.centre_px)
    if len(centres) < max(4, parts_y * parts_x // 2):
        raise DataError(
            "descan drift: no disk found in most parts of the scan; are the patterns dark?"
        )
    middle = (np.array(scan) - 1) / 2
    plane, scatter, error = _fit_plane(np.array(places) - middle, np.array(centres))
    corners = np.array([(sy, sx) for sy in (-1, 1) for sx in (-1, 1)]) * middle
    moved = corners @ plane[1:]
    spread = moved[:, None] - moved[None]
    distance = float(np.hypot(spread[..., 0], spread[..., 1]).max())
    error_px = float(np.hypot(*(error[1:] * 2 * middle[:, None])).max())
    seen = distance > max(_SMALLEST_PX, _SIGNIFICANT * error_px)
    slopes = plane[1:].ravel() if seen else np.zeros(4)
    what = f"disk wanders by {distance:.2f} px over the scan (± {error_px:.2f})"
    return DriftEstimate(
        title="Descan drift",
        summary=what if seen else f"none: {what}, not significant",
        proof=(
            Picture(_surface(scan, plane, 0), "ky of the disk centre over the scan, plane (px)"),
            Picture(_surface(scan, plane, 1), "kx of the disk centre over the scan, plane (px)"),
        ),
        centre_px=(float(plane[0, 0]), float(plane[0, 1])),
        descan_px=tuple(float(s) for s in slopes),  # type: ignore[arg-type]
        total_px=distance if seen else 0.0,
        scatter_px=scatter,
    )


def _fit_plane(
    places: NDArray[np.float64], centres: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """Offset and slopes (3, 2), scatter and standard errors (3, 2); outliers count less (Huber)."""
    design = np.column_stack((np.ones(len(places)), places))
    weights = np.ones(len(places))
    for _ in range(10):
        root = np.sqrt(weights)[:, None]
        plane, *_ = np.linalg.lstsq(design * root, centres * root, rcond=None)
        away = centres - design @ plane
        distance = np.hypot(away[:, 0], away[:, 1])
        limit = max(1.5 * float(np.median(distance)), 1e-6)
        weights = np.minimum(1.0, limit / np.maximum(distance, 1e-12))
    freedom = max(1.0, float(weights.sum()) - 3)
    variance = (weights[:, None] * away**2).sum(axis=0) / freedom
    covariance = np.linalg.inv(design.T @ (weights[:, None] * design))
    error = np.sqrt(np.diag(covariance)[:, None] * variance[None, :])
    return np.asarray(plane), float(np.sqrt(variance.mean())), np.asarray(error)


def _surface(scan: tuple[int, int], plane: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    y = np.arange(scan[0])[:, None] - (scan[0] - 1) / 2
    x = np.arange(scan[1])[None, :] - (scan[1] - 1) / 2
    return np.asarray(plane[0, axis] + y * plane[1, axis] + x * plane[2, axis])
