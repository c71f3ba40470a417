from __future__ import annotations

import pytest

from napari_mep.benchmark.specimens import PEROVSKITES, find_specimens, held_out, zone_axis_text
from napari_mep.crystals.perovskites import TEST_PAIRS
from napari_mep.crystals.samples import resolve
from napari_mep.errors import CrystalError


def test_the_prior_saw_none_of_the_perovskites():
    groups: dict[str, int] = {}
    for specimen in held_out():
        elements = set(resolve(specimen.source).crystal.numbers.tolist())
        unseen = any(pair <= elements for pair in TEST_PAIRS)
        assert unseen == (specimen.group == PEROVSKITES), specimen.name
        groups[specimen.group] = groups.get(specimen.group, 0) + 1
    assert groups == {PEROVSKITES: 10, "No perovskites": 5}


def test_a_folder_is_searched_and_names_keep_files_apart(crystals):
    (crystals / "cubic" / "MgO.cif").write_bytes((crystals / "MgO.cif").read_bytes())
    found = find_specimens([str(crystals)])
    assert [s.name for s in found] == ["MgO", "broken", "cubic/KTaO3", "cubic/MgO"]
    assert {s.zone_axes for s in found} == {((0, 0, 1),)}


def test_names_files_and_zone_axes(crystals):
    found = find_specimens(["pbtio3", "gaas", str(crystals / "MgO.cif")], ["a", "c", "1,1,0", "a"])
    assert [s.name for s in found] == ["PbTiO3", "GaAs", "MgO"]
    assert [zone_axis_text(axis) for axis in found[0].zone_axes] == ["a", "c", "1,1,0"]
    (lead,) = find_specimens(["PbTiO3"])
    assert [zone_axis_text(axis) for axis in lead.zone_axes] == ["a"]
    assert [s.name for s in find_specimens(limit=2)] == ["SrTiO3", "BaTiO3"]


@pytest.mark.parametrize(
    ("sources", "axes", "match"),
    [
        (["unobtainium"], [], "'unobtainium': neither a folder or file nor one of srtio3"),
        (["no/such/folder"], [], "neither a folder"),
        (["SrTiO3", "srtio3"], [], "SrTiO3: named twice"),
        (["SrTiO3"], ["d"], "zone axis 'd'"),
    ],
)
def test_what_is_not_there(sources, axes, match):
    with pytest.raises(CrystalError, match=match):
        find_specimens(sources, axes)


def test_a_folder_without_crystals(tmp_path):
    with pytest.raises(CrystalError, match=r"holds no \.cif file"):
        find_specimens([str(tmp_path)])
