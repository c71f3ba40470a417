"""Known structure types with other elements: a library that needs no download.

The types are the 288 AFLOW prototypes (Mehl et al. 2017, Comput. Mater. Sci. 136, S1) that
pymatgen ships. Each is taken once as it is and then decorated with other elements by the rules of
`napari_mep.crystals.chemistry`, the cell scaled to their radii.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np

from napari_mep.crystals.chemistry import (
    closest_contacts,
    draw_elements,
    element_table,
    fitting_scale,
    formula,
    is_hollow,
)
from napari_mep.crystals.families import classified
from napari_mep.crystals.structure import Crystal

__all__ = ["LONGEST_EDGE_A", "aflow_prototypes", "decorations"]

LONGEST_EDGE_A = 20.0


def aflow_prototypes() -> list[Crystal]:
    """The prototypes in their conventional cells, with their own elements."""
    with warnings.catch_warnings():
        # pymatgen on its own data: some of it has elements without electronegativity.
        warnings.simplefilter("ignore")
        from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY

        structures = [entry["snl"].structure for entry in AFLOW_PROTOTYPE_LIBRARY]
    return [
        classified(
            Crystal(
                s.lattice.matrix,
                np.array(s.atomic_numbers),
                s.frac_coords,
                name=s.composition.reduced_formula,
            )
        )
        for s in structures
    ]


def decorations(prototype: Crystal, count: int, rng: np.random.Generator) -> Iterator[Crystal]:
    """Crystals of the prototype's structure with other elements, no composition twice.

    Parameters
    ----------
    prototype : Crystal
        Fully occupied.
    count : int
        How many at most; fewer where few elements fit.
    rng : numpy.random.Generator
        Source of the draws.

    Yields
    ------
    Crystal
        All edges below 20 A, all atoms at least as far apart as their radii say.
    """
    table = element_table()
    kinds, slot, counts = np.unique(prototype.numbers, return_inverse=True, return_counts=True)
    if kinds.max() >= len(table.radius_A) or np.isnan(table.radius_A[kinds]).any():
        # Plutonium and its like: only the structure is of use, so any metal will do as a model.
        kinds = np.where(kinds >= 84, 40 + np.arange(len(kinds)), kinds)
    distance, neighbour = closest_contacts(prototype.cell_A, prototype.fractional)
    seen = {tuple(kinds.tolist())}
    for _ in range(3 * count):
        if len(seen) > count:
            break
        elements = draw_elements(kinds.tolist(), counts.tolist(), rng)
        if elements is None or elements in seen:
            continue
        seen.add(elements)
        numbers = np.array(elements)[slot]
        scale = fitting_scale(numbers, distance, neighbour)
        if abs(np.linalg.det(prototype.cell_A * scale)) <= 1.0:
            continue  # hydrogen alone
        crystal = Crystal(
            prototype.cell_A * scale,
            numbers,
            prototype.fractional,
            name=formula(numbers),
            family=prototype.family,
        )
        if np.linalg.norm(crystal.cell_A, axis=1).max() >= LONGEST_EDGE_A or is_hollow(crystal):
            continue
        # Perovskites are told apart by their cations, so their family depends on the elements.
        yield classified(crystal) if prototype.family.startswith("perovskite") else crystal
