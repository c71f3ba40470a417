"""The crystal library: what goes in comes out, and files that are none are told in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_mep.crystals.library import CrystalLibrary
from napari_mep.crystals.structure import Crystal
from napari_mep.errors import CrystalError, ExportError

CRYSTALS = [
    Crystal(4.2 * np.eye(3), [12, 8], [[0, 0, 0], [0.5, 0.5, 0.5]], name="MgO"),
    Crystal(
        [[3.9, 0, 0], [1.1, 4.6, 0], [0.3, -0.5, 5.2]],
        [22, 8, 8],
        [[0, 0, 0], [0.4, 0.5, 0.1], [0.2, 0.1, 0.6]],
        [1.0, 0.5, 0.25],
        "oblique, défaut",
    ),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    CrystalLibrary.from_crystals(CRYSTALS, {"here": "made up"}).save(tmp_path / "lib.npz")
    return tmp_path / "lib.npz"


def test_round_trip(path):
    library = CrystalLibrary.load(path)
    assert len(library) == 2
    assert library.sources == {"here": "made up"}
    assert [p.name for p in path.parent.iterdir()] == ["lib.npz"]
    for given, read in zip(CRYSTALS, (library[0], library[1]), strict=True):
        np.testing.assert_allclose(read.cell_A, given.cell_A, rtol=1e-6)
        np.testing.assert_array_equal(read.numbers, given.numbers)
        np.testing.assert_allclose(read.fractional, given.fractional, atol=0.51 / 2**16)
        np.testing.assert_allclose(read.occupancy, given.occupancy)
        assert read.name == given.name


def test_an_empty_library_is_refused():
    with pytest.raises(CrystalError, match="nothing to train on"):
        CrystalLibrary.from_crystals([])


def _one_line(path: Path, match: str) -> None:
    with pytest.raises(CrystalError, match=match) as info:
        CrystalLibrary.load(path)
    assert "\n" not in str(info.value)
    assert str(path) in str(info.value)


def test_missing_file(tmp_path):
    _one_line(tmp_path / "none.npz", "no such file")


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.97])
def test_truncated_file(path, keep):
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    _one_line(path, "not readable")


def test_other_numpy_files_are_no_libraries(tmp_path):
    np.save(tmp_path / "array.npy", np.zeros(3))
    _one_line(tmp_path / "array.npy", "not readable")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    _one_line(tmp_path / "other.npz", "not readable")
    _one_line(tmp_path, "not readable")


def test_pickled_objects_are_never_loaded(path):
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["numbers"] = np.array([{"a": 1}], dtype=object)
    np.savez(path, **arrays)
    _one_line(path, "not readable")


def _rewrite(path: Path, head: dict | None = None, **changes) -> None:
    with np.load(path) as archive:
        arrays = dict(archive)
    if head is not None:
        old = json.loads(arrays["head"].tobytes())
        arrays["head"] = np.frombuffer(json.dumps(old | head).encode(), np.uint8)
    np.savez(path, **(arrays | changes))


def test_newer_format(path):
    _rewrite(path, head={"format": 3})
    _one_line(path, "format 3, this version reads 1 and 2")


def test_the_format_of_old(path):
    # Coordinates as they were, and no families.
    fractional = np.array([[0.125, 0.5, 0.1]] * 5, np.float32)
    _rewrite(path, head={"format": 1}, fractional=fractional)
    library = CrystalLibrary.load(path)
    np.testing.assert_array_equal(library.fractional, fractional)
    assert library.families == ("", "")


def test_coordinates_just_below_one_wrap_to_zero(tmp_path):
    almost = Crystal(4 * np.eye(3), [14], [[1 - 1e-7, 0.5, 1 - 2**-16]])
    CrystalLibrary.from_crystals([almost]).save(tmp_path / "lib.npz")
    found = CrystalLibrary.load(tmp_path / "lib.npz").fractional[0]
    np.testing.assert_array_equal(found, [0, 0.5, 1 - 2**-16])


def test_arrays_that_do_not_fit_together(path):
    _rewrite(path, numbers=np.zeros(3, np.uint8))
    _one_line(path, "damaged, 2 cells and 3 atoms")


def test_a_place_that_cannot_be_written(tmp_path):
    library = CrystalLibrary.from_crystals(CRYSTALS)
    with pytest.raises(ExportError, match="cannot be written"):
        library.save(tmp_path / "no" / "such" / "lib.npz")
