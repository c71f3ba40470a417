"""What is done to the patterns before anything is computed from them, as a plan.

The raw file is never written: `preprocess` lays a lazy view over the patterns, which works on each
block as it is read. A plan can travel in the calibration file (table ``[preprocessing]``) or in a
reconstruction plan; without it the data are as they were.
"""

from __future__ import annotations

import json
import reprlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from napari_mep.data._validation import in_words
from napari_mep.errors import PlanError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_mep.data.dataset import DiffractionDataset

__all__ = ["PreprocessingPlan", "in_whole_pixels", "pixels_for", "preprocess", "toml_value"]

_MOST_PIXELS = 8192  # more than any camera has
_FILES = ("background_file", "gain_file", "bad_pixels_file", "positions_file")


class PreprocessingPlan(BaseModel):
    """What happens to each pattern, in this order, before transposition and flips.

    Choose scan positions; subtract the background, divide by the gain, clip; replace bad pixels by
    the median of their good neighbours; put the zero frequency at ``K // 2``; bin; crop or pad.

    Files are ``.npy`` images (ky, kx) as stored; positions also ``.csv`` and ``.txt``, one row
    (y, x) in A per pattern of the whole scan.

    Raises
    ------
    PlanError
        From `parse`, with one line that names the field and the remedy.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    scan_rows: tuple[int, int] | None = Field(
        None, description="First scan row kept and the first one after; None: all."
    )
    scan_columns: tuple[int, int] | None = Field(
        None, description="First scan column kept and the first one after; None: all."
    )
    scan_every: int = Field(
        1, ge=1, description="Keep every n-th row and column of what is left; 1: all."
    )
    background: float = Field(
        0.0, description="Subtracted from every detector pixel, in the unit of the patterns."
    )
    background_file: str | None = Field(None, description="Dark image, subtracted.")
    gain_file: str | None = Field(None, description="Gain image; patterns are divided by it.")
    clip_negative: bool = Field(False, description="Set counts below zero to zero.")
    bad_pixels_file: str | None = Field(
        None, description="Image that is not zero where a detector pixel is bad."
    )
    centre_px: tuple[float, float] | None = Field(
        None,
        description="Where the zero frequency lies at the middle of the scan, (ky, kx) in detector "
        "pixels as stored; None: at K // 2.",
    )
    descan_px: tuple[float, float, float, float] = Field(
        (0.0, 0.0, 0.0, 0.0),
        description="How it moves: d ky and d kx in pixels per scan row, then per scan column.",
    )
    subpixel: bool = Field(
        True,
        description="Shift patterns by fractions of a pixel, too. Those that are looked at are "
        "interpolated; reconstructions move theirs by whole pixels, so that electrons stay "
        "counted, and leave the rest to the model of the pattern.",
    )
    bin_detector: int = Field(1, ge=1, le=64, description="Detector pixels added up to one.")
    detector_pixels: int | None = Field(
        None,
        ge=2,
        le=_MOST_PIXELS,
        description="Side of the square detector after binning: cropped, or padded with pixels "
        "that count as not measured; None: as it is.",
    )
    positions_file: str | None = Field(None, description="Where the probe really stood.")

    @field_validator("scan_rows", "scan_columns")
    @classmethod
    def _in_order(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and not 0 <= value[0] < value[1]:
            raise ValueError("must be two whole numbers, the first one kept and the one after")
        return value

    @field_validator("detector_pixels", mode="before")
    @classmethod
    def _fits_into_memory(cls, value: Any) -> Any:
        """Says how much it would be; the limits themselves are those of the field."""
        if isinstance(value, int) and value > _MOST_PIXELS:
            gigabytes = 4e-9 * min(value, 10**9) ** 2
            raise ValueError(
                f"a pattern would be {gigabytes:.3g} GB; give at most {_MOST_PIXELS} pixels"
            )
        return value

    @classmethod
    def parse(cls, values: dict[str, Any], source: str = "preprocessing") -> PreprocessingPlan:
        """Validate a dictionary; errors become one line."""
        try:
            return cls.model_validate(values)
        except ValidationError as err:
            first = err.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "table"
        if first["type"] == "extra_forbidden":
            known = ", ".join(cls.model_fields)
            raise PlanError(f"{source}: unknown key '{where}'; known: {known}")
        given = reprlib.repr(first.get("input"))
        raise PlanError(f"{source}: {where} = {given}: {in_words(first)}")

    def replace(self, **changes: Any) -> PreprocessingPlan:
        """Validated copy with changes."""
        return self.parse({**self.model_dump(), **changes})

    def relative_to(self, folder: Path) -> PreprocessingPlan:
        """The same plan with its file names taken from `folder`."""
        found = {name: getattr(self, name) for name in _FILES}
        return self.replace(
            **{
                name: str(folder / Path(path).expanduser())
                for name, path in found.items()
                if path is not None
            }
        )

    def named_from(self, folder: Path) -> PreprocessingPlan:
        """The same plan for a file in `folder`: files in there by their names, others absolute."""
        home = folder.expanduser().resolve()
        found = {name: getattr(self, name) for name in _FILES}
        paths = {name: Path(path).resolve() for name, path in found.items() if path is not None}
        return self.replace(
            **{
                name: str(path.relative_to(home) if path.is_relative_to(home) else path)
                for name, path in paths.items()
            }
        )

    @property
    def is_identity(self) -> bool:
        """Whether the patterns stay as they are."""
        ignored = {"subpixel"}
        return self.model_dump(exclude=ignored) == PreprocessingPlan().model_dump(exclude=ignored)

    def summary(self) -> list[str]:
        """What is done, one line per operation, in the order in which it is done."""
        lines = []
        for what, part in (("rows", self.scan_rows), ("columns", self.scan_columns)):
            if part is not None:
                lines.append(f"scan {what} {part[0]} to {part[1] - 1}")
        if self.scan_every > 1:
            lines.append(f"every {self.scan_every}. scan row and column")
        if self.background:
            lines.append(f"background {self.background:g} subtracted")
        if self.background_file:
            lines.append(f"background {Path(self.background_file).name} subtracted")
        if self.gain_file:
            lines.append(f"divided by gain {Path(self.gain_file).name}")
        if self.clip_negative:
            lines.append("negative counts set to zero")
        if self.bad_pixels_file:
            lines.append(f"bad pixels {Path(self.bad_pixels_file).name} masked")
        if self.centre_px is not None:
            y, x = self.centre_px
            lines.append(f"centre ({y:.2f}, {x:.2f}) px moved to K // 2")
        if any(self.descan_px):
            lines.append("descan drift taken out")
        if self.bin_detector > 1:
            lines.append(f"detector binned by {self.bin_detector}")
        if self.detector_pixels is not None:
            lines.append(f"detector made {self.detector_pixels} x {self.detector_pixels} pixels")
        if self.positions_file:
            lines.append(f"positions from {Path(self.positions_file).name}")
        return lines

    def to_toml_lines(self) -> list[str]:
        """Settings that are not the default, as lines of TOML."""
        changed = self.model_dump(exclude_defaults=True)
        return [f"{name} = {toml_value(value)}" for name, value in changed.items()]


def preprocess(dataset: DiffractionDataset, plan: PreprocessingPlan) -> DiffractionDataset:
    """A dataset whose patterns are preprocessed as they are read.

    Calibration, mask and positions follow: binning makes the detector step larger, leaving out
    positions the scan step; pixels that were bad, or that not all patterns cover, are masked. The
    world origin stays where it was: a part of the scan keeps its place in it.

    Parameters
    ----------
    dataset : DiffractionDataset
        Stays as it is.
    plan : PreprocessingPlan
        What to do.

    Returns
    -------
    DiffractionDataset
        Lazy as before, float32; the very same object where the plan does nothing. A dose in the
        calibration then refers to the electrons that are left.

    Raises
    ------
    PlanError
        The plan does not fit the patterns.
    DataError
        A file cannot be read or does not fit.
    CalibrationError
        The detector that is left does not reach the bright-field disk.
    """
    if plan.is_identity:
        return dataset
    from napari_mep.data._preprocessed import preprocessed

    return preprocessed(dataset, plan)


def in_whole_pixels(
    dataset: DiffractionDataset,
) -> tuple[DiffractionDataset, NDArray[np.float64] | None]:
    """A dataset whose patterns are moved by whole pixels only, and what is left to be moved.

    Interpolated patterns hold no counts any more, and binned ones are sampled too coarsely to be
    interpolated well: a forward model that shifts its own patterns explains them better.

    Parameters
    ----------
    dataset : DiffractionDataset
        Preprocessed or not.

    Returns
    -------
    dataset : DiffractionDataset
        The very same object where nothing is interpolated.
    left_px : (n_patterns, 2) float64 ndarray or None
        Where the zero frequency then lies, (ky, kx) detector pixels relative to ``K // 2``; None:
        nothing is interpolated.
    """
    from napari_mep.data import _preprocessed

    return _preprocessed.in_whole_pixels(dataset)


def pixels_for(pixel_A: float, detector_step_invA: float, bin_detector: int = 1) -> int:
    """How many detector pixels make a real-space pixel: K = 1 / (pixel dk), a whole number.

    Parameters
    ----------
    pixel_A : float
        Real-space pixel, angstrom, for example that of a prior.
    detector_step_invA : float
        Detector pixel before binning, 1/A.
    bin_detector : int
        Pixels added up to one.
    """
    return max(2, round(1 / (pixel_A * detector_step_invA * bin_detector)))


def toml_value(value: Any) -> str:
    """A number, text, switch or sequence of them as TOML writes it."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, float):
        return repr(float(f"{value:.8g}"))
    return json.dumps(value)  # strings, whole numbers and switches are alike in JSON and TOML
