"""File > Save of a phase volume as OME-Zarr 0.5."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_mep.errors import ExportError
from napari_mep.volume import PhaseVolume

__all__ = ["write_ome_zarr"]


def write_ome_zarr(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write one image layer.

    Parameters
    ----------
    path : str
        Folder to write, ``NAME.ome.zarr``; an existing one is not replaced.
    data : (z, y, x) array
        Phase in radians.
    attributes : dict
        From napari: scale, translation, units and metadata of the layer.

    Returns
    -------
    list of str
        What was written.

    Raises
    ------
    ExportError
        Not a volume, axes not in units of length, or the target exists or cannot be written.
    """
    from napari_mep.export.ome_zarr import write_reconstruction

    name = str(attributes.get("name", "phase"))
    data = np.asarray(data)
    if data.ndim != 3 or data.dtype.kind not in "fiu":
        raise ExportError(
            f"layer {name!r}: {data.ndim} axes of {data.dtype}; expected a volume (z, y, x)"
        )
    to_A = [_angstrom(name, unit) for unit in attributes.get("units", ("angstrom",) * 3)]
    scale, translate = (
        tuple(float(v) * f for v, f in zip(attributes.get(key, default), to_A, strict=True))
        for key, default in (("scale", (1.0,) * 3), ("translate", (0.0,) * 3))
    )
    volume = PhaseVolume(data, scale, translate)  # type: ignore[arg-type]
    provenance = attributes.get("metadata", {}).get("napari_mep", {})
    return [str(write_reconstruction(path, volume, provenance, name=name))]


def _angstrom(name: str, unit: Any) -> float:
    """Length of a napari unit in angstrom."""
    import pint

    registry = pint.get_application_registry()
    try:
        return float(registry.Quantity(1, str(unit)).to("angstrom").magnitude)
    except (pint.UndefinedUnitError, pint.DimensionalityError):
        raise ExportError(
            f"layer {name!r}: axis in {unit}, not a length; set its scale and unit, "
            "for example layer.units = 'angstrom'"
        ) from None
