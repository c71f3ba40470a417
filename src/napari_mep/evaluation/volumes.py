"""Volumes to compare, from any place that can hold one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_mep.data._store import READ_ERRORS, one_line
from napari_mep.data.native import is_native, read_truth
from napari_mep.errors import DataError
from napari_mep.evaluation.foreign_volumes import FOREIGN_SUFFIXES, read_foreign_volume
from napari_mep.export.ome_zarr import read_reconstruction
from napari_mep.volume import PhaseVolume

__all__ = ["load_result", "load_volume"]

_KINDS = (
    "an OME-Zarr image, a simulated .zarr, a .npz, or a file of PtyRAD, phaser or fold_slice "
    f"({', '.join(FOREIGN_SUFFIXES)})"
)


def load_volume(path: str | Path) -> PhaseVolume:
    """A phase volume with its world coordinates.

    Parameters
    ----------
    path : str or Path
        See `load_result`.

    Returns
    -------
    PhaseVolume
        (z, y, x) float32, radians.

    Raises
    ------
    DataError, ExportError
        See `load_result`.
    """
    return load_result(path)[0]


def load_result(path: str | Path) -> tuple[PhaseVolume, dict[str, Any]]:
    """A phase volume, and what its file says of how it was made.

    Parameters
    ----------
    path : str or Path
        An OME-Zarr image (z y x); a simulated dataset written by napari-mep, whose truth is
        taken; a reconstruction by PtyRAD, phaser or fold_slice (``.hdf5``, ``.h5``, ``.mat``; see
        `read_foreign_volume`); or a ``.npz`` with ``phase`` (z, y, x) in radians,
        ``voxel_size_A`` (3,) and optionally ``origin_A`` (3,), the centre of the first voxel.

    Returns
    -------
    volume : PhaseVolume
        (z, y, x) float32, radians, in world coordinates.
    record : dict
        See `napari_mep.reconstruction.provenance.provenance`; empty for what another program wrote
        and for the truth of a simulation.

    Raises
    ------
    DataError
        Missing or broken file, unknown kind, or a dataset without a truth.
    ExportError
        A broken OME-Zarr store.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.is_dir():
        return (_truth(path), {}) if is_native(path) else read_reconstruction(path)
    if path.suffix.lower() == ".npz":
        return _from_npz(path), {}
    if path.suffix.lower() in FOREIGN_SUFFIXES:
        return read_foreign_volume(path), {}
    raise DataError(f"{path}: no file of a kind that holds a volume; give {_KINDS}")


def _truth(path: Path) -> PhaseVolume:
    try:
        return read_truth(path)
    except DataError as err:
        raise DataError(f"{err}; it is a scan, give {_KINDS}") from None


def _from_npz(path: Path) -> PhaseVolume:
    try:
        # Opened here: np.load leaves the file open when the archive is broken.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = {"phase", "voxel_size_A"} - set(archive.files)
            if missing:
                raise DataError(
                    f"{path}: lacks {' and '.join(sorted(missing))}; "
                    f"it holds {', '.join(archive.files) or 'nothing'}"
                )
            origin = archive["origin_A"] if "origin_A" in archive.files else np.zeros(3)
            voxel = archive["voxel_size_A"].ravel().tolist()
            return PhaseVolume(archive["phase"], tuple(voxel), tuple(origin.ravel().tolist()))
    except READ_ERRORS as err:
        raise DataError(f"{path}: not a readable volume ({one_line(err)})") from None
