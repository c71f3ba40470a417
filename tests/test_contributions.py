"""Samples, reader and writer as napari calls them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from npe2 import PluginManifest

from napari_mep import _sample_data
from napari_mep._reader import get_reader, read_layers
from napari_mep._writer import write_ome_zarr
from napari_mep.data.calibration import Calibration
from napari_mep.data.dataset import DiffractionDataset
from napari_mep.errors import ExportError
from napari_mep.export.ome_zarr import read_reconstruction, write_reconstruction
from napari_mep.volume import PhaseVolume


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    volume = PhaseVolume(np.random.default_rng(0).random((3, 8, 9)), (1.6, 0.2, 0.2), (0.8, -1, 2))
    provenance = {"plan": {"seed": 5}, "dataset_path": "scan.zarr"}
    return write_reconstruction(tmp_path / "a.ome.zarr", volume, provenance, name="a")


def test_an_export_comes_back_as_it_was(exported):
    assert get_reader(str(exported)) is read_layers
    ((data, settings, kind),) = read_layers(str(exported))
    layer = ViewerModel().add_image(data, **settings)
    assert kind == "image"
    np.testing.assert_allclose(layer.scale, (1.6, 0.2, 0.2))
    np.testing.assert_allclose(layer.translate, (0.8, -1, 2))
    assert [str(u) for u in layer.units] == ["angstrom"] * 3
    assert layer.axis_labels == ("z", "y", "x")
    assert layer.metadata["napari_mep"]["plan"] == {"seed": 5}
    assert layer.name == "a"


def test_the_reader_leaves_other_files_alone(tmp_path, exported):
    (tmp_path / "empty.ome.zarr").mkdir()
    broken = tmp_path / "broken.ome.zarr"
    broken.mkdir()
    (broken / "zarr.json").write_text("{")
    foreign = tmp_path / "foreign.ome.zarr"
    foreign.mkdir()
    (foreign / "zarr.json").write_text('{"attributes": {"ome": {}}}')
    for name in ("empty", "broken", "foreign", "missing"):
        assert get_reader(str(tmp_path / f"{name}.ome.zarr")) is None
    assert get_reader([str(exported), str(exported)]) is None


def test_a_layer_is_written_in_angstrom(tmp_path):
    data = np.random.default_rng(0).random((3, 8, 9)).astype(np.float32)
    viewer = ViewerModel()
    layer = viewer.add_image(
        data,
        scale=(0.16, 0.02, 0.02),
        translate=(0.08, 0, 0),
        units="nanometer",
        metadata={"napari_mep": {"plan": {"seed": 1}}},
    )
    path = str(tmp_path / "out.ome.zarr")
    assert write_ome_zarr(path, *layer.as_layer_data_tuple()[:2]) == [path]
    volume, provenance = read_reconstruction(path)
    np.testing.assert_array_equal(volume.data, data)
    assert volume.voxel_size_A == pytest.approx((1.6, 0.2, 0.2))
    assert volume.origin_A == pytest.approx((0.8, 0, 0))
    assert provenance == {"plan": {"seed": 1}}
    with pytest.raises(ExportError, match=r"out\.ome\.zarr"):
        write_ome_zarr(path, *layer.as_layer_data_tuple()[:2])


@pytest.mark.parametrize(
    ("shape", "units", "words"), [((8, 9), "angstrom", "2 axes"), ((3, 8, 9), "pixel", "pixel")]
)
def test_what_is_no_volume_is_refused(tmp_path, shape, units, words):
    layer = ViewerModel().add_image(np.zeros(shape), units=units)
    with pytest.raises(ExportError, match=words):
        write_ome_zarr(str(tmp_path / "out.ome.zarr"), *layer.as_layer_data_tuple()[:2])


def small_dataset(name: str, **_settings: object) -> DiffractionDataset:
    """Two by three patterns with a disk of 2 pixels, and 7 electrons far outside of it."""
    k = np.arange(16) - 8
    disk = np.hypot(k[:, None], k[None, :]) < 2
    patterns = np.broadcast_to(disk * 100.0, (2, 3, 16, 16)).astype(np.float32)
    patterns[1, 2, 0, 0] = 7
    calibration = Calibration(
        beam_energy_keV=300, convergence_semiangle_mrad=10, scan_step_A=(0.5, 0.4),
        detector_step_invA=0.25, specimen_thickness_A=3.2,
    )  # fmt: skip
    truth = PhaseVolume(np.ones((2, 4, 4)), (1.6, 0.25, 0.25), (0.8, 0, 0))
    return DiffractionDataset(patterns, calibration, name, truth=truth)


def test_a_sample_is_simulated_once_and_knows_its_scan(monkeypatch):
    import napari_mep.data.simulate as simulate

    made = []

    def counted(name, **settings):
        made.append(name)
        return small_dataset(name)

    monkeypatch.setattr(simulate, "simulate_dataset", counted)
    _sample_data.srtio3()
    truth, dark_field = _sample_data.srtio3()
    assert made == ["srtio3"]

    viewer = ViewerModel()
    for data, settings, _ in (truth, dark_field):
        viewer.add_image(data, **settings)
    assert not viewer.layers[0].visible
    np.testing.assert_allclose(viewer.layers[1].scale, (0.5, 0.4))
    np.testing.assert_array_equal(dark_field[0], [[0, 0, 0], [0, 0, 7]])
    assert Path(viewer.layers[1].metadata["napari_mep"]["dataset_path"]).is_dir()
    for layer in viewer.layers:
        assert {str(u) for u in layer.units} == {"angstrom"}


def test_all_samples_of_the_menu_exist():
    from napari_mep.crystals.samples import list_samples

    samples = PluginManifest.from_distribution("napari-mep").contributions.sample_data
    assert {s.key for s in samples} <= set(list_samples())
