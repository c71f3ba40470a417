"""Dectris ARINA: a ``..._master.h5`` file with links to the files that hold the patterns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from napari_mep.data._arrays import check_sources, open_hdf5_file
from napari_mep.data._store import READ_ERRORS, one_line
from napari_mep.data.formats._frames import broken, no_inner, scan_of_stack, with_remark
from napari_mep.data.formats._units import from_file, length_A, parse_unit
from napari_mep.data.formats._views import Concatenated
from napari_mep.data.opened import OpenedPatterns
from napari_mep.errors import DataError

__all__ = ["open_master"]

_FORMAT = "Dectris ARINA"
_DETECTOR = "entry/instrument/detector"


def open_master(
    path: Path, inner: str | None = None, scan_shape: tuple[int, int] | None = None
) -> OpenedPatterns:
    """Open the patterns that a master file links to; they are decompressed as they are read.

    The scan shape is the caller's, that of the microscope's file beside it
    (``..._em_metadata.h5``), or the number of triggers and of frames for each; a square scan is
    assumed as a last resort. Pixels that the detector's own mask calls bad read as zero.

    Raises
    ------
    DataError
        Broken file, missing data files, a missing decompressor, or a scan shape that does not fit.
    """
    no_inner(path, inner)
    try:
        import hdf5plugin  # noqa: F401  registers the filters that the detector compresses with
    except ImportError as err:
        raise DataError(
            f"{path}: its compression needs hdf5plugin ({one_line(err)}); "
            "run: pip install 'napari-mep[io]'"
        ) from None
    file = open_hdf5_file(path, _FORMAT)
    try:
        group = file["entry/data"]
        parts = [_part(path, group, name) for name in sorted(group)]
        parts = [part for part in parts if part is not None]
        if not parts or any(part.shape[1:] != parts[0].shape[1:] for part in parts):
            raise ValueError("entry/data holds no stacks of patterns of one size")
        values, metadata_shape = _values(path, file)
        mask = _bad_pixels(file, parts[0].shape[1:])
        triggers = _scan_from_triggers(file, sum(part.shape[0] for part in parts))
    except READ_ERRORS as err:
        raise broken(path, _FORMAT, err) from None
    stack: Any = Concatenated(parts) if len(parts) > 1 else parts[0]
    if mask is not None:
        stack = _Masked(stack, mask)
    patterns, remark = scan_of_stack(stack, scan_shape or metadata_shape or triggers, path)
    return OpenedPatterns(
        patterns=patterns,
        calibration=from_file(path, values),
        name=path.name,
        path=path,
        format=with_remark(_FORMAT, remark),
        provenance={"source": path.name},
    )


class _Masked:
    """A stack whose bad pixels read as zero: the detector marks them with its largest value."""

    def __init__(self, stack: Any, bad: np.ndarray) -> None:
        self._stack, self._bad = stack, bad
        self.shape = tuple(int(n) for n in stack.shape)
        self.dtype = np.dtype(stack.dtype)

    def __getitem__(self, key: slice) -> np.ndarray:
        patterns = np.array(self._stack[key])
        patterns[:, self._bad] = 0
        return patterns


def _part(path: Path, group: Any, name: str) -> Any:
    """One stack, None for anything else; a link into a file that is gone has its own words."""
    import h5py

    link = group.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink) and not (path.parent / link.filename).is_file():
        # A damaged name may hold bytes that no terminal can show.
        named = link.filename.encode("utf-8", "replace").decode()
        raise DataError(f"{path}: its data file {named} is missing; put it beside this one")
    found = group[name]
    if not isinstance(found, h5py.Dataset) or found.ndim != 3:
        return None
    check_sources(path.parent / Path(found.file.filename).name, found)
    return found


def _bad_pixels(file: Any, pixels: tuple[int, ...]) -> np.ndarray | None:
    for name in ("pixel_mask", "detectorSpecific/pixel_mask"):
        mask = file.get(f"{_DETECTOR}/{name}")
        if mask is not None and tuple(mask.shape) == tuple(pixels):
            bad = np.asarray(mask[()]) != 0
            return bad if bad.any() else None
    return None


def _scan_from_triggers(file: Any, frames: int) -> tuple[int, int] | None:
    """One trigger for each scan line, if that is how the detector was run."""
    numbers = [file.get(f"{_DETECTOR}/detectorSpecific/{name}") for name in ("ntrigger", "nimages")]
    if any(number is None for number in numbers):
        return None
    rows, columns = (int(np.asarray(number[()]).ravel()[0]) for number in numbers)
    return (rows, columns) if min(rows, columns) > 1 and rows * columns == frames else None


def _values(path: Path, file: Any) -> tuple[dict[str, Any], tuple[int, int] | None]:
    """What the master file and the microscope's file beside it know; the latter wins."""
    import h5py

    values: dict[str, Any] = {
        "beam_energy_keV": _energy_keV(file.get(f"{_DETECTOR}/incident_energy"))
        or _energy_keV(file.get("entry/instrument/beam/incident_energy"))
    }
    # Written as if for X-rays: pitch and distance of the camera give the angle only if calibrated.
    beside = path.with_name(path.name[: -len("_master.h5")] + "_em_metadata.h5")
    if not beside.is_file():
        return values, None
    with h5py.File(beside, "r") as microscope:
        root = microscope.get("electron_microscope")
        if root is None:
            return values, None
        scan = root.get("scan_controller/regular_scan")
        energy = _energy_keV(root.get("electron_source/accelerating_voltage"))
        values["beam_energy_keV"] = energy or values["beam_energy_keV"]
        values["convergence_semiangle_mrad"] = _angle_mrad(
            root.get("illumination_system/semi_convergence_angle")
        )
        steps = [
            _angle_mrad(root.get(f"imaging_system/reciprocal_pixel_size_{axis}")) for axis in "yx"
        ]
        if steps[0] and steps[1] and math.isclose(steps[0], steps[1], rel_tol=0.01):
            values["detector_step_mrad"] = steps[0]
        if scan is None:
            return values, None
        lengths = [_length_A(scan.get(f"pixel_size_{axis}")) for axis in "yx"]
        if lengths[0] and lengths[1]:
            values["scan_step_A"] = (lengths[0], lengths[1])
        sizes = [scan.get(f"n_pixels_{axis}") for axis in "yx"]
        if any(size is None for size in sizes):
            return values, None
        rows, columns = (int(np.asarray(size[()]).ravel()[0]) for size in sizes)
        return values, (rows, columns)


def _number_and_unit(dataset: Any) -> tuple[float, str]:
    if dataset is None:
        return 0.0, ""
    unit = dataset.attrs.get("units", "")
    text = unit.decode() if isinstance(unit, bytes) else str(unit)
    return float(np.asarray(dataset[()]).ravel()[0]), text.strip()


def _energy_keV(dataset: Any) -> float | None:
    number, unit = _number_and_unit(dataset)
    factor = {"eV": 1e-3, "V": 1e-3, "keV": 1.0, "kV": 1.0}.get(unit)
    return number * factor if factor and number > 0 else None


def _angle_mrad(dataset: Any) -> float | None:
    number, unit = _number_and_unit(dataset)
    parsed = parse_unit(unit)
    return number * parsed[1] if parsed and parsed[0] == "angle" and number > 0 else None


def _length_A(dataset: Any) -> float | None:
    number, unit = _number_and_unit(dataset)
    return length_A(number, unit) if number > 0 else None
