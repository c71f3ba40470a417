"""Defects: what they change, and that they change nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from napari_mep.crystals.cut import fill_box, oriented_cell
from napari_mep.crystals.defects import (
    amorphous_patch,
    grain_boundary,
    stacking_fault,
    substitutions,
    surface,
    vacancies,
)
from napari_mep.crystals.structure import AtomBox, Crystal

SIZE_A = (12.8, 25.6, 25.6)
OFFSET_A = (0.4, 0.7, 1.1)
COPPER = Crystal(
    3.6 * np.eye(3), [29] * 4, [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
)
CELL_A = oriented_cell(COPPER.cell_A, (1, 1, 0), 20.0)
SEEDS = range(12)


def _crystal() -> AtomBox:
    return fill_box(COPPER, CELL_A, SIZE_A, OFFSET_A)


def _residues(box: AtomBox) -> np.ndarray:
    """Where every atom lies in the primitive cell, as (n, 3) fractions in [-0.5, 0.5)."""
    primitive = 0.5 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) @ CELL_A
    fractions = (box.positions_A[:, ::-1] - OFFSET_A[::-1]) @ np.linalg.inv(primitive)
    return (fractions + 0.5) % 1 - 0.5


def _on_lattice(box: AtomBox) -> np.ndarray:
    return (np.abs(_residues(box)) < 1e-4).all(1)


def _closest_A(box: AtomBox) -> float:
    gaps = np.linalg.norm(box.positions_A[:, None] - box.positions_A[None], axis=-1)
    np.fill_diagonal(gaps, np.inf)
    return float(gaps.min())


def _fault(seed: int) -> AtomBox:
    return stacking_fault(_crystal(), COPPER, CELL_A, OFFSET_A, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stacking_fault_displaces_one_side_along_a_lattice_plane(seed):
    box = _fault(seed)
    kept = _on_lattice(box)
    moved = ~kept
    assert kept.any()
    if not moved.any():
        return  # a displacement by a lattice vector, which some of the draws are
    # One vector for all of them ...
    steps = np.exp(2j * np.pi * _residues(box)[moved])
    assert np.abs(steps - steps[0]).max() < 1e-3
    # ... and a plane of low indices between the two sides, over which nothing was lost.
    normals = [np.linalg.inv(CELL_A) @ hkl for hkl in np.ndindex(3, 3, 3) if any(hkl)]
    normals += [np.linalg.inv(CELL_A) @ (np.array(hkl) - 1) for hkl in np.ndindex(3, 3, 3)]
    heights = (box.positions_A[:, ::-1] @ np.array(n) for n in normals)
    assert any(
        h[moved].min() > h[kept].max() - 1e-6 or h[moved].max() < h[kept].min() + 1e-6
        for h in heights
    )
    assert len(box.numbers) == pytest.approx(len(_crystal().numbers), rel=0.12)
    assert _closest_A(box) >= 1.5


def test_the_shockley_fault_of_copper_is_drawn():
    # 1/6 <112>, which makes ...ABCAB|ABC... : as far from the lattice as the hollow beside the
    # one that the next layer would sit in, and every atom keeps its twelve neighbours.
    for seed in range(400):
        box = _fault(seed)
        moved = ~_on_lattice(box)
        if moved.any() and _closest_A(box) == pytest.approx(3.6 / 2**0.5, abs=1e-3):
            return
    raise AssertionError("no fault keeps the distances of neighbours")


@pytest.mark.parametrize("seed", SEEDS)
def test_an_amorphous_patch_has_no_lattice_but_the_same_matter(seed):
    crystal = _crystal()
    box = amorphous_patch(crystal, np.random.default_rng(seed))
    molten = ~_on_lattice(box)
    assert 0.01 < molten.mean() < 0.8
    # No order: the structure factor of a reflection vanishes as that of random points would.
    phases = np.exp(2j * np.pi * _residues(box)[molten])
    assert np.abs(phases.mean(0)).max() < 4 / molten.sum() ** 0.5
    assert len(box.numbers) == pytest.approx(len(crystal.numbers), rel=0.15)
    assert _closest_A(box) >= 1.5
    # Around it the crystal is as it was: all its atoms are atoms of before.
    old = {tuple(row) for row in np.round(crystal.positions_A, 4)}
    assert {tuple(row) for row in np.round(box.positions_A[~molten], 4)} <= old


def test_an_amorphous_patch_is_a_layer_a_side_or_a_ball():
    forms = set()
    for seed in range(30):
        box = amorphous_patch(_crystal(), np.random.default_rng(seed))
        z, y, x = box.positions_A[~_on_lattice(box)].T
        spans = [np.ptp(v) / s for v, s in zip((z, y, x), SIZE_A, strict=True)]
        forms.add(tuple(span > 0.9 for span in spans))
    assert (False, True, True) in forms  # a layer
    assert any(form[0] for form in forms)  # a side, through the whole thickness


def test_vacancies_and_substitutions_are_as_many_as_asked():
    crystal, rng = _crystal(), np.random.default_rng(0)
    n = len(crystal.numbers)
    assert len(vacancies(crystal, 0.2, rng).numbers) / n == pytest.approx(0.8, abs=4 * 0.4 / n**0.5)
    changed = substitutions(crystal, 0.2, rng)
    np.testing.assert_array_equal(changed.positions_A, crystal.positions_A)
    # Half of them are antisites, which in an element are no change.
    share = (changed.numbers != 29).mean()
    assert share == pytest.approx(0.1, abs=4 * 0.3 / n**0.5)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_surface_leaves_crystal_and_vacuum(seed):
    crystal = _crystal()
    box = surface(crystal, np.random.default_rng(seed))
    assert 0 < len(box.numbers) < len(crystal.numbers)
    assert _on_lattice(box).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_grain_boundary_joins_two_grains_without_a_gap_or_atoms_on_each_other(seed):
    crystal = _crystal()
    other = fill_box(COPPER, oriented_cell(COPPER.cell_A, "c", 5.0), SIZE_A)
    box = grain_boundary(crystal, other, np.random.default_rng(seed))
    assert 0.1 < _on_lattice(box).mean() < 0.9
    atoms = sorted([len(crystal.numbers), len(other.numbers)])
    assert 0.9 * atoms[0] < len(box.numbers) < 1.02 * atoms[1]
    assert _closest_A(box) >= 1.5
