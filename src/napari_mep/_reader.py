"""What napari opens: our OME-Zarr exports, 4D-STEM files, reconstructions of other programs.

Each ``get_...`` function looks into the file and returns None for what it cannot read, so other
plugins get their turn. A file that can only be a scan is claimed even if it is broken: napari shows
what a reader raises, but not why one refused.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_mep.errors import DataError, MepError

if TYPE_CHECKING:
    from napari.types import LayerDataTuple

    from napari_mep.volume import PhaseVolume

__all__ = [
    "get_reader",
    "get_scan_reader",
    "get_volume_reader",
    "read_layers",
    "read_scan_layers",
    "read_volume_layers",
]

_log = logging.getLogger(__name__)

_ATTRIBUTE = "napari-mep"
# Nothing but detectors and their programs write these.
_ONLY_SCANS = (
    "*.mib", "*.blo", "*.dm3", "*.dm4", "*.hspy", "*_000.tvips", "*_master.h5",
    "*x[0-9]*_y[0-9]*.raw",
)  # fmt: skip
_EMPAD_FRAME = 130 * 128 * 4  # bytes; no image has that many

LayerReader = Callable[[str | Sequence[str]], "list[LayerDataTuple]"]


def get_reader(path: str | Sequence[str]) -> LayerReader | None:
    """Reader for an OME-Zarr folder that this program wrote, None for anything else."""
    if not isinstance(path, str) or not _is_ours(Path(path)):
        return None
    return read_layers


def get_volume_reader(path: str | Sequence[str]) -> LayerReader | None:
    """Reader for a reconstruction by PtyRAD, phaser or fold_slice, None for anything else."""
    from napari_mep.evaluation.foreign_volumes import is_foreign_volume

    if not isinstance(path, str) or not is_foreign_volume(path):
        return None
    return read_volume_layers


def get_scan_reader(path: str | Sequence[str]) -> LayerReader | None:
    """Reader for a 4D-STEM file, None for anything else: images, other volumes.

    Of broken files only those are claimed that cannot be anything else; reading them says why not.
    """
    from napari_mep.data.readers import open_patterns
    from napari_mep.data.virtual import read_part

    if not isinstance(path, str) or get_reader(path) or get_volume_reader(path):
        return None
    try:
        # One pattern: a header can be read where the values cannot, for want of a decompressor.
        read_part(open_patterns(path).patterns, 0, np.zeros(1, int))
    except MepError as err:
        _log.debug("not opened as a scan: %s", err)
        return read_scan_layers if _is_only_a_scan(Path(path)) else None
    return read_scan_layers


def read_layers(path: str | Sequence[str]) -> list[LayerDataTuple]:
    """The volume as one image layer; its metadata hold the plan and the provenance.

    Raises
    ------
    ExportError
        The store is broken.
    """
    from napari_mep.export.ome_zarr import read_reconstruction

    assert isinstance(path, str)  # get_reader has refused stacks of paths
    volume, provenance = read_reconstruction(path)
    name = Path(path).name.removesuffix(".zarr").removesuffix(".ome")
    return [_volume_layer(volume, name, provenance)]


def read_volume_layers(path: str | Sequence[str]) -> list[LayerDataTuple]:
    """Another program's reconstruction as one image layer, in our world coordinates.

    Raises
    ------
    DataError
        The file is broken, or its slices are not equally thick.
    """
    from napari_mep.evaluation.foreign_volumes import read_foreign_volume

    assert isinstance(path, str)
    # Its own key: "plan" and "data" are what our results have.
    return [_volume_layer(read_foreign_volume(path), Path(path).stem, {"foreign_path": path})]


def read_scan_layers(path: str | Sequence[str]) -> list[LayerDataTuple]:
    """Mean pattern and virtual bright field of a 4D-STEM file.

    Raises
    ------
    DataError
        The patterns cannot be read, or the user cancelled.
    """
    from napari_mep._scan_layers import scan_layers
    from napari_mep.data.readers import open_patterns
    from napari_mep.widgets._waiting import Cancelled, wait_for

    assert isinstance(path, str)
    try:
        opened = open_patterns(path)
    except DataError as err:
        # napari opens only paths that exist, so nobody can append "::8x10" here.
        where = (
            "; the widget 4D-STEM data has a field for it" if "rows x columns" in str(err) else ""
        )
        raise DataError(f"{err}{where}") from None
    rows, columns, ky, kx = (int(n) for n in opened.patterns.shape)
    size = rows * columns * ky * kx * opened.patterns.dtype.itemsize / 1e9
    # Sizes are told before anything is read.
    label = f"{opened.name}: {rows} × {columns} patterns of {ky} × {kx} pixels, {size:.3g} GB"
    _log.info("%s", label)
    try:
        return wait_for(partial(scan_layers, opened, path), label)
    except Cancelled:
        raise DataError(f"{path}: cancelled; open it again to see it") from None


def _volume_layer(volume: PhaseVolume, name: str, record: dict[str, Any]) -> LayerDataTuple:
    settings: dict[str, Any] = {
        "name": name,
        "scale": volume.voxel_size_A,
        "translate": volume.origin_A,
        "units": ("angstrom",) * 3,
        "axis_labels": ("z", "y", "x"),
        "colormap": "gray",
        "metadata": {"napari_mep": record},
    }
    return (volume.data, settings, "image")


def _is_only_a_scan(path: Path) -> bool:
    """Whether a file, by its name or its size, can be nothing but a 4D-STEM scan."""
    name = path.name.lower()
    if any(fnmatchcase(name, pattern) for pattern in _ONLY_SCANS):
        return True
    size = path.stat().st_size if name.endswith(".raw") and path.is_file() else 0
    return size > 0 and size % _EMPAD_FRAME == 0


def _is_ours(path: Path) -> bool:
    """Whether the root of a Zarr v3 store carries our attribute; never raises."""
    try:
        root = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
        attributes = root["attributes"]
        return _ATTRIBUTE in attributes and "ome" in attributes
    except (OSError, ValueError, KeyError, TypeError):
        return False
