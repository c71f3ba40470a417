"""Between napari's layers and volumes on world coordinates: which layers can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image

from napari_mep.volume import PhaseVolume

__all__ = [
    "MARK",
    "ScanSource",
    "angstrom_per_unit",
    "fingerprint",
    "is_running",
    "is_volume",
    "obstacle",
    "placement",
    "record_of",
    "scan_source",
    "scans_known",
    "unit_problem",
    "volume_of",
]

MARK = "napari_mep_compare"
"""Key in the metadata of layers that the Compare widget has made and will remove."""

_SAMPLES = 4096  # voxels that a fingerprint looks at
_STRAIGHT = 1e-6  # of the largest element: what rounding leaves of an angle


@dataclass(frozen=True, slots=True)
class ScanSource:
    """A scan that results were made from.

    Parameters
    ----------
    path : str
        File or Zarr folder, optionally with ``::/path/in/file``.
    calibration : dict or None
        As a result remembers it; None: what the file says.
    preprocessing : tuple of dicts
        What came with the calibration to be done first, in this order.
    """

    path: str
    calibration: dict[str, Any] | None = None
    preprocessing: tuple[dict[str, Any], ...] = ()

    @property
    def file(self) -> Path:
        """The file or folder, without the array inside."""
        return Path(self.path.partition("::")[0])

    @property
    def problem(self) -> str:
        """Why nothing can be read from it, one line; empty if the file is there."""
        return "" if self.file.exists() else f"scan {self.path}: no such file"


def is_volume(layer: Any) -> bool:
    """Whether a layer is a volume that can be compared; layers that Compare made are not."""
    return MARK not in layer.metadata and not obstacle(layer)


def obstacle(layer: Any) -> str:
    """What keeps a layer from being compared, a few words; empty if it is a volume."""
    if not isinstance(layer, Image):
        return layer.__class__.__name__.lower()  # a plugin's viewer holds proxies: no type()
    if layer.rgb:
        return "colour"
    if layer.ndim != 3:
        return f"{layer.ndim}D"
    if layer.multiscale:
        return "multiscale"
    if np.dtype(layer.dtype).kind not in "fiu":
        return f"{np.dtype(layer.dtype)} voxels"
    linear = _world_matrix(layer)[:, :3]
    if np.abs(linear - np.diag(np.diag(linear))).max() > _STRAIGHT * np.abs(linear).max():
        return "rotated or sheared"
    return "" if np.abs(np.diag(linear)).min() > 0 else "flat"


def record_of(layer: Any) -> dict[str, Any]:
    """What a layer remembers of its reconstruction, empty if nothing."""
    record = layer.metadata.get("napari_mep")
    return dict(record) if isinstance(record, Mapping) else {}


def is_running(layer: Any) -> bool:
    """Whether the layer is being reconstructed: it knows its plan, but not how the run ended."""
    record = record_of(layer)
    return "plan" in record and "step" not in record


def unit_problem(layer: Any) -> str:
    """A line about axes that are not lengths, empty if all are."""
    odd = {str(unit) for unit in layer.units if _angstrom(str(unit)) is None}
    return f"{layer.name}: axes in {', '.join(sorted(odd))}, taken as angstrom" if odd else ""


def volume_of(layer: Any, affine: np.ndarray | None = None) -> PhaseVolume:
    """The volume of a layer in angstrom; shares its memory where the data are float32.

    It lies where napari draws the layer; an axis that runs backwards is reversed. Axes without a
    unit of length are taken as angstrom, see `unit_problem`.

    Parameters
    ----------
    layer : napari.layers.Image
        A volume, see `is_volume`.
    affine : (4, 4) ndarray, optional
        To be used instead of the layer's, where that has been changed for a while.
    """
    matrix = _world_matrix(layer, affine) * np.array(angstrom_per_unit(layer))[:, None]
    step, origin = np.diag(matrix[:, :3]), matrix[:, 3]
    # A run writes into the buffer of its layer while others may read.
    data = np.array(layer.data) if is_running(layer) else np.asarray(layer.data)
    backwards = step < 0
    data = np.flip(data, tuple(np.flatnonzero(backwards).tolist()))
    origin = origin + np.where(backwards, step * (np.array(data.shape) - 1), 0.0)
    return PhaseVolume(data, tuple(np.abs(step).tolist()), tuple(origin.tolist()))


def angstrom_per_unit(layer: Any) -> tuple[float, ...]:
    """Length of one unit of each axis in angstrom; 1 where it is no length."""
    return tuple(_angstrom(str(unit)) or 1.0 for unit in layer.units)


def placement(volume: PhaseVolume, like: Any) -> dict[str, Any]:
    """Settings of a new layer that puts a volume where it belongs, in the units of another layer.

    napari does not draw layers together whose units cannot be converted into each other.
    """
    factors = angstrom_per_unit(like)
    return {
        "scale": [v / f for v, f in zip(volume.voxel_size_A, factors, strict=True)],
        "translate": [v / f for v, f in zip(volume.origin_A, factors, strict=True)],
        "units": tuple(str(unit) for unit in like.units),
        "axis_labels": tuple(like.axis_labels),
    }


def fingerprint(layer: Any, affine: np.ndarray | None = None) -> tuple[Any, ...]:
    """Changes when the voxels or their place in the world change; costs microseconds.

    `affine` as in `volume_of`.
    """
    flat = np.asarray(layer.data).reshape(-1)
    some = flat[:: max(1, flat.size // _SAMPLES)]
    return (
        layer.data.shape,
        tuple(_world_matrix(layer, affine).ravel().tolist()),
        tuple(str(unit) for unit in layer.units),
        float(some.sum(dtype=np.float64)),
        float(np.abs(some[::2]).sum(dtype=np.float64)),
    )


def scan_source(layer: Any) -> ScanSource | None:
    """The scan that a layer was made from, None if it says nothing about one."""
    record = record_of(layer)
    path = record.get("dataset_path")
    if not path:
        return None
    data = record.get("data")
    data = data if isinstance(data, Mapping) else {}
    # A dataset's path names the file only; its name tells the array inside.
    _, _, inner = str(data.get("name", "")).partition("::")
    source = f"{path}::{inner}" if inner and "::" not in str(path) else str(path)
    calibration = data.get("calibration")
    if not isinstance(calibration, Mapping):
        return ScanSource(source)
    return ScanSource(source, dict(calibration), tuple(data.get("preprocessing", ())))


def _world_matrix(layer: Any, affine: np.ndarray | None = None) -> np.ndarray:
    """(3, 4): from voxel indices to the world in units of the layer, all its transforms applied."""
    points = np.array([layer.data_to_world(p) for p in (*np.eye(3), np.zeros(3))], float).T
    matrix = np.column_stack([points[:, :3] - points[:, 3:], points[:, 3]])
    if affine is None:
        return matrix
    change = np.asarray(affine) @ np.linalg.inv(layer.affine.affine_matrix)
    return np.asarray((change @ np.vstack([matrix, [0, 0, 0, 1]]))[:3], float)


def scans_known(layers: Iterable[Any]) -> tuple[str, ...]:
    """Paths of all scans that layers were made from, each once, in their order."""
    sources = (scan_source(layer) for layer in layers)
    return tuple(dict.fromkeys(source.path for source in sources if source is not None))


@cache
def _angstrom(unit: str) -> float | None:
    """Length of a napari unit in angstrom, None if it is no length."""
    import pint

    try:
        registry = pint.get_application_registry()
        return float(registry.Quantity(1, unit).to("angstrom").magnitude)
    except (pint.UndefinedUnitError, pint.DimensionalityError):
        return None
