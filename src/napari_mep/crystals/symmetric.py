"""Random crystals with the symmetry of real ones, of structure types that nobody has seen.

A space group, a lattice that fits it, a few orbits at general or special positions, elements that
are neutral together, and a cell scaled so that the closest atoms touch. PyXtal does the same with
more care for Wyckoff letters; this is a page of numpy on spglib's tables instead of a dependency.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from napari_mep.crystals._spglib import group_type, operations
from napari_mep.crystals.chemistry import (
    closest_contacts,
    draw_elements,
    fitting_scale,
    formula,
    is_hollow,
)
from napari_mep.crystals.families import classified
from napari_mep.crystals.structure import Crystal, cell_from_parameters
from napari_mep.errors import CrystalError

__all__ = ["random_crystals"]

_LONGEST_EDGE_A = 20.0
_MOST_ATOMS = 40
_TOUCHING = 0.02  # fractional; images of one atom that are closer are the same site

# What the elements are drawn to resemble: salts, oxides and alloys of one to four kinds.
_MODELS = (
    ((26,), (29,), (14,)),
    ((11, 17), (12, 8), (26, 16), (29, 13), (22, 6), (20, 9), (31, 33)),
    ((38, 22, 8), (12, 13, 8), (11, 26, 16), (19, 12, 9), (29, 22, 14)),
    ((20, 26, 14, 8), (56, 39, 29, 8), (11, 13, 14, 8), (3, 26, 15, 8)),
)
_KINDS = np.array([0.1, 0.35, 0.4, 0.15])


def random_crystals(count: int, seed: int = 0) -> Iterator[Crystal]:
    """Symmetric random crystals; crystal n depends on the seed and n alone.

    Parameters
    ----------
    count : int
        How many.
    seed : int
        Of all draws.

    Yields
    ------
    Crystal
        Edges below 20 A, at most 40 atoms, the closest two as far apart as their radii say.
    """
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        crystal = None
        while crystal is None:
            crystal = _attempt(rng)
        yield classified(crystal)


def _attempt(rng: np.random.Generator) -> Crystal | None:
    group = int(rng.integers(2, 231))
    rotations, translations = operations(_standard_settings()[group])
    kinds = int(rng.choice(len(_KINDS), p=_KINDS)) + 1
    orbits: list[np.ndarray] = []
    for _ in range(kinds + int(rng.integers(0, 3))):
        orbit = _orbit(_place(rotations, translations, rng), rotations, translations)
        if orbit is None or sum(map(len, orbits)) + len(orbit) > _MOST_ATOMS:
            continue
        orbits.append(orbit)
    if len(orbits) < kinds:
        return None
    fractional = np.concatenate(orbits)
    cell = _lattice(group, rng)
    if cell is None:
        return None
    distance, neighbour = closest_contacts(cell, fractional)
    # Two orbits at nearly one place would blow the cell up until they touch.
    if distance.min() < 0.5 * np.median(distance):
        return None
    # Every kind has an orbit; orbits left over go to any.
    slot = np.concatenate([rng.permutation(kinds), rng.integers(0, kinds, len(orbits) - kinds)])
    counts = [
        sum(len(o) for o, s in zip(orbits, slot, strict=True) if s == k) for k in range(kinds)
    ]
    models = _MODELS[kinds - 1]
    elements = draw_elements(models[int(rng.integers(len(models)))], counts, rng, tries=20)
    if elements is None:
        return None
    numbers = np.repeat(np.array(elements)[slot], [len(o) for o in orbits])
    cell = cell * fitting_scale(numbers, distance, neighbour)
    if np.linalg.norm(cell, axis=1).max() >= _LONGEST_EDGE_A:
        return None
    crystal = Crystal(cell, numbers, fractional, name=f"{formula(numbers)} (random)")
    return None if is_hollow(crystal) else crystal


@lru_cache(maxsize=1)
def _standard_settings() -> dict[int, int]:
    """Hall number of every space group's first setting."""
    first: dict[int, int] = {}
    for hall in range(1, 531):
        first.setdefault(group_type(hall).number, hall)
    return first


def _place(rotations: np.ndarray, translations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random point, most often moved onto symmetry elements."""
    x = rng.random(3)
    for _ in range(int(rng.choice(4, p=[0.1, 0.3, 0.3, 0.3]))):
        i = int(rng.integers(len(rotations)))
        shift = translations[i] + rng.integers(-1, 2, 3)
        images = [x]
        for _ in range(6):  # the order of every rotation divides 12, of crystals' at most 6
            image = rotations[i] @ images[-1] + shift
            if np.allclose(image, x, atol=1e-6):
                x = np.mean(images, axis=0)  # the operation leaves the middle where it is
                break
            images.append(image)
    return x


def _orbit(x: np.ndarray, rotations: np.ndarray, translations: np.ndarray) -> np.ndarray | None:
    """All images in the cell; None if some nearly coincide without being one."""
    images = (rotations @ x + translations) % 1.0
    delta = images[:, None] - images[None]
    gap = np.abs(delta - np.round(delta)).max(-1)
    if ((gap > 1e-6) & (gap < _TOUCHING)).any():
        return None
    first = (gap <= 1e-6).argmax(1)
    return images[np.unique(first)]


def _lattice(group: int, rng: np.random.Generator) -> np.ndarray | None:
    """A cell of the group's crystal system, of about unit length; None for impossible angles."""
    a, b, c = rng.uniform(0.7, 1.6, 3)
    alpha, beta, gamma = rng.uniform(70, 110, 3)
    if group > 2:
        alpha = gamma = 90.0
    if group > 15:
        beta = 90.0
    if group > 74:
        b = a
    if 143 <= group <= 194:
        gamma = 120.0
    if group > 194:
        c = a
    try:
        return cell_from_parameters(a, b, c, alpha, beta, gamma)
    except CrystalError:
        return None
