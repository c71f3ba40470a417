"""Bare arrays out of NumPy and HDF5 files: finding the one that is meant, refusing broken ones.

The ``open_...`` functions take (path, inner path or None, scan shape or None) and return the array,
lazily where the format allows, with the inner path it was found at.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from napari_mep.data._memory import usable_memory
from napari_mep.data._store import READ_ERRORS, one_line
from napari_mep.data.formats._frames import broken, check_beginning, not_one
from napari_mep.errors import DataError

__all__ = [
    "check_sources",
    "find_dataset",
    "only_candidate",
    "open_hdf5_file",
    "open_npy",
    "open_npz",
]

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def open_npy(
    path: Path, inner: str | None, scan_shape: tuple[int, int] | None
) -> tuple[np.ndarray, str]:
    """A ``.npy`` file as a memory map."""
    if inner is not None:
        raise DataError(f"{path}: a .npy file holds one array; leave out '::{inner}'")
    check_beginning(path, ".npy", b"\x93NUMPY")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except READ_ERRORS as err:
        raise broken(path, ".npy", err) from None
    return array, ""


def open_npz(
    path: Path, inner: str | None, scan_shape: tuple[int, int] | None
) -> tuple[np.ndarray, str]:
    """One array of a ``.npz`` archive, read into memory."""
    check_beginning(path, ".npz", b"PK")
    try:
        # Opened here: np.load leaves the file open when the archive is broken.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            shapes = {
                name: _npz_header(archive, name)[0] for name in archive.files if inner is None
            }
            name = inner or only_candidate(path, shapes, scan_shape is not None)
            if name not in archive.files:
                raise DataError(
                    f"{path}: no array '{name}'; it holds {', '.join(archive.files) or 'nothing'}"
                )
            shape, dtype = _npz_header(archive, name)
            _refuse_what_does_not_fit(path, math.prod(shape) * dtype.itemsize)
            return archive[name], name
    except READ_ERRORS as err:
        raise broken(path, ".npz", err) from None


def _npz_header(archive: Any, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of a member, without its values."""
    with archive.zip.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(member)
        return shape, dtype


def _refuse_what_does_not_fit(path: Path, size: int) -> None:
    """The one format that is read whole must leave half of the memory for the rest."""
    memory = usable_memory()
    if memory is not None and size > memory / 2:
        raise DataError(
            f"{path}: {size / 1e9:.3g} GB, which a .npz archive can only be read whole, more than "
            f"half of this machine's {memory / 1e9:.3g} GB; save the array as .npy, which stays on "
            "the disk"
        )


def open_hdf5_file(path: Path, format_name: str = "HDF5") -> Any:
    """An HDF5 file for reading; it stays open as long as anything in it is used.

    Raises
    ------
    DataError
        No HDF5 file, or not a whole one; calls it a `format_name` file.
    """
    import h5py

    # A user block may come before the signature, so its place is left to the library.
    if path.stat().st_size > len(_HDF5_SIGNATURE) and not h5py.is_hdf5(path):
        raise not_one(path, format_name, "it has no HDF5 signature")
    try:
        return h5py.File(path, "r")
    except OSError as err:
        raise broken(path, format_name, err) from None


def find_dataset(path: Path, file: Any, inner: str | None, stack: bool) -> tuple[Any, str]:
    """The dataset of an open HDF5 file that is meant, left on disk, and where it was found.

    Parameters
    ----------
    path : Path
        For the words of errors.
    file : h5py.File
        An open file.
    inner : str or None
        Where the dataset is; None if it is to be found.
    stack : bool
        Whether 3 axes will do, because a scan shape is known.
    """
    import h5py

    try:
        shapes = _hdf5_shapes(file)
        name = inner or only_candidate(path, shapes, stack)
        found = file.get(name)
    except READ_ERRORS as err:
        raise DataError(
            f"{path}: the HDF5 file is damaged ({one_line(err)}); copy it anew"
        ) from None
    if not isinstance(found, h5py.Dataset):
        raise DataError(f"{path}: no dataset '{name}'; {_listing(shapes)}")
    check_sources(path, found)
    return found, name


def check_sources(path: Path, dataset: Any) -> None:
    """Look for the files that a virtual dataset is made of: HDF5 reads what is gone as zeros.

    Parameters
    ----------
    path : Path
        The file that holds the dataset.
    dataset : h5py.Dataset
        Virtual or not.

    Raises
    ------
    DataError
        Names the first source that is missing or cannot be read.
    """
    import h5py

    try:
        sources = dataset.virtual_sources() if dataset.is_virtual else ()
        parts = {(source.file_name, source.dset_name) for source in sources}
    except READ_ERRORS as err:
        raise broken(path, "HDF5", err) from None
    for file_name, name in sorted(parts):
        if file_name == ".":  # the very same file
            missing = name not in dataset.file
        else:
            # A pattern of names stands for numbered files; the first one is looked for.
            named = file_name.replace("%b", "0")
            places = (path.parent / named, Path(named))  # where HDF5 looks
            file = next((place for place in places if place.is_file()), None)
            if file is None:
                raise DataError(
                    f"{path}: a virtual dataset whose source {named} is missing; put it in "
                    f"{path.parent}"
                )
            try:
                with h5py.File(file, "r") as source:
                    missing = name.replace("%b", "0") not in source
            except READ_ERRORS as err:
                raise broken(file, "HDF5", err) from None
        if missing:
            raise DataError(f"{path}: a virtual dataset whose source {file_name}::{name} is empty")


def _hdf5_shapes(file: Any) -> dict[str, tuple[int, ...]]:
    import h5py

    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape and item.dtype.kind in "uifc":
            shapes[f"/{name}"] = item.shape

    file.visititems(note)
    return shapes


def only_candidate(path: Path, shapes: dict[str, tuple[int, ...]], stack: bool) -> str:
    """The only array that can be patterns: 4 axes, or 3 if the scan shape is given."""
    candidates = [name for name, shape in shapes.items() if len(shape) == 4]
    if not candidates and stack:
        candidates = [name for name, shape in shapes.items() if len(shape) == 3]
    if len(candidates) == 1:
        return candidates[0]
    what = "several" if candidates else "no"
    scan = "" if candidates or stack else " (for a stack of 3 axes give the scan shape too)"
    raise DataError(
        f"{path}: {what} arrays with 4 axes; name the patterns as {path.name}::NAME{scan}; "
        f"{_listing(shapes)}"
    )


def _listing(shapes: dict[str, tuple[int, ...]]) -> str:
    big = {name: shape for name, shape in shapes.items() if len(shape) >= 3} or shapes
    shown = [f"{name} {tuple(shape)}" for name, shape in list(big.items())[:8]]
    more = f" and {len(big) - 8} more" if len(big) > 8 else ""
    return f"it holds {', '.join(shown)}{more}" if shown else "it holds no arrays"
