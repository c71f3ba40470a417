"""Units as microscopes and programs write them, and calibration values read from files."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from napari_mep.data._quantities import check_value
from napari_mep.data.calibration import PartialCalibration, Source
from napari_mep.errors import CalibrationError

__all__ = ["Axis", "axes_calibration", "from_file", "length_A", "parse_unit"]

_log = logging.getLogger(__name__)

Kind = Literal["length", "reciprocal", "angle"]

_LENGTHS_A = {
    "pm": 0.01, "å": 1.0, "a": 1.0, "ang": 1.0, "angstrom": 1.0, "angstroms": 1.0,
    "nm": 10.0, "nanometer": 10.0, "um": 1e4, "mm": 1e7, "cm": 1e8, "m": 1e10,
}  # fmt: skip
_ANGLES_MRAD = {"mrad": 1.0, "rad": 1e3, "deg": 1e3 * math.pi / 180, "°": 1e3 * math.pi / 180}
# Kx and ky of one calibration are one number: a detector pixel is square.
_SQUARE = 0.01


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of the patterns as a file describes it; `scale` is the step in `unit`."""

    scale: float | None
    unit: str | None
    name: str = ""

    @property
    def kind(self) -> Kind | None:
        """What is measured along the axis, None if the unit does not say."""
        parsed = parse_unit(self.unit)
        return parsed[0] if parsed else None


def parse_unit(unit: str | None) -> tuple[Kind, float] | None:
    """Kind of a unit and its size in A, 1/A or mrad; None if it is none of these.

    Reciprocal lengths are the crystallographer's (no 2 pi). ``[n_m]``, as EMD files write nm, ``Å``
    in both of its Unicode forms, ``1/nm``, ``nm^-1``, ``nm**-1`` and ``nm⁻¹`` are understood.
    """
    if not unit:
        return None
    text = unit.strip().strip("[]").replace("_", "").replace(" ", "").replace("$", "")
    # The Angstrom sign becomes the letter, both micro signs a u.
    text = text.replace("\u212b", "Å").replace("µ", "u").replace("μ", "u").lower()
    for power in ("⁻¹", "**-1", "^{-1}", "^(-1)", "^-1", "-1"):
        if text.endswith(power):
            text = f"1/{text.removesuffix(power).strip('()')}"
            break
    if text in _ANGLES_MRAD:
        return "angle", _ANGLES_MRAD[text]
    if text in _LENGTHS_A:
        return "length", _LENGTHS_A[text]
    if text.startswith("1/") and text[2:] in _LENGTHS_A:
        return "reciprocal", 1 / _LENGTHS_A[text[2:]]
    return None


def length_A(value: Any, unit: str | None) -> float | None:
    """A length in A, None if the unit is none of length."""
    parsed = parse_unit(unit)
    return float(value) * parsed[1] if parsed and parsed[0] == "length" else None


def axes_calibration(axes: Sequence[Axis]) -> dict[str, Any]:
    """Scan and detector step from the four axes (scan_y, scan_x, ky, kx), as far as they say.

    Returns
    -------
    dict
        ``scan_step_A`` and one of ``detector_step_invA`` and ``detector_step_mrad``.
    """
    values: dict[str, Any] = {}
    scan = [length_A(axis.scale, axis.unit) for axis in axes[:2] if axis.scale]
    if len(scan) == 2 and None not in scan:
        y, x = (abs(float(step or 0)) for step in scan)
        values["scan_step_A"] = y if math.isclose(y, x, rel_tol=1e-6) else (y, x)
    steps = [
        (axis.kind, abs(axis.scale) * parsed[1])
        for axis in axes[2:]
        if axis.scale and (parsed := parse_unit(axis.unit))
    ]
    if len(steps) == 2 and steps[0][0] == steps[1][0] != "length":
        (kind, ky), (_, kx) = steps
        if abs(ky / kx - 1) < _SQUARE:
            name = "detector_step_invA" if kind == "reciprocal" else "detector_step_mrad"
            values[name] = (ky + kx) / 2
        else:
            _log.warning("detector steps %g and %g differ; neither is used", ky, kx)
    return values


def from_file(path: Path, values: Mapping[str, Any], source: Source = "file") -> PartialCalibration:
    """Calibration values of a file; impossible ones are dropped with a warning in the log.

    A camera that was never calibrated writes a zero or a one: no reason not to open its file.
    """
    known: dict[str, Any] = {}
    for name, value in values.items():
        if value is None:
            continue
        try:
            known[name] = check_value(name, value)
        except CalibrationError as err:
            _log.warning("%s: ignored a value of the file: %s", path.name, err)
    return PartialCalibration.from_mapping(known, source)
