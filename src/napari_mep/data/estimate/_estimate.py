"""The common form of everything that a calibration helper finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

__all__ = ["Curve", "Estimate", "Picture"]


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An image that proves a value, with what is to be drawn upon it.

    Parameters
    ----------
    image : (y, x) ndarray
        Grey values.
    title : str
        What it shows.
    circles : tuple of (y, x, radius)
        In pixels of the image.
    points : (n, 2) ndarray or None
        Places (y, x) to mark.
    logarithmic : bool
        Whether it is best seen on a logarithmic scale.
    """

    image: NDArray[Any]
    title: str
    circles: tuple[tuple[float, float, float], ...] = ()
    points: NDArray[Any] | None = None
    logarithmic: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A curve that proves a value.

    Parameters
    ----------
    x, y : (n,) ndarray
        The curve.
    x_label, y_label : str
        With units.
    title : str
        What it shows.
    best : float or None
        The place that was chosen.
    others : mapping of str to (n,) ndarray
        Further curves over the same x, by name.
    name : str
        Of the curve itself, where there are others.
    ticks : tuple of str
        Words instead of numbers along x, one per point.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    x_label: str
    y_label: str
    title: str
    best: float | None = None
    others: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    name: str = ""
    ticks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Estimate:
    """What one helper found.

    Parameters
    ----------
    title : str
        Which helper, for people.
    summary : str
        The result in one line, with units and uncertainty.
    calibration : mapping
        Values by key of the calibration file.
    uncertainty : mapping
        One standard deviation by key, in the unit of the value; where unknown, no entry.
    proof : tuple of Picture or Curve
        What shows that it is right.
    """

    title: str
    summary: str
    calibration: Mapping[str, Any] = field(default_factory=dict)
    uncertainty: Mapping[str, float] = field(default_factory=dict)
    proof: tuple[Picture | Curve, ...] = ()
