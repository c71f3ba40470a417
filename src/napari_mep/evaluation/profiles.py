"""Lines through volumes: along a slice with an integration width, and along the depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_mep.errors import DataError
from napari_mep.evaluation.resample import slice_index
from napari_mep.volume import PhaseVolume

__all__ = ["Profile", "depth_profile", "line_profile"]


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """Values along a line.

    Parameters
    ----------
    position_A : (n,) float64 ndarray
        Distance from the start of the line, or depth, in angstrom.
    density_rad_per_A : (n,) float64 ndarray
        Phase per thickness in rad/A, which does not depend on the slice thickness; NaN outside of
        the volume.
    """

    position_A: np.ndarray
    density_rad_per_A: np.ndarray


def line_profile(
    volume: PhaseVolume,
    start_A: tuple[float, float],
    end_A: tuple[float, float],
    *,
    depth_A: float | None,
    width_A: float = 0.0,
) -> Profile:
    """Phase along a line through one slice, averaged across the line.

    Parameters
    ----------
    volume : PhaseVolume
        Radians per slice.
    start_A, end_A : tuple of 2 floats
        World coordinates (y, x) of the ends in angstrom.
    depth_A : float or None
        World coordinate of the slice; None averages over the whole depth.
    width_A : float
        Integration width across the line in angstrom; 0 takes a single line.

    Returns
    -------
    Profile
        Sampled linearly at half the smaller pixel.

    Raises
    ------
    DataError
        The line has no length.
    """
    from scipy.ndimage import map_coordinates

    start, end = np.asarray(start_A, float), np.asarray(end_A, float)
    length = float(np.hypot(*(end - start)))
    if length <= 0:
        raise DataError("line profile: start and end are the same point; draw a longer line")
    dz, *pixel = volume.voxel_size_A
    step = min(pixel) / 2
    along = np.linspace(0, length, max(2, round(length / step) + 1))
    lines = max(1, round(width_A / step))
    # The middles of equal strips, so that the width is the one that was asked for.
    across = ((np.arange(lines) + 0.5) / lines - 0.5) * width_A
    unit = (end - start) / length
    normal = np.array([-unit[1], unit[0]])
    points = start + along[:, None, None] * unit + across[None, :, None] * normal
    where = (points - np.array(volume.origin_A[1:])) / np.array(pixel)
    if depth_A is None:
        image = volume.data.mean(axis=0, dtype=np.float64)
    else:
        image = volume.data[slice_index(volume, depth_A)]
    values = map_coordinates(image, np.moveaxis(where, -1, 0), order=1, cval=np.nan)
    counted = np.isfinite(values)
    total = np.where(counted, values, 0).sum(axis=1)
    number = counted.sum(axis=1)
    mean = np.where(number > 0, total / np.maximum(number, 1), np.nan)
    return Profile(along, mean / dz)


def depth_profile(
    volume: PhaseVolume, point_A: tuple[float, float], *, radius_A: float = 0.0
) -> Profile:
    """Phase along the beam at one place.

    Parameters
    ----------
    volume : PhaseVolume
        Radians per slice.
    point_A : tuple of 2 floats
        World coordinates (y, x) in angstrom.
    radius_A : float
        Average over the pixels whose centres lie within; the nearest pixel always counts.

    Returns
    -------
    Profile
        One value a slice at the depth of its centre; NaN where the point lies outside.
    """
    dz, dy, dx = volume.voxel_size_A
    nz, ny, nx = volume.data.shape
    depth = volume.origin_A[0] + dz * np.arange(nz)
    iy = round((point_A[0] - volume.origin_A[1]) / dy)
    ix = round((point_A[1] - volume.origin_A[2]) / dx)
    if not (0 <= iy < ny and 0 <= ix < nx):
        return Profile(depth, np.full(nz, np.nan))
    ry, rx = int(radius_A / dy) + 1, int(radius_A / dx) + 1
    rows = np.arange(max(0, iy - ry), min(ny, iy + ry + 1))
    columns = np.arange(max(0, ix - rx), min(nx, ix + rx + 1))
    distance = np.hypot(
        (volume.origin_A[1] + dy * rows - point_A[0])[:, None],
        (volume.origin_A[2] + dx * columns - point_A[1])[None, :],
    )
    chosen = distance <= radius_A
    chosen[iy - rows[0], ix - columns[0]] = True
    block = volume.data[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Profile(depth, block[:, chosen].mean(axis=1, dtype=np.float64) / dz)
