"""What real specimens have and perfect crystals lack, as functions on a box of atoms.

A prior that has only seen perfect crystals draws perfect crystals, whatever the data say. Every
function draws from the generator that it is given and leaves its input as it was.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from napari_mep.crystals.cut import fill_box
from napari_mep.crystals.structure import AtomBox, Crystal

__all__ = [
    "amorphous_patch",
    "grain_boundary",
    "stacking_fault",
    "substitutions",
    "surface",
    "vacancies",
]

_CLOSEST_A = 1.5  # of two atoms at a boundary that are nearer than this, one goes
_COMMON_ELEMENTS = np.setdiff1d(np.arange(3, 84), [10, 18, 36, 43, 54, 61])  # gases, no isotope

_LOW_INDICES = np.array([h for h in itertools.product((-1, 0, 1), repeat=3) if any(h)])
_SHORT_VECTORS = np.array([u for u in itertools.product(range(-2, 3), repeat=3) if any(u)])


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
    across = _Plane.upright(box, rng).distance_A(box.positions_A)
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
    return _joined(first, second, _Plane.upright(first, rng))


def stacking_fault(
    box: AtomBox,
    crystal: Crystal,
    cell_A: np.ndarray,
    offset_A: tuple[float, float, float],
    rng: np.random.Generator,
) -> AtomBox:
    """Displace the crystal on one side of a lattice plane, along that plane.

    The plane has indices -1, 0 or 1 and may lie at any angle to the beam. The displacement is a
    sixth, a third or half of one of the six shortest lattice vectors in it: 1/6 <112> on {111} of a
    face-centred crystal is among them, and so are antiphase boundaries. No atoms are added or
    taken away but those that come nearer than 1.5 A to another.

    Parameters
    ----------
    box : AtomBox
        The crystal without the fault.
    crystal, cell_A, offset_A
        What `napari_mep.crystals.cut.fill_box` made it from.
    rng : numpy.random.Generator
        Draws plane, displacement and place: within the middle half of the box.
    """
    indices = _LOW_INDICES[rng.integers(len(_LOW_INDICES))]
    along = _SHORT_VECTORS[_SHORT_VECTORS @ indices == 0] @ cell_A
    shortest = along[np.argsort((along**2).sum(1), kind="stable")[:6]]
    shift_A = shortest[rng.integers(len(shortest))] / rng.choice([2, 3, 6])
    normal = np.linalg.inv(cell_A) @ indices
    point = np.array(box.size_A) * rng.uniform(0.25, 0.75, 3)
    z, y, x = np.array(offset_A) + shift_A[::-1]
    displaced = fill_box(crystal, cell_A, box.size_A, (z, y, x), rng)
    return _joined(box, displaced, _Plane(point, normal[::-1] / np.linalg.norm(normal)))


def amorphous_patch(box: AtomBox, rng: np.random.Generator) -> AtomBox:
    """Take the order from part of the box: a layer at top or bottom, one side, or a ball.

    Each atom there is displaced at random by half the mean distance of atoms in each direction,
    which leaves density and composition but no lattice; then atoms nearer than four fifths of that
    distance push each other apart, and of those that still are nearer than 1.5 A one goes.

    Parameters
    ----------
    box : AtomBox
        The crystal.
    rng : numpy.random.Generator
        Draws the form with equal odds, its extent and the displacements. Layers, as ion milling
        leaves them, are a tenth to half of the thickness; a ball's radius is a fifth to half of
        the field.
    """
    positions, size = box.positions_A, np.array(box.size_A)
    form = rng.integers(3)
    if form == 0:
        thickness = rng.uniform(0.1, 0.5) * size[0]
        depth = positions[:, 0]
        inside = depth < thickness if rng.random() < 0.5 else depth >= size[0] - thickness
    elif form == 1:
        inside = _Plane.upright(box, rng).distance_A(positions) >= 0
    else:
        radius = rng.uniform(0.2, 0.5) * size[1:].min()
        inside = ((positions - rng.uniform(0, size)) ** 2).sum(1) < radius**2
    if not inside.any():
        return box
    spacing = float((size.prod() / len(positions)) ** (1 / 3))
    molten = positions[inside] + rng.normal(0, 0.5 * spacing, (int(inside.sum()), 3))
    molten = _pushed_apart(molten, 0.8 * spacing)
    numbers = np.concatenate([box.numbers[~inside], box.numbers[inside]])
    positions = np.concatenate([positions[~inside], molten])
    # The earlier of two atoms stays, so the crystal around does.
    near = _distances_A(molten, positions) < _CLOSEST_A
    earlier = (
        np.arange(len(positions)) < (len(positions) - len(molten) + np.arange(len(molten)))[:, None]
    )
    keep = np.ones(len(positions), bool)
    keep[len(positions) - len(molten) :] = ~(near & earlier).any(1)
    keep &= ((positions >= 0) & (positions < size)).all(1)
    return AtomBox(numbers[keep], positions[keep], box.size_A)


_STEPS_APART = 4


def _pushed_apart(positions_A: np.ndarray, distance_A: float) -> np.ndarray:
    """The same points after a few steps in which those that are too near move away."""
    for _ in range(_STEPS_APART):
        gap = positions_A[:, None] - positions_A[None]
        length = np.sqrt((gap**2).sum(-1))
        np.fill_diagonal(length, np.inf)
        push = 0.5 * np.clip(distance_A - length, 0, None) / np.maximum(length, 1e-6)
        positions_A = positions_A + (push[..., None] * gap).sum(1)
    return positions_A


def _distances_A(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.linalg.norm(first[:, None] - second[None], axis=-1)


def _joined(first: AtomBox, second: AtomBox, plane: _Plane) -> AtomBox:
    """The first on the far side of the plane, the second on the side that its normal points to."""
    left = _kept(first, plane.distance_A(first.positions_A) < 0)
    right = _kept(second, plane.distance_A(second.positions_A) >= 0)
    at_left = left.positions_A[plane.distance_A(left.positions_A) > -_CLOSEST_A]
    near = np.flatnonzero(plane.distance_A(right.positions_A) < _CLOSEST_A)
    apart = np.ones(len(right.numbers), bool)
    apart[near] = (_distances_A(right.positions_A[near], at_left) >= _CLOSEST_A).all(1)
    right = _kept(right, apart)
    return AtomBox(
        np.concatenate([left.numbers, right.numbers]),
        np.concatenate([left.positions_A, right.positions_A]),
        first.size_A,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Plane:
    """A point (z, y, x) on it and its normal."""

    point_A: np.ndarray
    normal: np.ndarray

    @classmethod
    def upright(cls, box: AtomBox, rng: np.random.Generator) -> _Plane:
        """Parallel to the beam, in any direction, through the middle half of the box."""
        angle = rng.uniform(0, 2 * np.pi)
        y, x = np.array(box.size_A[1:]) * rng.uniform(0.25, 0.75, 2)
        return cls(np.array([0, y, x]), np.array([0, np.cos(angle), np.sin(angle)]))

    def distance_A(self, positions_A: np.ndarray) -> np.ndarray:
        """Signed distance of every point (z, y, x)."""
        distance: np.ndarray = (positions_A - self.point_A) @ self.normal
        return distance


def _kept(box: AtomBox, keep: np.ndarray) -> AtomBox:
    return AtomBox(box.numbers[keep], box.positions_A[keep], box.size_A)
