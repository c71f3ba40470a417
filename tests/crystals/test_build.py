"""One library from many sources: what is kept, what is refused and why, and who sees what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from napari_mep.crystals import build
from napari_mep.crystals.build import BuildOptions, build_library
from napari_mep.crystals.library import CrystalLibrary
from napari_mep.crystals.prototypes import aflow_prototypes
from napari_mep.errors import CrystalError

PEROVSKITE = [[0.5, 0.5, 0.5], [0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
SMALL = BuildOptions(decorations=2, random=20, seed=3)


def _perovskite(a: str, b: str, edge: float = 4.0, cells: int = 1) -> str:
    cell = Structure(Lattice.cubic(edge), [a, b, "O", "O", "O"], PEROVSKITE)
    return cell.make_supercell([1, 1, cells]).to(fmt="cif")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Good, odd and broken files."""
    good = _perovskite("Ba", "Sn", 4.1)
    files = {
        "good.cif": good,
        "odd.cif": "\ufeff# Schönflies\n" + good.replace("\n", "\r\n"),
        "long.cif": _perovskite("Ba", "Sn", 4.1, cells=5),
        "short.cif": good[: len(good) // 2],
        "page.cif": "<!DOCTYPE html><html>not found</html>",
        "empty.cif": "",
        "table.csv": "id,cif\n0,{}\n1,nonsense\n".format(
            '"' + _perovskite("Sr", "Ti").replace('"', '""') + '"'
        ),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    (tmp_path / "binary.cif").write_bytes(bytes(range(256)))
    return tmp_path


@pytest.fixture(scope="module")
def few_prototypes() -> Iterator[None]:
    """Every eighth, read once: that they are 288 is tested elsewhere."""
    few = aflow_prototypes()[::8]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "aflow_prototypes", lambda: few)
        yield


@pytest.fixture(scope="module")
def builtin(few_prototypes: None) -> CrystalLibrary:
    return build_library(["builtin"], SMALL)[0]


def test_a_folder_of_good_odd_and_broken_files(folder):
    library, report = build_library([str(folder)])
    assert library.names == ("good", "odd", "SrTiO3")
    assert set(library.families) == {"perovskite Sn-Ba", "perovskite Ti-Sr"}
    (count,) = report.counts
    assert (count.read, count.kept, count.refused) == (9, 3, 6)
    reasons = {Path(r.file).name: r.reason for r in report.refused}
    assert all(reason and "\n" not in reason for reason in reasons.values())
    assert len(report.refused) == 6
    assert "web page" in reasons["page.cif"]
    assert reasons["empty.cif"] == "the file is empty"
    assert "binary" in reasons["binary.cif"]
    assert "no data block" in reasons["table.csv row 1"]
    assert "the limit is 20 A" in reasons["long.cif"]


def test_a_source_named_twice_counts_twice_and_is_read_once(folder):
    library, report = build_library([str(folder / "good.cif")] * 2)
    assert library.names == ("good", "good")
    assert [c.read for c in report.counts] == [1]


def test_a_family_gives_no_more_than_its_share(folder):
    library, report = build_library([str(folder)], BuildOptions(family_limit=1))
    assert library.names == ("good", "SrTiO3")
    assert report.counts[0].family_full == 1


def test_tilted_relatives_are_added(folder):
    library, _ = build_library([str(folder / "good.cif")], BuildOptions(tilted=True))
    assert library.names == ("good", "good (tilted)")
    assert np.diff(library.start).tolist() == [5, 40]


def test_progress_reaches_its_end(folder):
    told = []
    build_library([str(folder)], tell=lambda done, total, _: told.append((done, total)))
    assert told == [(i + 1, 8) for i in range(8)]


def test_parts_are_disjoint_by_family_and_together_everything(builtin):
    parts = {p: builtin.split(p) for p in ("train", "validation", "test")}
    assert sum(map(len, parts.values())) == len(builtin)
    # Whatever holds one of the benchmark's cation pairs or formulas goes to test by its elements.
    assert not set(parts["train"].families) & set(parts["validation"].families)
    assert len(parts["train"]) > len(parts["test"]) > 0
    again, report = build_library(["builtin"], replace(SMALL, part="train"))
    assert again.names == parts["train"].names
    assert sum(c.other_part for c in report.counts) == len(builtin) - len(again)


def test_the_same_seed_gives_the_same_library(builtin):
    same, _ = build_library(["builtin"], SMALL)
    assert same.names == builtin.names
    np.testing.assert_array_equal(same.fractional, builtin.fractional)
    np.testing.assert_array_equal(same.cells_A, builtin.cells_A)
    other, _ = build_library(["builtin"], replace(SMALL, seed=4))
    assert other.names != builtin.names


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("none.cif", {}, "no such file or folder"),
        (
            "empty.cif",
            {},
            "none of the 1 structures read can be used; the first: .*: the file is empty",
        ),
        ("table.csv", {"part": "train"}, "in the train part; leave out --part"),
    ],
)
def test_nothing_usable_is_told_in_one_line(folder, name, options, match):
    with pytest.raises(CrystalError, match=match) as info:
        build_library([str(folder / name)], BuildOptions(**options))
    assert "\n" not in str(info.value)
