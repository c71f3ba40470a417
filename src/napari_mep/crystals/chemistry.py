"""Which elements may sit on the sites of a structure, and how large the cell is then.

The rules are few, and all data is pymatgen's: Slater's radii (1964, J. Chem. Phys. 41, 3199), whose
sums are bond lengths in metallic, covalent and ionic crystals alike to 0.12 A on average; Pauling
electronegativities; common oxidation states.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from napari_mep.crystals.structure import Crystal

__all__ = [
    "ElementTable",
    "closest_contacts",
    "draw_elements",
    "element_table",
    "fitting_scale",
    "formula",
    "is_hollow",
]

# Short-lived elements and noble gases form no crystals that anyone images.
_LEFT_OUT = {2, 10, 18, 36, 43, 54, 61, 84, 85, 86, 87, 88, 89, 91}
_LAST = 92
_NONMETALS = {1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 33, 34, 35, 52, 53}


@dataclass(frozen=True, slots=True, eq=False)
class ElementTable:
    """Properties by atomic number; row 0 is unused.

    Parameters
    ----------
    radius_A : (93,) ndarray
        Slater's atomic radius, angstrom; NaN where the element is left out.
    electronegativity : (93,) ndarray
        Pauling's scale.
    charges : tuple of tuples of int
        Common oxidation states other than 0.
    """

    radius_A: np.ndarray
    electronegativity: np.ndarray
    charges: tuple[tuple[int, ...], ...]


@lru_cache(maxsize=1)
def element_table() -> ElementTable:
    """The elements that crystals are made of here."""
    from pymatgen.core import Element

    radius, electronegativity = np.full(_LAST + 1, np.nan), np.full(_LAST + 1, np.nan)
    charges: list[tuple[int, ...]] = [()]
    for z in range(1, _LAST + 1):
        element = Element.from_Z(z)
        charges.append(tuple(q for q in element.common_oxidation_states if q))
        if z not in _LEFT_OUT:
            radius[z], electronegativity[z] = element.atomic_radius, element.X
    return ElementTable(radius, electronegativity, tuple(charges))


def draw_elements(
    like: Sequence[int], counts: Sequence[int], rng: np.random.Generator, tries: int = 50
) -> tuple[int, ...] | None:
    """Elements that could take the place of those of a known crystal.

    Each is drawn with a Gaussian preference for a radius (20 %) and electronegativity (0.4) like
    its model's. The draw counts if the elements differ, their radii grew or shrank alike (within
    25 %), the most electronegative stays so, and, where the model is neutral in common oxidation
    states, the new one is neutral too.

    Parameters
    ----------
    like : sequence of int
        Atomic numbers of the model, one per kind of site.
    counts : sequence of int
        How many sites are of each kind.
    rng : numpy.random.Generator
        Source of the draws.
    tries : int
        Draws before giving up.

    Returns
    -------
    tuple of int or None
        Atomic numbers; None if no draw was fit.
    """
    table = element_table()
    model = np.asarray(like)
    chances = [_similarity(z) for z in like]
    neutral = _is_neutral(like, counts)
    for _ in range(tries):
        drawn = np.array([rng.choice(len(p), p=p) for p in chances])
        if len(set(drawn.tolist())) < len(drawn):
            continue
        growth = table.radius_A[drawn] / table.radius_A[model]
        if growth.max() > 1.25 * growth.min():
            continue
        order = table.electronegativity[drawn]
        if len(drawn) > 1 and order.argmax() != table.electronegativity[model].argmax():
            continue
        if neutral and not _is_neutral(drawn.tolist(), counts):
            continue
        return tuple(drawn.tolist())
    return None


@lru_cache(maxsize=128)
def _similarity(z: int) -> np.ndarray:
    """(93,) chances to take the place of element z."""
    table = element_table()
    radius = (table.radius_A - table.radius_A[z]) / (0.2 * table.radius_A[z])
    electronegativity = (table.electronegativity - table.electronegativity[z]) / 0.4
    weight = np.nan_to_num(np.exp(-0.5 * (radius**2 + electronegativity**2)))
    # Nonmetals stand for nonmetals and metals for metals, whatever their radii say.
    nonmetal = np.isin(np.arange(_LAST + 1), list(_NONMETALS))
    weight[nonmetal != (z in _NONMETALS)] = 0
    return weight / weight.sum()


def _is_neutral(numbers: Sequence[int], counts: Sequence[int]) -> bool:
    charges = element_table().charges
    return len(numbers) > 1 and any(
        sum(q * n for q, n in zip(states, counts, strict=True)) == 0
        for states in itertools.product(*(charges[z] for z in numbers))
    )


def closest_contacts(cell_A: np.ndarray, fractional: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest neighbour of every atom, in the crystal.

    Parameters
    ----------
    cell_A : (3, 3) ndarray
        Lattice vectors as rows, angstrom.
    fractional : (n, 3) ndarray
        Coordinates.

    Returns
    -------
    distance_A : (n,) ndarray
        To the nearest neighbour.
    neighbour : (n,) ndarray
        Which atom that is an image of; itself in a crystal of one atom.
    """
    shifts = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    delta = fractional[None] - fractional[:, None]
    delta -= np.round(delta)
    r = np.linalg.norm((delta[:, :, None] + shifts) @ cell_A, axis=-1)
    n = len(fractional)
    r[np.arange(n), np.arange(n), len(shifts) // 2] = np.inf  # an atom is not its own neighbour
    nearest = r.min(-1)
    neighbour = nearest.argmin(1)
    return nearest[np.arange(n), neighbour], neighbour


def fitting_scale(numbers: np.ndarray, distance_A: np.ndarray, neighbour: np.ndarray) -> float:
    """Factor on all lengths that makes the tightest contact as long as the sum of its radii.

    Parameters
    ----------
    numbers : (n,) integer ndarray
        Atomic numbers.
    distance_A, neighbour : (n,) ndarrays
        From `closest_contacts`.
    """
    radius = element_table().radius_A[numbers]
    return float(((radius + radius[neighbour]) / distance_A).max())


def is_hollow(crystal: Crystal) -> bool:
    """Whether so much of the cell is empty that its tightest contact cannot be a real one.

    The atoms' spheres fill 27 % of diamond, 8 to 20 % of zeolites and molecular crystals.
    """
    radius = element_table().radius_A[crystal.numbers]
    filled = 4 / 3 * np.pi * float((radius**3).sum())
    return filled < 0.08 * abs(float(np.linalg.det(crystal.cell_A)))


def formula(numbers: np.ndarray) -> str:
    """Reduced chemical formula, the least electronegative element first."""
    from ase.data import chemical_symbols

    kinds, counts = np.unique(numbers, return_counts=True)
    electronegativity = element_table().electronegativity[kinds]
    counts //= np.gcd.reduce(counts)
    return "".join(
        chemical_symbols[kinds[i]] + (str(counts[i]) if counts[i] > 1 else "")
        for i in np.argsort(electronegativity, kind="stable")
    )
