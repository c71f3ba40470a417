"""What real specimens have and perfect crystals lack, as functions on a box of atoms.

A prior that has only seen perfect crystals draws perfect crystals, whatever the data say. Every
function draws from the generator that it is given and leaves its input as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_mep.crystals.structure import AtomBox

__all__ = ["grain_boundary", "substitutions", "surface", "vacancies"]

_CLOSEST_A = 1.5  # of two atoms at a boundary that are nearer than this, one goes
_COMMON_ELEMENTS = np.setdiff1d(np.arange(3, 84), [10, 18, 36, 43, 54, 61])  # gases, no isotope


def vacancies(box: AtomBox, fraction: float, rng: np.random.Generator) -> AtomBox:
    """Remove atoms, each with probability `fraction`."""
    return _kept(box, rng.random(len(box.numbers)) >= fraction)


def substitutions(box: AtomBox, fraction: float, rng: np.random.Generator) -> AtomBox:
    """Replace atoms, each with probability `fraction`.

    Half of them by an element of the box (antisites), half by any element from Li to Bi.
    """
    numbers = box.numbers.copy()
    chosen = np.flatnonzero(rng.random(len(numbers)) < fraction)
    foreign = rng.random(len(chosen)) < 0.5
    if len(chosen):
        within = rng.choice(np.unique(box.numbers), len(chosen))
        numbers[chosen] = np.where(foreign, rng.choice(_COMMON_ELEMENTS, len(chosen)), within)
    return AtomBox(numbers, box.positions_A, box.size_A)


def surface(box: AtomBox, rng: np.random.Generator) -> AtomBox:
    """Leave vacuum beyond a plane: an edge of the specimen, its top or its bottom, or a step.

    One time in three the plane is perpendicular to the beam and ends the specimen inside the box,
    over the whole field or, as a step, over one side of a line. Otherwise it is parallel to the
    beam.
    """
    across = _Upright.draw(box, rng).distance_A(box)
    if rng.random() < 2 / 3:
        return _kept(box, across < 0)
    depth, full = box.positions_A[:, 0], box.size_A[0]
    thickness = rng.uniform(0.1, 0.9) * full
    gone = depth >= thickness if rng.random() < 0.5 else depth < full - thickness
    if rng.random() < 0.5:
        gone &= across >= 0
    return _kept(box, ~gone)


def grain_boundary(first: AtomBox, second: AtomBox, rng: np.random.Generator) -> AtomBox:
    """Join two crystals along a plane parallel to the beam.

    Atoms of the second crystal that come nearer than 1.5 A to one of the first are left out.

    Parameters
    ----------
    first, second : AtomBox
        Crystals that each fill the same box.
    rng : numpy.random.Generator
        Draws the plane: any direction, through the middle half of the box.
    """
    plane = _Upright.draw(first, rng)
    left = _kept(first, plane.distance_A(first) < 0)
    right = _kept(second, plane.distance_A(second) >= 0)
    at_left = left.positions_A[plane.distance_A(left) > -_CLOSEST_A]
    near = np.flatnonzero(plane.distance_A(right) < _CLOSEST_A)
    apart = np.ones(len(right.numbers), bool)
    gap = np.linalg.norm(right.positions_A[near, None] - at_left[None], axis=-1)
    apart[near] = (gap >= _CLOSEST_A).all(1)
    right = _kept(right, apart)
    return AtomBox(
        np.concatenate([left.numbers, right.numbers]),
        np.concatenate([left.positions_A, right.positions_A]),
        first.size_A,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Upright:
    """A plane along the beam: a point (y, x) on it and its normal."""

    point_A: np.ndarray
    normal: np.ndarray

    @classmethod
    def draw(cls, box: AtomBox, rng: np.random.Generator) -> _Upright:
        angle = rng.uniform(0, 2 * np.pi)
        point = np.array(box.size_A[1:]) * rng.uniform(0.25, 0.75, 2)
        return cls(point, np.array([np.cos(angle), np.sin(angle)]))

    def distance_A(self, box: AtomBox) -> np.ndarray:
        """Signed distance of every atom."""
        distance: np.ndarray = (box.positions_A[:, 1:] - self.point_A) @ self.normal
        return distance


def _kept(box: AtomBox, keep: np.ndarray) -> AtomBox:
    return AtomBox(box.numbers[keep], box.positions_A[keep], box.size_A)
