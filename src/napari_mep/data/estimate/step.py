"""The scan step, checked against lattice spacings that are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_mep.data.estimate._estimate import Estimate, Picture
from napari_mep.errors import DataError

__all__ = ["StepEstimate", "check_scan_step"]

_PADDING = 8  # zero-padding of the transform: peaks are found to a fraction of a frequency
# Noise alone reaches ln(N) / ln 2 times its median among N places: 8 for the rings meant here.
_STANDS_OUT = 15.0
_AGREE = 0.03  # relative spread of several spacings that belong to one lattice


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StepEstimate(Estimate):
    """The scan step that makes the lattice of the image the known one.

    Parameters
    ----------
    scan_step_A : tuple of 2 floats
        Corrected step (y, x), angstrom; both changed by the same factor.
    ratio : float
        Corrected over given step.
    spacings_A : tuple of floats
        Spacings found in the image with the step given, one per known spacing that was found.
    known_A : tuple of floats
        The known spacings that they belong to.
    """

    scan_step_A: tuple[float, float]
    ratio: float
    spacings_A: tuple[float, ...]
    known_A: tuple[float, ...]


def check_scan_step(
    image: NDArray[np.floating],
    scan_step_A: float | tuple[float, float],
    spacings_A: Sequence[float],
    *,
    tolerance: float = 0.2,
) -> StepEstimate:
    """Lattice peaks in the Fourier transform of a virtual image, against known spacings.

    A calibration value comes only of two spacings or more that agree. A probe that is wider than
    the spacing, as a defocused one, shows the lattice weakly or not at all.

    Parameters
    ----------
    image : (rows, columns) ndarray
        A virtual image or the integrated centre of mass.
    scan_step_A : float or (y, x)
        Step as it is believed to be, angstrom.
    spacings_A : sequence of floats
        Lattice spacings that the image should show, angstrom.
    tolerance : float
        How far off the step may be, relative.

    Raises
    ------
    DataError
        No spacing is given, the scan holds fewer than two periods of each, or no peak is found.
    """
    known = sorted({float(d) for d in spacings_A}, reverse=True)
    if not known or min(known) <= 0 or not all(math.isfinite(d) for d in known):
        raise DataError("scan step: give the lattice spacings that the image shows, in A")
    step_y, step_x = scan_step_A if isinstance(scan_step_A, tuple) else (scan_step_A,) * 2
    rows, columns = image.shape
    extent = min(rows * step_y, columns * step_x)
    window = np.hanning(rows + 2)[1:-1, None] * np.hanning(columns + 2)[None, 1:-1]
    centred = (image - np.average(image, weights=window)) * window
    shape = (_PADDING * rows, _PADDING * columns)
    power = np.abs(np.fft.fftshift(np.fft.fft2(centred, s=shape))) ** 2
    qy = np.fft.fftshift(np.fft.fftfreq(shape[0], step_y))[:, None]
    qx = np.fft.fftshift(np.fft.fftfreq(shape[1], step_x))[None, :]
    q = np.hypot(qy, qx)
    beyond = q > 1.5 / extent
    floor = float(np.median(power[beyond])) if beyond.any() else 0.0
    # One factor for all spacings: a single peak may well be another spacing's.
    visible = [d for d in known if extent >= 2 * d]
    factor = _common_factor(q, np.where(beyond, power, 0.0), visible, tolerance, extent)
    found, belongs, weights, marks = [], [], [], []
    for spacing in visible:
        near = np.abs(q - factor / spacing) < 0.5 / extent
        near &= np.abs(q * spacing - 1) < tolerance
        index = np.unravel_index(np.argmax(np.where(near & beyond, power, -1.0)), power.shape)
        peak = float(power[index])
        if peak < _STANDS_OUT * floor or not _is_summit(power, index):
            continue
        found.append(1 / float(q[index]))
        belongs.append(spacing)
        weights.append(peak)
        marks.append(index)
    if not found:
        raise DataError(
            f"scan step: no lattice peak within {tolerance:.0%} of "
            f"{', '.join(f'{d:g}' for d in known)} A in an image of {rows * step_y:.3g} x "
            f"{columns * step_x:.3g} A; a larger scan shows more"
        )
    ratios = np.array(belongs) / np.array(found)
    ratio = float(np.average(ratios, weights=weights))
    spread = float(np.sqrt(np.average((ratios - ratio) ** 2, weights=weights)))
    # A peak of one period is as wide as 1 / extent; its summit is found ten times better.
    error = max(spread, 0.1 * min(belongs) / extent / math.sqrt(len(found)))
    corrected = (step_y * ratio, step_x * ratio)
    # One peak may be any spacing's, or another lattice's; two that agree are the right ones.
    certain = len(found) > 1 and spread < _AGREE
    return StepEstimate(
        title="Scan step",
        summary=(
            f"{corrected[0]:.4g} x {corrected[1]:.4g} A, {100 * (ratio - 1):+.1f} % "
            f"(± {100 * error:.1f}) from {len(found)} lattice peak{'s' * (len(found) > 1)}"
            f"{'' if certain else ': not certain, two that agree are needed'}"
        ),
        calibration={"scan_step_A": corrected if step_y != step_x else corrected[0]}
        if certain
        else {},
        uncertainty={"scan_step_A": error * corrected[0]} if certain else {},
        proof=(
            Picture(
                np.sqrt(power),
                "Fourier transform of the image, lattice peaks marked",
                points=np.array(marks),
                logarithmic=True,
            ),
        ),
        scan_step_A=corrected,
        ratio=ratio,
        spacings_A=tuple(found),
        known_A=tuple(belongs),
    )


def _common_factor(
    q: NDArray[np.float64],
    power: NDArray[np.float64],
    spacings: Sequence[float],
    tolerance: float,
    extent: float,
) -> float:
    """What all expected frequencies must be multiplied with to lie on strong ones."""
    width = 1 / (_PADDING * extent)
    ring = np.minimum((q / width).astype(int), 1 << 16).ravel()
    strongest = np.zeros(int(ring.max()) + 1)
    np.maximum.at(strongest, ring, power.ravel())
    amplitude = np.sqrt(strongest)
    centres = (np.arange(len(amplitude)) + 0.5) * width
    factors = np.linspace(1 - tolerance, 1 + tolerance, 401)
    score = sum(
        (np.interp(factors / spacing, centres, amplitude, right=0.0) for spacing in spacings),
        np.zeros_like(factors),
    )
    return float(factors[np.argmax(score)])


def _is_summit(power: NDArray[np.float64], index: tuple[np.intp, ...]) -> bool:
    """Not merely the flank of something outside the ring."""
    y, x = (int(i) for i in index)
    part = power[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
    return bool(power[index] >= part.max())
