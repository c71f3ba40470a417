"""Crystals from folders, tables, archives and libraries, whatever is broken among them."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from napari_mep.crystals.cif import decoded, read_structures
from napari_mep.crystals.library import CrystalLibrary
from napari_mep.crystals.sources import Found, read_source, source_files
from napari_mep.crystals.structure import Crystal
from napari_mep.errors import CrystalError

SALT = """data_salt
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Na1 Na 0 0 0 1
Cl1 Cl 0.5 0.5 0.5 1
"""
BROKEN = SALT.replace("0.5 0.5 0.5", "0.5 half 0.5")


def _table(*cifs: str, delimiter: str = ",") -> bytes:
    rows = (delimiter.join((str(i), '"' + c.replace('"', '""') + '"')) for i, c in enumerate(cifs))
    return "\n".join([delimiter.join(("id", "cif")), *rows]).encode()


def _zip(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
    return file.getvalue()


def _tar(**members: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def _read(path: Path, content: bytes) -> list[Found]:
    path.write_bytes(content)
    return list(read_source(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.cif", SALT.encode()),
        ("a.cif.gz", gzip.compress(SALT.encode())),
        ("a.txt", SALT.encode()),
        ("a.csv", _table(SALT)),
        ("a.csv.gz", gzip.compress(_table(SALT))),
        ("a.csv", _table(SALT, delimiter=";")),
        ("a.zip", _zip(a_cif=SALT.encode(), notes_md=b"no crystal")),
        ("a.zip", _zip(a_zip=_zip(b_csv=_table(SALT)))),
        ("a.tar.gz", _tar(a_cif=SALT.encode(), b_txt=b"no crystal")),
    ],
)
def test_whatever_holds_a_crystal_gives_it(tmp_path, name, content):
    ((_, crystal),) = _read(tmp_path / name, content)
    assert isinstance(crystal, Crystal)
    assert np.bincount(crystal.numbers)[[11, 17]].tolist() == [4, 4]


def test_a_library_is_a_source(tmp_path):
    path = tmp_path / "a.npz"
    ((_, crystal),) = _read(tmp_path / "a.cif", SALT.encode())
    CrystalLibrary.from_crystals([crystal]).save(path)
    ((place, again),) = read_source(path)
    assert place == f"{path} a"
    np.testing.assert_array_equal(again.numbers, crystal.numbers)


@pytest.mark.parametrize(
    ("name", "content", "place", "reason"),
    [
        ("a.cif", b"", "a.cif", "empty"),
        ("a.cif", BROKEN.encode(), "a.cif", "half"),
        ("a.cif.gz", b"no gzip", "a.cif.gz", "damaged"),
        ("a.cif.gz", gzip.compress(SALT.encode())[:-20], "a.cif.gz", "damaged"),
        ("a.csv", b"", "a.csv", "empty"),
        ("a.csv", b"id,formula\n1,NaCl\n", "a.csv", "no column 'cif' (it has id, formula)"),
        ("a.csv", _table(SALT.replace("data_", "")), "a.csv row 0", "no data block"),
        ("a.csv", _table(""), "a.csv row 0", "empty"),
        ("a.zip", b"no zip", "a.zip", "damaged"),
        ("a.zip", _zip(a_md=b""), "a.zip", "holds no CIF file"),
        ("a.zip", _zip(a_cif=BROKEN.encode()), "a.zip/a.cif", "half"),
        ("a.tar", b"no tar", "a.tar", "damaged"),
        ("a.npz", b"no library", "a.npz", "not readable"),
    ],
)
def test_what_is_broken_is_refused_in_one_line(tmp_path, name, content, place, reason):
    ((where, refusal),) = _read(tmp_path / name, content)
    assert isinstance(refusal, CrystalError)
    assert where == str(tmp_path / place)
    assert reason in str(refusal)
    assert "\n" not in str(refusal)


def test_a_folder_is_searched_for_what_may_hold_crystals(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.CIF", "a.cif", "._a.cif", "notes.md", "deep/c.csv.gz", "deep/d.zip"):
        (tmp_path / name).touch()
    found = [str(p.relative_to(tmp_path)) for p in source_files(tmp_path)]
    assert found == ["a.cif", "b.CIF", "deep/c.csv.gz", "deep/d.zip"]


@pytest.mark.parametrize("name", ["none", "."])
def test_sources_that_are_none(tmp_path, name):
    with pytest.raises(CrystalError, match=r"no such file or folder|holds no CIF file") as info:
        source_files(tmp_path / name)
    assert "\n" not in str(info.value)


def test_damaged_text_is_read_or_refused_but_never_raises():
    rng = np.random.default_rng(0)
    data = SALT.encode()
    outcomes = set()
    for attempt in range(120):
        garbled = bytearray(data)
        if attempt % 2:
            del garbled[int(rng.integers(len(data))) :]
        for place in rng.integers(0, max(len(garbled), 1), rng.integers(0, 12)):
            if place < len(garbled):
                garbled[place] = int(rng.integers(256))
        try:
            text = decoded(bytes(garbled))
        except CrystalError:
            continue
        for found in read_structures(text, "fuzz"):
            assert isinstance(found, (Crystal, CrystalError))
            assert "\n" not in str(getattr(found, "name", found))
            outcomes.add(type(found))
    assert outcomes == {Crystal, CrystalError}  # the damage is neither too small nor too great
