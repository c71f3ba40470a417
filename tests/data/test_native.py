from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import zarr

from napari_mep.data import PartialCalibration
from napari_mep.data.native import is_native, read_native, read_truth, write_dataset
from napari_mep.data.readers import open_dataset
from napari_mep.errors import CalibrationError, DataError, ExportError
from napari_mep.volume import PhaseVolume


@pytest.fixture
def full(dataset, values):
    """A dataset that has everything."""
    rng = np.random.default_rng(2)
    mask = np.ones((16, 16), bool)
    mask[3, 4] = False
    sources = {name: "guessed" if name == "scan_step_A" else "user" for name in values}
    return replace(
        dataset,
        calibration=PartialCalibration(values, sources).complete(),
        mask=mask,
        probe=(rng.normal(size=(16, 16)) + 1j).astype(np.complex64),
        truth=PhaseVolume(rng.random((2, 5, 6)), (1.6, 0.2, 0.3), (0.8, -1.0, 2.0)),
        provenance={"seed": np.int64(3), "doses": np.array([1.0, 2.0]), "residual": float("nan")},
    )


@pytest.fixture
def store(tmp_path, full):
    return write_dataset(tmp_path / "data.zarr", full)


def test_everything_comes_back(store, full):
    data = open_dataset(store)
    assert data.fingerprint() == full.fingerprint()
    assert data.calibration == full.calibration
    assert data.name == "test"
    assert data.provenance == {"seed": 3, "doses": [1.0, 2.0], "residual": None}
    np.testing.assert_array_equal(data.mask, full.mask)
    np.testing.assert_array_equal(data.probe, full.probe)
    np.testing.assert_array_equal(data.counts(), full.counts())
    np.testing.assert_array_equal(data.truth.data, full.truth.data)
    assert data.truth.voxel_size_A == full.truth.voxel_size_A
    assert data.truth.origin_A == full.truth.origin_A
    assert isinstance(data.patterns, zarr.Array)


def test_sources_are_the_files_now(store):
    sources = open_dataset(store).calibration.sources
    assert sources["beam_energy_keV"] == "file"
    assert sources["scan_step_A"] == "guessed"
    assert sources["defocus_A"] == "default"
    stronger = open_dataset(store, {"defocus_A": 10.0}).calibration
    assert stronger.sources["defocus_A"] == "user"
    assert stronger.defocus_A == 10.0


def test_integers_stay_integers_and_chunks_are_scan_rows(tmp_path, dataset, patterns):
    stored = replace(dataset, patterns=patterns.astype(np.uint16))
    array = read_native(write_dataset(tmp_path / "a.zarr", stored)).patterns
    assert array.dtype == np.uint16
    assert array.chunks == (1, 4, 16, 16)
    assert zarr.open_group(tmp_path / "a.zarr", mode="r").metadata.zarr_format == 3


def test_metadata_is_strict_json(store):
    def refuse(token):
        raise AssertionError(token)

    json.loads((store / "zarr.json").read_text(), parse_constant=refuse)


def test_never_overwrites_unasked(store, full, tmp_path):
    before = (store / "zarr.json").read_bytes()
    with pytest.raises(ExportError, match=r"exists already"):
        write_dataset(store, full)
    assert (store / "zarr.json").read_bytes() == before
    write_dataset(store, replace(full, name="second", truth=None), overwrite=True)
    again = open_dataset(store)
    assert again.name == "second"
    assert again.truth is None
    assert [p.name for p in tmp_path.iterdir()] == ["data.zarr"], "no temporary left behind"


def test_a_name_of_another_kind_of_file_is_refused(full, tmp_path):
    with pytest.raises(ExportError, match=r"name it .*/scan\.zarr$"):
        write_dataset(tmp_path / "scan.tif", full)
    assert not list(tmp_path.glob("scan*"))


def test_a_failed_write_leaves_the_old_store(store, full, tmp_path):
    class Broken:
        shape, dtype = full.patterns.shape, full.patterns.dtype

        def __getitem__(self, key):
            if key[0] == 1:
                raise OSError("disk\n gone")
            return full.patterns[key]

    with pytest.raises(DataError, match=r"scan row 1 cannot be read .disk gone.") as caught:
        write_dataset(store, replace(full, patterns=Broken()), overwrite=True)
    assert "\n" not in str(caught.value)
    assert open_dataset(store).fingerprint() == full.fingerprint()
    assert [p.name for p in tmp_path.iterdir()] == ["data.zarr"]


def test_dataset_without_truth(tmp_path, dataset):
    path = write_dataset(tmp_path / "a.zarr", dataset)
    assert read_native(path).truth is None
    with pytest.raises(DataError, match=r"holds no truth"):
        read_truth(path)


def _remove_chunk(store):
    next(p for p in (store / "patterns" / "c").rglob("*") if p.is_file()).unlink()


def _remove_array(store):
    shutil.rmtree(store / "patterns")


def _cut_array_metadata(store):
    path = store / "patterns" / "zarr.json"
    path.write_bytes(path.read_bytes()[:50])


def _cut_metadata(store):
    (store / "zarr.json").write_text('{"zarr_for')


def _remove_metadata(store):
    (store / "zarr.json").unlink()


def _foreign(store):
    shutil.rmtree(store)
    zarr.create_array(store, shape=(3,), dtype="f4", zarr_format=3)


def _newer(store):
    root = zarr.open_group(store, mode="r+")
    root.attrs["napari-mep"] = {**root.attrs["napari-mep"], "version": 99}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_remove_chunk, "1 of 3 chunks of 'patterns' are missing"),
        (_remove_array, "array 'patterns' is missing or broken"),
        (_cut_array_metadata, "array 'patterns' is missing or broken"),
        (_cut_metadata, "not a whole Zarr store"),
        (_remove_metadata, "not a Zarr store .no zarr.json"),
        (_foreign, "1 of 1 chunks are missing"),
        (_newer, "format version 99.*update"),
    ],
)
def test_damaged_stores(store, damage, words):
    damage(store)
    with pytest.raises(DataError, match=words) as caught:
        open_dataset(store)
    assert "\n" not in str(caught.value)


def test_truncated_chunk_is_found_when_read(store):
    chunk = next(p for p in (store / "patterns" / "c").rglob("*") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(DataError, match=r"cannot be read.*truncated or corrupted"):
        open_dataset(store).counts()


def test_impossible_calibration_in_a_file(store):
    root = zarr.open_group(store, mode="r+")
    attributes = dict(root.attrs["napari-mep"])
    attributes["calibration"] = {**attributes["calibration"], "beam_energy_keV": 3e5}
    root.attrs["napari-mep"] = attributes
    with pytest.raises(CalibrationError, match=r"data\.zarr: beam_energy_keV = 300000"):
        open_dataset(store)


def test_is_native(store, tmp_path):
    assert is_native(store)
    assert not is_native(tmp_path)
    assert not is_native(tmp_path / "none")
