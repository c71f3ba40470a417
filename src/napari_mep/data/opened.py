"""Patterns as a file gives them, before anybody vouched for the calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_mep.data.calibration import PartialCalibration
from napari_mep.data.dataset import DiffractionDataset, PatternArray, check_pattern_array
from napari_mep.data.preprocessing import preprocess
from napari_mep.volume import PhaseVolume

__all__ = ["OpenedPatterns"]


@dataclass(frozen=True, slots=True, eq=False)
class OpenedPatterns:
    """An opened 4D-STEM file whose calibration may be incomplete.

    The fields are those of `DiffractionDataset`; in addition:

    Parameters
    ----------
    calibration : PartialCalibration
        What the file, and perhaps the user, know so far.
    format : str
        Container format as shown to people.

    Raises
    ------
    DataError
        The patterns are not (scan_y, scan_x, ky, kx) real numbers.
    """

    patterns: PatternArray
    calibration: PartialCalibration
    name: str
    path: Path | None
    format: str
    mask: NDArray[np.bool_] | None = None
    truth: PhaseVolume | None = None
    probe: NDArray[np.complexfloating] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    positions: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        check_pattern_array(self.patterns, self.name)

    def calibrated(self, stronger: PartialCalibration | None = None) -> DiffractionDataset:
        """The dataset, with the values of `stronger` preferred over the file's.

        Preprocessing that came with the calibration is part of it: a lazy view, nothing is read.

        Raises
        ------
        CalibrationError
            Required values are missing, or the detector does not reach the bright-field disk.
        DataError
            The mask, the probe or the positions do not fit.
        PlanError
            The preprocessing does not fit the patterns.
        """
        known = self.calibration.merge(stronger or PartialCalibration())
        dataset = DiffractionDataset(
            patterns=self.patterns,
            calibration=known.complete(),
            name=self.name,
            path=self.path,
            mask=self.mask,
            truth=self.truth,
            probe=self.probe,
            provenance=self.provenance,
            positions=self.positions,
        )
        return preprocess(dataset, known.preprocessing) if known.preprocessing else dataset
