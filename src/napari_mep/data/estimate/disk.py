"""Centre and radius of the bright-field disk, and with the semi-angle mrad per detector pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_mep.data._pattern_operations import fill_bad_pixels
from napari_mep.data.estimate._estimate import Curve, Estimate, Picture
from napari_mep.errors import DataError

__all__ = ["DiskEstimate", "find_disk", "rough_disk"]

_SMOOTHING_PX = 1.0
_ANGLES = 180
# The centroid of a pixel's area: a square pixel blurs the edge like a Gaussian of this variance.
_PIXEL_VARIANCE = 1 / 12


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DiskEstimate(Estimate):
    """The bright-field disk.

    Parameters
    ----------
    centre_px : tuple of 2 floats
        (ky, kx) index of the centre, in detector pixels as stored.
    radius_px : float
        Radius in detector pixels.
    sharpness : float
        Mean fall of the counts across the edge, per pixel, relative to the mean inside.
    """

    centre_px: tuple[float, float]
    radius_px: float
    sharpness: float


def find_disk(
    mean_pattern: NDArray[np.floating],
    *,
    bad: NDArray[np.bool_] | None = None,
    semiangle_mrad: float | None = None,
    radius_px: float | None = None,
) -> DiskEstimate:
    """The circle across which the mean pattern falls most steeply.

    The derivative along the radius, averaged over the circle (Daugman's operator, IEEE PAMI 15
    (1993) 1148), does not mind what the specimen does inside the disk. Its smoothing draws a
    curved edge inwards by (variance) / (2 radius), which is put back.

    Parameters
    ----------
    mean_pattern : (ky, kx) ndarray
        Mean over many patterns, or a vacuum pattern.
    bad : (ky, kx) bool ndarray, optional
        Pixels to be ignored.
    semiangle_mrad : float, optional
        Convergence semi-angle; gives the detector step.
    radius_px : float, optional
        Radius that is known already: only the centre is looked for.

    Raises
    ------
    DataError
        There is no disk, or it reaches over the edge of the detector.
    """
    from scipy import ndimage, optimize

    image = np.array(mean_pattern, dtype=np.float32)[None]
    if bad is not None and bad.any():
        fill_bad_pixels(image, bad)
    counts = image[0].astype(np.float64)
    cy, cx, rough = rough_disk(counts)
    if radius_px is not None:
        rough = radius_px
    shrink = (_SMOOTHING_PX**2 + _PIXEL_VARIANCE) / 2
    slope_y = ndimage.gaussian_filter(counts, _SMOOTHING_PX, order=(1, 0), mode="nearest")
    slope_x = ndimage.gaussian_filter(counts, _SMOOTHING_PX, order=(0, 1), mode="nearest")
    angle = np.arange(_ANGLES) * (2 * math.pi / _ANGLES)
    sin, cos = np.sin(angle), np.cos(angle)

    def fall(y: float, x: float, radius: float) -> float:
        places = np.stack((y + radius * sin, x + radius * cos))
        steep = [
            ndimage.map_coordinates(slope, places, order=3, mode="nearest", prefilter=False)
            for slope in (spline_y, spline_x)
        ]
        return -float(np.mean(steep[0] * sin + steep[1] * cos))

    spline_y, spline_x = (ndimage.spline_filter(slope, order=3) for slope in (slope_y, slope_x))
    start = [cy, cx] if radius_px is not None else [cy, cx, rough]
    known = None if radius_px is None else radius_px - shrink / radius_px
    # The rough circle may be a pixel off, where the edge does not yet pull: look around first.
    trials = [
        (cy + dy, cx + dx, rough + dr if known is None else known)
        for dy in (-1.5, 0, 1.5)
        for dx in (-1.5, 0, 1.5)
        for dr in ((-2, -1, 0, 1, 2) if known is None else (0,))
        if rough + dr > 1
    ]
    start = list(max(trials, key=lambda trial: fall(*trial)))[: len(start)]
    found = optimize.minimize(
        lambda p: -fall(p[0], p[1], p[2] if known is None else known),
        start,
        method="Nelder-Mead",
        options={"xatol": 1e-3, "fatol": 1e-9 * max(counts.max(), 1e-30)},
    )
    cy, cx = float(found.x[0]), float(found.x[1])
    edge = float(found.x[2]) if known is None else known
    radius = edge + shrink / edge if radius_px is None else radius_px
    height, width = counts.shape
    y, x = np.arange(height)[:, None] - cy, np.arange(width)[None, :] - cx
    inside = counts[np.hypot(y, x) < 0.8 * radius]
    level = float(inside.mean()) if inside.size else 0.0
    sharpness = -float(found.fun) / level if level > 0 else 0.0
    if sharpness < 0.02 or radius < 1.5:
        raise DataError(
            "bright-field disk: no edge found in the mean pattern; check the patterns, or give "
            "detector_step_invA in the calibration"
        )
    if min(cy, cx, height - 1 - cy, width - 1 - cx) < radius - 1:
        raise DataError(
            f"bright-field disk: centre ({cy:.1f}, {cx:.1f}) and radius {radius:.1f} px reach over "
            f"the edge of the detector of {height} x {width} pixels; use a longer camera length"
        )
    calibration = {}
    words = f"centre ({cy:.2f}, {cx:.2f}) px, radius {radius:.2f} px"
    if semiangle_mrad is not None:
        calibration["detector_step_mrad"] = semiangle_mrad / radius
        words += f", {semiangle_mrad / radius:.4g} mrad per pixel"
    radii = np.linspace(0.6, 1.4, 81) * radius
    curve = np.array([fall(cy, cx, r - shrink / r) for r in radii])
    return DiskEstimate(
        title="Bright-field disk",
        summary=words,
        calibration=calibration,
        proof=(
            Picture(counts, "mean pattern", circles=((cy, cx, radius),)),
            Curve(
                radii,
                curve / max(float(curve.max()), 1e-30),
                "radius (detector pixels)",
                "fall of counts across the circle",
                "edge of the disk",
                best=radius,
            ),
        ),
        centre_px=(cy, cx),
        radius_px=radius,
        sharpness=sharpness,
    )


def rough_disk(mean_pattern: NDArray[np.floating]) -> tuple[float, float, float]:
    """Centre (ky, kx) and radius of what exceeds half of its own median brightness, pixels.

    Raises
    ------
    DataError
        The pattern is dark.
    """
    mean = np.asarray(mean_pattern, dtype=np.float64)
    if not mean.max() > 0:
        raise DataError("bright-field disk: the mean pattern is dark; check the patterns")
    bright = mean > mean.max() / 2
    bright = mean > np.median(mean[bright]) / 2
    y, x = np.nonzero(bright)
    return float(np.median(y)), float(np.median(x)), math.sqrt(bright.sum() / math.pi)
