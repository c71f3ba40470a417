"""Boxes cut out of crystals: the right atoms, in the right orientation."""

from __future__ import annotations

import numpy as np
import pytest

from napari_mep.crystals.cut import cut_box, parse_zone_axis, zone_axis_rotation
from napari_mep.crystals.structure import Crystal
from napari_mep.errors import CrystalError

CUBIC = Crystal(4.0 * np.eye(3), [22, 8], [[0, 0, 0], [0.5, 0.5, 0.5]])
# Triclinic, left-handed, far from orthogonal.
OBLIQUE = Crystal(
    [[4.0, 0.3, -0.2], [1.9, 5.0, 0.4], [-1.2, 0.8, -6.0]],
    [22, 8, 8],
    [[0.1, 0.2, 0.3], [0.6, 0.1, 0.9], [0.3, 0.8, 0.4]],
)


def _brute_force(crystal, size, rotation, offset=(0.0, 0.0, 0.0)) -> np.ndarray:
    """(n, 4) rows z, y, x, number, from more cells than can matter."""
    cell = crystal.cell_A @ rotation.T
    shifts = np.stack(np.meshgrid(*[np.arange(-12, 13)] * 3, indexing="ij"), -1).reshape(-1, 3)
    xyz = (shifts[:, None] + crystal.fractional[None]).reshape(-1, 3) @ cell + offset[::-1]
    numbers = np.tile(crystal.numbers, len(shifts))
    zyx = xyz[:, ::-1]
    inside = ((zyx >= 0) & (zyx < size)).all(1)
    return _sorted(np.column_stack([zyx[inside], numbers[inside]]))


def _sorted(rows: np.ndarray) -> np.ndarray:
    rows = np.round(rows, 4) + 0.0
    return rows[np.lexsort(rows.T)]


def _rows(box) -> np.ndarray:
    return _sorted(np.column_stack([box.positions_A, box.numbers]))


@pytest.mark.parametrize("axis", ["a", "b", "c", (1, 1, 0), (1, -1, 2)])
@pytest.mark.parametrize("crystal", [CUBIC, OBLIQUE])
def test_every_atom_is_found_once(crystal, axis):
    size, offset = (9.1, 11.3, 12.7), (0.77, 1.31, 2.43)
    rotation = zone_axis_rotation(crystal.cell_A, parse_zone_axis(axis))
    box = cut_box(crystal, size, zone_axis=axis, offset_A=offset)
    np.testing.assert_allclose(_rows(box), _brute_force(crystal, size, rotation, offset), atol=2e-4)


@pytest.mark.parametrize("axis", ["a", (0, 1, 1), (1, 2, 3)])
def test_density_is_that_of_the_crystal(axis):
    size = (30.0, 32.0, 31.0)
    box = cut_box(OBLIQUE, size, zone_axis=axis, in_plane_deg=33.0, tilt_mrad=(5.0, -7.0))
    volume = abs(np.linalg.det(OBLIQUE.cell_A))
    expected = np.prod(size) / volume
    for number, per_cell in ((22, 1), (8, 2)):
        assert (box.numbers == number).sum() == pytest.approx(per_cell * expected, rel=0.05)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 0, 1), (1, 1, 0), (2, -1, 1)])
@pytest.mark.parametrize("crystal", [CUBIC, OBLIQUE])
def test_rotation_puts_the_zone_axis_along_the_beam(crystal, axis):
    rotation = zone_axis_rotation(crystal.cell_A, axis)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    beam = rotation @ (np.array(axis) @ crystal.cell_A)
    np.testing.assert_allclose(beam / np.linalg.norm(beam), (0, 0, 1), atol=1e-12)
    # some lattice vector has its projection along +x
    projected = crystal.cell_A @ rotation.T
    assert ((np.abs(projected[:, 1]) < 1e-9) & (projected[:, 0] > 0.1)).any()


def test_atomic_columns_of_a_cubic_crystal_stand_upright():
    box = cut_box(CUBIC, (24.0, 12.0, 12.0), zone_axis="c")
    columns = np.unique(np.round(box.positions_A[:, 1:], 3), axis=0)
    assert len(columns) == 3 * 3 + 3 * 3
    assert len(box.numbers) == 6 * len(columns)


def test_in_plane_rotation_turns_from_x_towards_y():
    size = (4.0, 20.0, 20.0)
    turned = cut_box(CUBIC, size, in_plane_deg=30.0, offset_A=(0.0, 10.0, 10.0))
    relative = turned.positions_A[:, 1:] - 10.0
    neighbour = 4.0 * np.array([np.sin(np.pi / 6), np.cos(np.pi / 6)])  # (y, x)
    assert np.linalg.norm(relative - neighbour, axis=1).min() < 1e-5
    assert np.linalg.norm(relative - neighbour * [-1, 1], axis=1).min() > 0.5


def test_tilt_is_small_and_of_the_right_size():
    size, offset = (60.0, 8.0, 8.0), (0.0, 4.0, 4.0)
    box = cut_box(CUBIC, size, offset_A=offset, tilt_mrad=(10.0, 0.0))
    column = box.positions_A[
        (box.numbers == 22) & (np.abs(box.positions_A[:, 1:] - 4.0).max(1) < 1.0)
    ]
    column = column[np.argsort(column[:, 0])]
    slope = np.polyfit(column[:, 0], column[:, 2], 1)[0]
    assert slope == pytest.approx(0.010, rel=1e-3)
    assert np.ptp(column[:, 1]) < 1e-6


def test_offset_places_the_origin_of_the_crystal():
    box = cut_box(CUBIC, (8.0, 8.0, 8.0), offset_A=(1.0, 2.0, 3.0))
    titanium = box.positions_A[box.numbers == 22]
    assert np.abs(titanium - (1.0, 2.0, 3.0)).sum(1).min() < 1e-6


@pytest.mark.parametrize("axis", ["a", "b", "c"])
def test_planes_on_a_face_are_not_torn(axis):
    # 5 cells of 4 A: planes lie exactly on both faces, and belong to the first one, whole.
    box = cut_box(CUBIC, (20.0, 20.0, 20.0), zone_axis=axis)
    assert len(box.numbers) == 2 * 5**3
    for axis_index in range(3):
        planes, counts = np.unique(np.round(box.positions_A[:, axis_index], 5), return_counts=True)
        np.testing.assert_allclose(planes, np.arange(0, 20, 2.0), atol=1e-5)
        assert set(counts) == {25}


@pytest.mark.parametrize(
    ("text", "axis"),
    [("a", (1, 0, 0)), ("C", (0, 0, 1)), ("1,1,0", (1, 1, 0)), ("[1 -1 2]", (1, -1, 2)),
     ([0, 1, 1], (0, 1, 1))],
)  # fmt: skip
def test_zone_axes_as_people_write_them(text, axis):
    assert parse_zone_axis(text) == axis


@pytest.mark.parametrize("text", ["d", "", "1,1", "0,0,0", "1,1,0,0", "1.5,0,0"])
def test_no_zone_axis(text):
    with pytest.raises(CrystalError, match="expected a, b, c or three integers"):
        parse_zone_axis(text)


@pytest.mark.parametrize(
    ("cell", "numbers", "fractional", "match"),
    [
        (4 * np.eye(3), [], np.zeros((0, 3)), "at least one atom"),
        (4 * np.eye(3), [8], [[0, 0]], r"expected \(3, 3\)"),
        (np.diag([4.0, 4.0, 0.0]), [8], [[0, 0, 0]], "volume"),
        (4 * np.eye(3), [104], [[0, 0, 0]], r"1\.\.103"),
        (4 * np.eye(3), [8], [[0, np.nan, 0]], "not finite"),
    ],
)
def test_impossible_crystals_are_refused(cell, numbers, fractional, match):
    with pytest.raises(CrystalError, match=match):
        Crystal(cell, numbers, fractional)


def test_fractional_coordinates_are_wrapped():
    crystal = Crystal(4 * np.eye(3), [8], [[-0.25, 1.5, 0.0]])
    np.testing.assert_allclose(crystal.fractional, [[0.75, 0.5, 0.0]])
