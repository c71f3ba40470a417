"""Samples, reader and writer as napari calls them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from npe2 import PluginManager, PluginManifest

from napari_mep import _sample_data
from napari_mep._reader import (
    get_reader,
    get_scan_reader,
    get_volume_reader,
    read_layers,
    read_scan_layers,
)
from napari_mep._writer import write_ome_zarr
from napari_mep.data.calibration import Calibration
from napari_mep.data.dataset import DiffractionDataset
from napari_mep.errors import DataError, ExportError
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


@pytest.fixture
def drop() -> Iterator[Callable[[Path], list]]:
    """Opens a file as napari does when it is dropped on the viewer: through the manifest."""
    manager = PluginManager.instance()
    known = "napari-mep" in manager
    if not known:
        manager.register(PluginManifest.from_distribution("napari-mep"))
    yield lambda path: ViewerModel().open(str(path), plugin="napari-mep")
    if not known:
        manager.unregister("napari-mep")


@pytest.fixture
def empad(tmp_path: Path) -> Path:
    """A raw EMPAD scan of 6 x 5 positions with its XML file; the disk moves out at one of them."""
    k = np.arange(128) - 64
    disk = (np.hypot(k[:, None], k[None, :]) < 20) * 100.0
    frames = np.zeros((6, 5, 130, 128), "<f4")
    frames[:, :, :128] = disk
    frames[2, 3, :128] = np.roll(disk, 40, axis=0)
    frames[:, :, 128:] = 1e6  # what is no image
    (tmp_path / "scan_x5_y6.raw").write_bytes(frames.tobytes())
    (tmp_path / "scan.xml").write_text(
        '<root><raw_file filename="scan_x5_y6.raw"/><pix_x>5</pix_x><pix_y>6</pix_y>'
        "<iom_measurements><high_voltage>300000</high_voltage>"
        "<calibrated_pixelsize>2e-10</calibrated_pixelsize><optics.get_full_scan_field_of_view>"
        "[3e-10, 2e-10]</optics.get_full_scan_field_of_view></iom_measurements></root>"
    )
    return tmp_path / "scan_x5_y6.raw"


def edges(layer) -> tuple[float, ...]:
    """Top, left, bottom and right edge of an image; napari's extent ends at the pixels' centres."""
    low, high = layer.extent.world
    return (*(low - layer.scale / 2), *(high + layer.scale / 2))


def test_a_dropped_scan_shows_its_mean_pattern_and_its_bright_field(empad, drop):
    field, pattern = drop(empad)
    assert pattern.data.shape == (128, 128)
    assert pattern.data[64, 64] == pytest.approx(100 * 29 / 30)
    assert pattern.name == "scan_x5_y6.raw: mean pattern, 0.02 1/Å per pixel"
    assert pattern.metadata["napari_mep"]["detector_step_invA"] == pytest.approx(0.02)
    assert field.data.shape == (6, 5)
    assert field.data.argmin() == 2 * 5 + 3, "where the disk is not on the detector's centre"
    np.testing.assert_allclose(field.scale, (0.5, 0.4))
    # Beside each other, equally high, and one unit, or the scale bar would lose it.
    top, left, bottom, right = edges(field)
    pattern_top, pattern_left, pattern_bottom, _ = edges(pattern)
    assert (pattern_top, pattern_bottom) == pytest.approx((top, bottom))
    assert pattern_left > right > left
    for layer in (pattern, field):
        assert [str(u) for u in layer.units] == ["angstrom"] * 2
        assert layer.metadata["napari_mep"]["dataset_path"] == str(empad)


def test_what_is_not_calibrated_is_in_pixels(tmp_path, drop):
    import h5py

    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["patterns"] = np.random.default_rng(0).random((7, 9, 12, 12))
    field, pattern = drop(path)
    for layer in (pattern, field):
        assert [str(u) for u in layer.units] == ["pixel"] * 2
    np.testing.assert_array_equal(field.scale, 1)
    assert pattern.name == "scan.h5::/patterns: mean pattern"
    assert field.data.shape == (7, 9)


def test_a_large_scan_is_shown_on_a_coarser_raster(monkeypatch, empad, drop):
    from napari_mep import _scan_layers

    monkeypatch.setattr(_scan_layers, "_MOST", 8)
    (field, _) = drop(empad)
    assert field.data.shape == (3, 3)
    np.testing.assert_allclose(field.scale, (1.0, 0.8))


def test_the_scan_reader_claims_no_file_that_it_cannot_read(tmp_path, exported, empad):
    import h5py

    assert get_scan_reader(str(empad)) is read_scan_layers
    (tmp_path / "camera.raw").write_bytes(empad.read_bytes()[:-100])
    with h5py.File(tmp_path / "image.h5", "w") as file:
        file["image"] = np.zeros((8, 8))
    with h5py.File(tmp_path / "model_iter0010.hdf5", "w") as file:
        file["optimizable_tensors/objp"] = np.zeros((1, 2, 8, 8), np.float32)
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        options = {"chunks": (1, 1, 8, 8), "compression": "gzip"}
        packed = file.create_dataset("scan", (3, 3, 8, 8), "u2", **options)
        packed.id.write_direct_chunk((0, 0, 0, 0), b"no such thing")
    (tmp_path / "any.xml").write_text("<root/>")
    (tmp_path / "any.yml").write_text("a: 1")
    for name in ("scan.mrc", "scan.emd"):
        (tmp_path / name).write_bytes(b"no such thing")
    volume = PhaseVolume(np.ones((2, 3, 4)), (1, 1, 1))
    write_reconstruction(tmp_path / "other.zarr", volume, {}, name="other")
    for path in {*tmp_path.iterdir(), tmp_path / "gone.h5"} - {empad, tmp_path / "scan.xml"}:
        assert get_scan_reader(str(path)) is None, path
    assert get_scan_reader([str(empad), str(empad)]) is None


@pytest.mark.parametrize(
    "name", ["a.mib", "a.blo", "a.dm3", "a.DM4", "a.hspy", "a_000.tvips", "a_master.h5"]
)
def test_a_file_that_can_only_be_a_scan_says_why_it_cannot_be_opened(tmp_path, drop, name):
    (tmp_path / name).write_bytes(b"no such thing")
    with pytest.raises(DataError, match=name) as caught:
        drop(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_truncated_or_oblong_empad_scan_says_so(empad, tmp_path, drop):
    frames = empad.read_bytes()
    empad.write_bytes(frames[:-100])
    with pytest.raises(DataError, match="are not 6 x 5 patterns"):
        drop(empad)
    (tmp_path / "other.raw").write_bytes(frames)
    with pytest.raises(DataError, match="the widget 4D-STEM data has a field for it"):
        drop(tmp_path / "other.raw")


def test_a_reconstruction_of_another_program_is_a_volume_in_the_world(tmp_path, drop):
    import h5py

    path = tmp_path / "model_iter0010.hdf5"
    with h5py.File(path, "w") as file:
        file["optimizable_tensors/objp"] = np.ones((1, 2, 40, 44), np.float32)
        file["optimizable_tensors/probe"] = np.ones((1, 16, 16), np.complex64)
        file["optimizable_tensors/probe_pos_shifts"] = np.full((4, 2), 0.5)
        for name, value in (("dx", 0.2), ("slice_thickness", 3.0), ("crop_pos", [[4, 6]] * 4)):
            file[f"model_attributes/{name}"] = value
    (layer,) = drop(path)
    assert layer.data.shape == (2, 40, 44)
    np.testing.assert_allclose(layer.scale, (3, 0.2, 0.2))
    np.testing.assert_allclose(layer.translate, (1.5, -12.5 * 0.2, -14.5 * 0.2))
    assert layer.metadata["napari_mep"]["foreign_path"] == str(path)
    assert get_volume_reader(str(tmp_path / "gone.mat")) is None


def test_every_format_is_offered_to_napari():
    from napari_mep.data.readers import readers

    offered = PluginManifest.from_distribution("napari-mep").contributions.readers
    patterns = {p for reader in offered for p in reader.filename_patterns}
    # Not: plain arrays, which napari shows itself; files that are mostly something else.
    left_out = {".npy", ".npz", ".hdf", ".he5", ".nxs", ".cxi", ".toml", ".json", "_master.h5"}
    for reader in readers():
        for suffix in set(reader.suffixes) - left_out:
            assert {f"*{suffix}", f"*_000{suffix}"} & patterns, suffix
