"""Merlin and Medipix ``.mib``: frames with a text header each, and a ``.hdr`` file beside them."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np

from napari_mep.data._store import READ_ERRORS
from napari_mep.data.calibration import PartialCalibration
from napari_mep.data.formats._frames import (
    broken,
    check_beginning,
    no_inner,
    rosettasciio,
    scan_of_stack,
    whole_number,
    with_remark,
)
from napari_mep.data.opened import OpenedPatterns
from napari_mep.errors import DataError

__all__ = ["open_mib"]

_log = logging.getLogger(__name__)

_FORMAT = "Merlin mib"
_LOOK_AT = 4096  # frames whose times are read to find the end of a scan line
_FLYBACK = 1.5  # a pause of this many dwell times ends a line


def open_mib(
    path: Path, inner: str | None = None, scan_shape: tuple[int, int] | None = None
) -> OpenedPatterns:
    """Open a ``.mib`` file as a memory map. It knows nothing about the calibration.

    The scan shape is the caller's, that of the ``.hdr`` file, or the one that the pauses between
    scan lines show; a square scan is assumed as a last resort. Rows are turned upside down, as
    in every program that reads the format: the detector writes the lowest one first.

    Raises
    ------
    DataError
        Broken or truncated file, raw (R64) frames, or a scan shape that does not fit.
    """
    no_inner(path, inner)
    reader = rosettasciio("quantumdetector", path)
    check_beginning(path, _FORMAT, b"MQ1")
    try:
        stack, headers = reader.load_mib_data(str(path), mmap_mode="r", return_headers=True)
        frames, frame_bytes, head_bytes = len(stack), stack.strides[0], headers.dtype.itemsize
    except NotImplementedError:
        raise DataError(
            f"{path}: raw frames (R64); save the scan as processed data (U08, U16 or U32)"
        ) from None
    except READ_ERRORS as err:
        raise broken(path, _FORMAT, err) from None
    if not frames:
        raise broken(path, _FORMAT, "it holds not one whole pattern")
    shape = scan_shape or _from_hdr(path) or _from_times(path, frames, frame_bytes, head_bytes)
    remark = ""
    if shape is not None:
        if math.prod(shape) > frames:
            raise DataError(
                f"{path}: holds {frames} of {shape[0]} x {shape[1]} patterns; copy it anew, or "
                f"give the scan shape {frames // shape[1]} x {shape[1]} if the scan was interrupted"
            )
        if math.prod(shape) < frames:
            _log.warning(
                "%s: %d patterns after the scan are left out", path.name, frames - math.prod(shape)
            )
            stack = stack[: math.prod(shape)]
    patterns, remark = scan_of_stack(stack, shape, path)
    return OpenedPatterns(
        patterns=patterns[:, :, ::-1, :],
        calibration=PartialCalibration(),
        name=path.name,
        path=path,
        format=with_remark(_FORMAT, remark),
        provenance={"source": path.name},
    )


def _from_hdr(path: Path) -> tuple[int, int] | None:
    """Scan shape from the ``.hdr`` file, None if there is none or it does not know."""
    hdr = path.with_suffix(".hdr")
    if not hdr.is_file():
        return None
    try:
        lines = hdr.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as err:
        raise broken(hdr, "Merlin hdr", err) from None
    values = {k.strip().rstrip(":"): v.strip() for k, _, v in (ln.partition("\t") for ln in lines)}

    def number(name: str) -> int:
        return whole_number(values.get(name, "")) or 0

    if number("ScanX") and number("ScanY"):
        return number("ScanY"), number("ScanX")
    total, columns = number("Frames in Acquisition (Number)"), number("Frames per Trigger (Number)")
    if columns > 1 and total and total % columns == 0:
        return total // columns, columns
    return None


def _from_times(
    path: Path, frames: int, frame_bytes: int, head_bytes: int
) -> tuple[int, int] | None:
    """Scan shape from the pauses between scan lines, None if they do not come regularly."""
    times = []
    # Not through the memory map, which reads ahead: only the headers are wanted.
    with path.open("rb", buffering=0) as file:
        for index in range(min(frames, _LOOK_AT)):
            file.seek(index * frame_bytes)
            fields = file.read(head_bytes).decode("latin-1").split(",")
            try:
                times.append(np.datetime64(fields[-4].strip().rstrip("Z")))
            except (ValueError, IndexError):
                return None
    pauses = np.diff(np.array(times)).astype("timedelta64[ns]").astype(float)
    if len(pauses) < 3 or np.median(pauses) <= 0:
        return None
    ends = np.flatnonzero(pauses > _FLYBACK * np.median(pauses)) + 1
    if not len(ends):
        return None
    columns = int(ends[0])
    regular = np.array_equal(ends, columns * np.arange(1, len(ends) + 1))
    if columns < 2 or not regular or frames % columns:
        return None
    return frames // columns, columns
