from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import zarr

from napari_mep.cli import main
from napari_mep.data import Calibration, DiffractionDataset
from napari_mep.data.native import write_dataset
from napari_mep.errors import DataError, ExportError
from napari_mep.evaluation import load_result, load_volume
from napari_mep.export import write_reconstruction
from napari_mep.volume import PhaseVolume


@pytest.fixture
def volume() -> PhaseVolume:
    return PhaseVolume(np.random.default_rng(0).random((2, 5, 6)), (1.6, 0.2, 0.3), (0.8, -1, 2))


def dataset(truth: PhaseVolume | None) -> DiffractionDataset:
    calibration = Calibration(
        beam_energy_keV=300, convergence_semiangle_mrad=20, scan_step_A=1, detector_step_invA=0.3
    )
    return DiffractionDataset(np.ones((2, 2, 8, 8)), calibration, "a", truth=truth)


def test_every_kind_gives_the_same_volume(tmp_path, volume):
    np.savez(
        tmp_path / "v.npz",
        phase=volume.data,
        voxel_size_A=volume.voxel_size_A,
        origin_A=volume.origin_A,
    )
    paths = [
        tmp_path / "v.npz",
        write_reconstruction(tmp_path / "v.ome.zarr", volume, {}, name="v"),
        write_dataset(tmp_path / "v.zarr", dataset(volume)),
    ]
    for path in paths:
        again = load_volume(path)
        np.testing.assert_array_equal(again.data, volume.data)
        assert again.voxel_size_A == volume.voxel_size_A
        assert again.origin_A == volume.origin_A


def test_origin_is_optional_in_npz(tmp_path):
    np.savez(tmp_path / "v.npz", phase=np.ones((2, 3, 4)), voxel_size_A=(1, 1, 1))
    assert load_volume(tmp_path / "v.npz").origin_A == (0, 0, 0)


def test_what_holds_no_volume(tmp_path, volume):
    with pytest.raises(DataError, match="no such file"):
        load_volume(tmp_path / "none.zarr")
    with pytest.raises(DataError, match=r"holds no truth .*; it is a scan, give an OME-Zarr"):
        load_volume(write_dataset(tmp_path / "a.zarr", dataset(None)))
    (tmp_path / "folder").mkdir()
    with pytest.raises(ExportError, match="not an OME-Zarr image"):
        load_volume(tmp_path / "folder")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match="no file of a kind that holds a volume; give an OME-Zarr"):
        load_volume(tmp_path / "a.txt")


def test_broken_npz(tmp_path):
    np.savez(tmp_path / "a.npz", phase=np.ones((2, 3, 4)))
    with pytest.raises(DataError, match="lacks voxel_size_A; it holds phase"):
        load_volume(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", phase=np.ones((3, 4)), voxel_size_A=(1, 1, 1))
    with pytest.raises(DataError, match="2 axes, expected 3"):
        load_volume(tmp_path / "b.npz")
    (tmp_path / "c.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:100])
    with pytest.raises(DataError, match="not a readable volume"):
        load_volume(tmp_path / "c.npz")


def test_a_result_has_its_record_and_others_none(tmp_path, volume):
    ours = write_reconstruction(tmp_path / "v.ome.zarr", volume, {"method": "mep"}, name="v")
    assert load_result(ours)[1] == {"method": "mep"}
    assert load_result(write_dataset(tmp_path / "v.zarr", dataset(volume)))[1] == {}


@pytest.mark.parametrize("name", ["a.npz", "v.zarr", "v.ome.zarr"])
def test_evaluate_reads_reconstruction_and_truth_alike(tmp_path, capsys, name):
    volume = PhaseVolume(np.random.default_rng(0).random((2, 32, 32)), (1.6, 0.2, 0.2))
    np.savez(tmp_path / "a.npz", phase=volume.data, voxel_size_A=volume.voxel_size_A)
    write_dataset(tmp_path / "v.zarr", dataset(volume))
    write_reconstruction(tmp_path / "v.ome.zarr", volume, {}, name="v")
    path = str(tmp_path / name)
    assert main(["evaluate", path, "--truth", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["ssim"] == pytest.approx(1.0)


def other_file(folder: Path, kind: str) -> Path:
    """Something that is no volume."""
    path = folder / kind
    match kind:
        case "scan.h5":
            with h5py.File(path, "w") as file:
                file["patterns"] = np.zeros((2, 2, 8, 8))
        case "scan.zarr":
            write_dataset(path, dataset(None))
        case "array.zarr":
            zarr.create_array(path, shape=(2, 3), dtype="f4")
        case "group.zarr":
            zarr.open_group(path, mode="w").create_array("counts", shape=(2, 3), dtype="f4")
        case "other.mat":
            scipy.io.savemat(path, {"x": 1.0})
        case "cut.hdf5":
            path.write_bytes(b"\x89HDF")
        case _:  # an empty file
            path.touch()
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("scan.h5", "no reconstruction by PtyRAD, phaser or fold_slice in it"),
        ("scan.zarr", "it is a scan, give an OME-Zarr"),
        ("array.zarr", "not an OME-Zarr image, which is a Zarr group"),
        ("group.zarr", "a Zarr group that holds counts; expected an image z y x"),
        ("other.mat", "no reconstruction by PtyRAD, phaser or fold_slice in it"),
        ("cut.hdf5", "not a whole reconstruction"),
        ("zero.mat", "not a whole reconstruction (Mat file appears to be "),
        ("zero.npz", "not a readable volume"),
    ],
)
@pytest.mark.parametrize("place", ["reconstruction", "truth"])
def test_evaluate_says_what_a_file_is_and_what_is_expected(tmp_path, capsys, kind, words, place):
    good = tmp_path / "good.npz"
    np.savez(good, phase=np.ones((2, 32, 32)), voxel_size_A=(1, 1, 1))
    paths = [other_file(tmp_path, kind), good]
    recon, truth = paths if place == "reconstruction" else paths[::-1]
    assert main(["evaluate", str(recon), "--truth", str(truth)]) == 2
    shown = capsys.readouterr().err
    assert len(shown.splitlines()) == 1
    assert kind in shown
    assert words in shown
    assert "PosixPath" not in shown
