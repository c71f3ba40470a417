"""Electrons per pattern and dose, from the counts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_mep.data.estimate._estimate import Estimate, Picture
from napari_mep.errors import DataError

__all__ = ["DoseEstimate", "measure_dose"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DoseEstimate(Estimate):
    """Electrons that each position received.

    Parameters
    ----------
    electrons_per_pattern : float
        Mean over the scan.
    dose_e_per_A2 : float or None
        None where the scan step is not known.
    counted : bool
        Whether the patterns hold whole electrons.
    """

    electrons_per_pattern: float
    dose_e_per_A2: float | None
    counted: bool


def measure_dose(
    sums: NDArray[np.floating],
    sample: NDArray[np.floating],
    *,
    scan_step_A: float | tuple[float, float] | None = None,
    counts_per_electron: float | None = None,
) -> DoseEstimate:
    """Dose from the sums of the patterns.

    Parameters
    ----------
    sums : (rows, columns) ndarray
        Sum of each pattern, in the unit of the file.
    sample : (n, ky, kx) ndarray
        Some whole patterns, to see whether they hold whole numbers.
    scan_step_A : float or (y, x), optional
        Scan step, angstrom.
    counts_per_electron : float, optional
        What one electron counts; None: 1 if the patterns hold whole numbers.

    Raises
    ------
    DataError
        Nothing was counted, or the patterns hold no whole numbers and nobody says what an
        electron counts.
    """
    whole = bool((np.asarray(sample) == np.rint(sample)).all())
    if counts_per_electron is None and not whole:
        raise DataError(
            "dose: the patterns hold no whole numbers, so what one electron counts is not known; "
            "give counts_per_electron (--counts-per-electron), or dose_e_per_A2 in the calibration"
        )
    unit = 1.0 if counts_per_electron is None else float(counts_per_electron)
    if not (math.isfinite(unit) and unit > 0):
        raise DataError(f"counts_per_electron = {counts_per_electron}: must be positive")
    electrons = float(np.mean(sums)) / unit
    if not electrons > 0:
        raise DataError("dose: nothing was counted; check the patterns")
    dose = None
    words = f"{electrons:.4g} electrons per pattern"
    calibration: dict[str, float] = {}
    if scan_step_A is not None:
        step_y, step_x = scan_step_A if isinstance(scan_step_A, tuple) else (scan_step_A,) * 2
        dose = electrons / (step_y * step_x)
        words += f", {dose:.4g} e/A2"
        if unit != 1.0:
            # Counts that are electrons already need no scale; naming one would only round it.
            calibration["dose_e_per_A2"] = dose
    drift = float(np.std(sums) / np.mean(sums))
    return DoseEstimate(
        title="Dose",
        summary=f"{words}; sums vary by {100 * drift:.2g} % over the scan",
        calibration=calibration,
        proof=(Picture(np.asarray(sums), "sum of each pattern over the scan"),),
        electrons_per_pattern=electrons,
        dose_e_per_A2=dose,
        counted=whole,
    )
