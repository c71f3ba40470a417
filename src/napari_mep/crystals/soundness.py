"""What a CIF file's coordinates and symmetry together make, and whether it can be a crystal."""

from __future__ import annotations

import re

import numpy as np

from napari_mep.crystals.structure import Crystal
from napari_mep.errors import CrystalError

__all__ = ["sound"]

# Volume per atom in A^3. Solids lie between 5 (diamond) and 115 (caesium); beyond these limits the
# cell is given in another unit or most of its atoms are missing.
_VOLUME_PER_ATOM_A3 = (2.0, 500.0)

# Images of an atom on a special position that the digits in the file do not quite reach.
_SAME_ATOM_A = 0.25
_CLOSEST_A = 0.55  # H2 has 0.74; refined hydrogen comes closer to heavy atoms than it is
_ONE_ATOM, _TWO_ATOMS = 1.02, 1.2  # sums of refined occupancies that stand for one, or for more
_SAME_SITE_A = 0.05
# Solvent that nobody located misses less; a mirror plane in the wrong place misses more.
_FORMULA_MISS = 0.25
_ELEMENTS = 120


def sound(crystal: Crystal, formula: str = "") -> Crystal:
    """The crystal with each atom once.

    Parameters
    ----------
    crystal : Crystal
        As symmetry operations made it.
    formula : str
        What the file says it is, such as ``Al2 Mg O4``; "" if it does not.

    Raises
    ------
    CrystalError
        It is no solid, or not what the file says: almost always because coordinates and symmetry
        operations are of different settings.
    """
    crystal = _merged(crystal)
    assert crystal.occupancy is not None
    volume = abs(np.linalg.det(crystal.cell_A)) / crystal.occupancy.sum()
    low, high = _VOLUME_PER_ATOM_A3
    if not low <= volume <= high:
        raise CrystalError(
            f"{volume:.3g} A^3 per atom, possible are {low:g} to {high:g}: cell lengths must be in "
            "A and angles in degrees"
        )
    gap = _gaps_A(crystal)
    # Alternatives may be close, and atoms at one place share a site whatever they add up to.
    total = crystal.occupancy[:, None] + crystal.occupancy[None]
    gap[(total <= _TWO_ATOMS) | (gap < _SAME_SITE_A)] = np.inf
    first, second = np.unravel_index(gap.argmin(), gap.shape)
    if gap[first, second] < _CLOSEST_A:
        raise CrystalError(
            f"two atoms (Z = {crystal.numbers[first]} and {crystal.numbers[second]}) only "
            f"{gap[first, second]:.2f} A apart: coordinates and symmetry do not fit together"
        )
    if _formula_miss(crystal, formula) > _FORMULA_MISS:
        raise CrystalError(
            f"its atoms are not those of its formula {formula}: coordinates and symmetry do not "
            "fit together"
        )
    return crystal


def _formula_miss(crystal: Crystal, formula: str) -> float:
    """How far the composition is from the formula, 0 to 2.

    Hydrogen does not count, which many files leave out.
    """
    from ase.data import atomic_numbers

    written = np.zeros(_ELEMENTS)
    for symbol, count in re.findall(r"([A-Z][a-z]?)(\d+\.?\d*|\.\d+)?", formula):
        if symbol in atomic_numbers:
            written[atomic_numbers[symbol]] += float(count or 1)
    assert crystal.occupancy is not None
    counted = np.bincount(crystal.numbers, crystal.occupancy, _ELEMENTS)
    counted[1] = written[1] = 0
    if not counted.any() or not written.any():
        return 0.0
    return float(np.abs(counted / counted.sum() - written / written.sum()).sum())


def _merged(crystal: Crystal) -> Crystal:
    """Atoms of one element that are closer than any bond made one, in their middle.

    Not those that are alternatives: with occupancies that add up to one atom.
    """
    assert crystal.occupancy is not None
    gap = _gaps_A(crystal)
    same = (gap < _SAME_ATOM_A) & (crystal.numbers[:, None] == crystal.numbers[None])
    if not same.any():
        return crystal
    keep = np.ones(len(crystal.numbers), dtype=bool)
    fractional = crystal.fractional.copy()
    for atom in np.flatnonzero(same.any(1)):
        others = np.flatnonzero(same[atom] & keep)
        total = crystal.occupancy[atom] + crystal.occupancy[others].sum()
        if not keep[atom] or not len(others) or total <= _ONE_ATOM:
            continue
        delta = crystal.fractional[others] - crystal.fractional[atom]
        delta -= np.round(delta)
        fractional[atom] += delta.sum(0) / (len(others) + 1)
        keep[others] = False
    return Crystal(
        crystal.cell_A,
        crystal.numbers[keep],
        fractional[keep],
        crystal.occupancy[keep],
        crystal.name,
    )


def _gaps_A(crystal: Crystal) -> np.ndarray:
    """(n, n) shortest distances between different atoms, right where they are short."""
    delta = crystal.fractional[:, None] - crystal.fractional[None]
    delta -= np.round(delta)
    gap: np.ndarray = np.linalg.norm(delta @ crystal.cell_A, axis=-1)
    np.fill_diagonal(gap, np.inf)
    return gap
