"""Gatan DigitalMicrograph ``.dm3`` and ``.dm4``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_mep.data._store import READ_ERRORS
from napari_mep.data.formats._frames import (
    broken,
    check_beginning,
    map_frames,
    no_inner,
    rosettasciio,
    scan_of_stack,
    with_remark,
)
from napari_mep.data.formats._units import Axis, axes_calibration, from_file
from napari_mep.data.opened import OpenedPatterns
from napari_mep.errors import DataError

__all__ = ["open_dm"]

_FORMAT = "Gatan DigitalMicrograph"


def open_dm(
    path: Path, inner: str | None = None, scan_shape: tuple[int, int] | None = None
) -> OpenedPatterns:
    """Open the 4D data, or the stack of patterns, of a ``.dm3`` or ``.dm4`` file as a memory map.

    DigitalMicrograph stores some scans with the detector axes last and some with them first; the
    units of the axes (nm, 1/nm, mrad) tell. Without units the detector axes are taken to be last.

    Raises
    ------
    DataError
        Broken or truncated file, or only images in it.
    """
    no_inner(path, inner)
    reader = rosettasciio("digitalmicrograph", path)
    check_beginning(path, _FORMAT, bytes((0, 0, 0, 3)), bytes((0, 0, 0, 4)))  # its version
    try:
        images = reader.file_reader(str(path), lazy=True)
    except Exception as err:  # noqa: BLE001  its own exceptions have no common base
        raise broken(path, _FORMAT, err) from None
    stacks = [image for image in images if image["data"].ndim in (3, 4)]
    if not stacks:
        shapes = ", ".join(" x ".join(map(str, image["data"].shape)) for image in images)
        raise DataError(f"{path}: no 4D-STEM data; it holds {shapes or 'nothing'}")
    image = max(stacks, key=lambda entry: math.prod(entry["data"].shape))
    data, tags = image["data"], image["original_metadata"]
    try:
        offset = int(tags["ImageList"]["TagGroup0"]["ImageData"]["Data"]["offset"])
    except READ_ERRORS as err:
        raise broken(path, _FORMAT, err) from None
    if data.dtype.names or data.dtype.kind not in "uif":
        raise DataError(f"{path}: values of type {data.dtype}; expected real intensities")
    # One field per value: the whole array is then checked against the size of the file.
    values = map_frames(path, data.shape, np.dtype([("data", data.dtype)]), offset, _FORMAT)
    axes = [Axis(axis["scale"], axis["units"]) for axis in image["axes"]]
    remark = ""
    if data.ndim == 3:
        values, remark = scan_of_stack(values, scan_shape, path)
        axes = [Axis(None, None), Axis(None, None), *axes[1:]]
    elif [axis.kind for axis in axes[:2]] != ["length"] * 2 and (
        [axis.kind for axis in axes[2:]] == ["length"] * 2
        or all(axis.kind in ("reciprocal", "angle") for axis in axes[:2])
    ):
        values, axes = values.transpose(2, 3, 0, 1), [*axes[2:], *axes[:2]]
    volts = _find(tags, "microscope info", "voltage")
    angle = _find(tags, "eels", "convergence semi-angle (mrad)")
    return OpenedPatterns(
        patterns=values,
        calibration=from_file(
            path,
            {
                "beam_energy_keV": float(volts) / 1e3 if volts else None,
                "convergence_semiangle_mrad": float(angle) if angle else None,
                **axes_calibration(axes),
            },
        ),
        name=path.name,
        path=path,
        format=with_remark(_FORMAT, remark),
        provenance={"source": path.name},
    )


def _find(tags: Mapping[str, Any], group: str, name: str) -> float | None:
    """A number in the first group of that name anywhere in the tags; None if it is not there."""
    for key, value in tags.items():
        if not isinstance(value, Mapping):
            continue
        if str(key).lower().replace("_", " ") == group:
            for inner, number in value.items():
                if str(inner).lower().replace("_", " ") == name and isinstance(
                    number, (int, float, np.number)
                ):
                    return float(number)
        found = _find(value, group, name)
        if found is not None:
            return found
    return None
