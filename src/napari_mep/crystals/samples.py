"""Specimens by name: crystals that ship with the program, two of them with defects.

A `Sample` answers one question, which atoms fill this box, so that the simulation need not know
whether they come from a perfect crystal, a CIF file with partial occupancy or a grain boundary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from types import MappingProxyType

import numpy as np

from napari_mep.crystals.cif import read_cif
from napari_mep.crystals.cut import cut_box
from napari_mep.crystals.structure import AtomBox, Crystal
from napari_mep.errors import CrystalError

__all__ = ["Sample", "list_samples", "resolve", "sample", "sample_from_crystal"]

Size = tuple[float, float, float]
ZoneAxis = str | Sequence[int]


@dataclass(frozen=True, slots=True)
class Sample:
    """A specimen that can fill any box.

    Parameters
    ----------
    name : str
        What the command line calls it.
    description : str
        One line for people.
    crystal : Crystal
        The (parent) unit cell.
    fill : callable
        ``fill(crystal, size_A, zone_axis, rng) -> AtomBox``; see `box`.
    """

    name: str
    description: str
    crystal: Crystal
    fill: Callable[[Crystal, Size, ZoneAxis, np.random.Generator], AtomBox]

    def box(self, size_A: Size, *, zone_axis: ZoneAxis = "c", seed: int = 0) -> AtomBox:
        """Atoms of the specimen in a box; defects lie at its lateral centre.

        Parameters
        ----------
        size_A : tuple of 3 floats
            Box lengths (z, y, x), angstrom.
        zone_axis : str or three ints
            Direction of the beam: ``"a"``, ``"b"``, ``"c"`` or [u v w].
        seed : int
            Decides which of the partially occupied sites hold an atom.

        Returns
        -------
        AtomBox
            Beam along +z, entrance face at z = 0.

        Raises
        ------
        CrystalError
            A length is not positive, the zone axis is none, or the box holds no atom.
        """
        if not all(math.isfinite(length) and length > 0 for length in size_A):
            raise CrystalError(f"box size {size_A} A: lengths must be positive")
        atoms = self.fill(self.crystal, size_A, zone_axis, np.random.default_rng(seed))
        if not len(atoms.numbers):
            raise CrystalError(
                f"{self.name}: no atom in a box of {size_A} A (z, y, x); make it larger"
            )
        return atoms


def sample(name: str) -> Sample:
    """The built-in specimen of this name.

    Raises
    ------
    CrystalError
        There is none; the message lists those there are.
    """
    try:
        cif, description, fill = _BUILT_IN[name.lower()]
    except KeyError:
        raise CrystalError(
            f"sample '{name}': neither a CIF file nor a built-in sample ({', '.join(_BUILT_IN)})"
        ) from None
    with as_file(files("napari_mep.crystals").joinpath("structures", f"{cif}.cif")) as path:
        crystal = read_cif(path)
    return Sample(name.lower(), description, crystal, fill)


def list_samples() -> Mapping[str, str]:
    """Descriptions of the built-in specimens by name; reads no file."""
    return MappingProxyType({name: entry[1] for name, entry in _BUILT_IN.items()})


def sample_from_crystal(crystal: Crystal) -> Sample:
    """A perfect specimen of any crystal; partially occupied sites are drawn one by one."""
    return Sample(crystal.name, f"{crystal.name}, perfect crystal", crystal, _perfect)


def resolve(source: str | Path | Crystal | Sample) -> Sample:
    """What the user named: a CIF file, a built-in sample, or an object that is one already.

    Parameters
    ----------
    source : str, Path, Crystal or Sample
        An existing path wins over a built-in name.

    Raises
    ------
    CrystalError
        The file cannot be read, or the name is unknown.
    """
    if isinstance(source, Sample):
        return source
    if isinstance(source, Crystal):
        return sample_from_crystal(source)
    path = Path(source)
    if path.is_file():
        return sample_from_crystal(read_cif(path))
    if isinstance(source, Path) or path.suffix.lower() == ".cif" or path.parent != Path("."):
        raise CrystalError(f"CIF file {path}: no such file")
    return sample(source)


# --- how the boxes are filled -------------------------------------------------------------------


def _perfect(
    crystal: Crystal, size_A: Size, zone_axis: ZoneAxis, rng: np.random.Generator
) -> AtomBox:
    return cut_box(crystal, size_A, zone_axis=zone_axis, rng=rng)


def _column_vacancies(
    crystal: Crystal, size_A: Size, zone_axis: ZoneAxis, rng: np.random.Generator
) -> AtomBox:
    """A Sr column at the centre empty in the entrance half, an O column beside it in the exit half.

    Seen from above both are half full: only their depth tells them apart.
    """
    atoms = _perfect(crystal, size_A, zone_axis, rng)
    strontium = _column_near(atoms, 38, (size_A[1] / 2, size_A[2] / 2))
    middle = atoms.positions_A[strontium, 1:].mean(0)
    oxygen = _column_near(atoms, 8, (middle[0] + 1.0, middle[1] + 2.0))
    depth = atoms.positions_A[:, 0]
    half = size_A[0] / 2
    gone = (strontium & (depth < half)) | (oxygen & (depth >= half))
    return replace(atoms, numbers=atoms.numbers[~gone], positions_A=atoms.positions_A[~gone])


def _column_near(atoms: AtomBox, number: int, place_yx_A: tuple[float, float]) -> np.ndarray:
    """Mask of the atoms of one element in the column along the beam nearest to a place."""
    element = atoms.numbers == number
    if not element.any():
        raise CrystalError(f"box of {atoms.size_A} A (z, y, x) is too small for a column vacancy")
    lateral = atoms.positions_A[:, 1:]
    distance = np.where(element, np.linalg.norm(lateral - place_yx_A, axis=1), np.inf)
    nearest = lateral[np.argmin(distance)]
    return element & (np.linalg.norm(lateral - nearest, axis=1) < 0.2)


# Sigma 5 (310) symmetric tilt boundary of a cubic crystal about [001].
_SIGMA5_DEG = math.degrees(2 * math.atan(1 / 3))

_TOO_CLOSE_A = 1.7  # shorter than any Sr-O, Ti-O (1.95 A) or O-O distance in a solid


def _grain_boundary(
    crystal: Crystal, size_A: Size, zone_axis: ZoneAxis, rng: np.random.Generator
) -> AtomBox:
    """Two grains, each turned about the beam by half the misorientation.

    They meet in the plane through the middle of the box normal to x, unrelaxed: where two atoms
    of different grains come too close, the one of the second grain is left out.
    """
    left, right = (
        cut_box(
            crystal,
            size_A,
            zone_axis=zone_axis,
            rng=rng,
            in_plane_deg=turn * _SIGMA5_DEG / 2,
            offset_A=(0.0, size_A[1] / 2, size_A[2] / 2),
        )
        for turn in (1, -1)
    )
    middle = size_A[2] / 2
    left_in = left.positions_A[:, 2] < middle
    right_in = right.positions_A[:, 2] >= middle
    border = left.positions_A[left_in & (left.positions_A[:, 2] > middle - _TOO_CLOSE_A)]
    if len(border):
        # Row by row: the box may be large, the strip along the boundary is not.
        for index in np.flatnonzero(right_in & (right.positions_A[:, 2] < middle + _TOO_CLOSE_A)):
            gap = np.linalg.norm(border - right.positions_A[index], axis=1).min()
            right_in[index] = gap >= _TOO_CLOSE_A
    return AtomBox(
        np.concatenate([left.numbers[left_in], right.numbers[right_in]]),
        np.concatenate([left.positions_A[left_in], right.positions_A[right_in]]),
        size_A,
    )


_BUILT_IN: Mapping[
    str,
    tuple[str, str, Callable[[Crystal, Size, ZoneAxis, np.random.Generator], AtomBox]],
] = MappingProxyType(
    {
        "srtio3": ("srtio3", "SrTiO3, cubic perovskite", _perfect),
        "batio3": ("batio3", "BaTiO3, tetragonal perovskite, polar along c", _perfect),
        "catio3": ("catio3", "CaTiO3, orthorhombic perovskite, tilted octahedra", _perfect),
        "tio2-rutile": ("tio2-rutile", "TiO2, rutile", _perfect),
        "si": ("si", "Si, diamond structure", _perfect),
        "gaas": ("gaas", "GaAs, zincblende", _perfect),
        "mos2": ("mos2", "MoS2, layered, 2H stacking", _perfect),
        "srtio3-vacancy": (
            "srtio3",
            "SrTiO3 with a Sr column empty in the entrance half and an O column in the exit half",
            _column_vacancies,
        ),
        "srtio3-grain-boundary": (
            "srtio3",
            "SrTiO3, two grains turned about the beam by 36.9 degrees (Sigma 5), unrelaxed",
            _grain_boundary,
        ),
    }
)
