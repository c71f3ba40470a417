"""Writing directories so that a reader never sees half of one, and metadata that JSON can hold."""

from __future__ import annotations

import math
import os
import shutil
import struct
import tokenize
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from napari_mep.errors import ExportError

__all__ = [
    "READ_ERRORS",
    "atomic_directory",
    "check_target",
    "is_store",
    "missing_chunks",
    "one_line",
    "to_json",
]

READ_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    MemoryError,
    EOFError,
    SyntaxError,
    tokenize.TokenError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy, h5py, zarr, its codecs and rosettasciio raise on missing, broken or odd files.

Among them a header that promises more than any memory holds, and NumPy's, which is Python source.
"""


def one_line(err: BaseException) -> str:
    """The message of an error in one line, or its type if it has none."""
    return " ".join(str(err).split()) or type(err).__name__


def missing_chunks(array: Any) -> int:
    """How many chunks of a Zarr array are not there, which Zarr would fill with zeros.

    Counting the files of a store on disk is six times faster than asking zarr, which is asked
    where the number is not the expected one.
    """
    folder = Path(getattr(array.store, "root", "")) / array.path
    files = sum(
        name.removeprefix("c").replace(".", "").isdigit()
        for _, _, names in os.walk(folder)
        for name in names
    )
    stored = array.shards or array.chunks
    expected = math.prod(-(-n // size) for n, size in zip(array.shape, stored, strict=True))
    return 0 if files == expected else int(array.nchunks - array.nchunks_initialized)


def is_store(path: Path) -> bool:
    """Whether a folder is a Zarr array or group of either version."""
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def check_target(path: str | Path, overwrite: bool = False) -> Path:
    """Refuse a place where a Zarr store cannot or must not be written; touches nothing.

    Parameters
    ----------
    path : str or Path
        The store to be written, a directory.
    overwrite : bool
        Whether an existing Zarr store may be replaced. Nothing else is ever replaced.

    Returns
    -------
    Path
        The same path, absolute.

    Raises
    ------
    ExportError
        Something exists there, a part of the path is no directory, or the name is that of another
        kind of file.
    """
    path = Path(path).absolute()
    if path.suffix.lower() not in ("", ".zarr"):
        named = path.with_suffix(".zarr")
        raise ExportError(f"output {path}: a Zarr folder is written; name it {named}")
    try:
        if path.exists() or path.is_symlink():
            if not is_store(path):
                raise ExportError(f"output {path}: exists and is no Zarr store; choose another")
            if not overwrite:
                raise ExportError(
                    f"output {path}: exists already; choose another or allow --overwrite"
                )
        for parent in path.parents:
            if parent.exists():
                if not parent.is_dir():
                    raise ExportError(f"output {path}: {parent} is a file, not a folder")
                if not os.access(parent, os.W_OK | os.X_OK):
                    raise ExportError(
                        f"output {path}: no permission to write in {parent}; choose another folder"
                    )
                break
    except OSError as err:
        raise ExportError(f"output {path}: cannot be written ({err.strerror or err})") from None
    return path


@contextmanager
def atomic_directory(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary directory beside `path` that takes its name when the block ends well.

    If the block fails, or the process dies, `path` is as it was before. Missing parent folders
    are created.

    Raises
    ------
    ExportError
        See `check_target`; also when the disk refuses (full, read-only).
    """
    path = check_target(path, overwrite)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir()
            yield temporary
            _swap(temporary, path)
        except OSError as err:
            raise ExportError(f"output {path}: cannot be written ({err.strerror or err})") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(temporary: Path, path: Path) -> None:
    """Put `temporary` in the place of `path`; a rename cannot replace a directory with files."""
    if not path.exists():
        temporary.rename(path)
        return
    old = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
    path.rename(old)
    try:
        temporary.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def to_json(value: Any) -> Any:
    """The same value in types that strict JSON knows.

    Numpy scalars and arrays become numbers and lists, paths and enum-like objects strings,
    pydantic models dictionaries; NaN and infinity, which JSON lacks, become None.
    """
    if hasattr(value, "model_dump"):
        return to_json(value.model_dump())
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return to_json(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)
