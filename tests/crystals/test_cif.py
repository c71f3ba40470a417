"""CIF files as people have them: several blocks, partial occupancy, deuterium, and broken ones."""

from __future__ import annotations

import numpy as np
import pytest

from napari_mep.crystals.cif import decoded, read_cif, read_structures
from napari_mep.crystals.structure import Crystal
from napari_mep.errors import CrystalError

CELL = """
_cell_length_a {a}
_cell_length_b {a}
_cell_length_c {a}
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M '{group}'
"""
SITES = """loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""


def cif(atoms: str, a: float = 4.0, group: str = "P 1", name: str = "x") -> str:
    return f"data_{name}" + CELL.format(a=a, group=group) + SITES + atoms


@pytest.fixture
def write(tmp_path):
    def write(content: str | bytes, name: str = "crystal.cif"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_symmetry_fills_the_cell(write):
    crystal = read_cif(write(cif("Na1 Na 0 0 0 1\nCl1 Cl 0.5 0.5 0.5 1\n", 5.64, "F m -3 m")))
    assert sorted(crystal.numbers.tolist()) == [11] * 4 + [17] * 4
    np.testing.assert_allclose(crystal.cell_A, np.eye(3) * 5.64, atol=1e-6)
    assert crystal.name == "crystal"


def test_mixed_site_keeps_its_occupancies(write):
    crystal = read_cif(write(cif("Sr1 Sr 0 0 0 0.7\nBa1 Ba 0 0 0 0.3\nTi1 Ti 0.5 0.5 0.5 0.9\n")))
    found = dict(zip(crystal.numbers.tolist(), crystal.occupancy.tolist(), strict=True))
    assert found == pytest.approx({38: 0.7, 56: 0.3, 22: 0.9})
    same = np.flatnonzero(crystal.numbers != 22)
    np.testing.assert_allclose(crystal.fractional[same], 0.0, atol=1e-6)


def test_refined_occupancy_slightly_above_one_is_one(write):
    crystal = read_cif(write(cif("Sr1 Sr 0 0 0 1.03\nTi1 Ti 0.5 0.5 0.5 1\n")))
    assert crystal.occupancy.max() == 1.0


def test_deuterium_is_hydrogen(write):
    crystal = read_cif(write(cif("Li1 Li 0 0 0 1\nD1 D 0.5 0.5 0.5 1\n")))
    assert sorted(crystal.numbers.tolist()) == [1, 3]


@pytest.mark.parametrize("occupancy", ["?", "."])
def test_unknown_occupancy_is_one(write, occupancy):
    crystal = read_cif(write(cif(f"Fe1 Fe 0 0 0 {occupancy}\nO1 O 0.5 0.5 0.5 1\n")))
    assert crystal.occupancy.tolist() == [1, 1]


def test_atoms_without_coordinates_are_passed_over(write):
    # Hydrogen that nobody located is often listed all the same.
    crystal = read_cif(write(cif("O1 O 0 0 0 1\nMg1 Mg 0.5 0.5 0.5 1\nH1 H ? ? ? 1\n")))
    assert sorted(crystal.numbers.tolist()) == [8, 12]


def test_left_out_angles_are_right(write):
    text = cif(IRON)
    for angle in ("alpha", "beta", "gamma"):
        text = text.replace(f"_cell_angle_{angle} 90\n", "")
    np.testing.assert_allclose(read_cif(write(text)).cell_A, 4 * np.eye(3), atol=1e-6)


def test_atoms_listed_twice_are_there_once(write):
    # Body centring makes the second from the first.
    twice = "Fe1 Fe 0 0 0 1\nFe2 Fe 0.5 0.5 0.5 1\n"
    crystal = read_cif(write(cif(twice, 2.87, "I m -3 m")))
    assert crystal.numbers.tolist() == [26, 26]
    assert crystal.occupancy.tolist() == [1, 1]


def test_special_positions_with_few_digits(write):
    # 0.33 for 1/3: the threefold axis makes three atoms 0.03 A apart, which are one.
    text = cif("Mg1 Mg 0.33 0.67 0.25 1\n", 3.2, "P 63/m m c")
    crystal = read_cif(write(text.replace("gamma 90", "gamma 120").replace("c 3.2", "c 5.2")))
    assert crystal.numbers.tolist() == [12, 12]
    thirds = np.sort(crystal.fractional[:, 0])
    np.testing.assert_allclose(thirds, [1 / 3, 2 / 3], atol=1e-3)


DIAMOND_1, DIAMOND_2 = "Si1 Si 0 0 0 1\n", "Si1 Si 0.125 0.125 0.125 1\n"


@pytest.mark.parametrize(
    ("group", "atoms"),
    [
        ("F d -3 m :1", DIAMOND_1),
        ("F d 3 m S", DIAMOND_1),
        ("F d -3 m :2", DIAMOND_2),
        ("Fd3m", DIAMOND_2),
        ("F_d_-3_m", DIAMOND_2),
    ],
)
def test_space_groups_by_old_names_and_either_origin(write, group, atoms):
    crystal = read_cif(write(cif(atoms, 5.43, group)))
    assert len(crystal.numbers) == 8
    d = crystal.fractional[:, None] - crystal.fractional[None]
    bonds = np.linalg.norm((d - np.round(d)) @ crystal.cell_A, axis=-1) + 9 * np.eye(8)
    np.testing.assert_allclose(bonds.min(1), 5.43 * np.sqrt(3) / 4, atol=1e-3)


def test_unnamed_origin_is_the_one_that_fits_the_formula(write):
    # Origin 2 is tried first and makes 16d and 8b of these: Al2 Mg O4 only with origin 1.
    atoms = "Mg Mg 0 0 0 1\nAl Al 0.625 0.625 0.625 1\nO O 0.387 0.387 0.387 1\n"
    text = cif(atoms, 8.08, "F d 3 m") + "_chemical_formula_sum 'Al2 Mg O4'\n"
    numbers, counts = np.unique(read_cif(write(text)).numbers, return_counts=True)
    assert dict(zip(numbers.tolist(), counts.tolist(), strict=True)) == {8: 32, 12: 8, 13: 16}


def test_a_rhombohedral_cell_takes_rhombohedral_axes(write):
    # Calcite: R -3 c means hexagonal axes as a rule, but not in this cell.
    text = cif("Ca Ca 0 0 0 1\nC C 0.25 0.25 0.25 1\nO O 0.507 -0.007 0.25 1\n", 6.375, "R -3 c")
    for angle in ("alpha", "beta", "gamma"):
        text = text.replace(f"{angle} 90", f"{angle} 46.08")
    crystal = read_cif(write(text))
    assert np.bincount(crystal.numbers)[[6, 8, 20]].tolist() == [2, 6, 2]


def test_symmetry_by_operations_only(write):
    text = cif("Na1 Na 0 0 0 1\n", 4.2).replace("_symmetry_space_group_name_H-M 'P 1'\n", "")
    operations = "loop_\n_space_group_symop_operation_xyz\n'x,y,z'\n'x+1/2, y+1/2, 1/2+z'\n"
    crystal = read_cif(write(text + operations))
    np.testing.assert_allclose(np.sort(crystal.fractional[:, 2]), [0, 0.5], atol=1e-6)


def test_every_block_with_atoms_is_a_structure():
    blocks = [
        "data_global\n_publ_section_title\n;\ndata_ is no block here\n;\n",
        cif(IRON, 2.87, "I m -3 m", "first"),
        cif("Fe1 Fe 0 zero 0 1\n", name="second"),
        cif("W1 W 0 0 0 1\n", 3.16, "I m -3 m", "third"),
    ]
    first, second, third = read_structures("\n".join(blocks), "paper")
    assert (first.name, third.name) == ("paper first", "paper third")
    assert isinstance(second, CrystalError)
    assert third.numbers.tolist() == [74, 74]


def test_two_blocks_of_one_name_are_two_structures():
    text = cif(IRON, 2.87, "I m -3 m") + cif("W1 W 0 0 0 1\n", 3.16, "I m -3 m")
    assert [c.numbers[0] for c in read_structures(text, "x")] == [26, 74]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_any_encoding_and_line_end(encoding, line_end):
    text = (cif(IRON) + "# Schönflies\n").replace("\n", line_end)
    (crystal,) = read_structures(decoded(text.encode(encoding)), "x")
    assert isinstance(crystal, Crystal)


def test_first_usable_block_counts(write):
    text = "data_nothing\n_cell_length_a 3\n\n" + cif("Fe1 Fe 0 0 0 1\n", 2.87, "I m -3 m", "iron")
    assert read_cif(write(text)).numbers.tolist() == [26, 26]


def test_latin_1_author_names_do_not_matter(write):
    text = cif("Fe1 Fe 0 0 0 1\n", 2.87, "I m -3 m") + "\n# Schönflies, Müller\n"
    assert len(read_cif(write(text.encode("latin-1"))).numbers) == 2


IRON = "Fe1 Fe 0 0 0 1\n"
BROKEN = {
    "empty": (b"", "empty"),
    "blank": (b"  \n", "empty"),
    "binary": (b"\x89PNG\r\n\x1a\n\0\0\0data_", "binary"),
    "text": (b"just some notes about a crystal\n", "no data block"),
    "web page": ("<!DOCTYPE html><html><body>404 data_</body></html>", "a web page"),
    "no atoms": (cif(""), "no usable structure"),
    "no atom loop": ("data_x" + CELL.format(a=4, group="P 1"), "no atom sites"),
    "no cell": ("data_x\n" + SITES + IRON, "no _cell_length_a"),
    "unknown cell": (
        cif(IRON).replace("_cell_length_b 4.0", "_cell_length_b ?"),
        "no _cell_length_b",
    ),
    "cell in words": (
        cif(IRON).replace("_cell_length_b 4.0", "_cell_length_b four"),
        "four: no number",
    ),
    "no element": (cif("Xx1 Xx 0 0 0 1\n"), "no usable structure"),
    "no number": (cif("Fe1 Fe 0 zero 0 1\n"), "no usable structure"),
    "zero occupancy": (cif("Fe1 Fe 0 0 0 0\nO1 O 0.5 0 0 0.0\n"), "occupancy is zero"),
    "nm": (cif(IRON, a=0.287), "no usable structure"),
    "pm": (cif(IRON, a=287.0), "A^3 per atom"),
    "no b": (cif(IRON).replace("_cell_length_b 4.0", ""), "no _cell_length_b"),
    "angle": (cif(IRON).replace("alpha 90", "alpha 250"), "0 and 180 degrees"),
    "impossible angles": (
        cif(IRON).replace("alpha 90", "alpha 20").replace("beta 90", "beta 160"),
        "no cell has the angles 20, 160 and 90",
    ),
    "truncated": (cif(IRON)[:60], "no usable structure"),
    "colliding": (cif("Fe1 Fe 0 0 0 1\nO1 O 0.08 0 0 1\n"), "only 0.32 A apart"),
    "another origin": (
        # Spinel with the coordinates of the first origin and the operations of the second.
        cif(
            "Mg Mg 0 0 0 1\nAl Al 0.625 0.625 0.625 1\nO O 0.387 0.387 0.387 1\n",
            8.35,
            "F d -3 m :2",
        ),
        "do not fit together",
    ),
    "another formula": (
        cif("Fe1 Fe 0 0 0 1\nO1 O 0.5 0.5 0.5 1\n") + "_chemical_formula_sum 'Al2 O3'\n",
        "not those of its formula Al2 O3",
    ),
}


@pytest.mark.parametrize(("content", "reason"), BROKEN.values(), ids=BROKEN)
def test_broken_files_end_in_one_line(write, content, reason):
    path = write(content)
    with pytest.raises(CrystalError) as caught:
        read_cif(path)
    message = str(caught.value)
    assert reason in message
    assert str(path) in message
    assert "\n" not in message


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(CrystalError, match="no such file"):
        read_cif(tmp_path / "none.cif")
    with pytest.raises(CrystalError, match="cannot be read"):
        read_cif(tmp_path)
