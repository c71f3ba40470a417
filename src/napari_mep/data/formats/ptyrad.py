"""The scan that a PtyRAD parameter file describes, with the calibration it gives."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_mep.data.calibration import PartialCalibration
from napari_mep.data.dataset import PatternArray
from napari_mep.data.formats._disk import disk
from napari_mep.data.formats._frames import map_frames, no_inner
from napari_mep.data.formats._units import from_file
from napari_mep.data.formats.ptyrad_settings import PtyradSettings, read_settings
from napari_mep.data.opened import OpenedPatterns
from napari_mep.errors import DataError

__all__ = ["measurement", "open_params"]

_log = logging.getLogger(__name__)

_FORMAT = "PtyRAD parameters"
_EMPAD_GAP = 1024  # bytes after each frame unless the file says otherwise
_SAMPLE = 64  # patterns whose mean shows the bright-field disk
_READABLE = (".h5", ".hdf5", ".npy", ".npz", ".zarr")


def open_params(
    path: Path, inner: str | None = None, scan_shape: tuple[int, int] | None = None
) -> OpenedPatterns:
    """Open the measurement that a PtyRAD parameter file names, calibrated by the file.

    A relative path is looked for from the folder of the file, from the folders above it and from
    the working directory, where PtyRAD itself looks. Settings without a counterpart here are in
    ``provenance["unsupported"]``, one line each.

    Raises
    ------
    DataError
        No parameter file, the measurement is missing or of another size, or a format of
        measurement that cannot be read here.
    CalibrationError
        An impossible calibration value.
    """
    no_inner(path, inner)
    settings = read_settings(path)
    shape = scan_shape or _scan_shape(settings)
    source = _measurement(settings)
    patterns = _patterns(settings, source, shape)
    opened = OpenedPatterns(
        patterns=patterns,
        calibration=PartialCalibration(),
        name=path.name,
        path=path,
        format=_FORMAT,
        provenance={"source": str(source), "unsupported": settings.unsupported()},
    )
    known = _calibration(settings, shape, tuple(int(n) for n in patterns.shape[2:]))
    calibration = from_file(path, known)
    mode = settings.get("init_params", "meas_calibration", "mode", default="fitRBF")
    if mode == "fitRBF":
        calibration = calibration.merge(_fitted(settings, patterns, path))
    return replace(opened, calibration=calibration)


def _scan_shape(settings: PtyradSettings) -> tuple[int, int]:
    rows = settings.whole("init_params", "pos_N_scan_slow")
    columns = settings.whole("init_params", "pos_N_scan_fast")
    if not rows or not columns or min(rows, columns) < 1:
        raise DataError(
            f"{settings.path}: pos_N_scan_slow and pos_N_scan_fast must be whole numbers above 0"
        )
    return rows, columns


def measurement(path: Path) -> Path:
    """The file of patterns that a parameter file names.

    Raises
    ------
    DataError
        No parameter file, or it names no file that is there.
    """
    return _measurement(read_settings(path))


def _measurement(settings: PtyradSettings) -> Path:
    params = settings.path
    named = str(settings.get("init_params", "meas_params", "path", default=""))
    if not named:
        raise DataError(f"{params}: init_params.meas_params.path is missing; name the measurement")
    path = Path(named).expanduser()
    folders = [params.resolve().parent, *params.resolve().parent.parents[:3], Path.cwd()]
    for folder in folders:
        if (folder / path).exists():  # an absolute path stays what it is
            return folder / path
    raise DataError(
        f"{params}: its measurement {named} is not there; looked for from {folders[0]}, the "
        "folders above it and the working directory"
    )


def _patterns(settings: PtyradSettings, source: Path, shape: tuple[int, int]) -> PatternArray:
    suffix = source.suffix.lower()
    if suffix == ".raw":
        return _raw(settings, source, shape)
    if suffix not in _READABLE:
        raise DataError(
            f"{settings.path}: measurements in {suffix or 'such'} files cannot be read here; "
            f"save {source.name} as HDF5 (scan_y, scan_x, ky, kx)"
        )
    from napari_mep.data.readers import open_patterns  # which imports this module

    key = settings.get("init_params", "meas_params", "key", default="")
    named = f"{source}::{key}" if key and suffix != ".npy" else str(source)
    try:
        return open_patterns(named, scan_shape=shape).patterns
    except DataError as err:
        raise DataError(f"{settings.path}: {err}") from None


def _raw(settings: PtyradSettings, source: Path, shape: tuple[int, int]) -> PatternArray:
    pixels = settings.whole("init_params", "meas_Npix") or 128
    height, width = pixels, pixels
    given = settings.get("init_params", "meas_params", "shape")
    if isinstance(given, (list, tuple)) and len(given) == 3:
        height, width = int(given[1]), int(given[2])
    gap = settings.whole("init_params", "meas_params", "gap")
    offset = settings.whole("init_params", "meas_params", "offset") or 0
    fields: list[Any] = [("data", "<f4", (height, width))]
    gap = _EMPAD_GAP if gap is None else gap
    if gap:
        fields.append(("gap", f"V{gap}"))
    frame = np.dtype(fields)
    size, wanted = source.stat().st_size, offset + shape[0] * shape[1] * frame.itemsize
    if size != wanted:
        raise DataError(
            f"{settings.path}: {source.name} has {size} bytes, {shape[0]} x {shape[1]} patterns of "
            f"{height} x {width} pixels with gaps of {gap} have {wanted}; copy it anew or mend "
            "meas_params"
        )
    return map_frames(source, shape, frame, offset, "raw")


def _calibration(
    settings: PtyradSettings, shape: tuple[int, int], pixels: tuple[int, ...]
) -> dict[str, Any]:
    """Every calibration value but a fitted detector step."""
    angle = settings.number("init_params", "probe_conv_angle")
    values: dict[str, Any] = {
        "beam_energy_keV": settings.number("init_params", "probe_kv"),
        "convergence_semiangle_mrad": angle,
        **_aberrations(settings),
        **_detector_step(settings, angle, pixels[0]),
        **_scan(settings),
        **_flips(settings),
    }
    layers = settings.whole("init_params", "obj_Nlayer")
    thickness = settings.number("init_params", "obj_slice_thickness")
    if layers and thickness:
        values["specimen_thickness_A"] = layers * thickness
    return values


def _aberrations(settings: PtyradSettings) -> dict[str, float]:
    """Defocus and Cs under the names that PtyRAD has for them; C10 = -defocus."""
    found: dict[str, float] = {}
    for name, keys, sign in (
        ("defocus_A", ("C10", "C1"), -1),
        ("defocus_A", ("defocus",), 1),
        ("spherical_aberration_A", ("C30", "C3", "Cs"), 1),
    ):
        for key in keys:
            value = settings.number("init_params", "probe_aberrations", key)
            if value is not None:
                found.setdefault(name, sign * value)
    for name, key in (("defocus_A", "probe_defocus"), ("spherical_aberration_A", "probe_c3")):
        value = settings.number("init_params", key)
        if value is not None:
            found.setdefault(name, value)
    # -0.0 is a zero that looks odd.
    return {name: value + 0.0 for name, value in found.items()}


def _detector_step(settings: PtyradSettings, angle: float | None, pixels: int) -> dict[str, float]:
    mode = settings.get("init_params", "meas_calibration", "mode", default="fitRBF")
    value = settings.number("init_params", "meas_calibration", "value")
    if value is None or not value > 0:
        return {}
    half = pixels / 2
    match mode:
        case "dx":
            return {"detector_step_invA": 1 / (pixels * value)}
        case "dk":
            return {"detector_step_invA": value}
        case "kMax":
            return {"detector_step_invA": value / half}
        case "da":
            return {"detector_step_mrad": value}
        case "angleMax":
            return {"detector_step_mrad": value / half}
        case "n_alpha" if angle:
            return {"detector_step_mrad": value * angle / half}
        case "RBF" if angle:
            return {"detector_step_mrad": angle / value}
        case _:
            return {}


def _scan(settings: PtyradSettings) -> dict[str, Any]:
    """Scan step and rotation; PtyRAD turns and stretches the scan by an affine transformation."""
    step = settings.number("init_params", "pos_scan_step_size")
    affine = settings.get("init_params", "pos_scan_affine")
    if affine is None or step is None:
        return {"scan_step_A": step}
    try:
        scale, asymmetry, rotation, _shear = (float(number) for number in affine)
    except (TypeError, ValueError):
        raise DataError(
            f"{settings.path}: init_params.pos_scan_affine = {affine}: expected 4 numbers "
            "(scale, asymmetry, rotation, shear)"
        ) from None
    y, x = step * scale * (1 + asymmetry / 2), step * scale * (1 - asymmetry / 2)
    return {"scan_step_A": y if y == x else (y, x), "scan_rotation_deg": rotation}


def _flips(settings: PtyradSettings) -> dict[str, bool]:
    """PtyRAD flips first and transposes then, we do it the other way round."""
    flips = settings.get("init_params", "meas_flipT")
    if flips is None:
        return {}
    try:
        rows, columns, transpose = (bool(int(flag)) for flag in flips)
    except (TypeError, ValueError):
        raise DataError(
            f"{settings.path}: init_params.meas_flipT = {flips}: expected 3 numbers 0 or 1"
        ) from None
    return {
        "detector_transpose": transpose,
        "detector_flip_y": columns if transpose else rows,
        "detector_flip_x": rows if transpose else columns,
    }


def _fitted(settings: PtyradSettings, patterns: PatternArray, path: Path) -> PartialCalibration:
    """What PtyRAD does without a detector step: semi-angle over the radius of the disk."""
    angle = settings.number("init_params", "probe_conv_angle")
    rows, columns = (int(n) for n in patterns.shape[:2])
    every = max(1, int(np.sqrt(rows * columns / _SAMPLE)))
    blocks = [
        np.asarray(patterns[row, slice(0, columns, every)], dtype=np.float64)
        for row in range(0, rows, every)
    ]
    _, radius = disk(np.concatenate(blocks).mean(axis=0))
    if not angle or radius < 1:
        return PartialCalibration()
    _log.info("%s: bright-field disk of %.2f pixels in radius", path.name, radius)
    return from_file(path, {"detector_step_mrad": angle / radius}, "guessed")
