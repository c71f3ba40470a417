"""Volumes to compare, from any place that can hold one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_mep.data._store import READ_ERRORS, one_line
from napari_mep.data.native import is_native, read_truth
from napari_mep.errors import DataError
from napari_mep.evaluation.foreign_volumes import is_foreign_volume, read_foreign_volume
from napari_mep.export.ome_zarr import read_reconstruction
from napari_mep.volume import PhaseVolume

__all__ = ["load_volume"]


def load_volume(path: str | Path) -> PhaseVolume:
    """A phase volume with its world coordinates.

    Parameters
    ----------
    path : str or Path
        An OME-Zarr image (z y x); a simulated dataset written by napari-mep, whose truth is
        taken; a reconstruction by PtyRAD, phaser or fold_slice (``.hdf5``, ``.h5``, ``.mat``; see
        `read_foreign_volume`); or a ``.npz`` with ``phase`` (z, y, x) in radians,
        ``voxel_size_A`` (3,) and optionally ``origin_A`` (3,), the centre of the first voxel.

    Returns
    -------
    PhaseVolume
        (z, y, x) float32, radians.

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
    if path.suffix.lower() == ".npz":
        return _from_npz(path)
    if is_foreign_volume(path):
        return read_foreign_volume(path)
    if not path.is_dir():
        raise DataError(f"{path}: no volume; give an OME-Zarr, a simulated .zarr or a .npz")
    if is_native(path):
        return read_truth(path)
    return read_reconstruction(path)[0]


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
