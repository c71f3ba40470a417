"""HDF5 files: HyperSpy, py4DSTEM and NCEM EMD with what they know, and plain arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from napari_mep.data._arrays import find_dataset, open_hdf5_file
from napari_mep.data._store import READ_ERRORS
from napari_mep.data.formats._frames import broken, scan_of_stack, with_remark
from napari_mep.data.formats._units import Axis, axes_calibration, from_file
from napari_mep.data.formats._views import Reordered
from napari_mep.data.opened import OpenedPatterns
from napari_mep.errors import DataError

__all__ = ["open_hdf5"]

_Dims = list[Axis]


def open_hdf5(
    path: Path, inner: str | None = None, scan_shape: tuple[int, int] | None = None
) -> OpenedPatterns | tuple[Any, str]:
    """Open a dataset of an HDF5 file, left on disk, with the calibration its program wrote.

    HyperSpy's ``.hspy``, py4DSTEM's files of both generations and NCEM's EMD are recognised by
    their content. EMD files whose detector axes come first (HyperSpy writes them so) are seen with
    the axes turned round; their units tell. Anything else is a plain array.

    Raises
    ------
    DataError
        Broken or truncated file, a wrong inner path, or several or no arrays that could be meant.
    """
    file = open_hdf5_file(path)
    try:
        velox = "Version" in file and "Data" in file and "Presentation" in file
    except READ_ERRORS as err:
        raise broken(path, "HDF5", err) from None
    if velox and inner is None:
        raise DataError(
            f"{path}: a Velox file of images and spectra, no 4D-STEM; open the file of the camera"
        )
    dataset, name = find_dataset(path, file, inner, scan_shape is not None)
    try:
        found = ((kind, more, axes_of(file, dataset)) for kind, axes_of, more in _KINDS)
        kind, more, axes = next((f for f in found if f[2] is not None), ("", None, None))
        if axes is None or more is None:
            return dataset, name
        values = more(file, dataset)
    except READ_ERRORS as err:
        raise broken(path, "HDF5", err) from None
    patterns: Any = dataset
    remark = ""
    if dataset.ndim == 3:
        patterns, remark = scan_of_stack(dataset, scan_shape, path)
        axes = [Axis(None, None), Axis(None, None), *axes[-2:]]
    elif kind == "NCEM EMD" and _reversed(axes):
        patterns, axes = Reordered(dataset, (3, 2, 1, 0)), axes[::-1]
    return OpenedPatterns(
        patterns=patterns,
        calibration=from_file(path, axes_calibration(axes)).merge(from_file(path, values)),
        name=f"{path.name}::{name}",
        path=path,
        format=with_remark(kind, remark),
        provenance={"source": f"{path.name}::{name}"},
    )


def _reversed(axes: _Dims) -> bool:
    """Whether the detector axes come first: by their units, without units by their names."""
    kinds = [axis.kind for axis in axes]
    if any(kinds):
        return kinds[0] in ("reciprocal", "angle") or (
            kinds[3] == "length" and kinds[0] != "length"
        )
    names = [axis.name.lower() for axis in axes]
    return names[0].startswith(("k", "q", "d")) and not names[3].startswith(("k", "q", "d"))


def _text(attribute: Any) -> str:
    return attribute.decode() if isinstance(attribute, bytes) else str(attribute)


def _hspy_axes(file: Any, dataset: Any) -> _Dims | None:
    """Axes of a HyperSpy signal: groups ``axis-0`` and so on beside the data."""
    if "axis-0" not in dataset.parent:
        return None
    axes = []
    for index in range(dataset.ndim):
        group = dataset.parent.get(f"axis-{index}")
        attributes = {} if group is None else group.attrs
        scale = attributes.get("scale")
        axes.append(
            Axis(
                None if scale is None else float(scale),
                _text(attributes.get("units", "")),
                _text(attributes.get("name", "")),
            )
        )
    return axes


def _hspy_values(file: Any, dataset: Any) -> dict[str, Any]:
    tem = dataset.parent.get("metadata/Acquisition_instrument/TEM")
    if tem is None:
        return {}
    return {
        "beam_energy_keV": _number(tem.attrs.get("beam_energy")),
        "convergence_semiangle_mrad": _number(tem.attrs.get("convergence_angle")),
    }


def _py4dstem_axes(file: Any, dataset: Any) -> _Dims | None:
    """Axes of a py4DSTEM data cube: ``dim0`` and so on beside the data, or the old layout."""
    group = dataset.parent
    old = "4DSTEM_experiment" in group.name
    kind = _text(group.attrs.get("python_class", ""))
    if not old and kind != "DataCube" and "dim0" not in group:
        return None
    return [_dim(group.get(f"dim{index + old}")) for index in range(dataset.ndim)]


def _py4dstem_values(file: Any, dataset: Any) -> dict[str, Any]:
    """The calibration that py4DSTEM keeps at the root of the tree; it knows more than the axes."""
    found: dict[str, Any] = {}

    def note(name: str, item: Any) -> None:
        if name.rsplit("/", 1)[-1] == "calibration" and hasattr(item, "items"):
            # Datasets today, attributes in the files of old.
            found.update({key: value[()] for key, value in item.items() if hasattr(value, "shape")})
            found.update(dict(item.attrs))

    file.visititems(note)
    values: dict[str, Any] = {}
    scan, detector = ("R_pixel_size", "R_pixel_units"), ("Q_pixel_size", "Q_pixel_units")
    sizes = [_number(found.get(name)) for name, _ in (scan, detector)]
    units = [_text(found.get(name, "")) for _, name in (scan, detector)]
    steps = [Axis(size, unit) for size, unit in zip(sizes, units, strict=True)]
    values.update(axes_calibration([steps[0], steps[0], steps[1], steps[1]]))
    values["convergence_semiangle_mrad"] = _number(found.get("convergence_semiangle_mrad"))
    return values


def _ncem_axes(file: Any, dataset: Any) -> _Dims | None:
    """Axes of an NCEM EMD array: ``dim1`` and so on beside the data."""
    group = dataset.parent
    if "emd_group_type" not in group.attrs or "dim1" not in group:
        return None
    return [_dim(group.get(f"dim{index + 1}")) for index in range(dataset.ndim)]


def _ncem_values(file: Any, dataset: Any) -> dict[str, Any]:
    microscope = file.get("microscope")
    if microscope is None:
        return {}
    volts = _number(microscope.attrs.get("voltage"))
    units = _text(microscope.attrs.get("voltage_units", ""))
    factor = {"[kV]": 1.0, "kV": 1.0, "[V]": 1e-3, "V": 1e-3}.get(units)
    return {"beam_energy_keV": volts * factor} if volts and factor else {}


def _dim(dataset: Any) -> Axis:
    """An EMD axis: coordinates of its points, or of the first two."""
    if dataset is None:
        return Axis(None, None)
    points = np.asarray(dataset[:2]) if dataset.shape else np.empty(0)
    numeric = points.dtype.kind in "iuf" and len(points) == 2
    return Axis(
        float(points[1] - points[0]) if numeric else None,
        _text(dataset.attrs.get("units", "")),
        _text(dataset.attrs.get("name", "")),
    )


def _number(value: Any) -> float | None:
    """A positive number in whatever HDF5 wraps it, None for anything else."""
    array = np.asarray(value).ravel() if value is not None else np.empty(0)
    if not array.size or array.dtype.kind not in "iuf" or not float(array[0]) > 0:
        return None
    return float(array[0])


_KINDS: tuple[
    tuple[
        str,
        Callable[[Any, Any], _Dims | None],
        Callable[[Any, Any], dict[str, Any]],
    ],
    ...,
] = (
    ("HyperSpy", _hspy_axes, _hspy_values),
    ("py4DSTEM", _py4dstem_axes, _py4dstem_values),
    ("NCEM EMD", _ncem_axes, _ncem_values),
)
