"""What the patterns mean: beam, probe, scan and detector, each value with its source.

A file often knows only part of it. `PartialCalibration` holds what is known so far and can be
merged (what the user says wins over what the file says); `PartialCalibration.complete` turns it
into a `Calibration`, the only form that the physics accepts, or says everything that is missing.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from napari_mep.data._quantities import FLAGS, QUANTITIES, REQUIRED, check_value
from napari_mep.data._validation import in_words
from napari_mep.data.preprocessing import PreprocessingPlan, toml_value
from napari_mep.errors import CalibrationError, PlanError

__all__ = ["Calibration", "PartialCalibration", "Source", "as_partial", "describe_values"]

Source = Literal["file", "user", "default", "guessed", "fitted"]
"""Where a value comes from; "fitted": measured on these very patterns by a calibration helper."""


class Calibration(BaseModel):
    """Complete calibration of a 4D-STEM scan.

    The field names are the keys of the TOML file and carry the units. Signs: ``defocus_A > 0`` is
    underfocus, C10 = -defocus. The detector is transposed first (ky and kx swapped), then flipped
    about the zero frequency.

    Raises
    ------
    CalibrationError
        A value is missing, unknown, of the wrong type or physically impossible.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    beam_energy_keV: float = Field(description="Beam energy in keV.")
    convergence_semiangle_mrad: float = Field(description="Convergence semi-angle in mrad.")
    defocus_A: float = Field(0.0, description="Defocus in A; positive is underfocus.")
    spherical_aberration_A: float = Field(0.0, description="Spherical aberration Cs in A.")
    scan_step_A: float | tuple[float, float] = Field(
        description="Distance of neighbouring scan positions in A: one number or (y, x)."
    )
    detector_step_invA: float = Field(description="Width of a detector pixel in 1/A.")
    scan_rotation_deg: float = Field(
        0.0,
        description="Scan rotation against the detector in degrees; sign: physics.scan.",
    )
    detector_transpose: bool = Field(False, description="Swap ky and kx.")
    detector_flip_y: bool = Field(False, description="Reverse ky.")
    detector_flip_x: bool = Field(False, description="Reverse kx.")
    dose_e_per_A2: float | None = Field(
        None, description="Dose in e/A2; None: the patterns are in electrons already."
    )
    specimen_thickness_A: float | None = Field(None, description="Specimen thickness in A.")
    sources: dict[str, Source] = Field(
        default_factory=dict,
        exclude=True,
        repr=False,
        description="Source of each value; not part of the physics, so not dumped.",
    )

    @field_validator(*QUANTITIES, *FLAGS, mode="before", check_fields=False)
    @classmethod
    def _possible(cls, value: Any, info: ValidationInfo) -> Any:
        optional = info.field_name in ("dose_e_per_A2", "specimen_thickness_A")
        return None if value is None and optional else check_value(str(info.field_name), value)

    @model_validator(mode="wrap")
    @classmethod
    def _one_line(cls, values: Any, handler: ModelWrapValidatorHandler[Calibration]) -> Calibration:
        try:
            return handler(values)
        except ValidationError as err:
            problems = err.errors(include_url=False)
        missing = [str(p["loc"][0]) for p in problems if p["type"] == "missing"]
        if missing:
            raise CalibrationError(_missing_message(missing))
        where = ".".join(str(part) for part in problems[0]["loc"])
        if problems[0]["type"] == "extra_forbidden":
            raise CalibrationError(_unknown_message(where, "calibration"))
        raise CalibrationError(f"calibration: {where}: {in_words(problems[0])}")

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    def __eq__(self, other: object) -> bool:
        """Same physics; where the values come from does not matter."""
        if not isinstance(other, Calibration):
            return NotImplemented
        return self.model_dump() == other.model_dump()

    @classmethod
    def from_toml(cls, path: str | Path) -> Calibration:
        """Read a complete calibration from a TOML file; values count as the user's by default.

        Raises
        ------
        CalibrationError
            The file is missing or broken, has an unknown key, an impossible or a missing value.
        """
        return PartialCalibration.from_toml(path).complete()

    @property
    def wavelength_A(self) -> float:
        """Relativistic electron wavelength in A."""
        from napari_mep.physics.optics import wavelength_A

        return float(wavelength_A(self.beam_energy_keV))

    @property
    def scan_step_yx_A(self) -> tuple[float, float]:
        """Scan step along y (slow) and x (fast) in A."""
        step = self.scan_step_A
        return step if isinstance(step, tuple) else (step, step)

    @property
    def detector_step_mrad(self) -> float:
        """Width of a detector pixel as a scattering angle in mrad."""
        return self.detector_step_invA * self.wavelength_A * 1e3

    def detector_reach_mrad(self, detector_shape: tuple[int, int]) -> float:
        """Largest scattering angle that the detector records along its shorter axis, in mrad."""
        return min(detector_shape) / 2 * self.detector_step_mrad

    def check_detector(self, detector_shape: tuple[int, int]) -> None:
        """Refuse a detector that does not reach the edge of the bright-field disk.

        Parameters
        ----------
        detector_shape : tuple of 2 ints
            Detector pixels (ky, kx).

        Raises
        ------
        CalibrationError
            The disk is cut off, so detector step, semi-angle or beam energy must be wrong.
        """
        reach = self.detector_reach_mrad(detector_shape)
        if reach < self.convergence_semiangle_mrad:
            ky, kx = detector_shape
            raise CalibrationError(
                f"detector_step_invA = {self.detector_step_invA:g} 1/A: {ky} x {kx} pixels reach "
                f"{reach:.3g} mrad, short of the bright-field disk "
                f"(convergence_semiangle_mrad = {self.convergence_semiangle_mrad:g} mrad); "
                "check detector step, semi-angle and beam energy"
            )


@dataclass(frozen=True, slots=True)
class PartialCalibration:
    """What is known of a calibration so far; every value present is a possible one.

    Parameters
    ----------
    values : mapping
        Values by TOML key; besides the fields of `Calibration` also ``detector_step_mrad``.
    sources : mapping
        Source of each value.
    preprocessing : PreprocessingPlan or None
        What must be done to the patterns for the values to hold (table ``[preprocessing]``).

    Raises
    ------
    CalibrationError
        Unknown key, impossible value, or both forms of the detector step at once.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    preprocessing: PreprocessingPlan | None = None

    def __post_init__(self) -> None:
        for name in self.values:
            if name not in QUANTITIES and name not in FLAGS:
                raise CalibrationError(_unknown_message(name, "calibration"))
        if {"detector_step_invA", "detector_step_mrad"} <= set(self.values):
            raise CalibrationError(
                "detector_step_invA and detector_step_mrad: give only one of the two"
            )
        values = {name: check_value(name, value) for name, value in self.values.items()}
        object.__setattr__(self, "values", MappingProxyType(values))
        sources = {name: self.sources.get(name, "user") for name in values}
        object.__setattr__(self, "sources", MappingProxyType(sources))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], source: Source = "user") -> PartialCalibration:
        """All values from one source; None stands for "not known"."""
        known = {name: value for name, value in values.items() if value is not None}
        return cls(known, dict.fromkeys(known, source))

    @classmethod
    def from_calibration(cls, calibration: Calibration) -> PartialCalibration:
        """Everything that is not a mere default, with its source."""
        values = calibration.model_dump()
        default = {name for name, source in calibration.sources.items() if source == "default"}
        known = {n: v for n, v in values.items() if v is not None and n not in default}
        return cls(known, {n: calibration.sources.get(n, "user") for n in known})

    @classmethod
    def from_toml(cls, path: str | Path, source: Source = "user") -> PartialCalibration:
        """Read what a TOML file knows.

        Parameters
        ----------
        path : str or Path
            The file.
        source : str
            Of every value for which the file's table ``[sources]`` names none.

        Raises
        ------
        CalibrationError
            The file is missing or no TOML, has an unknown key or source, or an impossible value.
        """
        path = Path(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CalibrationError(f"calibration file {path}: no such file") from None
        except (OSError, ValueError, RecursionError) as err:
            # Bad UTF-8, no TOML, a number of thousands of digits, brackets without end.
            reason = " ".join(str(err).split())
            raise CalibrationError(
                f"calibration file {path}: not readable as TOML ({reason})"
            ) from None
        try:
            table = values.pop("preprocessing", None)
            preprocessing = (
                None if table is None else PreprocessingPlan.parse(table).relative_to(path.parent)
            )
            sources = _sources_table(values.pop("sources", {}), values)
            known = cls.from_mapping(values, source)
            return cls(known.values, {**known.sources, **sources}, preprocessing)
        except (CalibrationError, PlanError) as err:
            raise CalibrationError(f"calibration file {path}: {err}") from None

    def to_toml(self, remarks: Mapping[str, str] = MappingProxyType({})) -> str:
        """The text of a calibration file that `from_toml` reads back.

        Parameters
        ----------
        remarks : mapping
            Comments by key, put behind unit and source.
        """
        lines = []
        order = [*QUANTITIES, *FLAGS].index
        for name in sorted(self.values, key=order):
            unit = QUANTITIES[name].unit if name in QUANTITIES else ""
            words = (unit, self.sources[name], remarks.get(name, ""))
            comment = ", ".join(word for word in words if word)
            lines.append(f"{name} = {toml_value(self.values[name])}  # {comment}")
        others = {name: s for name, s in self.sources.items() if s != "user"}
        if others:
            lines += ["", "[sources]"]
            lines += [f"{name} = {toml_value(others[name])}" for name in sorted(others, key=order)]
        if self.preprocessing is not None:
            lines += ["", "[preprocessing]", *self.preprocessing.to_toml_lines()]
        return "\n".join(lines) + "\n"

    def merge(self, stronger: PartialCalibration) -> PartialCalibration:
        """Union of both; where both know a value, the `stronger` one counts."""
        weaker = dict(self.values)
        steps = {"detector_step_invA", "detector_step_mrad"}
        if steps & set(stronger.values):
            weaker = {name: value for name, value in weaker.items() if name not in steps}
        return PartialCalibration(
            {**weaker, **stronger.values},
            {**self.sources, **stronger.sources},
            stronger.preprocessing or self.preprocessing,
        )

    def missing(self) -> tuple[str, ...]:
        """Names of the required fields that nobody has given yet."""
        known = set(self.values)
        if "detector_step_mrad" in known:
            known.add("detector_step_invA")
        return tuple(name for name in REQUIRED if name not in known)

    def complete(self) -> Calibration:
        """The complete calibration; what was not given and has a default takes it.

        Raises
        ------
        CalibrationError
            Required values are missing: all are named, with units and how to give them.
        """
        missing = self.missing()
        if missing:
            raise CalibrationError(_missing_message(missing))
        values, sources = dict(self.values), dict(self.sources)
        if "detector_step_mrad" in values:
            from napari_mep.physics.optics import wavelength_A

            wavelength = float(wavelength_A(values["beam_energy_keV"]))
            values["detector_step_invA"] = values.pop("detector_step_mrad") * 1e-3 / wavelength
            sources["detector_step_invA"] = sources.pop("detector_step_mrad")
        physical = (name for name in Calibration.model_fields if name != "sources")
        return Calibration(
            **values, sources={name: sources.get(name, "default") for name in physical}
        )


def as_partial(
    calibration: str | Path | Mapping[str, Any] | Calibration | PartialCalibration | None,
) -> PartialCalibration:
    """Whatever a caller may give as a calibration (TOML path, mapping, object) as a partial one.

    Raises
    ------
    CalibrationError
        See `PartialCalibration`.
    """
    match calibration:
        case None:
            return PartialCalibration()
        case PartialCalibration():
            return calibration
        case Calibration():
            return PartialCalibration.from_calibration(calibration)
        case Mapping():
            return PartialCalibration.from_mapping(calibration)
        case _:
            return PartialCalibration.from_toml(calibration)


def describe_values(known: PartialCalibration) -> list[tuple[str, str, str, str]]:
    """Name, value as text, unit and source of everything that is known, in the usual order."""
    lines = []
    for name in sorted(known.values, key=[*QUANTITIES, *FLAGS].index):
        value = known.values[name]
        if isinstance(value, bool):
            text = "yes" if value else "no"
        elif isinstance(value, tuple):
            text = " x ".join(f"{part:.6g}" for part in value)
        else:
            text = f"{value:.6g}"
        unit = QUANTITIES[name].unit if name in QUANTITIES else ""
        lines.append((name, text, unit, str(known.sources[name])))
    return lines


def _sources_table(table: Any, values: Mapping[str, Any]) -> dict[str, Source]:
    """The table ``[sources]`` of a calibration file: where values of the file come from."""
    if not isinstance(table, Mapping):
        raise CalibrationError(f"sources = {table!r}: must be a table [sources]")
    for name, source in table.items():
        if name not in values:
            raise CalibrationError(f"sources: '{name}' has no value in this file; leave it out")
        if source not in get_args(Source):
            known = ", ".join(get_args(Source))
            raise CalibrationError(f"sources: {name} = {source!r}: must be one of {known}")
    return dict(table)


def _missing_message(names: tuple[str, ...] | list[str]) -> str:
    shown = []
    for name in names:
        alternative = ", or detector_step_mrad" if name == "detector_step_invA" else ""
        shown.append(f"{name} ({QUANTITIES[name].unit}{alternative})")
    return (
        f"calibration lacks {', '.join(shown)}; "
        f"give {'it' if len(shown) == 1 else 'them'} in a TOML file with --calibration FILE"
    )


def _unknown_message(name: str, where: str) -> str:
    close = difflib.get_close_matches(name, [*QUANTITIES, *FLAGS], n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join([*QUANTITIES, *FLAGS])}"
    return f"unknown key '{name}' in {where}; {hint}"
