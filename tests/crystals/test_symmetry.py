"""Space groups by name: the settings a name and a cell allow, and their operations."""

from __future__ import annotations

import numpy as np
import pytest

from napari_mep.crystals._spglib import group_type, operations
from napari_mep.crystals.structure import cell_from_parameters
from napari_mep.crystals.symmetry import setting_operations, settings_by_name

CUBIC = 5 * np.eye(3)
HEXAGONAL = cell_from_parameters(5, 5, 7, 90, 90, 120)
RHOMBOHEDRAL = cell_from_parameters(6, 6, 6, 47, 47, 47)
B_UNIQUE = cell_from_parameters(5, 6, 7, 90, 101, 90)
C_UNIQUE = cell_from_parameters(5, 6, 7, 90, 90, 101)


@pytest.mark.parametrize(
    ("name", "cell", "full", "choice"),
    [
        ("F m 3 m", CUBIC, "F 4/m -3 2/m", ""),
        ("Fm-3m", CUBIC, "F 4/m -3 2/m", ""),
        ("P a 3", CUBIC, "P 2_1/a -3", ""),
        ("F d -3 m", CUBIC, "F 4_1/d -3 2/m", "2"),
        ("F d -3 m :1", CUBIC, "F 4_1/d -3 2/m", "1"),
        ("F d 3 m S", CUBIC, "F 4_1/d -3 2/m", "1"),
        ("F d 3 m Z", CUBIC, "F 4_1/d -3 2/m", "2"),
        ("R -3 c", HEXAGONAL, "R -3 2/c", "H"),
        ("R -3 c", RHOMBOHEDRAL, "R -3 2/c", "R"),
        ("R -3 c :R", RHOMBOHEDRAL, "R -3 2/c", "R"),
        ("P 63/m m c", HEXAGONAL, "P 6_3/m 2/m 2/c", ""),
        ("P 21/c", B_UNIQUE, "P 1 2_1/c 1", "b1"),
        ("P 21/n", B_UNIQUE, "P 1 2_1/n 1", "b2"),
        ("P 21/b", C_UNIQUE, "P 1 1 2_1/b", "c3"),
        ("P 1 21/a 1", B_UNIQUE, "P 1 2_1/a 1", "b3"),
        ("I 2/a", B_UNIQUE, "I 1 2/a 1", "b3"),
        ("P b n m", CUBIC, "P 2_1/b 2_1/n 2_1/m", "cab"),
        ("A b m 2", CUBIC, "A e m 2", ""),
        ("C m c a", CUBIC, "C 2/m 2/c 2_1/e", ""),
    ],
)
def test_names_as_files_have_them(name, cell, full, choice):
    kind = group_type(settings_by_name(name, None, "", cell)[0])
    assert (kind.international_full, kind.choice) == (full, choice)


def test_unmarked_origins_are_both_offered():
    halls = settings_by_name("P 4/n m m", None, "", CUBIC)
    assert sorted(group_type(hall).choice for hall in halls) == ["1", "2"]


def test_hall_symbol_and_number_decide_where_the_name_does_not():
    assert settings_by_name("no such", 225, "", CUBIC) == settings_by_name("Fm-3m", None, "", CUBIC)
    by_hall = settings_by_name("P -3 m 1", None, '-P 3 2"', HEXAGONAL)
    assert [group_type(h).number for h in by_hall] == [164]


def test_unknown_names_and_cells_that_do_not_fit_have_none():
    assert settings_by_name("X y z", None, "", CUBIC) == []
    assert settings_by_name("", None, "", CUBIC) == []
    assert settings_by_name("F m -3 m", None, "", HEXAGONAL) == []


@pytest.mark.parametrize("hall", [1, 81, 461, 488, 525, 530])
def test_operations_are_the_groups_own(hall):
    from pymatgen.core.operations import SymmOp

    expected_rotations, expected_shifts = operations(hall)
    written = [SymmOp.from_xyz_str(text) for text in setting_operations(hall)]
    rotations = [operation.rotation_matrix for operation in written]
    shifts = [operation.translation_vector for operation in written]
    np.testing.assert_allclose(rotations, expected_rotations)
    np.testing.assert_allclose(shifts, expected_shifts % 1, atol=1e-9)
