"""The perovskite family: what belongs to it, and tilted relatives that stay perovskites."""

from __future__ import annotations

import numpy as np
import pytest

from napari_mep.crystals.perovskites import (
    TEST_PAIRS,
    VALIDATION_PAIRS,
    distorted_perovskite,
    perovskite_cations,
)
from napari_mep.crystals.structure import Crystal

SITES = [[0.5, 0.5, 0.5], [0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]


def _cubic(a_site: int, b_site: int, x: int = 8, edge: float = 3.9, order=range(5)) -> Crystal:
    numbers = np.array([a_site, b_site, x, x, x])[list(order)]
    return Crystal(edge * np.eye(3), numbers, np.array(SITES)[list(order)], name="ABX3")


def _distances(crystal: Crystal, first: int, second: int) -> np.ndarray:
    """Shortest distances from each atom `first` to the atoms `second`, periodic."""
    a, b = (crystal.fractional[crystal.numbers == n] for n in (first, second))
    d = a[:, None] - b[None]
    return np.linalg.norm((d - np.round(d)) @ crystal.cell_A, axis=-1)


@pytest.mark.parametrize("seed", range(8))
def test_distorted_relatives_keep_stoichiometry_and_bonds(seed):
    edge = 4.0
    distorted = distorted_perovskite(_cubic(38, 22, edge=edge), np.random.default_rng(seed))
    numbers, counts = np.unique(distorted.numbers, return_counts=True)
    assert dict(zip(numbers.tolist(), counts.tolist(), strict=True)) == {8: 24, 22: 8, 38: 8}
    # each B has six X about half an edge away, and no atoms collide
    bonds = np.sort(_distances(distorted, 22, 8), axis=1)
    assert bonds[:, :6].min() > 0.8 * edge / 2
    assert bonds[:, :6].max() < 1.25 * edge / 2
    assert bonds[:, 6].min() > 1.3 * edge / 2
    assert _distances(distorted, 38, 8).min() > 0.55 * edge / np.sqrt(2)
    volume = abs(np.linalg.det(distorted.cell_A))
    assert volume == pytest.approx(8 * edge**3, rel=0.2)
    angles = distorted.cell_A @ distorted.cell_A.T
    np.testing.assert_allclose(angles - np.diag(np.diag(angles)), 0, atol=1e-9)


def test_octahedra_really_tilt():
    # X moves off the B-B line by up to tan(12 deg) / 2 of an edge, far beyond the 0.02 A jitter.
    off_line = []
    for seed in range(20):
        distorted = distorted_perovskite(_cubic(38, 22, edge=4.0), np.random.default_rng(seed))
        x = distorted.fractional[distorted.numbers == 8] * 2
        miss = np.abs(x - np.round(2 * x) / 2) * np.diag(distorted.cell_A) / 2
        off_line.append(miss.max())
    assert max(off_line) > 0.3
    assert np.ptp(off_line) > 0.2


@pytest.mark.parametrize("order", [range(5), [4, 1, 0, 2, 3], [2, 3, 4, 0, 1]])
def test_atoms_may_come_in_any_order_and_origin(order):
    crystal = _cubic(38, 22, order=order)
    moved = Crystal(crystal.cell_A, crystal.numbers, crystal.fractional + np.array([0.3, 0.7, 0.1]))
    distorted = distorted_perovskite(moved, np.random.default_rng(0))
    bonds = np.sort(_distances(distorted, 22, 8), axis=1)
    assert bonds[:, :6].max() < 1.25 * 3.9 / 2


def test_same_seed_same_relative():
    a, b = (distorted_perovskite(_cubic(38, 22), np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(a.fractional, b.fractional)
    np.testing.assert_array_equal(a.cell_A, b.cell_A)


@pytest.mark.parametrize(
    "crystal",
    [
        Crystal(4 * np.eye(3), [22, 8], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        Crystal(np.diag([4.0, 4.0, 6.0]), [38, 22, 8, 8, 8], SITES),
        Crystal(4 * np.eye(3), [38, 22, 8, 8, 8], [[0.1 * i, 0.2 * i, 0.3] for i in range(5)]),
    ],
    ids=["two atoms", "far from cubic", "no octahedron"],
)
def test_what_is_no_perovskite_has_no_relative(crystal):
    assert distorted_perovskite(crystal, np.random.default_rng(0)) is None


def test_cations_are_found_in_either_role_and_order():
    assert perovskite_cations(_cubic(38, 22)) == {38, 22}
    assert perovskite_cations(_cubic(22, 38, order=[4, 1, 0, 2, 3])) == {38, 22}
    # Five atoms in a cube are not enough: one anion on a cation's place.
    assert perovskite_cations(Crystal(4 * np.eye(3), [8, 22, 8, 8, 8], SITES)) is None


def test_the_crystals_that_the_benchmark_needs_are_held_out():
    assert frozenset((38, 22)) in TEST_PAIRS  # SrTiO3
    assert frozenset((56, 22)) in TEST_PAIRS  # BaTiO3
    assert len(set(TEST_PAIRS)) >= 10
    assert not set(TEST_PAIRS) & set(VALIDATION_PAIRS)
