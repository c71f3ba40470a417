"""What the formats share: frames of equal size in a file, scan shapes, the optional package."""

from __future__ import annotations

import importlib
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from napari_mep.data._store import READ_ERRORS, one_line
from napari_mep.data.formats._views import StackAsScan
from napari_mep.errors import DataError

__all__ = [
    "broken", "check_beginning", "frames_in", "map_frames", "no_inner", "not_one", "rosettasciio",
    "scan_of_stack", "whole_number",
]  # fmt: skip

SQUARE_ASSUMED = "square scan assumed"


def rosettasciio(module: str, path: Path) -> Any:
    """A format module of rosettasciio.

    Raises
    ------
    DataError
        It is not installed.
    """
    try:
        return importlib.import_module(f"rsciio.{module}")
    except ImportError as err:
        raise DataError(
            f"{path}: this format needs rosettasciio ({one_line(err)}); "
            "run: pip install 'napari-mep[io]'"
        ) from None


def broken(path: Path, format_name: str, err: BaseException | str) -> DataError:
    """The error for a file that begins as it should and is damaged, or only part of it."""
    reason = err if isinstance(err, str) else one_line(err)
    if isinstance(err, LookupError | TypeError | AttributeError):
        reason = "its header makes no sense"  # the words of such errors are for programmers
    return DataError(f"{path}: not a whole {format_name} file ({reason}); copy it anew")


def not_one(path: Path, format_name: str, reason: str) -> DataError:
    """The error for a file that is something else than its name says: no copy would be better."""
    # "An" stands before vowels and before abbreviations that are spelt out: an MRC, an HDF5.
    article = "an" if re.match(r"[AEIO]|[FHLMNRSX][A-Z0-9]", format_name) else "a"
    return DataError(f"{path}: not {article} {format_name} file ({reason}); check its name")


def check_beginning(path: Path, format_name: str, *marks: bytes) -> None:
    """Look whether a file begins as its format does.

    Parameters
    ----------
    path : Path
        The file.
    format_name : str
        For the words of the error.
    *marks : bytes
        With one of these a file of the format begins.

    Raises
    ------
    DataError
        It does not, or it is cut off before.
    """
    with path.open("rb") as file:
        head = file.read(max(len(mark) for mark in marks))
    if any(mark.startswith(head) and mark != head for mark in marks):
        raise broken(path, format_name, "cut off at its beginning" if head else "it is empty")
    if not head.startswith(marks):
        raise not_one(path, format_name, "it begins otherwise")


def whole_number(text: str) -> int | None:
    """A number of at most nine decimal digits, as sidecar files write it; None for other text."""
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else None


def no_inner(path: Path, inner: str | None) -> None:
    """Refuse a path inside a file that holds one array."""
    if inner is not None:
        raise DataError(f"{path}: holds one scan; leave out '::{inner}'")


def frames_in(path: Path, offset: int, frame_bytes: int) -> int:
    """Number of complete frames behind `offset` bytes of header."""
    return max(0, path.stat().st_size - offset) // frame_bytes


def map_frames(
    path: Path, shape: tuple[int, ...], frame: np.dtype[Any], offset: int, format_name: str
) -> np.ndarray:
    """The field "data" of frames in a file as a memory map, (*shape, ky, kx).

    Raises
    ------
    DataError
        The file ends before the last frame.
    """
    wanted, held = math.prod(shape), frames_in(path, offset, frame.itemsize)
    if held < wanted:
        raise broken(path, format_name, f"it holds {held} of {wanted} patterns")
    try:
        frames = np.memmap(path, dtype=frame, mode="r", offset=offset, shape=shape)
    except READ_ERRORS as err:
        raise broken(path, format_name, err) from None
    data: np.ndarray = frames["data"]
    return data


def scan_of_stack(stack: Any, scan_shape: tuple[int, int] | None, path: Path) -> tuple[Any, str]:
    """A stack of patterns as a scan; without a scan shape a square number of them is a square scan.

    Returns
    -------
    patterns : (scan_y, scan_x, ky, kx) array
        Lazily held like the stack.
    remark : str
        Not empty if the shape was assumed.

    Raises
    ------
    DataError
        The scan shape does not fit, or none is given and the stack is not a square.
    """
    frames = int(stack.shape[0])
    remark = ""
    if scan_shape is None:
        side = math.isqrt(frames)
        if side * side != frames or side < 2:
            raise DataError(
                f"{path}: a stack of {frames} patterns whose scan shape the file does not say; "
                f"give it as rows x columns, in a path as {path.name}::YxX"
            )
        scan_shape, remark = (side, side), SQUARE_ASSUMED
    rows, columns = scan_shape
    if rows * columns != frames:
        raise DataError(
            f"{path}: scan shape {rows} x {columns} = {rows * columns} positions does not fit "
            f"{frames} patterns; give rows and columns whose product is {frames}"
        )
    if isinstance(stack, np.ndarray):
        return stack.reshape(rows, columns, *stack.shape[1:]), remark
    return StackAsScan(stack, (rows, columns)), remark


def with_remark(format_name: str, remark: str) -> str:
    """Format name as shown to people, with what was assumed."""
    return f"{format_name}; {remark}" if remark else format_name
