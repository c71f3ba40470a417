from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from napari_mep.data.native import write_dataset
from napari_mep.data.readers import open_dataset, open_patterns, readers
from napari_mep.errors import CalibrationError, DataError


@pytest.fixture
def hdf5(tmp_path: Path, patterns: np.ndarray) -> Path:
    """A file as another program writes it: compressed, with other arrays beside the patterns."""
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "entry/data/patterns",
            data=patterns.astype(np.uint16),
            chunks=(1, 2, 16, 16),
            compression="gzip",
        )
        file["entry/positions"] = np.zeros((12, 2))
        file["entry/title"] = "a scan"
    return path


def one_line(caught) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_hdf5_by_path_and_alone(hdf5, toml, patterns):
    for source in (f"{hdf5}::/entry/data/patterns", hdf5):
        data = open_dataset(source, toml)
        np.testing.assert_array_equal(data.counts(), patterns.reshape(-1, 16, 16))
        assert isinstance(data.patterns, h5py.Dataset), "must stay on disk"
        assert data.path == hdf5
        assert data.name == "scan.h5::/entry/data/patterns"
        assert data.calibration.sources["scan_step_A"] == "user"


def test_npy_is_mapped_and_npz_loaded(tmp_path, toml, patterns):
    np.save(tmp_path / "scan.npy", patterns)
    data = open_dataset(tmp_path / "scan.npy", toml)
    assert isinstance(data.patterns, np.memmap)
    np.testing.assert_array_equal(data.counts(), patterns.reshape(-1, 16, 16))
    np.savez(tmp_path / "scan.npz", patterns=patterns, dark=np.zeros((16, 16)))
    packed = open_dataset(tmp_path / "scan.npz", toml)
    assert packed.name == "scan.npz::patterns"
    assert packed.fingerprint() == data.fingerprint()


def test_same_data_same_fingerprint_in_every_container(tmp_path, toml, hdf5, patterns):
    np.save(tmp_path / "scan.npy", patterns.reshape(12, 16, 16))
    stack = open_dataset(tmp_path / "scan.npy", toml, scan_shape=(3, 4))
    native = write_dataset(tmp_path / "scan.zarr", stack)
    fingerprints = {
        stack.fingerprint(),
        open_dataset(hdf5, toml).fingerprint(),
        open_dataset(native).fingerprint(),
    }
    assert len(fingerprints) == 1


def test_stacks_need_a_scan_shape_that_fits(tmp_path, toml, patterns):
    path = tmp_path / "stack.h5"
    with h5py.File(path, "w") as file:
        file["stack"] = patterns.reshape(12, 16, 16)
    np.save(tmp_path / "stack.npy", patterns.reshape(12, 16, 16))
    for source in (path, f"{path}::stack", tmp_path / "stack.npy"):
        data = open_dataset(source, toml, scan_shape=(3, 4))
        assert data.scan_shape == (3, 4)
        np.testing.assert_array_equal(
            data.counts([11, 6, 1]), patterns.reshape(12, 16, 16)[[11, 6, 1]]
        )
        with pytest.raises(DataError, match=r"scan shape") as caught:
            open_dataset(source, toml)
        one_line(caught)
        with pytest.raises(DataError, match=r"5 x 2 = 10 positions does not fit 12 patterns"):
            open_dataset(source, toml, scan_shape=(5, 2))


def test_scan_shape_of_4d_data_must_be_theirs(hdf5, toml):
    assert open_dataset(hdf5, toml, scan_shape=(3, 4)).scan_shape == (3, 4)
    with pytest.raises(DataError, match=r"scan shape 4 x 3 does not fit patterns of shape"):
        open_dataset(hdf5, toml, scan_shape=(4, 3))


def test_ambiguous_files_list_what_they_hold(tmp_path, toml, patterns):
    np.savez(tmp_path / "two.npz", first=patterns, second=patterns)
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["a/first"] = patterns
        file["b/second"] = patterns
    for name, inner in (("two.npz", "second"), ("two.h5", "/b/second")):
        with pytest.raises(DataError, match=r"several arrays with 4 axes.*first.*second") as caught:
            open_dataset(tmp_path / name, toml)
        assert f"{name}::NAME" in one_line(caught)
        assert open_dataset(f"{tmp_path / name}::{inner}", toml).n_patterns == 12


def test_wrong_path_in_the_file(hdf5, tmp_path, toml, patterns):
    for inner in ("/entry/nothing", "/entry"):
        with pytest.raises(
            DataError, match=rf"no dataset '{inner}'; it holds /entry/data/patterns"
        ):
            open_dataset(f"{hdf5}::{inner}", toml)
    np.savez(tmp_path / "a.npz", patterns=patterns)
    with pytest.raises(DataError, match=r"no array 'x'; it holds patterns"):
        open_dataset(f"{tmp_path / 'a.npz'}::x", toml)
    np.save(tmp_path / "a.npy", patterns)
    with pytest.raises(DataError, match=r"leave out '::x'"):
        open_dataset(f"{tmp_path / 'a.npy'}::x", toml)


def test_wrong_content(tmp_path, toml, hdf5):
    np.save(tmp_path / "wave.npy", np.zeros((3, 4, 16, 16), complex))
    with pytest.raises(DataError, match=r"complex128"):
        open_dataset(tmp_path / "wave.npy", toml)
    np.save(tmp_path / "flat.npy", np.zeros((16, 16)))
    with pytest.raises(DataError, match=r"2 axes"):
        open_dataset(tmp_path / "flat.npy", toml)
    with pytest.raises(DataError, match=r"2 axes"):
        open_dataset(f"{hdf5}::entry/positions", toml)
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object))
    with pytest.raises(DataError, match=r"not a whole \.npy file"):
        open_dataset(tmp_path / "object.npy", toml)
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(DataError, match=r"it holds no arrays"):
        open_dataset(tmp_path / "empty.h5", toml)


@pytest.mark.parametrize("kept", [0, 60, 0.5])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_truncated_files(tmp_path, toml, patterns, suffix, kept):
    path = tmp_path / f"cut{suffix}"
    if suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["patterns"] = patterns
    else:
        (np.save if suffix == ".npy" else np.savez)(path, patterns)
    content = path.read_bytes()
    path.write_bytes(content[: kept if kept != 0.5 else len(content) // 2])
    with pytest.raises(DataError, match=rf"not a whole {suffix if suffix != '.h5' else 'HDF5'}"):
        open_dataset(path, toml)


def test_damaged_chunk_is_a_data_error_when_read(hdf5, toml):
    with h5py.File(hdf5) as file:
        chunk = file["entry/data/patterns"].id.get_chunk_info(0)
    content = bytearray(hdf5.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\0" * chunk.size
    hdf5.write_bytes(content)
    data = open_dataset(hdf5, toml)
    with pytest.raises(DataError, match=r"scan row 0 cannot be read") as caught:
        data.counts([0])
    one_line(caught)


def test_missing_and_unknown_files(tmp_path, toml):
    for name in ("none.h5", "none.zarr", "none.npy", "none.h5::/data"):
        with pytest.raises(DataError, match=r"no such file"):
            open_dataset(tmp_path / name, toml)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"not recognised; known file names end in .zarr, .npy"):
        open_dataset(tmp_path / "notes.txt", toml)


def test_folders_in_the_place_of_files_and_files_in_that_of_folders(tmp_path):
    for reader in readers():
        for suffix in reader.suffixes:
            path = tmp_path / f"x_000{suffix}"
            if reader.is_folder:
                path.write_text("no folder")
            else:
                path.mkdir()
            with pytest.raises(DataError, match=r"(a file|a folder), but .*; check its name"):
                open_patterns(path)
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(DataError, match=r"a folder, but not a Zarr store|not a Zarr store"):
        open_patterns(tmp_path / "empty.zarr")


@pytest.mark.parametrize("name", ["x.npy", "x.h5", "x.blo", "x.mib", "x_000.tvips", "x.raw"])
def test_files_that_must_not_be_read(tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(b"x" * 3000)
    import builtins
    import pathlib

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied", str(tmp_path / name))

    for owner, function in (
        (pathlib.Path, "open"), (builtins, "open"), (np, "fromfile"), (np, "memmap"),
        (h5py, "is_hdf5"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, function, refuse)
    with pytest.raises(DataError, match=r"Permission denied|scan shape"):
        open_patterns(tmp_path / name)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".mib", ".dm4", ".blo", ".xml"])
def test_something_else_under_a_name_of_ours(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_text("Dear diary, " * 400)
    with pytest.raises(DataError, match=r": not an? .* file \(.*\); check its name") as caught:
        open_patterns(path)
    one_line(caught)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="copy it anew"):
        open_patterns(path)


def test_a_virtual_dataset_without_its_sources(tmp_path, patterns):
    """HDF5 would read what is gone as zeros."""
    layout = h5py.VirtualLayout(shape=patterns.shape, dtype=patterns.dtype)
    for row in range(3):
        with h5py.File(tmp_path / f"part{row}.h5", "w") as file:
            file["counts"] = patterns[row]
        source = h5py.VirtualSource(f"part{row}.h5", "counts", shape=patterns[row].shape)
        layout[row] = source
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_virtual_dataset("patterns", layout)
    opened = open_patterns(tmp_path / "all.h5")
    np.testing.assert_array_equal(opened.patterns[2, slice(0, 4)], patterns[2])
    (tmp_path / "part1.h5").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"all\.h5.*source part1\.h5 is missing; put it in"):
        open_patterns(tmp_path / "all.h5")
    (tmp_path / "part1.h5").write_bytes((tmp_path / "elsewhere").read_bytes()[:500])
    with pytest.raises(DataError, match=r"part1\.h5: not a whole HDF5 file"):
        open_patterns(tmp_path / "all.h5")
    with h5py.File(tmp_path / "part1.h5", "w") as file:
        file["other"] = patterns[1]
    with pytest.raises(DataError, match=r"source part1\.h5::counts is empty"):
        open_patterns(tmp_path / "all.h5")


def test_without_calibration_patterns_open_but_no_dataset(hdf5, values):
    opened = open_patterns(hdf5)
    assert opened.calibration.missing() == (
        "beam_energy_keV",
        "convergence_semiangle_mrad",
        "scan_step_A",
        "detector_step_invA",
    )
    with pytest.raises(CalibrationError, match=r"calibration lacks beam_energy_keV"):
        open_dataset(hdf5)
    assert open_dataset(hdf5, values).calibration.scan_step_A == 0.5


def test_every_reader_has_its_own_file_names():
    suffixes = [suffix for reader in readers() for suffix in reader.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert all(reader.matches(Path(f"A{reader.suffixes[0].upper()}")) for reader in readers())


def test_opening_npy_loads_neither_h5py_nor_torch():
    import subprocess

    code = (
        "import sys, napari_mep.data.readers, napari_mep.evaluation, napari_mep.export;"
        "print([m for m in ('torch', 'h5py', 'zarr', 'skimage', 'abtem') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_an_archive_larger_than_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "big.npz", patterns=np.zeros((64, 64, 16, 16)), dark=np.zeros(3))
    pages = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr("os.sysconf", lambda name: pages[name])
    with pytest.raises(DataError, match=r"0\.00839 GB.*more than half.*save the array as \.npy"):
        open_patterns(tmp_path / "big.npz")
