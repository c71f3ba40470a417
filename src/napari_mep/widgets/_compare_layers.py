"""Between napari's layers and volumes on world coordinates: which layers can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
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
    "unit_problem",
    "volume_of",
]

MARK = "napari_mep_compare"
"""Key in the metadata of layers that the Compare widget has made and will remove."""

_SAMPLES = 4096  # voxels that a fingerprint looks at


@dataclass(frozen=True, slots=True)
class ScanSource:
    """A scan that results were made from.

    Parameters
    ----------
    path : str
        File or Zarr folder, optionally with ``::/path/in/file``.
    calibration : dict or None
        As a result remembers it; None: what the file says.
    """

    path: str
    calibration: dict[str, Any] | None = None


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
    return "" if min(layer.scale) > 0 else "negative scale"


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


def volume_of(layer: Any) -> PhaseVolume:
    """The volume of a layer in angstrom; shares its memory where the data are float32.

    Axes without a unit of length are taken as angstrom, see `unit_problem`.
    """
    factors = angstrom_per_unit(layer)
    scale, translate = (
        tuple(float(v) * f for v, f in zip(values, factors, strict=True))
        for values in (layer.scale, layer.translate)
    )
    # A run writes into the buffer of its layer while others may read.
    data = np.array(layer.data) if is_running(layer) else np.asarray(layer.data)
    return PhaseVolume(data, scale, translate)  # type: ignore[arg-type]


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


def fingerprint(layer: Any) -> tuple[Any, ...]:
    """Changes when the voxels or their place in the world change; costs microseconds."""
    flat = np.asarray(layer.data).reshape(-1)
    some = flat[:: max(1, flat.size // _SAMPLES)]
    return (
        layer.data.shape,
        tuple(layer.scale),
        tuple(layer.translate),
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
    return ScanSource(source, dict(calibration) if isinstance(calibration, Mapping) else None)


@cache
def _angstrom(unit: str) -> float | None:
    """Length of a napari unit in angstrom, None if it is no length."""
    import pint

    try:
        registry = pint.get_application_registry()
        return float(registry.Quantity(1, unit).to("angstrom").magnitude)
    except (pint.UndefinedUnitError, pint.DimensionalityError):
        return None
