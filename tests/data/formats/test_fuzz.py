"""Damaged files of every format: a scan or one clear line with exit code 2, never a traceback.

Each file is cut off at several places, its header is overwritten, and single bytes are changed;
of a store every file, and of a scan with a file beside it that one. What comes out may still be
readable; then it must be readable to the end.
"""

from __future__ import annotations

import importlib
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from napari_mep.cli import main
from napari_mep.data import DiffractionDataset, PartialCalibration
from napari_mep.data.native import write_dataset
from napari_mep.volume import PhaseVolume

CALIBRATION = """beam_energy_keV = 300.0
convergence_semiangle_mrad = 10.0
scan_step_A = 0.5
detector_step_mrad = 2.0
"""


@pytest.fixture
def files(tmp_path, truth, dm_file, h, request) -> dict[str, Callable[[], Path]]:
    """How a whole file of each format comes about."""
    stack = truth.reshape(12, 16, 16)

    def written(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    def hdf5() -> Path:
        with h5py.File(tmp_path / "plain.h5", "w") as file:
            file.create_dataset("entry/data", data=truth, chunks=(1, 2, 16, 16), compression="gzip")
        return tmp_path / "plain.h5"

    def by_rosettasciio(module: str, name: str) -> Path:
        writer = importlib.import_module(f"rsciio.{module}").file_writer
        writer(str(tmp_path / name), h.signal(truth, (0.05, "nm"), (0.2, "1/nm")))
        return tmp_path / name

    def blo() -> Path:
        from rsciio.blockfile import file_writer

        signal = h.signal(truth, (0.5, "nm"), (0.02, "cm"))
        header = {"Beam_energy": 200_000, "Camera_length": 2000, "Note": ""}
        signal["original_metadata"] = {"blockfile_header": header}
        file_writer(str(tmp_path / "scan.blo"), signal, show_progressbar=False)
        return tmp_path / "scan.blo"

    def numpy(name: str) -> Path:
        (np.save if name.endswith(".npy") else np.savez_compressed)(tmp_path / name, truth)
        return tmp_path / name

    def ncem() -> Path:
        units = [(0.5, "[n_m]"), (0.4, "[n_m]"), (2.0, "[mrad]"), (2.0, "[mrad]")]
        h.ncem(tmp_path / "ncem.emd", truth, units)
        return tmp_path / "ncem.emd"

    def empad(name: str = "scan_x4_y3.raw") -> Path:
        frames = np.zeros((12, 128, 128), "<f4")
        frames[:, 56:72, 56:72] = stack
        return written(name, h.empad_bytes(frames, 2))

    def xml() -> Path:
        empad("scan.raw")
        text = (
            '<root><raw_file filename="scan.raw"/><pix_x>4</pix_x><pix_y>3</pix_y>'
            "<iom_measurements><high_voltage>300000.0</high_voltage></iom_measurements></root>"
        )
        return written("scan.xml", text.encode())

    def params() -> Path:
        numpy("params.npy")
        text = (
            "init_params:\n  probe_kv: 80\n  probe_conv_angle: 24.9\n  meas_Npix: 16\n"
            "  pos_N_scan_slow: 3\n  pos_N_scan_fast: 4\n  pos_scan_step_size: 0.4\n"
            "  meas_flipT: [1, 0, 0]\n  pos_scan_affine: [1, 0, 3, 0]\n"
            "  probe_aberrations: {C10: 20, C30: 5}\n"
            "  meas_calibration: {mode: da, value: 5.0}\n  meas_params: {path: params.npy}\n"
        )
        return written("params.yaml", text.encode())

    def dm(version: int) -> Path:
        axes = [(1.0, "nm")] * 2 + [(1.0, "1/nm")] * 2
        return dm_file(truth.astype(np.uint16), axes, version)

    def native() -> Path:
        calibration = PartialCalibration.from_mapping(tomllib.loads(CALIBRATION)).complete()
        dataset = DiffractionDataset(
            truth,
            calibration,
            "scan",
            mask=np.arange(256).reshape(16, 16) > 3,
            truth=PhaseVolume(np.ones((2, 8, 8), np.float32), (1.0, 0.5, 0.5)),
            provenance={"source": "a test"},
        )
        return write_dataset(tmp_path / "native.zarr", dataset)

    def plain() -> Path:
        import zarr

        group = zarr.open_group(tmp_path / "plain.zarr", mode="w")
        group.create_array("scan/counts", data=truth, chunks=(2, 4, 16, 16))
        return tmp_path / "plain.zarr"

    def abtem() -> Path:
        folder, _ = request.getfixturevalue("abtem_scan")
        return Path(shutil.copytree(folder / "noisy.zarr", tmp_path / "abtem.zarr"))

    def hdr() -> Path:
        written("beside.hdr", b"HDR,\nScanX:\t4\nScanY:\t3\nEnd\t\n")
        return written("beside.mib", h.mib_bytes(stack))

    def info() -> Path:
        text = b"Scan - Enable = Enable\nScan - Size X = 4\nScan - Size Y = 3\n"
        written("20240501_00007_info.txt", text)
        return written("20240501_00007_movie.mrc", h.mrc_bytes(stack))

    def xml_beside() -> Path:
        xml()
        return tmp_path / "scan.raw"

    return {
        "native Zarr": native,
        "plain Zarr": plain,
        "abTEM Zarr": abtem,
        "dm3": lambda: dm(3),
        "hdr": hdr,
        "info.txt": info,
        "xml": xml_beside,
        "EMPAD raw": empad,
        "EMPAD xml": xml,
        "mib": lambda: written("scan.mib", h.mib_bytes(stack)),
        "dm4": lambda: dm(4),
        "blo": blo,
        "tvips": lambda: request.getfixturevalue("tvips"),
        "mrc": lambda: written("scan.mrc", h.mrc_bytes(stack)),
        "hspy": lambda: by_rosettasciio("hspy", "scan.hspy"),
        "emd of HyperSpy": lambda: by_rosettasciio("emd", "scan.emd"),
        "emd of NCEM": ncem,
        "py4DSTEM": lambda: request.getfixturevalue("py4dstem"),
        "arina": lambda: request.getfixturevalue("arina"),
        "hdf5": hdf5,
        "npy": lambda: numpy("scan.npy"),
        "npz": lambda: numpy("scan.npz"),
        "ptyrad": params,
    }


FORMATS = (
    "EMPAD raw", "EMPAD xml", "mib", "dm4", "blo", "tvips", "mrc", "hspy", "emd of HyperSpy",
    "emd of NCEM", "py4DSTEM", "arina", "hdf5", "npy", "npz", "ptyrad", "dm3",
)  # fmt: skip
STORES = ("native Zarr", "plain Zarr", "abTEM Zarr")
BESIDE = {"hdr": "beside.hdr", "info.txt": "20240501_00007_info.txt", "xml": "scan.xml"}


def damaged(content: bytes, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Copies of a file with a fault each, and what was done to them."""
    for kept in (0.0, 0.001, 0.02, 0.1, 0.5, 0.9, 0.999):
        yield f"cut at {kept:.1%}", content[: int(kept * len(content))]
    yield "one byte too long", content + b"\0"
    for length in (4, 64, 1024):
        for filler in (b"\0", b"\xff"):
            yield f"{length} bytes {filler!r}", filler * length + content[length:]
    rng = np.random.default_rng(seed)
    for trial in range(12):
        copy = bytearray(content)
        head = min(len(copy), 512 if trial % 2 else 4096)
        for place in rng.integers(0, head, 6):
            copy[place] = rng.integers(256)
        yield f"6 bytes of the first {head} changed, trial {trial}", bytes(copy)


def told(arguments: list[str], capsys, what: str) -> int:
    """Exit code of ``info``; checks that whatever went wrong was said in one line."""
    try:
        status = main(arguments)
    except Exception as err:  # noqa: BLE001  which ones escape is the question
        pytest.fail(f"{what}: {type(err).__name__}: {err}")
    said = capsys.readouterr()
    assert status in (0, 2), what
    if status == 2:
        lines = said.err.strip().splitlines()
        assert len(lines) == 1, f"{what}: {said.err}"
        assert lines[0].startswith("napari-mep: "), what
    else:
        assert "scan positions" in said.out, what
    return status


@pytest.fixture
def calibration(tmp_path) -> list[str]:
    (tmp_path / "known.toml").write_text(CALIBRATION)
    return ["--calibration", str(tmp_path / "known.toml")]


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_files(kind, files, calibration, capsys):
    path = files[kind]()
    arguments = ["info", str(path), *calibration, "--scan-shape", "3x4"]
    assert told(arguments, capsys, f"{kind}, whole") == 0
    content = path.read_bytes()
    refused = 0
    for what, copy in damaged(content):
        path.write_bytes(copy)
        refused += told(arguments, capsys, f"{kind}, {what}") == 2
    assert refused >= 5, "the faults must not go unseen"


@pytest.mark.parametrize("kind", STORES)
def test_damaged_stores(kind, files, calibration, capsys):
    store = files[kind]()
    arguments = ["info", str(store), *calibration]
    assert told(arguments, capsys, f"{kind}, whole") == 0
    refused = 0
    members = [path for path in sorted(store.rglob("*")) if path.is_file()]
    for path in members:
        content = path.read_bytes()
        for number, (what, copy) in enumerate(damaged(content)):
            if number % 3 and not path.name.endswith((".json", ".zgroup", ".zarray", ".zattrs")):
                continue  # of values, which are many, a third will do
            path.write_bytes(copy)
            what = f"{kind}, {path.relative_to(store)} {what}"
            refused += told(arguments, capsys, what) == 2
        path.unlink()
        told(arguments, capsys, f"{kind}, {path.relative_to(store)} gone")
        path.mkdir()
        told(arguments, capsys, f"{kind}, a folder in the place of {path.relative_to(store)}")
        path.rmdir()
        path.write_bytes(content)
    assert refused >= 5 * len([path for path in members if path.name == "zarr.json"])


@pytest.mark.parametrize("kind", list(BESIDE))
def test_damaged_files_beside_a_scan(kind, files, calibration, capsys):
    path = files[kind]()
    arguments = ["info", str(path), *calibration]
    assert told(arguments, capsys, f"{kind}, whole") == 0
    beside = path.with_name(BESIDE[kind])
    content = beside.read_bytes()
    refused = 0
    for what, copy in damaged(content):
        beside.write_bytes(copy)
        refused += told(arguments, capsys, f"{kind}, {what}") == 2
    assert refused >= 5
    beside.unlink()
    beside.mkdir()
    assert told(arguments, capsys, f"{kind}, a folder") == 2


@pytest.mark.parametrize("kind", [*FORMATS, *STORES])
def test_a_folder_with_the_name_of_a_scan(kind, files, calibration, tmp_path, capsys):
    name = files[kind]().name
    (tmp_path / "empty" / name).mkdir(parents=True)
    assert told(["info", str(tmp_path / "empty" / name), *calibration], capsys, kind) == 2


@pytest.mark.parametrize("kind", FORMATS)
def test_a_scan_shape_that_does_not_fit(kind, files, calibration, capsys):
    arguments = ["info", str(files[kind]()), *calibration, "--scan-shape", "5x7"]
    assert told(arguments, capsys, kind) == 2
