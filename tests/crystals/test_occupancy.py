"""Partly occupied sites: at most one atom on each, in the right proportion, cell by cell."""

from __future__ import annotations

import numpy as np
import pytest

from napari_mep.crystals.cut import cut_box
from napari_mep.crystals.occupancy import alternatives
from napari_mep.crystals.structure import Crystal

SITES = np.array([[0, 0, 0], [0, 0, 0], [0.5, 0.5, 0.5]])
MIXED = Crystal(4 * np.eye(3), [38, 56, 22], SITES, [0.5, 0.3, 1.0], "mixed")
BOX_A = (48.0, 48.0, 48.0)  # 1728 cells


def test_a_mixed_site_holds_at_most_one_atom_in_the_right_proportion():
    box = cut_box(MIXED, BOX_A, rng=np.random.default_rng(0))
    assert (box.numbers == 22).sum() == 1728
    mixed = box.positions_A[box.numbers != 22]
    assert len(np.unique(mixed, axis=0)) == len(mixed)
    # Three standard deviations of a binomial with 1728 trials are 0.036.
    assert (box.numbers == 38).sum() / 1728 == pytest.approx(0.5, abs=0.036)
    assert (box.numbers == 56).sum() / 1728 == pytest.approx(0.3, abs=0.036)


def test_the_draw_follows_the_generator_and_full_crystals_draw_nothing():
    def draw(seed):
        return cut_box(MIXED, BOX_A, rng=np.random.default_rng(seed)).numbers

    assert np.array_equal(draw(1), draw(1))
    assert not np.array_equal(draw(1), draw(2))
    full, rng = Crystal(3 * np.eye(3), [26], [[0, 0, 0]]), np.random.default_rng(0)
    cut_box(full, BOX_A, rng=rng)
    assert rng.random() == np.random.default_rng(0).random()
    assert alternatives(full) is None


def test_without_a_generator_all_atoms_are_there():
    assert len(cut_box(MIXED, BOX_A).numbers) == 3 * 1728


def test_split_positions_exclude_each_other():
    # One atom spread over two places 0.6 A apart, on either side of the cell's face.
    split = Crystal(4 * np.eye(3), [8, 8], [[0.075, 0, 0], [0.925, 0, 0]], [0.5, 0.5])
    box = cut_box(split, BOX_A, offset_A=(2, 2, 2), zone_axis="c", rng=np.random.default_rng(0))
    assert len(box.numbers) == 1728
    x = np.sort(box.positions_A[:, 2])
    assert 0.4 < (x % 4 < 2).mean() < 0.6  # both places are taken


def test_close_atoms_that_add_up_to_more_than_one_are_independent():
    close = Crystal(4 * np.eye(3), [1, 8], [[0, 0, 0], [0.2, 0, 0]], [0.75, 0.75])
    choices = alternatives(close)
    both = choices.draw(2000, np.random.default_rng(0)).all(1).mean()
    assert both == pytest.approx(0.75**2, abs=0.035)


def test_refined_occupancies_above_one_are_shares():
    over = Crystal(4 * np.eye(3), [38, 56], SITES[:2], [0.8, 0.4])
    there = alternatives(over).draw(2000, np.random.default_rng(0))
    assert (there.sum(1) == 1).all()
    assert there[:, 0].mean() == pytest.approx(2 / 3, abs=0.035)
