"""The perovskite family as training material: cubic ABX3 cells and distorted relatives.

Given 5-atom cells (Castelli et al. 2012, Energy Environ. Sci. 5, 9034, as distributed with CDVAE)
this makes 2x2x2 cells with tilted octahedra (Glazer 1972, Acta Cryst. B 28, 3384), tetragonal or
orthorhombic strain and off-centre cations, because real perovskites are seldom cubic.
"""

from __future__ import annotations

import numpy as np

from napari_mep.crystals.structure import Crystal

__all__ = ["TEST_PAIRS", "VALIDATION_PAIRS", "distorted_perovskite", "perovskite_cations"]


def perovskite_cations(crystal: Crystal) -> frozenset[int] | None:
    """Atomic numbers of A and B if the crystal is a nearly cubic 5-atom ABX3 cell, else None."""
    if len(crystal.numbers) != 5 or not _is_nearly_cubic(crystal.cell_A):
        return None
    ideal = _ideal_sites(crystal)
    if ideal is None:
        return None
    on_bond = ideal[1].sum(1) == 0.5
    cations = frozenset(crystal.numbers[~on_bond].tolist())
    return None if cations & set(crystal.numbers[on_bond].tolist()) else cations


def _is_nearly_cubic(cell_A: np.ndarray) -> bool:
    edge = np.linalg.norm(cell_A, axis=1)
    cosines = (cell_A @ cell_A.T) / np.outer(edge, edge) - np.eye(3)
    return bool(edge.max() <= 1.25 * edge.min() and np.abs(cosines).max() < 0.2)


def distorted_perovskite(crystal: Crystal, rng: np.random.Generator) -> Crystal | None:
    """A 2x2x2 cell with tilted octahedra, strain and displaced cations.

    Parameters
    ----------
    crystal : Crystal
        A nearly cubic 5-atom ABX3 cell.
    rng : numpy.random.Generator
        Source of the distortion.

    Returns
    -------
    Crystal or None
        40 atoms; None if the cell is not a perovskite (one B with six X at half a cell edge).
    """
    if len(crystal.numbers) != 5:
        return None
    edge = np.linalg.norm(crystal.cell_A, axis=1)
    ideal = _ideal_sites(crystal)
    if ideal is None or not _is_nearly_cubic(crystal.cell_A):
        return None
    b_site, sites = ideal

    # Each octahedron turns about three axes; neighbours across an axis turn the other way, and
    # along the axis itself either alike (in phase, +) or oppositely (antiphase, -).
    angles = np.deg2rad(rng.uniform(0, 12, 3)) * (rng.random(3) < 0.7)
    antiphase = rng.random(3) < 0.6
    index = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    across = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    parity = index @ (across + np.diag(antiphase.astype(int)))
    omega = angles * np.where(parity % 2, -1.0, 1.0)

    strain = np.diag(1 + rng.normal(0, 0.02, 3))
    cell = np.diag(edge) @ strain
    polar = rng.normal(0, 0.04, (5, 3)) * (rng.random() < 0.5)  # alike in all cells, angstrom
    positions = []
    for cell_index, turn in zip(index, omega, strict=True):
        for site, relative in enumerate(sites):
            r = (cell_index + b_site + relative) @ cell + polar[site]
            if np.count_nonzero(relative) == 1:  # an X on the bond along one axis
                r = r + np.cross(turn, relative @ cell)
            positions.append(r + rng.normal(0, 0.02, 3))
    return Crystal(
        2 * cell,
        np.tile(crystal.numbers, len(index)),
        np.array(positions) @ np.linalg.inv(2 * cell),
        name=f"{crystal.name} (tilted)",
        family=crystal.family,
    )


def _ideal_sites(crystal: Crystal) -> tuple[np.ndarray, np.ndarray] | None:
    """Position of B and the ideal fractional sites of the five atoms relative to it."""
    bonds = np.array([[0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]])
    body = np.array([0.5, 0.5, 0.5])
    for b in range(5):
        relative = crystal.fractional - crystal.fractional[b]
        sites = np.zeros((5, 3))
        found = []
        for atom in range(5):
            if atom == b:
                continue
            for name, ideal in (("A", body), *(("X", bond) for bond in bonds)):
                miss = relative[atom] - ideal
                if np.abs(miss - np.round(miss)).max() < 0.2:
                    sites[atom] = ideal
                    found.append((name, *ideal))
        kinds = [name for name, *_ in found]
        if len(set(found)) == 4 and kinds.count("X") == 3 and kinds.count("A") == 1:
            return crystal.fractional[b], sites
    return None


def _pairs(*pairs: tuple[int, int]) -> tuple[frozenset[int], ...]:
    return tuple(frozenset(pair) for pair in pairs)


# Cation pairs, in either role, that no prior of ours is trained on: the benchmark's perovskites,
# and those by which settings are chosen.
TEST_PAIRS = _pairs(
    (38, 22),  # Sr Ti
    (56, 22),  # Ba Ti
    (20, 22),  # Ca Ti
    (82, 22),  # Pb Ti
    (19, 41),  # K Nb
    (19, 73),  # K Ta
    (19, 12),  # K Mg
    (56, 40),  # Ba Zr
    (57, 13),  # La Al
    (57, 25),  # La Mn
)
VALIDATION_PAIRS = _pairs(
    (11, 73),  # Na Ta
    (39, 13),  # Y Al
    (55, 82),  # Cs Pb
    (38, 44),  # Sr Ru
)
