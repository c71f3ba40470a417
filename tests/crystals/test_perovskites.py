"""The perovskite family: tilted relatives stay perovskites, and the test pairs stay unseen."""

from __future__ import annotations

import gzip
import logging
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from napari_mep.crystals.perovskites import (
    HELD_OUT_PAIRS,
    distorted_perovskite,
    perovskite_library,
    read_cif_table,
    without_pairs,
)
from napari_mep.crystals.structure import Crystal
from napari_mep.errors import CrystalError

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


def test_pairs_are_left_out_in_either_role():
    crystals = [_cubic(38, 22), _cubic(22, 38), _cubic(38, 40), _cubic(56, 13)]
    kept = list(without_pairs(crystals, [frozenset((38, 22))]))
    assert [c.numbers[0] for c in kept] == [38, 56]


def _cif(a_site: str, b_site: str, anion: str = "O", edge: float = 3.9) -> str:
    species = [a_site, b_site, anion, anion, anion]
    return Structure(Lattice.cubic(edge), species, SITES).to(fmt="cif")


def _table(path: Path, cifs: list[str]) -> Path:
    rows = "".join('{},"{}"\n'.format(i, c.replace('"', '""')) for i, c in enumerate(cifs))
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.write("id,cif\n" + rows)
    return path


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
def test_tables_are_read_and_broken_rows_named(tmp_path, caplog, name):
    path = _table(tmp_path / name, [_cif("Sr", "Zr"), "no crystal", _cif("Ba", "Sn")])
    with caplog.at_level(logging.WARNING):
        crystals = list(read_cif_table(path))
    assert [c.name for c in crystals] == ["SrZrO3", "BaSnO3"]
    assert sorted(crystals[0].numbers) == [8, 8, 8, 38, 40]
    assert "row 1 left out" in caplog.text


@pytest.mark.parametrize(
    ("content", "match"), [(None, "not readable"), ("id,formula\n1,SrTiO3\n", "no column 'cif'")]
)
def test_what_is_no_table_is_told_in_one_line(tmp_path, content, match):
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CrystalError, match=match) as info:
        list(read_cif_table(path))
    assert "\n" not in str(info.value)


def test_a_gzip_file_that_is_none(tmp_path):
    (tmp_path / "table.csv.gz").write_bytes(b"plain text")
    with pytest.raises(CrystalError, match="not readable"):
        list(read_cif_table(tmp_path / "table.csv.gz"))


def test_library_holds_every_cell_twice_and_no_test_pair(tmp_path):
    path = _table(
        tmp_path / "table.csv",
        [_cif("Sr", "Ti"), _cif("Sr", "Zr"), _cif("Ti", "Ba"), _cif("Ba", "Sn"), _cif("K", "Ta")],
    )
    library = perovskite_library([path], seed=1)
    assert sorted(library.names) == [
        "BaSnO3", "BaSnO3 (tilted)", "SrZrO3", "SrZrO3 (tilted)",
    ]  # fmt: skip
    assert list(library.sources) == ["table.csv"]
    for i in range(len(library)):
        elements = set(library[i].numbers.tolist())
        pairs = {frozenset(pair) for pair in combinations(elements, 2)}
        assert not pairs & set(HELD_OUT_PAIRS)
    everything = perovskite_library([path], seed=1, held_out=())
    assert len(everything) == 10


def test_the_crystals_that_the_benchmark_needs_are_held_out():
    assert frozenset((38, 22)) in HELD_OUT_PAIRS  # SrTiO3
    assert frozenset((56, 22)) in HELD_OUT_PAIRS  # BaTiO3
    assert len(set(HELD_OUT_PAIRS)) >= 10
