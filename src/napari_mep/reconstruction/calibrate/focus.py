"""Defocus and thickness by short scans of quick reconstructions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from napari_mep.data.estimate import Curve, Estimate
from napari_mep.reconstruction.calibrate._trials import UNKNOWN_THICKNESS_A, Trials, find_minimum

__all__ = ["FocusEstimate", "ThicknessEstimate", "find_defocus", "find_thickness"]

Progress = Callable[[int, int], None]

_LEAST_RANGE_A = 30.0
# What slices, wave window and an unfinished specimen leave, whatever the statistics.
_MODEL_ERROR_A = 1.0


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FocusEstimate(Estimate):
    """Defocus of the probe at the entrance face.

    Parameters
    ----------
    defocus_A : float
        Positive is underfocus.
    error_A : float
        One standard deviation by counting statistics; a wrong scan step or thickness adds to it.
    at_edge : bool
        Whether the lowest residual lies at the edge of the range: no calibration value then.
    """

    defocus_A: float
    error_A: float
    at_edge: bool


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ThicknessEstimate(Estimate):
    """Specimen thickness, with the defocus that goes with it.

    Parameters
    ----------
    thickness_A, error_A : float
        Thickness, and what it may be wrong by: a depth of focus at least.
    defocus_A : float
        Entrance defocus for this thickness.
    """

    thickness_A: float
    error_A: float
    defocus_A: float


def find_defocus(
    trials: Trials, relative_range: float = 0.3, progress: Progress | None = None
) -> FocusEstimate:
    """Defocus within `relative_range` of the calibration's (30 A at least), lowest residual.

    The sign is taken as given. The scan step is the yardstick: one that is 1 % wrong makes the
    defocus about 1 % wrong. What is sharply defined is the focus of the middle of the specimen, so
    a thickness that is wrong by some amount moves the result by half of it.
    """
    start = trials.calibration.defocus_A
    width = max(_LEAST_RANGE_A, relative_range * abs(start))
    found = find_minimum(
        _counted(lambda value: trials.residual(defocus_A=value), progress, 13),
        list(start + width * np.linspace(-1, 1, 7)),
        trials.electrons,
    )
    error = max(found.error, _MODEL_ERROR_A)
    words = f"{found.place:.1f} ± {error:.1f} A"
    if found.at_edge:
        words = (
            f"{found.place:.1f} A is the edge of the range tried: widen it, or check semi-angle, "
            "scan step and orientation"
        )
    return FocusEstimate(
        title="Defocus",
        summary=words,
        calibration={} if found.at_edge else {"defocus_A": found.place},
        uncertainty={} if found.at_edge else {"defocus_A": error},
        proof=(
            Curve(
                found.x,
                found.residual,
                "defocus (A)",
                "residual",
                "quick reconstructions",
                best=found.place,
            ),
        ),
        defocus_A=found.place,
        error_A=error,
        at_edge=found.at_edge,
    )


def find_thickness(
    trials: Trials,
    thicknesses_A: tuple[float, ...] = (4, 8, 12, 18, 26, 36, 50),
    progress: Progress | None = None,
) -> ThicknessEstimate:
    """Thickness with the lowest residual, the focus of the middle of the specimen kept.

    Within the depth of focus (lambda / alpha^2, 43 A at 300 keV and 21.4 mrad) one depth is as good
    as another, so a specimen thinner than that is explained by a thicker one just as well, or
    better, because more depth means more freedom: the answer is a hint, its error is a depth of
    focus, and it becomes a calibration value only where it is at least twice its error.
    """
    c = trials.calibration
    assumed = c.specimen_thickness_A or UNKNOWN_THICKNESS_A
    middle = c.defocus_A - assumed / 2

    def residual(root: float) -> float:
        thickness = root**2
        return trials.residual(specimen_thickness_A=thickness, defocus_A=middle + thickness / 2)

    # The square root spreads thin specimens, where a little matters more.
    lowest, highest = min(thicknesses_A) ** 0.5, max(thicknesses_A) ** 0.5
    found = find_minimum(
        _counted(residual, progress, len(thicknesses_A) + 6),
        list(np.linspace(lowest, highest, len(thicknesses_A))),
        trials.electrons,
        bounded=True,
    )
    thickness = found.place**2
    # Counting statistics would allow better; the depth of focus lambda / alpha^2 does not.
    depth_of_focus = c.wavelength_A / (c.convergence_semiangle_mrad * 1e-3) ** 2
    error = max(2 * found.place * found.error, depth_of_focus)
    words = f"{thickness:.1f} ± {error:.1f} A"
    told = not found.at_edge and thickness >= 2 * error
    if found.at_edge:
        words = f"{thickness:.0f} A is the edge of the range: the data do not tell it, give it"
    elif not told:
        words += " (less than twice the depth of focus: the data do not tell it, give it)"
    return ThicknessEstimate(
        title="Thickness",
        summary=words,
        calibration={"specimen_thickness_A": thickness, "defocus_A": middle + thickness / 2}
        if told
        else {},
        uncertainty={"specimen_thickness_A": error},
        proof=(
            Curve(
                found.x**2,
                found.residual,
                "thickness (A)",
                "residual",
                "quick reconstructions",
                best=thickness,
            ),
        ),
        thickness_A=thickness,
        error_A=error,
        defocus_A=middle + thickness / 2,
    )


def _counted(
    residual: Callable[[float], float], progress: Progress | None, total: int
) -> Callable[[float], float]:
    done = [0]

    def counted(value: float) -> float:
        result = residual(value)
        done[0] += 1
        if progress is not None:
            progress(min(done[0], total), total)
        return result

    return counted
