"""Crystals that nobody has seen: prototypes with other elements, and random symmetric ones."""

from __future__ import annotations

import numpy as np
import pytest

from napari_mep.crystals.chemistry import closest_contacts, element_table
from napari_mep.crystals.prototypes import aflow_prototypes, decorations
from napari_mep.crystals.structure import Crystal
from napari_mep.crystals.symmetric import random_crystals

FLUORITE = Crystal(
    5.46 * np.eye(3),
    [20] * 4 + [9] * 8,
    [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    + [[x, y, z] for x in (0.25, 0.75) for y in (0.25, 0.75) for z in (0.25, 0.75)],
    name="CaF2",
    family="AB2_cF12_225",
)


def _tightest(crystal: Crystal) -> float:
    """Shortest contact relative to the sum of its radii."""
    distance, neighbour = closest_contacts(crystal.cell_A, crystal.fractional)
    radius = element_table().radius_A[crystal.numbers]
    return float((distance / (radius + radius[neighbour])).min())


def test_decorations_touch_and_keep_the_structure():
    found = list(decorations(FLUORITE, 5, np.random.default_rng(0)))
    assert len({c.name for c in found}) == len(found) == 5
    for crystal in found:
        assert _tightest(crystal) == pytest.approx(1)
        assert crystal.family == FLUORITE.family
        np.testing.assert_array_equal(crystal.fractional, FLUORITE.fractional)
        assert crystal.numbers[:4].tolist() == [crystal.numbers[0]] * 4
        assert crystal.numbers[0] != crystal.numbers[4]


def test_prototypes_have_families_of_their_own():
    prototypes = aflow_prototypes()
    assert len(prototypes) == 288
    assert all(p.family for p in prototypes)
    assert len({p.family for p in prototypes}) > 200


def test_random_crystals_touch_and_have_symmetry():
    found = list(random_crystals(30, seed=1))
    assert [c.name for c in random_crystals(3, seed=1)] == [c.name for c in found[:3]]
    assert [c.name for c in random_crystals(3, seed=2)] != [c.name for c in found[:3]]
    for crystal in found:
        assert _tightest(crystal) == pytest.approx(1, abs=1e-6)
        assert np.linalg.norm(crystal.cell_A, axis=1).max() < 20
    groups = [int(c.family.rsplit("_", 1)[1]) for c in found if "_" in c.family]
    assert np.mean(np.array(groups) > 2) > 0.8  # by far most have more than inversion
