"""HDF5 and Zarr as other programs write them."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from napari_mep.data.readers import open_dataset, open_patterns


def test_hyperspy(tmp_path, truth, h):
    from rsciio.hspy import file_writer

    path = tmp_path / "scan.hspy"
    scan = h.signal(
        truth, (0.05, "nm"), (0.2, "1/nm"),
        Acquisition_instrument={"TEM": {"beam_energy": 200.0, "convergence_angle": 21.4}},
    )  # fmt: skip
    file_writer(str(path), scan)
    opened = open_patterns(path)
    assert isinstance(opened.patterns, h5py.Dataset)
    np.testing.assert_array_equal(h.all_of(opened), truth)
    assert opened.calibration.values == pytest.approx(
        {
            "scan_step_A": 0.5, "detector_step_invA": 0.02, "beam_energy_keV": 200,
            "convergence_semiangle_mrad": 21.4,
        }
    )  # fmt: skip
    assert opened.format == "HyperSpy"
    assert open_patterns(path, {"scan_step_A": 0.7}).calibration.values["scan_step_A"] == 0.7


def test_broken_hyperspy(tmp_path, truth, h):
    from rsciio.hspy import file_writer

    path = tmp_path / "scan.hspy"
    file_writer(str(path), h.signal(truth, (0.05, "nm"), (0.2, "1/nm")))
    h.refused(h.cut(path, 0.5), "not a whole HDF5 file")


def test_hyperspy_in_angles_without_a_calibrated_scan(tmp_path, truth, h):
    from rsciio.hspy import file_writer

    file_writer(str(tmp_path / "scan.hspy"), h.signal(truth, (1.0, ""), (1.5, "mrad")))
    values = open_patterns(tmp_path / "scan.hspy").calibration.values
    assert values == {"detector_step_mrad": 1.5}


@pytest.mark.parametrize("units", [("nm", "1/nm"), ("", "")])
def test_ncem_emd_as_hyperspy_writes_it(tmp_path, truth, units, h):
    """With all axes turned round; without units their names tell."""
    from rsciio.emd import file_writer

    path = tmp_path / "scan.emd"
    file_writer(str(path), h.signal(truth, (0.05, units[0]), (0.2, units[1])))
    opened = open_patterns(path)
    np.testing.assert_array_equal(h.all_of(opened), truth)
    assert opened.format == "NCEM EMD"
    if units[0]:
        assert opened.calibration.values == pytest.approx(
            {"scan_step_A": 0.5, "detector_step_invA": 0.02}
        )
    else:
        assert not opened.calibration.values


def test_ncem_emd_of_the_specification(tmp_path, truth, h):
    h.ncem(
        tmp_path / "a.emd",
        truth,
        [(0.5, "[n_m]"), (0.4, "[n_m]"), (2.0, "[mrad]"), (2.0, "[mrad]")],
    )
    opened = open_patterns(tmp_path / "a.emd")
    np.testing.assert_array_equal(h.all_of(opened), truth)
    assert opened.calibration.values["scan_step_A"] == pytest.approx((5, 4))
    assert opened.calibration.values["detector_step_mrad"] == pytest.approx(2)
    assert opened.calibration.values["beam_energy_keV"] == 80


def test_py4dstem(py4dstem, truth, h):
    opened = open_patterns(py4dstem)
    np.testing.assert_array_equal(h.all_of(opened), truth)
    assert opened.format == "py4DSTEM"
    assert opened.calibration.values == pytest.approx(
        {"scan_step_A": 0.5, "detector_step_mrad": 0.9, "convergence_semiangle_mrad": 21.4}
    )


def test_py4dstem_without_its_calibration(py4dstem, h):
    with h5py.File(py4dstem, "a") as file:
        del file["datacube_root/metadatabundle"]
    values = open_patterns(py4dstem).calibration.values
    assert values == pytest.approx({"scan_step_A": 0.5, "detector_step_invA": 0.02})
    h.refused(h.cut(py4dstem, 0.5), "not a whole HDF5 file")


def test_py4dstem_of_old(tmp_path, truth, h):
    path = tmp_path / "old.h5"
    with h5py.File(path, "w") as file:
        cube = file.create_group("4DSTEM_experiment/data/datacubes/datacube_0")
        cube["data"] = truth
        calibration = file.create_group("4DSTEM_experiment/metadata/metadata_0/calibration")
        calibration.attrs.update({"R_pixel_size": 0.3, "R_pixel_units": "nm"})
    opened = open_patterns(path)
    np.testing.assert_array_equal(h.all_of(opened), truth)
    assert opened.calibration.values == pytest.approx({"scan_step_A": 3})


def test_velox_images_are_not_taken_for_a_scan(tmp_path, h):
    with h5py.File(tmp_path / "velox.emd", "w") as file:
        file["Version"] = '{"format": "Velox"}'
        file.create_group("Presentation")
        file["Data/Image/abc/Data"] = np.zeros((8, 8, 2))
    h.refused(tmp_path / "velox.emd", "a Velox file of images and spectra, no 4D-STEM")


def test_arina(arina, truth, h):
    opened = open_patterns(arina)
    expected = truth.copy()
    expected[:, :, 2, 3] = 0
    np.testing.assert_array_equal(h.all_of(opened), expected)
    assert opened.calibration.values == {"beam_energy_keV": 200}
    assert open_patterns(arina, scan_shape=(4, 3)).patterns.shape == (4, 3, 16, 16)
    with h5py.File(arina, "a") as file:
        del file["entry/instrument/detector/detectorSpecific/ntrigger"]
    h.refused(arina, "a stack of 12 patterns whose scan shape")


def test_arina_with_the_microscopes_own_file(arina, truth):
    with h5py.File(arina.with_name("scan_em_metadata.h5"), "w") as file:
        root = file.create_group("electron_microscope")
        for name, value, unit in (
            ("electron_source/accelerating_voltage", 300, "kV"),
            ("illumination_system/semi_convergence_angle", 0.0214, "rad"),
            ("imaging_system/reciprocal_pixel_size_y", 1.5, "mrad"),
            ("imaging_system/reciprocal_pixel_size_x", 1.5, "mrad"),
            ("scan_controller/regular_scan/pixel_size_y", 0.05, "nm"),
            ("scan_controller/regular_scan/pixel_size_x", 0.04, "nm"),
            ("scan_controller/regular_scan/n_pixels_y", 2, ""),
            ("scan_controller/regular_scan/n_pixels_x", 6, ""),
        ):
            root[name] = value
            root[name].attrs["units"] = unit
    data = open_dataset(arina, {"detector_step_mrad": 3.0})
    assert data.scan_shape == (2, 6)
    assert data.calibration.beam_energy_keV == 300
    assert data.calibration.convergence_semiangle_mrad == pytest.approx(21.4)
    assert data.calibration.scan_step_A == pytest.approx((0.5, 0.4))
    assert data.calibration.sources["detector_step_invA"] == "user"


def test_broken_arina(arina, h):
    data = arina.with_name("scan_data_000002.h5")
    content = data.read_bytes()
    data.unlink()
    h.refused(arina, "its data file scan_data_000002.h5 is missing")
    data.write_bytes(content[: len(content) // 2])
    h.refused(arina, "not a whole Dectris ARINA file")
    h.refused(h.cut(arina, 0.3), "not a whole Dectris ARINA file")


def test_abtem(abtem_scan, h):
    folder, array = abtem_scan
    opened = open_patterns(folder / "scan.zarr")
    expected = array.transpose(1, 0, 3, 2)
    np.testing.assert_array_equal(h.all_of(opened), expected)
    values = opened.calibration.values
    assert values["beam_energy_keV"] == 100
    assert values["convergence_semiangle_mrad"] == 20
    assert values["scan_step_A"] == pytest.approx((2 / 3, 0.6))
    assert "give dose_e_per_A2" in opened.format
    dataset = open_dataset(folder / "scan.zarr", {"dose_e_per_A2": 1e4})
    assert dataset.counts().sum() / dataset.n_patterns == pytest.approx(1e4 * 0.4, rel=1e-3)
    # The zero frequency is where it must be: the disk is centred on it.
    mean = dataset.mean_pattern()
    ky, kx = np.indices(mean.shape)
    centre = [(k * mean).sum() / mean.sum() for k in (ky, kx)]
    assert centre == pytest.approx([n // 2 for n in mean.shape], abs=0.3)
    assert open_patterns(folder / "noisy.zarr").format == "abTEM"


def test_broken_abtem(abtem_scan, tmp_path, h):
    import shutil

    copy = shutil.copytree(abtem_scan[0] / "scan.zarr", tmp_path / "scan.zarr")
    chunks = [p for p in copy.rglob("*") if p.is_file() and p.name != "zarr.json"]
    chunks[0].unlink()
    h.refused(copy, r"1 of \d+ chunks are missing; the store is truncated")
    (copy / "zarr.json").write_text("{")
    h.refused(copy, "not a whole Zarr store")


def test_plain_zarr(tmp_path, truth, h):
    import zarr

    zarr.save_array(tmp_path / "array.zarr", truth)
    np.testing.assert_array_equal(h.all_of(open_patterns(tmp_path / "array.zarr")), truth)
    group = zarr.open_group(tmp_path / "group.zarr", mode="w")
    group["entry/stack"] = truth.reshape(12, 16, 16)
    group["entry/positions"] = np.zeros((12, 2))
    h.refused(tmp_path / "group.zarr", "no arrays with 4 axes.*/entry/stack")
    for source in ("group.zarr::3x4", "group.zarr::/entry/stack::3x4"):
        np.testing.assert_array_equal(h.all_of(open_patterns(tmp_path / source)), truth)
    h.refused(f"{tmp_path / 'group.zarr'}::nothing", "no array 'nothing'")
