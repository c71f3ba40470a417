"""What the chain of calibration helpers found, and writing it down."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_mep.data.calibration import PartialCalibration
from napari_mep.data.estimate import Estimate
from napari_mep.data.preprocessing import PreprocessingPlan
from napari_mep.errors import ExportError

__all__ = ["Fix", "Skipped", "mask_beside"]


def mask_beside(path: Path) -> Path:
    """Where the bad pixels of a calibration file lie."""
    return path.with_name(f"{path.stem}-bad-pixels.npy")


@dataclass(frozen=True, slots=True)
class Skipped:
    """A step that could not be done, and what it lacks."""

    title: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Fix:
    """What `fix` found.

    Parameters
    ----------
    calibration : PartialCalibration
        Everything known: what was measured here counts as "fitted", the rest stays.
    estimates : tuple of Estimate
        In the order in which they were made, each with what proves it.
    skipped : tuple of Skipped
        What could not be done, and why.
    preprocessing : PreprocessingPlan
        What the patterns need, without the bad pixels, which have no file yet.
    bad : (ky, kx) bool ndarray or None
        Bad detector pixels as stored; None: there are none.
    """

    calibration: PartialCalibration
    estimates: tuple[Estimate, ...]
    skipped: tuple[Skipped, ...]
    preprocessing: PreprocessingPlan
    bad: NDArray[np.bool_] | None

    @property
    def uncertainty(self) -> dict[str, float]:
        """One standard deviation by key, of the last estimate of each."""
        known: dict[str, float] = {}
        for estimate in self.estimates:
            known |= {k: v for k, v in estimate.uncertainty.items() if math.isfinite(v)}
        return known

    def write(self, path: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write the calibration file, and beside it the mask of bad pixels where there are any.

        Returns
        -------
        list of Path
            The files written, the calibration first.

        Raises
        ------
        ExportError
            A file exists already, or cannot be written.
        """
        path = Path(path)
        mask = mask_beside(path)
        plan = self.preprocessing.named_from(path.parent)
        files = [path] if self.bad is None else [path, mask]
        for file in files:
            if file.exists() and not overwrite:
                raise ExportError(f"output {file}: exists; choose another name or give --overwrite")
        remarks = {
            name: f"± {error:.2g}"
            for name, error in self.uncertainty.items()
            if self.calibration.sources.get(name) == "fitted"
        }
        try:
            if self.bad is not None:
                np.save(mask, self.bad)
                plan = plan.replace(bad_pixels_file=mask.name)
            known = replace(self.calibration, preprocessing=None if plan.is_identity else plan)
            path.write_text(known.to_toml(remarks), encoding="utf-8")
        except OSError as err:
            raise ExportError(f"output {path}: cannot be written ({err.strerror or err})") from None
        return files
