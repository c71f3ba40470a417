from __future__ import annotations

import numpy as np
import pytest

from napari_mep.data import Calibration, DiffractionDataset
from napari_mep.data.native import write_dataset
from napari_mep.errors import DataError, ExportError
from napari_mep.evaluation import load_volume
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
    with pytest.raises(DataError, match="holds no truth"):
        load_volume(write_dataset(tmp_path / "a.zarr", dataset(None)))
    (tmp_path / "folder").mkdir()
    with pytest.raises(ExportError, match="not an OME-Zarr image"):
        load_volume(tmp_path / "folder")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match="no volume; give an OME-Zarr"):
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
