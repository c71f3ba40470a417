"""Partly occupied sites: which atoms exclude each other, and draws of who is there.

A CIF file lists a mixed site as several atoms at one place, and a disordered one as several atoms
too close to each other to be there at once. Both are alternatives: at most one of them is real.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_mep.crystals.structure import Crystal

__all__ = ["Alternatives", "alternatives"]

_SAME_SITE_A = 0.05  # atoms closer than this share one site, whatever their occupancies add up to
# Closer than any bond to a heavy atom. Those between are alternatives if they add up to one atom.
_SPLIT_SITE_A = 0.9
_FULL = 1.0 - 1e-6
_ONE_ATOM = 1.02  # refined occupancies exceed one by their error bars


@dataclass(frozen=True, slots=True, eq=False)
class Alternatives:
    """The atoms of a cell as outcomes of one draw for each group.

    Atom i is there if the number in [0, 1) that its group drew lies in low[i] ... high[i].

    Parameters
    ----------
    groups : int
        How many draws a cell takes.
    group : (n,) int64 ndarray
        Group of every atom; full atoms are all in group 0 and always there.
    low, high : (n,) float64 ndarray
        Share of the draws that each atom takes.
    fractional : (n, 3) float64 ndarray
        Coordinates in which a group is in one piece, which may lie just outside [0, 1).
    """

    groups: int
    group: np.ndarray
    low: np.ndarray
    high: np.ndarray
    fractional: np.ndarray

    def draw(self, cells: int, rng: np.random.Generator) -> np.ndarray:
        """(cells, n) mask of the atoms that are there, every cell drawn by itself."""
        u = rng.random((cells, self.groups))[:, self.group]
        there: np.ndarray = (u >= self.low) & (u < self.high)
        return there


def alternatives(crystal: Crystal) -> Alternatives | None:
    """Which atoms exclude each other; None if every site is fully occupied.

    Atoms within 0.05 A of each other share a site. Atoms within 0.9 A are alternatives too, as
    long as their occupancies add up to one atom at most.
    """
    occupancy = crystal.occupancy
    assert occupancy is not None  # filled in by Crystal
    partial = np.flatnonzero(occupancy < _FULL)
    if not len(partial):
        return None
    delta = crystal.fractional[partial, None] - crystal.fractional[None, partial]
    delta -= np.round(delta)
    gap = np.linalg.norm(delta @ crystal.cell_A, axis=-1)
    group = np.zeros(len(occupancy), dtype=np.int64)
    low, high = np.zeros(len(occupancy)), np.ones(len(occupancy))
    fractional = crystal.fractional.copy()
    groups = 1
    for members in _groups(gap, occupancy[partial]):
        atoms = partial[members]
        share = occupancy[atoms] / max(1.0, occupancy[atoms].sum())
        group[atoms] = groups
        high[atoms] = np.cumsum(share)
        low[atoms] = high[atoms] - share
        first = members[0]
        fractional[atoms] = fractional[atoms[0]] + delta[members, first]
        groups += 1
    return Alternatives(groups, group, low, high, fractional)


def _groups(gap_A: np.ndarray, occupancy: np.ndarray) -> list[np.ndarray]:
    """Members of every group, in order of first appearance."""
    owner = np.arange(len(occupancy))
    first, second = np.nonzero(np.triu(gap_A < _SPLIT_SITE_A, 1))
    for pair in np.argsort(gap_A[first, second], kind="stable"):
        a, b = owner[first[pair]], owner[second[pair]]
        if a == b:
            continue
        together = (owner == a) | (owner == b)
        same = gap_A[first[pair], second[pair]] < _SAME_SITE_A
        if same or occupancy[together].sum() <= _ONE_ATOM:
            owner[together] = min(a, b)
    return [np.flatnonzero(owner == o) for o in np.unique(owner)]
