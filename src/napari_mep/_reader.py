"""Opens our own OME-Zarr exports with everything they remember; leaves all others alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.types import LayerDataTuple

__all__ = ["get_reader", "read_layers"]

_ATTRIBUTE = "napari-mep"


def get_reader(
    path: str | Sequence[str],
) -> Callable[[str | Sequence[str]], list[LayerDataTuple]] | None:
    """Reader for an OME-Zarr folder that this program wrote, None for anything else."""
    if not isinstance(path, str) or not _is_ours(Path(path)):
        return None
    return read_layers


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
    settings: dict[str, Any] = {
        "name": Path(path).name.removesuffix(".zarr").removesuffix(".ome"),
        "scale": volume.voxel_size_A,
        "translate": volume.origin_A,
        "units": ("angstrom",) * 3,
        "axis_labels": ("z", "y", "x"),
        "colormap": "gray",
        "metadata": {"napari_mep": provenance},
    }
    return [(volume.data, settings, "image")]


def _is_ours(path: Path) -> bool:
    """Whether the root of a Zarr v3 store carries our attribute; never raises."""
    try:
        root = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
        attributes = root["attributes"]
        return _ATTRIBUTE in attributes and "ome" in attributes
    except (OSError, ValueError, KeyError, TypeError):
        return False
