"""Structure families, and which of them a prior may be trained on.

A crystal's family is its structure type: formula without names, Pearson symbol and space group, as
in ``AB_cF8_225`` for rock salt, whatever file it came from and however its cell was chosen. Cubic
perovskites would all be one family; they are told apart by their cations instead
(``perovskite Sn-Ba``), and those of some pairs held out. Families are never divided between
training, validation and test, and the crystals that the benchmark reconstructs are always test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import numpy as np

from napari_mep.crystals._spglib import symmetry_of
from napari_mep.crystals.perovskites import (
    TEST_PAIRS,
    VALIDATION_PAIRS,
    perovskite_cations,
)
from napari_mep.crystals.structure import Crystal

__all__ = ["Part", "classified", "part_of"]

Part = Literal["train", "validation", "test"]

# Shares of the families, not of the crystals.
_TEST_SHARE, _VALIDATION_SHARE = 0.10, 0.05

# The benchmark's crystals that are no perovskites, by reduced formula: Si, GaAs, MgO, TiO2, MoS2.
_HELD_OUT_FORMULAS = (
    {14: 1},
    {31: 1, 33: 1},
    {12: 1, 8: 1},
    {22: 1, 8: 2},
    {42: 1, 16: 2},
)

_PEROVSKITE = "perovskite"
_SYMMETRY_TOLERANCE_A = 0.02  # CIF files print four decimals; relaxed cells scatter as much


def part_of(family: str, numbers: Iterable[int]) -> Part:
    """Whether crystals of this family and these elements are for training, validation or test.

    Parameters
    ----------
    family : str
        Decides by its hash. Without a family a crystal is for training, and so are perovskites,
        which the pairs below divide.
    numbers : iterable of int
        Atomic numbers in the cell. Whatever its family, a crystal with a pair of `TEST_PAIRS` or
        of the formula of one of the benchmark's crystals is for test, and one with a pair of
        `VALIDATION_PAIRS` for validation.
    """
    kinds, counts = np.unique(np.fromiter(numbers, dtype=np.int64), return_counts=True)
    elements = set(kinds.tolist())
    if any(pair <= elements for pair in TEST_PAIRS):
        return "test"
    formula = dict(zip(kinds.tolist(), (counts // np.gcd.reduce(counts)).tolist(), strict=True))
    if formula in _HELD_OUT_FORMULAS:
        return "test"
    if any(pair <= elements for pair in VALIDATION_PAIRS):
        return "validation"
    if not family or family.startswith(_PEROVSKITE):
        return "train"
    draw = int.from_bytes(hashlib.sha256(family.encode()).digest()[:8], "big") / 2**64
    if draw < _TEST_SHARE:
        return "test"
    return "validation" if draw < _TEST_SHARE + _VALIDATION_SHARE else "train"


def classified(crystal: Crystal) -> Crystal:
    """The crystal with its family, in its conventional cell.

    A cell as small as or larger than the conventional one stays as it was written. A primitive
    cell of a centred lattice is replaced, so that a, b and c mean what crystallographers mean.

    Parameters
    ----------
    crystal : Crystal
        Atoms at one place with partial occupancies count as one mixed site.
    """
    assert crystal.occupancy is not None
    cations = perovskite_cations(crystal)
    if cations is not None:
        from ase.data import chemical_symbols

        names = "-".join(chemical_symbols[n] for n in sorted(cations))
        return replace(crystal, family=f"{_PEROVSKITE} {names}")
    first, kind, contents = _sites(crystal)
    found = symmetry_of(crystal.cell_A, crystal.fractional[first], kind, _SYMMETRY_TOLERANCE_A)
    if found is None:
        return replace(crystal, family=f"{_anonymous(kind)}_aP{len(kind)}_1")
    family = _label(found.number, found.international, found.std_types)
    if len(found.std_types) <= len(first):
        return replace(crystal, family=family)
    numbers, fractional, occupancy = [], [], []
    for place, number in zip(found.std_positions, found.std_types, strict=True):
        for element, share in contents[number]:
            numbers.append(element)
            fractional.append(place)
            occupancy.append(share)
    return Crystal(
        found.std_lattice,
        np.array(numbers),
        np.array(fractional),
        np.array(occupancy),
        crystal.name,
        family,
    )


def _sites(
    crystal: Crystal,
) -> tuple[np.ndarray, np.ndarray, dict[int, tuple[tuple[int, float], ...]]]:
    """First atom of every site, its kind as spglib counts them, and what a kind holds."""
    occupancy = crystal.occupancy
    assert occupancy is not None
    place = np.round(crystal.fractional * 1e4).astype(np.int64) % 10_000
    _, first, site = np.unique(place, axis=0, return_index=True, return_inverse=True)
    kinds: dict[tuple[tuple[int, float], ...], int] = {}
    kind = []
    for index in range(len(first)):
        members = np.flatnonzero(site.ravel() == index)
        content = tuple(
            sorted((int(crystal.numbers[m]), round(float(occupancy[m]), 3)) for m in members)
        )
        kind.append(kinds.setdefault(content, len(kinds) + 1))
    return first, np.array(kind), {number: content for content, number in kinds.items()}


def _anonymous(kinds: np.ndarray) -> str:
    """Formula without names, fewest atoms first: AB3, A2B3."""
    counts = np.unique(kinds, return_counts=True)[1]
    shares = sorted((counts // np.gcd.reduce(counts)).tolist())
    letters = (chr(65 + i) if i < 26 else f"({i})" for i in range(len(shares)))
    return "".join(
        letter + (str(n) if n > 1 else "") for letter, n in zip(letters, shares, strict=True)
    )


_SYSTEMS = ((2, "a"), (15, "m"), (74, "o"), (142, "t"), (194, "h"), (230, "c"))


def _label(group: int, international: str, kinds: np.ndarray) -> str:
    """AFLOW's prototype label without Wyckoff letters: formula, Pearson symbol, space group."""
    system = next(letter for last, letter in _SYSTEMS if group <= last)
    centring = international[0]
    atoms = len(kinds)
    if centring == "R":
        atoms //= 3  # counted in the rhombohedral cell
    if centring in "AB":
        centring = "C"
    return f"{_anonymous(kinds)}_{system}{centring}{atoms}_{group}"
