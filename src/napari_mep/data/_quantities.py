"""The calibrated quantities of a 4D-STEM scan: their units and what values are possible.

One table serves the complete and the partial calibration, their error messages and the
description that people read. The limits only catch what no microscope does (mostly a wrong unit);
they are no judgement of taste.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from napari_mep.errors import CalibrationError

__all__ = ["FLAGS", "QUANTITIES", "REQUIRED", "Quantity", "check_value"]


@dataclass(frozen=True, slots=True)
class Quantity:
    """Unit, allowed range (inclusive) and meaning of one number of the calibration.

    Parameters
    ----------
    unit : str
        Unit as shown to people.
    meaning : str
        Field term.
    low, high : float
        Smallest and largest possible value, in `unit`.
    below, above : str
        What a value outside probably is, with the remedy. ``{value}``, ``{per_mille}`` and
        ``{thousandfold}`` are replaced by the value, the value / 1000 and the value * 1000.
    """

    unit: str
    meaning: str
    low: float
    high: float
    below: str = "must be larger"
    above: str = "must be smaller"


_TINY = 1e-12  # smaller than any length here: "> 0" as an inclusive limit

QUANTITIES = MappingProxyType(
    {
        "beam_energy_keV": Quantity(
            "keV", "beam energy", 1.0, 3000.0, above="looks like eV, give {per_mille:g}"
        ),
        "convergence_semiangle_mrad": Quantity(
            "mrad",
            "convergence semi-angle",
            0.5,
            200.0,
            below="looks like rad, give {thousandfold:g}",
            above="wider than any probe-forming lens, give the half angle in mrad",
        ),
        "defocus_A": Quantity("A", "defocus (> 0: underfocus)", -1e5, 1e5),
        "spherical_aberration_A": Quantity("A", "spherical aberration Cs", -1e9, 1e9),
        "scan_step_A": Quantity("A", "scan step", _TINY, 1e4, below="must be positive"),
        "detector_step_invA": Quantity(
            "1/A",
            "detector step",
            _TINY,
            1.0,
            below="must be positive",
            above="looks like mrad, give it as detector_step_mrad",
        ),
        "detector_step_mrad": Quantity(
            "mrad", "detector step", _TINY, 100.0, below="must be positive"
        ),
        "scan_rotation_deg": Quantity("deg", "scan rotation", -360.0, 360.0),
        "dose_e_per_A2": Quantity("e/A2", "dose", _TINY, 1e12, below="must be positive"),
        "specimen_thickness_A": Quantity(
            "A", "specimen thickness", _TINY, 1e5, below="must be positive"
        ),
    }
)
"""Numbers of the calibration by TOML key."""

FLAGS = MappingProxyType(
    {
        "detector_transpose": "ky and kx swapped",
        "detector_flip_y": "ky reversed",
        "detector_flip_x": "kx reversed",
    }
)
"""Switches of the calibration by TOML key."""

REQUIRED = (
    "beam_energy_keV",
    "convergence_semiangle_mrad",
    "scan_step_A",
    "detector_step_invA",
)
"""What no reconstruction can do without."""


def check_value(name: str, value: Any) -> Any:
    """One calibration value in its own type, or an error that names it.

    Parameters
    ----------
    name : str
        A key of `QUANTITIES` or `FLAGS`.
    value : object
        A number (``scan_step_A``: a number or a pair (y, x)), or a bool for a switch.

    Returns
    -------
    float, tuple of 2 floats, or bool

    Raises
    ------
    CalibrationError
        The value has the wrong type, is not finite or is impossible.
    """
    if name in FLAGS:
        if isinstance(value, bool):
            return value
        raise CalibrationError(f"{name} = {value!r}: must be true or false")
    if name == "scan_step_A" and isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) != 2:
            raise CalibrationError(f"{name} = {list(value)} A: give one number or [y, x]")
        return tuple(_check_number(name, v) for v in value)
    return _check_number(name, value)


def _check_number(name: str, value: Any) -> float:
    quantity = QUANTITIES[name]
    try:
        if isinstance(value, (bool, str)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise CalibrationError(f"{name} = {value!r}: must be a number in {quantity.unit}") from None
    except OverflowError:  # a whole number of hundreds of digits
        number = math.inf if value > 0 else -math.inf
    if not math.isfinite(number):
        hint = "must be finite"
    elif number < quantity.low:
        # Zero and negative values of a positive quantity are no matter of units.
        hint = quantity.below if number > 0 or quantity.low <= 0 else "must be positive"
    elif number > quantity.high:
        hint = quantity.above
    else:
        return number
    hint = hint.format(value=number, per_mille=number / 1000, thousandfold=number * 1000)
    low = 0 if quantity.low == _TINY else quantity.low
    raise CalibrationError(
        f"{name} = {number:g} {quantity.unit}: {hint} "
        f"(possible: {low:g} to {quantity.high:g} {quantity.unit})"
    )
