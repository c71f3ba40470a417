"""Cutting a box of atoms out of a crystal in any orientation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from napari_mep.crystals.occupancy import alternatives
from napari_mep.crystals.structure import AtomBox, Crystal
from napari_mep.errors import CrystalError

__all__ = ["cut_box", "fill_box", "oriented_cell", "parse_zone_axis", "zone_axis_rotation"]

_NAMED_AXES = {"a": (1, 0, 0), "b": (0, 1, 0), "c": (0, 0, 1)}


def parse_zone_axis(text: str | Sequence[int]) -> tuple[int, int, int]:
    """Zone axis [u v w] from ``"a"``, ``"b"``, ``"c"``, ``"1,1,0"`` or three integers.

    Raises
    ------
    CrystalError
        If the text is none of these or the axis is [0 0 0].
    """
    if isinstance(text, str):
        if text.lower() in _NAMED_AXES:
            return _NAMED_AXES[text.lower()]
        parts: Sequence[str | int] = text.strip("[]() ").replace(",", " ").split()
    else:
        parts = list(text)
    try:
        axis = tuple(int(part) for part in parts)
    except ValueError:
        axis = ()
    if len(axis) != 3 or not any(axis):
        raise CrystalError(f"zone axis {text!r}: expected a, b, c or three integers such as 1,1,0")
    return axis  # type: ignore[return-value]


def zone_axis_rotation(cell_A: np.ndarray, axis: Sequence[int]) -> np.ndarray:
    """Rotation that turns the zone axis onto +z and a lattice vector's projection onto +x.

    Parameters
    ----------
    cell_A : (3, 3) ndarray
        Lattice vectors as rows, angstrom.
    axis : three ints
        Zone axis [u v w] in units of the lattice vectors.

    Returns
    -------
    (3, 3) ndarray
        Proper rotation R in (x, y, z) order: column vectors transform as R @ v.
    """
    beam = np.asarray(axis, float) @ cell_A
    beam /= np.linalg.norm(beam)
    # The in-plane reference is the first lattice vector that is not nearly parallel to the beam.
    for vector in cell_A:
        in_plane = vector - (vector @ beam) * beam
        if np.linalg.norm(in_plane) > 0.2 * np.linalg.norm(vector):
            break
    x_axis = in_plane / np.linalg.norm(in_plane)
    return np.stack([x_axis, np.cross(beam, x_axis), beam])


def oriented_cell(
    cell_A: np.ndarray,
    zone_axis: str | Sequence[int] = "c",
    in_plane_deg: float = 0.0,
    tilt_mrad: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """Lattice vectors as rows in the (x, y, z) axes of a box, the zone axis along the beam (+z).

    Parameters
    ----------
    cell_A : (3, 3) ndarray
        Lattice vectors as rows, angstrom.
    zone_axis, in_plane_deg, tilt_mrad
        As in `cut_box`.
    """
    rotation = zone_axis_rotation(cell_A, parse_zone_axis(zone_axis))
    turn = math.radians(in_plane_deg)
    about_z = np.array(
        [[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1.0]]
    )
    ty, tx = tilt_mrad[0] * 1e-3, tilt_mrad[1] * 1e-3
    about_y = np.array(
        [[math.cos(ty), 0, math.sin(ty)], [0, 1, 0], [-math.sin(ty), 0, math.cos(ty)]]
    )
    about_x = np.array(
        [[1, 0, 0], [0, math.cos(tx), -math.sin(tx)], [0, math.sin(tx), math.cos(tx)]]
    )
    oriented: np.ndarray = cell_A @ (about_x @ about_y @ about_z @ rotation).T
    return oriented


def cut_box(
    crystal: Crystal,
    size_A: tuple[float, float, float],
    *,
    zone_axis: str | Sequence[int] = "c",
    in_plane_deg: float = 0.0,
    offset_A: tuple[float, float, float] = (0.0, 0.0, 0.0),
    tilt_mrad: tuple[float, float] = (0.0, 0.0),
    rng: np.random.Generator | None = None,
) -> AtomBox:
    """Fill a box with crystal, the zone axis along the beam (+z).

    Parameters
    ----------
    crystal : Crystal
        The unit cell.
    size_A : tuple of 3 floats
        Box lengths (z, y, x), angstrom.
    zone_axis : str or three ints
        ``"a"``, ``"b"``, ``"c"`` or [u v w].
    in_plane_deg : float
        Rotation about the beam, degrees, from +x towards +y.
    offset_A : tuple of 3 floats
        Where the crystal's origin lies in the box, (z, y, x), angstrom.
    tilt_mrad : tuple of 2 floats
        Small misorientation about the y and x axes of the box, mrad.
    rng : numpy.random.Generator, optional
        Draws partially occupied sites, every cell by itself. Without one all their atoms are
        there.

    Returns
    -------
    AtomBox
        Atoms with 0 <= position < size in each axis.
    """
    cell = oriented_cell(crystal.cell_A, zone_axis, in_plane_deg, tilt_mrad)
    return fill_box(crystal, cell, size_A, offset_A, rng)


def fill_box(
    crystal: Crystal,
    cell: np.ndarray,
    size_A: tuple[float, float, float],
    offset_A: tuple[float, float, float] = (0.0, 0.0, 0.0),
    rng: np.random.Generator | None = None,
) -> AtomBox:
    """`cut_box` with the crystal's cell as `oriented_cell` has turned it."""
    size_xyz = np.array(size_A[::-1], float)
    offset_xyz = np.array(offset_A[::-1], float)

    # Cells that can reach into the box: the box corners in lattice coordinates bound the indices.
    corners = np.stack(np.meshgrid(*[(0.0, s) for s in size_xyz], indexing="ij"), -1).reshape(-1, 3)
    lattice = (corners - offset_xyz) @ np.linalg.inv(cell)
    low, high = np.floor(lattice.min(0)).astype(int) - 1, np.ceil(lattice.max(0)).astype(int)
    shifts = np.stack(
        np.meshgrid(*[np.arange(a, b + 1) for a, b in zip(low, high, strict=True)], indexing="ij"),
        -1,
    ).reshape(-1, 3)
    # Whole cells outside the box are dropped before their atoms are made: skewed cells would
    # otherwise cost many times the atoms that remain.
    reach = np.abs(cell).sum(0)
    origins = shifts @ cell + offset_xyz
    origins = origins[((origins > -reach) & (origins < size_xyz + reach)).all(1)]
    choices = None if rng is None else alternatives(crystal)
    fractional = crystal.fractional if choices is None else choices.fractional
    positions = (origins[:, None, :] + (fractional @ cell)[None]).reshape(-1, 3)
    # Rounding noise must not scatter an atomic plane that lies on a face over both its sides.
    positions = np.round(positions, 6) + 0.0
    numbers = np.tile(crystal.numbers, len(origins))
    inside = ((positions >= 0) & (positions < size_xyz)).all(1)
    if rng is not None and choices is not None:
        inside &= choices.draw(len(origins), rng).reshape(-1)
    return AtomBox(numbers[inside], positions[inside][:, ::-1].copy(), size_A)
