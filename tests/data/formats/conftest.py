"""Files as other programs write them: by their own writers where there are any, else by the bytes.

`truth` is what every reader must give back: (3, 4, 16, 16) counts, every pattern another one and
none symmetric, so that a swapped or reversed axis is found.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from napari_mep.data.opened import OpenedPatterns
from napari_mep.data.readers import open_patterns


@pytest.fixture
def truth() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 200, (3, 4, 16, 16)).astype(np.uint8)


def all_of(opened: OpenedPatterns) -> np.ndarray:
    """All patterns, read row by row as a dataset does, and with a step, as a sample is."""
    patterns = opened.patterns
    rows, columns = patterns.shape[:2]
    whole = np.stack([np.asarray(patterns[row, slice(0, columns)]) for row in range(rows)])
    every_other = np.asarray(patterns[rows - 1, slice(1, columns, 2)])
    np.testing.assert_array_equal(every_other, whole[rows - 1, 1::2])
    return whole


def refused(source: Any, words: str, **options: Any) -> str:
    """The one line with which a file is refused."""
    from napari_mep.errors import DataError

    with pytest.raises(DataError, match=words) as caught:
        open_patterns(source, **options)
    assert "\n" not in str(caught.value)
    assert str(source).split("::")[0] in str(caught.value)
    return str(caught.value)


def cut(path: Path, kept: float) -> Path:
    """The same file without its end."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    return path


def signal(data: np.ndarray, scan: tuple, detector: tuple, **metadata: Any) -> dict[str, Any]:
    """A 4D signal as rosettasciio's writers take it; `scan` and `detector` are (scale, unit)."""
    names = ("y", "x", "ky", "kx")
    axes = [
        {
            "name": name, "size": size, "scale": step[0], "units": step[1], "offset": 0.0,
            "navigate": name in "yx", "index_in_array": index, "_type": "UniformDataAxis",
            "is_binned": False,
        }
        for index, (name, size, step) in enumerate(
            zip(names, data.shape, (scan, scan, detector, detector), strict=True)
        )
    ]  # fmt: skip
    return {
        "data": data,
        "axes": axes,
        "metadata": {"General": {"title": "scan"}, "Signal": {"signal_type": ""}, **metadata},
        "original_metadata": {},
        "attributes": {"_lazy": False, "ragged": False},
        "learning_results": {},
        "package_info": {"package": "test", "package_version": "0"}, "models": None,
        "tmp_parameters": {},
    }  # fmt: skip


def empad_bytes(data: np.ndarray, footer: int) -> bytes:
    """Frames of 128 x 128 float32 with `footer` rows that are no image."""
    frames = data.reshape(-1, 128, 128).astype("<f4")
    rubbish = np.full((len(frames), footer, 128), 1e6, "<f4")
    return np.concatenate([frames, rubbish], axis=1).tobytes()


def mib_bytes(stack: np.ndarray, seconds: list[float] | None = None, kind: str = "U08") -> bytes:
    """Merlin frames: 384 bytes of text each, the lowest row first, big-endian."""
    depth = {"U08": ">u1", "U16": ">u2", "U32": ">u4"}.get(kind, ">u1")
    _, ky, kx = stack.shape
    out = []
    for index, frame in enumerate(stack):
        time = np.datetime64("2024-05-01T10:00:00", "ns")
        time += np.timedelta64(int((seconds[index] if seconds else index * 1e-3) * 1e9), "ns")
        head = f"MQ1,{index + 1:06},00384,01,{kx:04},{ky:04},{kind},   1x1,01,{time}Z,"
        head += "1000000ns,0,"
        out.append(head.encode().ljust(384, b"\0") + frame[::-1].astype(depth).tobytes())
    return b"".join(out)


class DmWriter:
    """Tags of DigitalMicrograph, version 3 or 4, as far as a 4D scan needs them."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.size = ">Q" if version == 4 else ">I"

    def file(self, root: dict[str, Any]) -> bytes:
        body = self._group(root)
        return (
            struct.pack(">I", self.version)
            + struct.pack(self.size, len(body))
            + struct.pack(">I", 1)
            + body
            + bytes(8)
        )

    def _group(self, tags: dict[str, Any]) -> bytes:
        out = b"\1\0" + struct.pack(self.size, len(tags))
        for name, value in tags.items():
            label = b"" if name.startswith("#") else name.encode()
            group = isinstance(value, dict)
            body = self._group(value) if group else self._data(value)
            out += bytes([20 if group else 21]) + struct.pack(">H", len(label)) + label
            out += (struct.pack(">Q", len(body)) if self.version == 4 else b"") + body
        return out

    def _data(self, value: Any) -> bytes:
        if isinstance(value, str):
            raw = value.encode("utf-16-le")
            return self._info(20, 4, len(value)) + raw
        if isinstance(value, np.ndarray):
            code = {"u1": 10, "u2": 4, "f4": 6, "i4": 3}[value.dtype.str[1:]]
            return self._info(20, code, value.size) + value.tobytes()
        if isinstance(value, float):
            return self._info(7) + struct.pack("<d", value)
        return self._info(5) + struct.pack("<I", value)

    def _info(self, *numbers: int) -> bytes:
        packed = b"".join(struct.pack(self.size, number) for number in numbers)
        return b"%%%%" + struct.pack(self.size, len(numbers)) + packed


@pytest.fixture
def dm_file(tmp_path: Path) -> Callable[..., Path]:
    def write(data: np.ndarray, axes: list[tuple[float, str]], version: int = 4) -> Path:
        """`axes` are (scale, unit) of the axes of `data`, the slowest first."""
        dimensions = {
            f"#{i}": {"Origin": 0.0, "Scale": scale, "Units": unit}
            for i, (scale, unit) in enumerate(reversed(axes))
        }
        image = {
            "ImageData": {
                "Calibrations": {
                    "Brightness": {"Origin": 0.0, "Scale": 1.0, "Units": ""},
                    "Dimension": dimensions,
                },
                "Data": data,
                "DataType": {"u2": 10, "f4": 2}[data.dtype.str[1:]],
                "Dimensions": {f"#{i}": n for i, n in enumerate(reversed(data.shape))},
                "PixelDepth": data.dtype.itemsize,
            },
            "ImageTags": {"Microscope Info": {"Voltage": 200000.0}},
            "Name": "scan",
        }
        path = tmp_path / f"scan.dm{version}"
        path.write_bytes(DmWriter(version).file({"ImageList": {"#0": image}}))
        return path

    return write


def mrc_bytes(stack: np.ndarray) -> bytes:
    """MRC2014: 1024 bytes of header, mode 6 is uint16."""
    nz, ny, nx = stack.shape
    header = bytearray(1024)
    header[:16] = struct.pack("<4i", nx, ny, nz, 6)
    header[28:40] = struct.pack("<3i", nx, ny, nz)
    header[208:216] = b"MAP DD\0\0"
    return bytes(header) + stack.astype("<u2").tobytes()


def ncem(path, data, units):
    """The layout of the specification: dim1 describes the first axis of the data."""
    with h5py.File(path, "w") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
        file.create_group("microscope").attrs.update({"voltage": 80.0, "voltage_units": "[kV]"})
        group = file.create_group("experiments/scan")
        group.attrs["emd_group_type"] = 1
        group["data"] = data
        for index, (size, (step, unit)) in enumerate(zip(data.shape, units, strict=True)):
            group[f"dim{index + 1}"] = np.arange(size) * step
            group[f"dim{index + 1}"].attrs.update({"name": f"axis {index}", "units": unit})


class Helpers:
    """What the tests of this folder share."""

    all_of = staticmethod(all_of)
    refused = staticmethod(refused)
    cut = staticmethod(cut)
    signal = staticmethod(signal)
    empad_bytes = staticmethod(empad_bytes)
    mib_bytes = staticmethod(mib_bytes)
    mrc_bytes = staticmethod(mrc_bytes)
    ncem = staticmethod(ncem)


@pytest.fixture
def h() -> type[Helpers]:
    return Helpers


@pytest.fixture
def tvips(tmp_path, truth):
    from rsciio.tvips import file_writer

    path = tmp_path / "scan_000.tvips"
    data = signal(truth, (1.0, "nm"), (1.0, "1/nm"))
    data["metadata"]["Acquisition_instrument"] = {"TEM": {"beam_energy": 200}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Small enough that the stream needs three files.
        file_writer(str(path), data, max_file_size=256 + 5 * (16 * 16 + 60), show_progressbar=False)
    return path


@pytest.fixture
def py4dstem(tmp_path, truth):
    """EMD 1.0 as py4DSTEM 0.13 and later writes it."""
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file.attrs.update({"emd_group_type": "file", "version_major": 1, "version_minor": 0})
        root = file.create_group("datacube_root")
        root.attrs.update({"emd_group_type": "root", "python_class": "Root"})
        calibration = root.create_group("metadatabundle/calibration")
        calibration.attrs["emd_group_type"] = "metadata"
        for name, value in {
            "R_pixel_size": 0.5, "R_pixel_units": "A", "Q_pixel_size": 0.9, "Q_pixel_units": "mrad",
            "convergence_semiangle_mrad": 21.4,
        }.items():  # fmt: skip
            calibration[name] = value
        cube = root.create_group("datacube")
        cube.attrs.update({"emd_group_type": "array", "python_class": "DataCube"})
        cube["data"] = truth
        for index, (step, unit) in enumerate(
            [(0.5, "A"), (0.5, "A"), (0.02, "A^-1"), (0.02, "A^-1")]
        ):
            cube[f"dim{index}"] = np.array([0, step])
            cube[f"dim{index}"].attrs["units"] = unit
    return path


@pytest.fixture
def arina(tmp_path, truth):
    """A master file and two data files, compressed as the detector does it."""
    import hdf5plugin

    stack = truth.reshape(12, 16, 16).astype(np.uint16)
    stack[:, 2, 3] = 65535  # a bad pixel, as the mask says
    with h5py.File(tmp_path / "scan_master.h5", "w") as master:
        for number, part in enumerate((stack[:7], stack[7:]), start=1):
            with h5py.File(tmp_path / f"scan_data_{number:06}.h5", "w") as file:
                file.create_dataset(
                    "entry/data/data", data=part, chunks=(1, 16, 16), **hdf5plugin.Bitshuffle()
                )
            master[f"entry/data/data_{number:06}"] = h5py.ExternalLink(
                f"scan_data_{number:06}.h5", "entry/data/data"
            )
        detector = master.create_group("entry/instrument/detector")
        detector["detectorSpecific/ntrigger"] = 3
        detector["detectorSpecific/nimages"] = 4
        mask = np.zeros((16, 16), np.uint32)
        mask[2, 3] = 1
        detector["detectorSpecific/pixel_mask"] = mask
        detector["incident_energy"] = 200000.0
        detector["incident_energy"].attrs["units"] = "eV"
    return tmp_path / "scan_master.h5"


@pytest.fixture(scope="session")
def abtem_scan(tmp_path_factory):
    """A scan that is not square, of a specimen without symmetry, by abTEM."""
    import abtem
    import ase

    atoms = ase.Atoms("SiO", [(1.0, 2.0, 1.0), (3.5, 1.0, 1.5)], cell=(6, 6, 3))
    potential = abtem.Potential(atoms, sampling=0.3, slice_thickness=3)
    probe = abtem.Probe(energy=100e3, semiangle_cutoff=20, defocus=50)
    probe.grid.match(potential)
    scan = probe.scan(
        potential,
        scan=abtem.GridScan((0, 0), (3, 2), gpts=(5, 3)),
        detectors=abtem.PixelatedDetector(max_angle=60),
    ).compute(progress_bar=False)
    folder = tmp_path_factory.mktemp("abtem")
    scan.to_zarr(str(folder / "scan.zarr"))
    scan.poisson_noise(dose_per_area=1e5, seed=1).to_zarr(str(folder / "noisy.zarr"))
    return folder, scan.array
