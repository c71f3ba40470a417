"""CIF files as people have them: several blocks, partial occupancy, deuterium, and broken ones."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from napari_mep.crystals.cif import draw_occupancy, read_cif
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


def test_first_usable_block_counts(write):
    text = "data_nothing\n_cell_length_a 3\n\n" + cif("Fe1 Fe 0 0 0 1\n", 2.87, "I m -3 m", "iron")
    assert read_cif(write(text)).numbers.tolist() == [26, 26]


def test_ase_reads_what_pymatgen_refuses(write, caplog):
    # Every atom of a mirror pair is listed although the symmetry makes it: occupancy 2 for
    # pymatgen, one atom for ASE.
    atoms = "Fe1 Fe 0 0 0 1\nFe2 Fe 0.5 0.5 0.5 1\n"
    with caplog.at_level(logging.INFO, logger="napari_mep.crystals.cif"):
        crystal = read_cif(write(cif(atoms, 2.87, "I m -3 m")))
    assert crystal.numbers.tolist() == [26, 26]
    assert "pymatgen refuses" in caplog.text


def test_latin_1_author_names_do_not_matter(write):
    text = cif("Fe1 Fe 0 0 0 1\n", 2.87, "I m -3 m") + "\n# Schönflies, Müller\n"
    assert len(read_cif(write(text.encode("latin-1"))).numbers) == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"\x89PNG\r\n\x1a\n\0\0\0data_", "binary"),
        (b"just some notes about a crystal\n", "no data block"),
        (cif(""), "no usable structure"),
        (cif("Xx1 Xx 0 0 0 1\n"), "no usable structure"),
        (cif("Fe1 Fe 0 zero 0 1\n"), "no usable structure"),
        (cif("Fe1 Fe 0 0 0 1\n", a=0.287), "no usable structure"),
        (cif("Fe1 Fe 0 0 0 1\n", a=287.0), "A^3 per atom"),
        (cif("Fe1 Fe 0 0 0 1\n").replace("_cell_length_b 4.0", ""), "no usable structure"),
        (cif("Fe1 Fe 0 0 0 1\n").replace("alpha 90", "alpha 250"), "0 and 180 degrees"),
        (cif("Fe1 Fe 0 0 0 1\n")[:60], "no usable structure"),
    ],
    ids=[
        "empty",
        "blank",
        "binary",
        "text",
        "no atoms",
        "no element",
        "no number",
        "nm",
        "pm",
        "no b",
        "angle",
        "truncated",
    ],
)
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


def mixed(n: int) -> Crystal:
    """A row of n sites that hold Sr (50 %), Ba (30 %) or nothing, and one full Ti each."""
    x = np.arange(n) / n
    place = np.stack([x, np.zeros(n), np.zeros(n)], 1)
    return Crystal(
        np.diag([4.0 * n, 4, 4]),
        np.repeat([38, 56, 22], n),
        np.concatenate([place, place, place + np.array([0, 0.5, 0.5])]),
        np.repeat([0.5, 0.3, 1.0], n),
        "mixed",
    )


def test_drawn_sites_hold_at_most_one_atom_in_the_right_proportion():
    drawn = draw_occupancy(mixed(2000), np.random.default_rng(0))
    assert (drawn.occupancy == 1).all()
    assert (drawn.numbers == 22).sum() == 2000
    on_a = drawn.fractional[drawn.numbers != 22][:, 0]
    assert len(np.unique(on_a)) == len(on_a)
    # Three standard deviations of a binomial with 2000 trials are 0.034.
    assert (drawn.numbers == 38).mean() * len(drawn.numbers) / 2000 == pytest.approx(0.5, abs=0.034)
    assert (drawn.numbers == 56).mean() * len(drawn.numbers) / 2000 == pytest.approx(0.3, abs=0.034)


def test_draw_follows_the_seed_and_leaves_full_crystals_alone():
    crystal = mixed(50)
    draws = [draw_occupancy(crystal, np.random.default_rng(seed)).numbers for seed in (1, 1, 2)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    full = Crystal(np.eye(3) * 3, [26], [[0, 0, 0]])
    assert draw_occupancy(full, np.random.default_rng(0)) is full
