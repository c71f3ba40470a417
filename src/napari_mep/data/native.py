"""Our own container for 4D-STEM data: a Zarr v3 group with everything that is known.

Layout: array ``patterns`` (scan_y, scan_x, ky, kx); optionally ``mask`` (ky, kx), ``probe``
(ky, kx), ``positions`` (n, 2), A, and ``truth/phase`` (z, y, x), radians. The group attribute
``napari-mep`` holds format, version, name, calibration with its sources, and provenance.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_mep.data._store import READ_ERRORS, atomic_directory, missing_chunks, one_line, to_json
from napari_mep.data.calibration import PartialCalibration
from napari_mep.data.dataset import DiffractionDataset, PatternArray
from napari_mep.data.opened import OpenedPatterns
from napari_mep.errors import CalibrationError, DataError
from napari_mep.volume import PhaseVolume

__all__ = ["is_native", "read_native", "read_truth", "write_dataset"]

ATTRIBUTE = "napari-mep"
FORMAT = "4d-stem"
VERSION = 1
_CHUNK_BYTES = 1 << 20  # small: solvers read random patterns
_KEPT = ("guessed", "fitted")  # sources that stay what they are; all others become the file's


def write_dataset(
    path: str | Path, dataset: DiffractionDataset, *, overwrite: bool = False
) -> Path:
    """Write a dataset as a Zarr v3 store, atomically; patterns keep their values and dtype.

    Parameters
    ----------
    path : str or Path
        Directory to write, ``NAME.zarr``.
    dataset : DiffractionDataset
        What to write; copied scan row by scan row, so it may be larger than memory.
    overwrite : bool
        Replace an existing Zarr store.

    Returns
    -------
    Path
        The directory written.

    Raises
    ------
    ExportError
        The target exists, cannot be written or has the name of another kind of file.
    DataError
        The patterns of `dataset` cannot be read.
    """
    import zarr

    with atomic_directory(path, overwrite) as folder:
        root = zarr.open_group(folder, mode="w", zarr_format=3)
        _copy_patterns(root, dataset)
        if dataset.mask is not None:
            _write_array(root, "mask", np.asarray(dataset.mask, dtype=bool), ("ky", "kx"))
        if dataset.probe is not None:
            _write_array(root, "probe", np.asarray(dataset.probe), ("y", "x"))
        if dataset.positions is not None:
            _write_array(root, "positions", dataset.positions, ("pattern", "yx"))
        if dataset.truth is not None:
            group = root.create_group("truth")
            _write_array(group, "phase", dataset.truth.data, ("z", "y", "x"))
            group.attrs["voxel_size_A"] = list(dataset.truth.voxel_size_A)
            group.attrs["origin_A"] = list(dataset.truth.origin_A)
        root.attrs[ATTRIBUTE] = to_json(
            {
                "format": FORMAT,
                "version": VERSION,
                "name": dataset.name,
                "calibration": dataset.calibration.model_dump(),
                "calibration_sources": dataset.calibration.sources,
                "provenance": dataset.provenance,
            }
        )
    return Path(path)


def is_native(path: str | Path) -> bool:
    """Whether `path` is a dataset that `write_dataset` wrote; False if it is broken or missing."""
    try:
        _open_root(Path(path))
    except DataError:
        return False
    return True


def read_native(path: str | Path) -> OpenedPatterns:
    """Open a dataset written by `write_dataset`; patterns stay on disk.

    Raises
    ------
    DataError
        Missing or broken store, missing chunks, or a newer format version.
    """
    path = Path(path)
    root = _open_root(path)
    attributes = root.attrs[ATTRIBUTE]
    patterns = _array(root, "patterns", path)
    truth = read_truth(path) if _holds(root, "truth", path) else None
    mask, probe, positions = (
        _whole_array(root, name, path) if _holds(root, name, path) else None
        for name in ("mask", "probe", "positions")
    )
    try:
        values = dict(attributes.get("calibration", {}))
        written = dict(attributes.get("calibration_sources", {}))
        provenance = dict(attributes.get("provenance", {}))
    except READ_ERRORS:
        raise DataError(f"{path}: its attributes are damaged; copy or write it anew") from None
    # A default stays one (the user may not have known it); what the writer knew is the file's now.
    known = {k: v for k, v in values.items() if v is not None and written.get(k) != "default"}
    try:
        calibration = PartialCalibration(
            known, {k: kept if (kept := written.get(k)) in _KEPT else "file" for k in known}
        )
    except CalibrationError as err:
        raise CalibrationError(f"{path}: {err}") from None
    return OpenedPatterns(
        patterns=patterns,
        calibration=calibration,
        name=str(attributes.get("name", path.stem)),
        path=path,
        format="napari-mep Zarr",
        mask=mask,
        truth=truth,
        probe=probe,
        positions=positions,
        provenance=provenance,
    )


def read_truth(path: str | Path) -> PhaseVolume:
    """The specimen that a simulated dataset started from.

    Raises
    ------
    DataError
        The store is broken or has no truth.
    """
    path = Path(path)
    root = _open_root(path)
    if not _holds(root, "truth", path):
        raise DataError(f"{path}: holds no truth volume; only simulated data do")
    data = _whole_array(root, "truth/phase", path)
    try:
        known = root["truth"].attrs
        return PhaseVolume(data, known["voxel_size_A"], known["origin_A"])
    except READ_ERRORS as err:
        raise DataError(f"{path}: truth volume is broken ({err}); write the file anew") from None


def _copy_patterns(root: Any, dataset: DiffractionDataset) -> None:
    source: PatternArray = dataset.patterns
    rows, columns, ky, kx = (int(n) for n in source.shape)
    dtype = np.dtype(source.dtype)
    per_chunk = max(1, _CHUNK_BYTES // (ky * kx * dtype.itemsize))
    target = root.create_array(
        "patterns",
        shape=(rows, columns, ky, kx),
        dtype=dtype,
        chunks=(1, min(columns, per_chunk), ky, kx),
        dimension_names=["scan_y", "scan_x", "ky", "kx"],
        config={"write_empty_chunks": True},
    )
    for row in range(rows):
        try:
            block = np.asarray(source[row, slice(0, columns)])
        except READ_ERRORS as err:
            raise DataError(
                f"{dataset.name}: scan row {row} cannot be read ({one_line(err)})"
            ) from None
        target[row] = block


def _write_array(group: Any, name: str, data: np.ndarray, axes: tuple[str, ...]) -> None:
    array = group.create_array(
        name,
        shape=data.shape,
        dtype=data.dtype,
        chunks=data.shape,
        dimension_names=list(axes),
        config={"write_empty_chunks": True},
    )
    array[...] = data


def _open_root(path: Path) -> Any:
    import zarr

    if not path.exists():
        raise DataError(f"{path}: no such file")
    try:
        root: Any = zarr.open_group(path, mode="r")
        attributes = root.attrs.get(ATTRIBUTE)
    except READ_ERRORS as err:
        raise DataError(f"{path}: not readable as a Zarr group ({one_line(err)})") from None
    if not isinstance(attributes, dict) or attributes.get("format") != FORMAT:
        raise DataError(f"{path}: a Zarr store, but not 4D-STEM data written by napari-mep")
    version = attributes.get("version")
    if version != VERSION:
        raise DataError(
            f"{path}: format version {version}, this program reads {VERSION}; update napari-mep"
        )
    return root


def _holds(root: Any, name: str, path: Path) -> bool:
    try:
        return name in root
    except READ_ERRORS as err:
        raise DataError(f"{path}: '{name}' is damaged ({one_line(err)}); copy it anew") from None


def _whole_array(root: Any, name: str, path: Path) -> Any:
    array = _array(root, name, path)
    try:
        return array[:]
    except READ_ERRORS as err:
        raise DataError(f"{path}: '{name}' is damaged ({one_line(err)}); copy it anew") from None


def _array(root: Any, name: str, path: Path) -> Any:
    """An array of the store, complete: Zarr would fill chunks that are missing with zeros."""
    import zarr

    try:
        array = root[name]
        if not isinstance(array, zarr.Array):
            raise TypeError("not an array")
        missing = missing_chunks(array)
    except READ_ERRORS as err:
        raise DataError(f"{path}: array '{name}' is missing or broken ({one_line(err)})") from None
    if missing:
        raise DataError(
            f"{path}: {missing} of {array.nchunks} chunks of '{name}' are missing; "
            "the store is truncated, copy or write it anew"
        )
    return array
