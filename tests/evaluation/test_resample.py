from __future__ import annotations

import numpy as np
import pytest

from napari_mep.errors import DataError
from napari_mep.evaluation.resample import WorldGrid, common_grid, sample_on, slice_index
from napari_mep.volume import PhaseVolume


def constant(shape, voxel, origin) -> PhaseVolume:
    """One radian per angstrom of depth."""
    return PhaseVolume(np.full(shape, voxel[0]), voxel, origin)


def test_slices_of_different_thickness_line_up_in_angstrom():
    reference = constant((8, 10, 10), (1.6, 0.2, 0.2), (0.8, 0, 0))
    data = np.zeros((4, 10, 10))
    data[1] = 3.2  # depth 3.2 to 6.4 A
    thick = PhaseVolume(data, (3.2, 0.2, 0.2), (1.6, 0, 0))
    grid = common_grid(reference, [thick])
    assert grid == WorldGrid.of(reference)
    sampled = sample_on(thick, grid)
    np.testing.assert_allclose(sampled.data[:, 4, 4], [0, 0, 1.6, 1.6, 0, 0, 0, 0], atol=1e-6)


def test_the_grid_is_cut_to_what_all_cover():
    reference = constant((8, 20, 20), (1, 0.5, 0.5), (0.5, 0, 0))
    left = constant((8, 12, 20), (1, 0.5, 0.5), (0.5, -0.1, 0))  # y up to 5.4 + 0.25
    deep = constant((3, 40, 40), (2, 0.25, 0.25), (3, 0, 2))  # z from 2 to 8, x from 2 - 0.125
    grid = common_grid(reference, [left, deep])
    assert grid.shape == (6, 12, 16)
    assert grid.origin_A == pytest.approx((2.5, 0, 2))
    assert grid.voxel_size_A == reference.voxel_size_A
    for volume in (reference, left, deep):
        np.testing.assert_allclose(sample_on(volume, grid).data, 1, rtol=1e-5)


def test_alone_the_reference_keeps_its_grid_and_its_array():
    reference = constant((4, 5, 6), (1, 1, 1), (0.5, 0, 0))
    grid = common_grid(reference, [])
    assert grid == WorldGrid.of(reference)
    assert sample_on(reference, grid) is reference


def test_strangers_are_refused():
    reference = constant((4, 8, 8), (1, 1, 1), (0.5, 0, 0))
    far = constant((4, 8, 8), (1, 1, 1), (0.5, 6, 0))
    with pytest.raises(DataError, match="2 voxels along y"):
        common_grid(reference, [far])
    with pytest.raises(DataError, match="covers"):
        sample_on(constant((4, 8, 8), (1, 1, 1), (0.5, 3, 0)), WorldGrid.of(reference))


def test_spans_are_the_outer_edges():
    grid = WorldGrid.of(constant((4, 8, 8), (2, 1, 0.5), (1, 0, 3)))
    assert grid.spans_A() == ((0, 8), (-0.5, 7.5), (2.75, 6.75))


@pytest.mark.parametrize(("depth", "index"), [(-9, 0), (0.1, 0), (1.7, 1), (3.1, 1), (99, 3)])
def test_the_slice_that_holds_a_depth(depth, index):
    assert slice_index(constant((4, 3, 3), (1.6, 1, 1), (0.8, 0, 0)), depth) == index
