"""Reconstructions of other programs: PtyRAD's own file, the others' laid out as they write them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from napari_mep.cli import main
from napari_mep.errors import DataError
from napari_mep.evaluation import compare_volumes, load_volume
from napari_mep.evaluation.foreign_volumes import is_foreign_volume, read_foreign_volume
from napari_mep.volume import PhaseVolume

# An atom column at a place in world coordinates, that is seen from the first scan position.
ATOM_A = (1.4, 0.7)
SLICE_A, PIXEL_A, STEP_A, SCAN, PIXELS, DEFOCUS_A = 4.0, 0.2, 0.5, 6, 32, 30.0

# The simulation and PtyRAD's own run and file; in a process of its own, for it seeds and sets
# global state of torch. Written without our physics, so that a common mistake would be seen.
PTYRAD = f"""
import sys
import numpy as np
from napari_mep.reconstruction.baselines._child import mend_torchvision
from napari_mep.reconstruction.baselines._ptyrad_child import mend_plotting
mend_torchvision(); mend_plotting()
from ptyrad.params.ptyrad_params import PtyRADParams
from ptyrad.solver import PtyRADSolver
n, dx, wavelength = {PIXELS}, {PIXEL_A}, 0.0196875
k = np.fft.fftfreq(n, dx)
k2 = k[:, None] ** 2 + k[None, :] ** 2
wave = (np.sqrt(k2) * wavelength < 0.025) * np.exp(1j * np.pi * wavelength * {DEFOCUS_A} * k2)
probe = np.fft.fftshift(np.fft.ifft2(wave, norm="ortho"))
travel = np.exp(-1j * np.pi * wavelength * {SLICE_A} * k2)
offset = (np.arange(n) - n // 2) * dx
patterns = []
for y in range({SCAN}):
    for x in range({SCAN}):
        dy = y * {STEP_A} + offset - {ATOM_A[0]}
        dw = x * {STEP_A} + offset - {ATOM_A[1]}
        atom = np.exp(1j * 0.4 * np.exp(-(dy[:, None] ** 2 + dw[None, :] ** 2) / 0.18))
        exit_wave = np.fft.ifft2(travel * np.fft.fft2(probe * atom)) * atom
        patterns.append(np.abs(np.fft.fftshift(np.fft.fft2(exit_wave, norm="ortho"))) ** 2)
patterns = (1e4 * np.array(patterns) / np.sum(patterns[0])).astype(np.float32)
off = {{"start_iter": None, "lr": 0.0}}
params = PtyRADParams(
    init_params=dict(
        probe_kv=300.0, probe_conv_angle=25.0, probe_aberrations={{"C10": -{DEFOCUS_A}}},
        meas_Npix=n, pos_N_scan_slow={SCAN}, pos_N_scan_fast={SCAN}, pos_N_scans={SCAN} ** 2,
        pos_scan_step_size={STEP_A}, meas_calibration={{"mode": "dx", "value": dx}},
        probe_pmode_max=1, obj_Nlayer=2, obj_slice_thickness={SLICE_A}, pos_scan_rand_std=None,
        meas_source="custom", meas_params=patterns,
    ),
    model_params=dict(update_params=dict(
        obja=off, objp={{"start_iter": 1, "lr": 2e-2}}, obj_tilts=off, slice_thickness=off,
        probe=off, probe_pos_shifts=off,
    )),
    loss_params=dict(), constraint_params={{}},
    recon_params=dict(NITER=12, SAVE_ITERS=12, output_dir=sys.argv[1], selected_figs=[],
        save_result=["model"], copy_params=False, BATCH_SIZE=dict(size=12)),
).model_dump()
PtyRADSolver(params, device="cpu", seed=0, acc=None).reconstruct()
"""


@pytest.fixture(scope="module")
def ptyrad_model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ptyrad")
    done = subprocess.run(
        [sys.executable, "-c", PTYRAD, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"},
    )
    assert not done.returncode, done.stderr[-2000:]
    (model,) = folder.rglob("model_iter*.hdf5")
    return model


def centre_A(volume: PhaseVolume) -> tuple[float, float]:
    """Where the bright column of a volume stands in the world, (y, x) in A."""
    image = volume.depth_sum()
    image = np.where(image > image.max() / 2, image, 0)
    rows, columns = np.indices(image.shape)
    y, x = (float((index * image).sum() / image.sum()) for index in (rows, columns))
    _, dy, dx = volume.voxel_size_A
    return volume.origin_A[1] + y * dy, volume.origin_A[2] + x * dx


def test_ptyrads_own_file_lies_where_the_atom_is(ptyrad_model):
    volume = load_volume(ptyrad_model)
    assert volume.data.shape[0] == 2
    assert volume.voxel_size_A == pytest.approx((SLICE_A, PIXEL_A, PIXEL_A))
    assert volume.origin_A[0] == SLICE_A / 2
    assert centre_A(volume) == pytest.approx(ATOM_A, abs=PIXEL_A / 2)


def world_blob() -> tuple[np.ndarray, tuple[float, float]]:
    """(3, 40, 50) phases with the atom on it, and the pixel of the first position (y, x)."""
    first = (12.0, 9.0)
    y = (np.arange(40) - first[0]) * PIXEL_A - ATOM_A[0]
    x = (np.arange(50) - first[1]) * PIXEL_A - ATOM_A[1]
    blob = np.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / 0.18)
    return np.stack([0.2 * blob, 0.3 * blob, 0.1 * blob]).astype(np.float32), first


def expect(volume: PhaseVolume, within: float = 1e-3) -> None:
    phase, _ = world_blob()
    np.testing.assert_allclose(volume.data, phase, atol=1e-6)
    assert volume.voxel_size_A == pytest.approx((SLICE_A, PIXEL_A, PIXEL_A))
    assert centre_A(volume) == pytest.approx(ATOM_A, abs=within)


def write_phaser(path: Path, version: str = "0.2") -> None:
    phase, first = world_blob()
    corner = np.array([-3.0, -4.0])  # its origin is the middle of the scan
    scan = corner + np.array(first) * PIXEL_A + STEP_A * np.indices((2, 2)).transpose(1, 2, 0)
    with h5py.File(path, "w") as file:
        for name, text in (("type", "phaser_state"), ("version", version)):
            file.create_dataset(name, (), h5py.string_dtype("utf-8"), text)
        group = file.create_group("object")
        group["data"] = np.exp(1j * phase).astype(np.complex64)
        group["thicknesses"] = np.full(3, SLICE_A)
        group["sampling"] = np.array([PIXEL_A, PIXEL_A])
        group["corner"] = corner
        file["scan" if version == "0.1" else "scan/data"] = scan


@pytest.mark.parametrize("version", ["0.1", "0.2"])
def test_phaser(tmp_path, version):
    path = tmp_path / "iter.h5"
    write_phaser(path, version)
    expect(load_volume(path))
    with h5py.File(path, "a") as file:
        file["object/thicknesses"][0] = 2 * SLICE_A
    with pytest.raises(DataError, match="slices of 4 to 8 A; only slices of one thickness"):
        read_foreign_volume(path)


def matlab(unit: float) -> dict:
    """What fold_slice saves: positions (x, y) relative to the centre, counted from 1."""
    phase, first = world_blob()
    window = 16
    corner = np.array(first) - window // 2
    relative = corner - (np.ceil(np.array(phase.shape[1:]) / 2 - window / 2) - 1)
    positions = relative[::-1] + STEP_A / PIXEL_A * np.array([[0, 0], [1, 0]])
    return {
        "object": np.moveaxis(np.exp(1j * phase), 0, 2).astype(np.complex64),
        "probe": np.ones((window, window, 2), np.complex64),
        "p": {
            "dx_spec": np.array([PIXEL_A, PIXEL_A]) * unit,
            "multi_slice_param": {"z_distance": np.array([SLICE_A] * 3 + [np.inf]) * unit},
        },
        "outputs": {"probe_positions": positions},
    }


def write_v73(file: h5py.Group, values: dict) -> None:
    """MATLAB 7.3: axes turned round, complex numbers as pairs."""
    for name, value in values.items():
        if isinstance(value, dict):
            write_v73(file.create_group(name), value)
            continue
        array = np.atleast_2d(value).T
        if np.iscomplexobj(array):
            pairs = np.empty(array.shape, [("real", "<f4"), ("imag", "<f4")])
            pairs["real"], pairs["imag"] = array.real, array.imag
            array = pairs
        file[name] = array


@pytest.mark.parametrize("unit", [1.0, 1e-10])
@pytest.mark.parametrize("version", [5, 7.3])
def test_fold_slice(tmp_path, unit, version):
    path = tmp_path / "Niter100.mat"
    values = matlab(unit)
    if version == 5:
        scipy.io.savemat(path, values)
    else:
        with h5py.File(path, "w", userblock_size=512) as file:
            write_v73(file, values)
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file")
    assert is_foreign_volume(path)
    expect(load_volume(path))


def test_fold_slice_cells(tmp_path):
    """The multislice engine on the GPU keeps the slices in a cell."""
    values = matlab(1.0)
    path = tmp_path / "Niter10.mat"
    with h5py.File(path, "w") as file:
        write_v73(file, {"par": {"p": values["p"]}})
        outputs = file.create_group("outputs")
        write_v73(outputs, {**values["outputs"], "pixel_size": values["p"]["dx_spec"]})
        cells = file.create_group("#refs#")
        write_v73(cells, {f"s{z}": values["object"][..., z] for z in range(3)})
        write_v73(cells, {"probe": values["probe"]})
        references = np.array([[cells[f"s{z}"].ref] for z in range(3)], dtype=h5py.ref_dtype)
        outputs.create_dataset("object", data=references, dtype=h5py.ref_dtype)
        outputs.create_dataset(
            "probe", data=np.array([[cells["probe"].ref]], h5py.ref_dtype), dtype=h5py.ref_dtype
        )
    expect(load_volume(path))


def test_fold_slices_own_hdf5(tmp_path, caplog):
    """Object and settings in one group; without positions its corner is taken for the origin."""
    values = matlab(1e-10)
    path = tmp_path / "Niter100.h5"
    with h5py.File(path, "w") as file:
        write_v73(file, {"reconstruction": {"object": values["object"], "p": values["p"]}})
    assert is_foreign_volume(path)
    volume = load_volume(path)
    phase, _ = world_blob()
    np.testing.assert_allclose(volume.data, phase, atol=1e-6)
    assert volume.voxel_size_A == pytest.approx((SLICE_A, PIXEL_A, PIXEL_A))
    assert volume.origin_A[1:] == (0.0, 0.0)
    assert "no scan positions" in caplog.text


def test_evaluate_takes_them_all(tmp_path, ptyrad_model, capsys):
    """Against a truth on a grid of its own, in world coordinates."""
    phase, first = world_blob()
    truth = tmp_path / "truth.npz"
    origin = (SLICE_A / 2, -first[0] * PIXEL_A, -first[1] * PIXEL_A)
    np.savez(truth, phase=phase, voxel_size_A=(SLICE_A, PIXEL_A, PIXEL_A), origin_A=origin)
    mat, h5, phaser = (tmp_path / name for name in ("Niter100.mat", "Niter100.h5", "phaser.h5"))
    scipy.io.savemat(mat, matlab(1.0))
    with h5py.File(h5, "w") as file:  # as its engines on the GPU write it, with positions
        write_v73(file, matlab(1e-10))
    write_phaser(phaser)
    arguments = ["evaluate", mat, h5, phaser, ptyrad_model, "--truth", truth, "--json"]
    assert main([str(a) for a in arguments]) == 0
    *others, reconstructed = json.loads(capsys.readouterr().out)
    for same in others:
        assert same["ssim"] == pytest.approx(1.0, abs=1e-4)
        assert same["psnr_sum"] > 60
    assert reconstructed["path"] == str(ptyrad_model)
    scores = compare_volumes(load_volume(ptyrad_model), load_volume(truth))
    assert reconstructed["psnr_sum"] == pytest.approx(scores.psnr_sum)
    assert scores.psnr_sum > 15


def test_broken_and_other_files(tmp_path, ptyrad_model):
    cut = tmp_path / "model_iter0001.hdf5"
    content = ptyrad_model.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    assert not is_foreign_volume(cut)
    with pytest.raises(DataError, match="not a whole reconstruction") as caught:
        read_foreign_volume(cut)
    assert "\n" not in str(caught.value)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.zeros((2, 2))
    assert not is_foreign_volume(tmp_path / "other.h5")
    with pytest.raises(DataError, match="no reconstruction by PtyRAD, phaser or fold_slice"):
        read_foreign_volume(tmp_path / "other.h5")
    scipy.io.savemat(tmp_path / "a.mat", {"object": np.ones((4, 4), complex)})
    with pytest.raises(DataError, match="pixel size"):
        read_foreign_volume(tmp_path / "a.mat")
    (tmp_path / "b.mat").write_bytes((tmp_path / "a.mat").read_bytes()[:140])
    with pytest.raises(DataError, match="not a whole reconstruction"):
        read_foreign_volume(tmp_path / "b.mat")
    with pytest.raises(DataError, match="no such file"):
        read_foreign_volume(tmp_path / "gone.hdf5")


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file, cut", bytes(200)])
def test_broken_old_matlab_files_are_told_without_scipys_own_error(tmp_path, content):
    path = tmp_path / "zero.mat"
    path.write_bytes(content)
    assert not is_foreign_volume(path)  # napari asks this of every file it is given
    with pytest.raises(DataError, match=r"zero\.mat: (not a whole|no) reconstruction"):
        read_foreign_volume(path)
