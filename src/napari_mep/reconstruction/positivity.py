"""What is positive about a potential on voxels that end at their Nyquist frequency.

Before its spectrum is cut off a potential is positive everywhere. On voxels an atom rings: beside
it phases are lower than zero by about a hundredth of its height, with a sign that changes from
pixel to pixel. Averages over neighbouring pixels, weighted 1:2:1 along y and along x, do not have
the Nyquist frequency, and those of atoms are positive (rendered, C to Pb, anywhere on the pixels:
above -1e-4 of the highest phase).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["nearest_positive", "negativity", "neighbour_average"]

_PASSES = 60  # after which a twentieth of what was lacking still is, at most


def neighbour_average(canvas: Tensor) -> Tensor:
    """Average over three pixels along y and along x, 1:2:1, round the edges of the canvas."""
    for axis in (-2, -1):
        canvas = 0.5 * canvas + 0.25 * (canvas.roll(1, axis) + canvas.roll(-1, axis))
    return canvas


def negativity(canvas: Tensor, deviation_rad: float) -> tuple[float, Tensor]:
    """How far averages over neighbours are below zero, as a term of an objective.

    Parameters
    ----------
    canvas : (z, y, x) tensor
        Phase, rad.
    deviation_rad : float
        An average so far below zero counts 1/2.

    Returns
    -------
    value : float
        Half the sum of the squares of what is below zero, in units of `deviation_rad`.
    gradient : (z, y, x) tensor
        Its derivative, 1/rad.
    """
    below = neighbour_average(canvas).clamp(max=0.0) / deviation_rad
    return 0.5 * float(below.square().sum()), neighbour_average(below) / deviation_rad


def nearest_positive(canvas: Tensor, between: Callable[[], None] | None = None) -> Tensor:
    """The nearest canvas whose averages over neighbours are nowhere negative.

    Projected gradient steps on the dual problem: what is added is an average itself, of a canvas
    of multipliers that are positive where the constraint holds a pixel up.

    Parameters
    ----------
    canvas : (z, y, x) tensor
        Phase, rad.
    between : callable, optional
        Called before each pass; what it raises ends the search.

    Returns
    -------
    (z, y, x) tensor
        Nearest in the least-squares sense, but for a twentieth of what was below zero; nowhere
        lower than `canvas`.
    """
    multipliers = torch.zeros_like(canvas)
    nearest = canvas
    for _ in range(_PASSES):
        if between is not None:
            between()
        multipliers = (multipliers - neighbour_average(nearest)).clamp(min=0.0)
        nearest = canvas + neighbour_average(multipliers)
    return nearest
