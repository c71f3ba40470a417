"""Cameras that write one frame behind the other: ASTAR ``.blo``, TVIPS, MRC."""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np

from napari_mep.data._store import READ_ERRORS
from napari_mep.data.calibration import PartialCalibration
from napari_mep.data.formats._frames import (
    broken,
    check_beginning,
    frames_in,
    map_frames,
    no_inner,
    not_one,
    scan_of_stack,
    whole_number,
    with_remark,
)
from napari_mep.data.formats._units import from_file
from napari_mep.data.formats._views import Concatenated, StackAsScan
from napari_mep.data.opened import OpenedPatterns
from napari_mep.errors import DataError

__all__ = ["open_blo", "open_mrc", "open_tvips"]

# A blockfile: ID, magic, offsets of image and patterns, flags, pixels, rotation, columns, rows,
# rotation, scan step x and y (nm), beam energy (V), detector pixels per cm, camera length.
_BLO_HEADER = struct.Struct("<6sHIIIHHHHHddIHI")
# The general header of a TVIPS stream, all unsigned 32-bit; another 204 bytes say TVIPS.
_TVIPS_FIELDS = (
    "size", "version", "dimx", "dimy", "bitsperpixel", "offsetx", "offsety", "binx", "biny",
    "pixelsize", "ht", "magtotal", "frameheaderbytes",
)  # fmt: skip
_TVIPS_FRAME_HEADER = {1: 12, 2: None}  # bytes by version; the second one says it itself
# Mode numbers of MRC2014 that hold real intensities.
_MRC_MODES = {0: "<i1", 1: "<i2", 2: "<f4", 6: "<u2", 12: "<f2"}
_MAX_KEV = 3000  # a high tension above this is in volts


def open_blo(
    path: Path, inner: str | None = None, scan_shape: tuple[int, int] | None = None
) -> OpenedPatterns:
    """Open an ASTAR blockfile as a memory map; scan step, energy and detector step are the file's.

    Raises
    ------
    DataError
        Broken or truncated file.
    """
    no_inner(path, inner)
    check_beginning(path, "ASTAR blo", b"IMGBLO")
    with path.open("rb") as file:
        head = file.read(_BLO_HEADER.size)
    if len(head) < _BLO_HEADER.size:
        raise broken(path, "ASTAR blo", "the header is cut off")
    (_, _, _, offset, _, size, _, columns, rows, _, step_x, step_y, volts, pitch, length) = (
        _BLO_HEADER.unpack(head)
    )
    shape = rows, columns
    if size < 2 or min(shape) < 1:
        raise broken(path, "ASTAR blo", f"{shape} patterns of {size} x {size} pixels")
    frame = np.dtype([("header", "V6"), ("data", "u1", (size, size))])
    values: dict[str, Any] = {"beam_energy_keV": volts / 1e3 if volts else None}
    if min(step_y, step_x) > 0:
        values["scan_step_A"] = 10 * step_y if step_y == step_x else (10 * step_y, 10 * step_x)
    # The pitch is in hundredths of a pixel per cm, the camera length in tenths of a millimetre.
    if pitch and length:
        values["detector_step_mrad"] = 1e3 * math.atan(1e3 / pitch / (length / 10))
    return OpenedPatterns(
        patterns=map_frames(path, shape, frame, offset, "ASTAR blo"),
        calibration=from_file(path, values),
        name=path.name,
        path=path,
        format="ASTAR blockfile",
        provenance={"source": path.name},
    )


def open_tvips(
    path: Path, inner: str | None = None, scan_shape: tuple[int, int] | None = None
) -> OpenedPatterns:
    """Open a TVIPS stream (``NAME_000.tvips`` and the files that follow) as memory maps.

    Frames before the scan, which the camera marks, are left out, and those after it. The file
    knows the beam energy only.

    Raises
    ------
    DataError
        Broken or truncated file, not the first one of a stream, or a scan shape that does not fit.
    """
    no_inner(path, inner)
    if not path.stem.endswith("_000"):
        raise DataError(f"{path}: not the first file of a stream; open the one named ..._000.tvips")
    words = np.fromfile(path, "<u4", len(_TVIPS_FIELDS)).tolist()
    if len(words) < len(_TVIPS_FIELDS):
        raise broken(path, "TVIPS", "the header is cut off" if words else "it is empty")
    header = dict(zip(_TVIPS_FIELDS, words, strict=True))
    if header["version"] not in _TVIPS_FRAME_HEADER:
        raise not_one(path, "TVIPS", f"its header has version {header['version']}, not 1 or 2")
    try:
        increment = _TVIPS_FRAME_HEADER[header["version"]] or header["frameheaderbytes"]
        pixels, depth = (header["dimy"], header["dimx"]), header["bitsperpixel"] // 8
        if min(pixels) < 2 or not 0 < header["size"] < 1 << 20 or not 0 < increment < 1 << 20:
            raise ValueError("impossible sizes in the header")
        frame = np.dtype([("header", f"V{increment}"), ("data", f"<u{depth}", pixels)])
        parts, marks = [], []
        for part, offset in _tvips_files(path, header["size"]):
            frames = frames_in(part, offset, frame.itemsize)
            parts.append(map_frames(part, (frames,), frame, offset, "TVIPS"))
            marks.append((part, offset, frames))
    except READ_ERRORS as err:
        raise broken(path, "TVIPS", err) from None
    kilovolts = float(header["ht"])
    stack = Concatenated(parts) if len(parts) > 1 else parts[0]
    remark = ""
    if scan_shape is None:
        patterns, remark = scan_of_stack(stack, None, path)
    else:
        spare = int(stack.shape[0]) - math.prod(scan_shape)
        if spare < 0:
            raise DataError(
                f"{path}: holds {int(stack.shape[0])} of {scan_shape[0]} x {scan_shape[1]} "
                "patterns; copy it anew or give the right scan shape (rows x columns)"
            )
        start = _first_scanned(*marks[0], frame, min(spare, marks[0][2] - 1)) if spare else 0
        patterns = StackAsScan(_From(stack, start) if start else stack, scan_shape)
    return OpenedPatterns(
        patterns=patterns,
        calibration=from_file(
            path,
            {
                "beam_energy_keV": (
                    None if not kilovolts else kilovolts / (1e3 if kilovolts > _MAX_KEV else 1)
                )
            },
        ),
        name=path.name,
        path=path,
        format=with_remark("TVIPS", remark),
        provenance={"source": path.name},
    )


def open_mrc(
    path: Path, inner: str | None = None, scan_shape: tuple[int, int] | None = None
) -> OpenedPatterns:
    """Open an MRC stack of patterns as a memory map.

    A Direct Electron movie has a text file beside it that knows the scan shape. MRC says nothing
    about beam and detector in a way one could rely on; its pixel size is one of images.

    Raises
    ------
    DataError
        Broken or truncated file, an image, or a scan shape that does not fit.
    """
    no_inner(path, inner)
    try:
        with path.open("rb") as file:
            header = file.read(1024)
        if len(header) < 1024:
            raise broken(path, "MRC", "the header is cut off" if header else "it is empty")
        nx, ny, nz, mode = np.frombuffer(header, "<i4", 4).tolist()
        (extra,) = np.frombuffer(header, "<i4", 1, 92).tolist()
        if min(nx, ny, nz) < 1 or extra < 0 or mode not in _MRC_MODES:
            size = f"{nz} patterns of {ny} x {nx} pixels"
            raise not_one(path, "MRC", f"its header says {size} in mode {mode}")
        frame = np.dtype([("data", _MRC_MODES[mode], (ny, nx))])
    except READ_ERRORS as err:
        raise broken(path, "MRC", err) from None
    stack = map_frames(path, (nz,), frame, 1024 + extra, "MRC")
    if nz < 2:
        raise DataError(f"{path}: one image of {ny} x {nx} pixels, no stack of patterns")
    patterns, remark = scan_of_stack(stack, scan_shape or _movie_shape(path, nz), path)
    return OpenedPatterns(
        patterns=patterns,
        calibration=PartialCalibration(),
        name=path.name,
        path=path,
        format=with_remark("MRC", remark),
        provenance={"source": path.name},
    )


def _movie_shape(path: Path, frames: int) -> tuple[int, int] | None:
    """Scan shape of a Direct Electron movie: ``DATE_NUMBER_..._movie.mrc``, ``..._info.txt``."""
    found = re.match(r"(\d+_\d+_).*movie\.mrcs?$", path.name, re.IGNORECASE)
    infos = sorted(path.parent.glob(f"{found[1]}*info.txt")) if found else []
    infos = [info for info in infos if info.is_file()]
    if not infos:
        return None
    lines = infos[0].read_text(encoding="utf-8", errors="replace").splitlines()
    values = {key.strip(): text.strip() for key, _, text in (line.partition("=") for line in lines)}
    if values.get("Scan - Enable", "Disable") != "Enable":
        return None
    if values.get("Scan - Type", "Raster") != "Raster":
        raise DataError(f"{path}: scanned in its own order; only raster scans can be read")
    part = "ROI Size" if values.get("Scan - ROI Enable") == "Enable" else "Size"
    rows, columns = (whole_number(values.get(f"Scan - {part} {axis}", "")) for axis in "YX")
    return (rows, columns) if rows and columns and rows * columns == frames else None


class _From:
    """A stack without its first frames."""

    def __init__(self, stack: Any, start: int) -> None:
        self._stack, self._start = stack, start
        self.shape = (int(stack.shape[0]) - start, *(int(n) for n in stack.shape[1:]))
        self.dtype = np.dtype(stack.dtype)

    def __getitem__(self, key: slice) -> Any:
        first, last, step = key.indices(self.shape[0])
        return self._stack[self._start + first : self._start + last : step]


def _tvips_files(path: Path, header: int) -> list[tuple[Path, int]]:
    """The files of a stream with the length of their headers; only the first one has one."""
    files = [(path, header)]
    while True:
        name = f"{path.stem[:-3]}{len(files):03d}{path.suffix}"
        if not path.with_name(name).is_file():
            return files
        files.append((path.with_name(name), 0))


def _first_scanned(path: Path, offset: int, frames: int, frame: np.dtype[Any], most: int) -> int:
    """Index of the first frame that belongs to the scan: its counter leaves zero there."""
    counter = 12 * 4  # twelve four-byte fields come before it
    if frame["header"].itemsize < counter + 4:
        return 0
    with path.open("rb", buffering=0) as file:
        for index in range(min(most + 1, frames)):
            file.seek(offset + index * frame.itemsize + counter)
            if int.from_bytes(file.read(4), "little"):
                return index
    return 0
