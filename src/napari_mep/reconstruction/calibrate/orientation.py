"""How detector and scan are oriented, tried out by quick reconstructions.

World axes are the detector's, so turning transpose, flips and scan rotation together by 90 degrees
turns the specimen and changes nothing that could be measured. What can be: whether the detector is
mirrored (2 cases) and the angle between scan and detector (a full turn). With the rotation known,
that leaves eight orientations; with it unknown, the answer is given with a rotation of at most 45
degrees, which makes it unique.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from napari_mep.data.estimate import Curve, Estimate
from napari_mep.data.estimate.orientation import (
    Orientation,
    canonical_orientation,
    describe_orientation,
    wrap,
)
from napari_mep.reconstruction.calibrate._trials import Trials, find_minimum

__all__ = [
    "OrientationEstimate",
    "TurnEstimate",
    "find_orientation",
    "find_turn",
    "refine_rotation",
]

Progress = Callable[[int, int], None]

_COARSE_DEG = 15.0
# Right and wrong differ by 5 % or more where calibration and patterns are about right.
_LEAST_CONTRAST = 0.015
_MODEL_ERROR_DEG = 0.1  # what the quick model leaves, whatever the statistics


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class OrientationEstimate(Estimate):
    """The orientation with the lowest residual at a scan rotation that is given.

    Parameters
    ----------
    orientation : tuple of 3 bools
        Transpose, flip y, flip x.
    residuals : mapping of orientation to float
        Relative amplitude residual of each.
    contrast : float
        How much lower the best residual is than the second best, relative.
    """

    orientation: Orientation
    residuals: dict[Orientation, float]
    contrast: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TurnEstimate(Estimate):
    """Scan rotation and orientation together.

    Parameters
    ----------
    rotation_deg : float
        Scan rotation.
    orientation : tuple of 3 bools
        Transpose, flip y, flip x.
    contrast : float
        How much lower the best residual is than that of the best mirrored one, relative.
    """

    rotation_deg: float
    orientation: Orientation
    contrast: float


def find_orientation(trials: Trials, progress: Progress | None = None) -> OrientationEstimate:
    """Try the eight orientations of the detector at the scan rotation of the calibration.

    A few gradient steps each tell them apart when energy, semi-angle, steps and defocus are about
    right; the defocus may be 20 % off, but its sign must be right, for a mirrored specimen in the
    opposite focus looks much alike.
    """
    residuals: dict[Orientation, float] = {}
    for done, (transpose, y, x) in enumerate(product((False, True), repeat=3), start=1):
        flags = (transpose, y, x)
        residuals[flags] = trials.residual(**_as_changes(flags))
        if progress is not None:
            progress(done, 8)
    ranked = sorted(residuals, key=lambda flags: residuals[flags])
    best = ranked[0]
    contrast = 1 - residuals[best] / residuals[ranked[1]]
    return OrientationEstimate(
        title="Orientation",
        summary=(
            f"{describe_orientation(best)}: residual {residuals[best]:.4f}, the next best "
            f"{residuals[ranked[1]]:.4f} ({describe_orientation(ranked[1])}){_doubt(contrast)}"
        ),
        calibration={} if _doubt(contrast) else _as_changes(best),
        proof=(
            Curve(
                np.arange(8.0),
                np.array([residuals[flags] for flags in ranked]),
                "orientation (T transposed, Y and X flipped)",
                "residual",
                "the eight orientations",
                best=0.0,
                ticks=tuple(_short(flags) for flags in ranked),
            ),
        ),
        orientation=best,
        residuals=residuals,
        contrast=contrast,
    )


def find_turn(trials: Trials, progress: Progress | None = None) -> TurnEstimate:
    """Try all scan rotations, 15 degrees apart, with and without a mirrored detector."""
    angles = np.arange(-180.0, 180.0, _COARSE_DEG)
    curves = []
    for mirrored in (False, True):
        flags = (mirrored, False, False)
        curve = []
        for angle in angles:
            curve.append(trials.residual(scan_rotation_deg=float(angle), **_as_changes(flags)))
            if progress is not None:
                progress(len(curve) + mirrored * len(angles), 2 * len(angles))
        curves.append(np.array(curve))
    mirrored = bool(curves[1].min() < curves[0].min())
    best = curves[mirrored]
    place = int(np.argmin(best))
    # Between two angles of the grid: the parabola through three of them.
    before, here, after = (float(best[(place + i) % len(best)]) ** 2 for i in (-1, 0, 1))
    bend = before - 2 * here + after
    offset = 0.5 * (before - after) / bend if bend > 0 else 0.0
    raw = float(angles[place]) + _COARSE_DEG * float(np.clip(offset, -0.5, 0.5))
    rotation, flags = canonical_orientation(raw, (mirrored, False, False))
    contrast = 1 - float(best.min()) / float(curves[not mirrored].min())
    return TurnEstimate(
        title="Scan rotation and orientation",
        summary=(
            f"{rotation:.0f} deg, {describe_orientation(flags)}: "
            f"residual {best.min():.4f}, mirrored at best "
            f"{curves[not mirrored].min():.4f}{_doubt(contrast)}"
        ),
        calibration={}
        if _doubt(contrast)
        else {"scan_rotation_deg": rotation, **_as_changes(flags)},
        uncertainty={} if _doubt(contrast) else {"scan_rotation_deg": _COARSE_DEG / 4},
        proof=(
            Curve(
                angles,
                curves[0],
                "scan rotation (deg)",
                "residual",
                "quick reconstructions at every rotation",
                best=raw,
                others={"detector transposed": curves[1]},
                name="as stored",
            ),
        ),
        rotation_deg=rotation,
        orientation=flags,
        contrast=contrast,
    )


def refine_rotation(
    trials: Trials, half_width_deg: float, progress: Progress | None = None
) -> Estimate:
    """Scan rotation to a fraction of a degree, around that of the calibration."""
    start = trials.calibration.scan_rotation_deg
    grid = start + half_width_deg * np.linspace(-1, 1, 5)
    count = [0]

    def residual(angle: float) -> float:
        count[0] += 1
        if progress is not None:
            progress(min(count[0], 11), 11)
        return trials.residual(scan_rotation_deg=angle)

    found = find_minimum(residual, list(grid), trials.electrons)
    rotation = wrap(found.place)
    error = max(found.error, _MODEL_ERROR_DEG)
    return Estimate(
        title="Scan rotation",
        summary=(
            f"{rotation:.2f} deg is the edge of the range tried: the angle is not there"
            if found.at_edge
            else f"{rotation:.2f} ± {error:.2f} deg"
        ),
        calibration={} if found.at_edge else {"scan_rotation_deg": rotation},
        uncertainty={} if found.at_edge else {"scan_rotation_deg": error},
        proof=(
            Curve(
                found.x,
                found.residual,
                "scan rotation (deg)",
                "residual",
                "quick reconstructions",
                best=found.place,
            ),
        ),
    )


def _doubt(contrast: float) -> str:
    """Why an orientation must not be believed; empty if it may be."""
    if contrast >= _LEAST_CONTRAST:
        return ""
    return ": not told apart; check semi-angle, scan step and the sign of the defocus"


def _short(flags: Orientation) -> str:
    return "".join(letter for letter, used in zip("TYX", flags, strict=True) if used) or "–"


def _as_changes(flags: Orientation) -> dict[str, bool]:
    names = ("detector_transpose", "detector_flip_y", "detector_flip_x")
    return dict(zip(names, flags, strict=True))
