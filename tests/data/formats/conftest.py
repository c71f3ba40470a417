"""Files as other programs write them: by their own writers where there are any, else by the bytes.

`truth` is what every reader must give back: (3, 4, 16, 16) counts, every pattern another one and
none symmetric, so that a swapped or reversed axis is found.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


class Helpers:
    """What the tests of this folder share."""

    all_of = staticmethod(all_of)
    refused = staticmethod(refused)
    cut = staticmethod(cut)
    signal = staticmethod(signal)
    empad_bytes = staticmethod(empad_bytes)
    mib_bytes = staticmethod(mib_bytes)


@pytest.fixture
def h() -> type[Helpers]:
    return Helpers
