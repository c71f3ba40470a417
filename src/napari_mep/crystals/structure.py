"""A crystal and a box of atoms: the two forms a specimen takes before it is rendered."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from napari_mep.errors import CrystalError

__all__ = ["AtomBox", "Crystal", "cell_from_parameters"]


@dataclass(frozen=True, slots=True, eq=False)
class Crystal:
    """One unit cell.

    Parameters
    ----------
    cell_A : (3, 3) float64 ndarray
        Lattice vectors a, b, c as rows, in angstrom, any handedness and angles.
    numbers : (n,) int64 ndarray
        Atomic numbers.
    fractional : (n, 3) float64 ndarray
        Fractional coordinates, wrapped to [0, 1).
    occupancy : (n,) float64 ndarray or None
        Site occupancies in (0, 1]; None means fully occupied.
    name : str
        For people.
    family : str
        What it is kin to, such as ``"AB_cF8_225"``; see `napari_mep.crystals.families`.

    Raises
    ------
    CrystalError
        If shapes disagree, a number is no element or the cell is degenerate.
    """

    cell_A: np.ndarray
    numbers: np.ndarray
    fractional: np.ndarray
    occupancy: np.ndarray | None = None
    name: str = ""
    family: str = ""

    def __post_init__(self) -> None:
        cell = np.asarray(self.cell_A, dtype=np.float64)
        numbers = np.asarray(self.numbers, dtype=np.int64)
        fractional = np.asarray(self.fractional, dtype=np.float64)
        n = len(numbers)
        occupancy = np.ones(n) if self.occupancy is None else np.asarray(self.occupancy, float)
        label = self.name or "crystal"
        if cell.shape != (3, 3) or fractional.shape != (n, 3) or occupancy.shape != (n,) or n == 0:
            raise CrystalError(
                f"{label}: cell {cell.shape}, {n} atoms, coordinates {fractional.shape}; "
                "expected (3, 3), at least one atom and (n, 3)"
            )
        if not (np.isfinite(cell).all() and abs(np.linalg.det(cell)) > 1.0):
            raise CrystalError(
                f"{label}: unit cell volume {abs(np.linalg.det(cell)):.3g} A^3 is too small; "
                "check the cell parameters (angstrom, degrees)"
            )
        if numbers.min() < 1 or numbers.max() > 103:
            raise CrystalError(f"{label}: atomic numbers must lie in 1..103; check the elements")
        if not np.isfinite(fractional).all():
            raise CrystalError(f"{label}: a fractional coordinate is not finite")
        object.__setattr__(self, "cell_A", cell)
        object.__setattr__(self, "numbers", numbers)
        object.__setattr__(self, "fractional", fractional % 1.0)
        object.__setattr__(self, "occupancy", occupancy)


@dataclass(frozen=True, slots=True, eq=False)
class AtomBox:
    """Atoms in a finite box with the beam along +z; nothing outside, nothing periodic.

    Parameters
    ----------
    numbers : (n,) int64 ndarray
        Atomic numbers.
    positions_A : (n, 3) float64 ndarray
        Positions (z, y, x) in angstrom from the corner of the box; z = 0 is the entrance face.
    size_A : tuple of 3 floats
        Box lengths (z, y, x) in angstrom.
    """

    numbers: np.ndarray
    positions_A: np.ndarray
    size_A: tuple[float, float, float]


def cell_from_parameters(
    a: float, b: float, c: float, alpha: float, beta: float, gamma: float
) -> np.ndarray:
    """Lattice vectors as rows: a along x, b in the xy plane.

    Parameters
    ----------
    a, b, c : float
        Lengths, in the unit of the result.
    alpha, beta, gamma : float
        Angles, degrees.

    Raises
    ------
    CrystalError
        No cell has these angles.
    """
    cos = [math.cos(math.radians(angle)) for angle in (alpha, beta, gamma)]
    sin_gamma = math.sin(math.radians(gamma))
    y = (cos[0] - cos[1] * cos[2]) / sin_gamma
    height = 1 - cos[1] ** 2 - y**2
    if height <= 1e-4:
        raise CrystalError(f"no cell has the angles {alpha:g}, {beta:g} and {gamma:g} degrees")
    return np.array(
        [
            [a, 0.0, 0.0],
            [b * cos[2], b * sin_gamma, 0.0],
            [c * cos[1], c * y, c * math.sqrt(height)],
        ]
    )
