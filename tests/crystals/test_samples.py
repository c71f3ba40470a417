"""Built-in specimens: stoichiometry, bond lengths, and the defects where they should be."""

from __future__ import annotations

from collections import Counter
from math import gcd

import numpy as np
import pytest

from napari_mep.crystals.samples import list_samples, resolve, sample, sample_from_crystal
from napari_mep.crystals.structure import Crystal
from napari_mep.errors import CrystalError

BOX = (12.8, 24.0, 24.0)

# (formula by atomic number, pair, shortest distance in A, its count per first atom)
STRUCTURES = {
    "srtio3": ({38: 1, 22: 1, 8: 3}, (22, 8), 1.9525, 6),
    "batio3": ({56: 1, 22: 1, 8: 3}, (22, 8), 1.862, 1),
    "catio3": ({20: 1, 22: 1, 8: 3}, (22, 8), 1.946, 2),
    "tio2-rutile": ({22: 1, 8: 2}, (22, 8), 1.948, 4),
    "si": ({14: 1}, (14, 14), 2.3517, 4),
    "gaas": ({31: 1, 33: 1}, (31, 33), 2.4480, 4),
    "mos2": ({42: 1, 16: 2}, (42, 16), 2.414, 6),
}


def distances(crystal: Crystal, first: int, second: int) -> np.ndarray:
    """Distances from the first atom of one element to all atoms of another, A, sorted."""
    shifts = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    origin = crystal.fractional[crystal.numbers == first][0]
    others = crystal.fractional[crystal.numbers == second]
    delta = (others[None] + shifts[:, None] - origin).reshape(-1, 3) @ crystal.cell_A
    lengths = np.sort(np.linalg.norm(delta, axis=1))
    return lengths[lengths > 1e-3]


def formula(numbers: np.ndarray) -> dict[int, int]:
    counts = Counter(numbers.tolist())
    common = gcd(*counts.values())
    return {number: count // common for number, count in counts.items()}


@pytest.mark.parametrize("name", STRUCTURES)
def test_structure_has_its_stoichiometry_and_bonds(name):
    composition, pair, bond, neighbours = STRUCTURES[name]
    crystal = sample(name).crystal
    assert formula(crystal.numbers) == composition
    lengths = distances(crystal, *pair)
    assert lengths[0] == pytest.approx(bond, abs=0.005)
    assert (lengths < lengths[0] + 0.005).sum() == neighbours


def test_catio3_octahedra_are_tilted():
    # Ti-O-Ti would be straight in a cubic perovskite; it is 153 to 156 degrees here.
    crystal = sample("catio3").crystal
    oxygen = crystal.fractional[crystal.numbers == 8][0]
    shifts = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    titanium = (crystal.fractional[crystal.numbers == 22][None] + shifts[:, None]).reshape(-1, 3)
    bonds = (titanium - oxygen) @ crystal.cell_A
    a, b = bonds[np.argsort(np.linalg.norm(bonds, axis=1))[:2]]
    angle = np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
    assert 150 < angle < 160


def test_every_sample_fills_a_box_without_collisions():
    names = list_samples()
    assert {"srtio3-vacancy", "srtio3-grain-boundary", *STRUCTURES} == set(names)
    for name, description in names.items():
        specimen = sample(name)
        assert specimen.description == description
        atoms = specimen.box(BOX)
        assert (atoms.positions_A >= 0).all(), name
        assert (atoms.positions_A < BOX).all(), name
        delta = atoms.positions_A[:, None] - atoms.positions_A[None]
        apart = np.linalg.norm(delta, axis=-1)[np.triu_indices(len(atoms.numbers), 1)]
        assert apart.min() > 1.69, name


def test_vacancies_lie_at_half_depth_and_nowhere_else():
    whole, defective = sample("srtio3").box(BOX), sample("srtio3-vacancy").box(BOX)
    kept = {tuple(row) for row in defective.positions_A}
    missing = np.array([tuple(row) not in kept for row in whole.positions_A])
    gone, numbers = whole.positions_A[missing], whole.numbers[missing]
    assert set(numbers.tolist()) == {38, 8}
    assert (gone[numbers == 38, 0] < BOX[0] / 2).all()
    assert (gone[numbers == 8, 0] >= BOX[0] / 2).all()
    for number in (38, 8):
        column = gone[numbers == number]
        np.testing.assert_allclose(
            column[:, 1:], np.broadcast_to(column[0, 1:], (len(column), 2)), atol=1e-6
        )
        # Centre of the scan, so that every scan sees it.
        assert np.linalg.norm(column[0, 1:] - np.array(BOX[1:]) / 2) < 5.0
    # The other half of the strontium column is there.
    same = np.linalg.norm(defective.positions_A[:, 1:] - gone[numbers == 38][0, 1:], axis=1) < 0.1
    assert same.any()
    assert (defective.positions_A[same, 0] >= BOX[0] / 2).all()


def test_grains_are_turned_by_sigma_5():
    atoms = sample("srtio3-grain-boundary").box((3.905, 40.0, 40.0))
    strontium = atoms.positions_A[atoms.numbers == 38][:, 1:]
    turns = []
    for side in (strontium[strontium[:, 1] < 18], strontium[strontium[:, 1] > 22]):
        delta = (side[:, None] - side[None]).reshape(-1, 2)
        bonds = delta[np.abs(np.linalg.norm(delta, axis=1) - 3.905) < 0.05]
        turns.append(np.degrees(np.arctan2(bonds[:, 0], bonds[:, 1])) % 90)
        assert np.ptp(turns[-1]) < 0.1
    misorientation = abs(turns[0].mean() - turns[1].mean())
    assert min(misorientation, 90 - misorientation) == pytest.approx(36.87, abs=0.1)


def test_partial_occupancy_is_drawn_site_by_site():
    crystal = Crystal(np.eye(3) * 4, [38, 22], [[0, 0, 0], [0.5, 0.5, 0.5]], [0.5, 1.0], "half")
    specimen = sample_from_crystal(crystal)
    atoms = specimen.box((16.0, 32.0, 32.0), seed=3)
    titanium = (atoms.numbers == 22).sum()
    assert (atoms.numbers == 38).sum() / titanium == pytest.approx(0.5, abs=0.1)
    # No repetition from cell to cell: some columns along the beam are neither full nor empty.
    lateral = np.round(atoms.positions_A[atoms.numbers == 38][:, 1:], 3)
    filling = set(np.unique(lateral, axis=0, return_counts=True)[1].tolist())
    assert filling >= {1, 2, 3}
    assert np.array_equal(specimen.box((16.0, 32.0, 32.0), seed=3).numbers, atoms.numbers)
    other = specimen.box((16.0, 32.0, 32.0), seed=4)
    assert not np.array_equal(other.positions_A[:50], atoms.positions_A[:50])


@pytest.mark.parametrize(("axis", "period"), [("a", 3.994), ("b", 3.994), ("c", 4.034)])
def test_zone_axis_of_a_tetragonal_cell_is_the_beam(axis, period):
    atoms = sample("batio3").box((16.0, 12.0, 12.0), zone_axis=axis)
    barium = atoms.positions_A[atoms.numbers == 56]
    column = barium[np.linalg.norm(barium[:, 1:] - barium[0, 1:], axis=1) < 0.05]
    np.testing.assert_allclose(np.diff(np.sort(column[:, 0])), period, atol=1e-4)


def test_resolve_takes_names_paths_and_objects(tmp_path):
    assert resolve("SrTiO3").name == "srtio3"
    crystal = sample("si").crystal
    assert resolve(crystal).crystal is crystal
    assert resolve(resolve(crystal)).crystal is crystal
    path = tmp_path / "iron.cif"
    path.write_text(
        "data_x\n_cell_length_a 2.87\n_cell_length_b 2.87\n_cell_length_c 2.87\n"
        "_cell_angle_alpha 90\n_cell_angle_beta 90\n_cell_angle_gamma 90\n"
        "_symmetry_space_group_name_H-M 'I m -3 m'\nloop_\n_atom_site_label\n"
        "_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\nFe1 0 0 0\n"
    )
    assert resolve(str(path)).crystal.numbers.tolist() == [26, 26]


def test_unknown_names_list_the_known_ones(tmp_path):
    with pytest.raises(CrystalError, match=r"'srtio4'.*srtio3, batio3"):
        resolve("srtio4")
    with pytest.raises(CrystalError, match="no such file"):
        resolve("none.cif")
    with pytest.raises(CrystalError, match="no such file"):
        resolve(tmp_path / "none")
    with pytest.raises(CrystalError, match="must be positive"):
        sample("si").box((12.8, 0.0, 10.0))
    with pytest.raises(CrystalError, match="no atom"):
        sample("mos2").box((0.3, 5.0, 5.0))
