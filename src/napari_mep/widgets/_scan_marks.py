"""Lines over images and patterns: the detector's circles, the scan cursor, bars with units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_mep.widgets._scan_look import Ring

if TYPE_CHECKING:
    from napari_mep.widgets._scan_places import Place

__all__ = ["Marks", "marks_of"]

# Okabe and Ito.
_DETECTOR, _INNER, _CURSOR, _BAR = "#e69f00", "#56b4e9", "#d55e00", "#ffffff"


@dataclass(frozen=True, slots=True, eq=False)
class Marks:
    """Shapes in world coordinates.

    Parameters
    ----------
    shapes : list of (n, 2) ndarray
        Corners (y, x).
    kinds : list of str
        Of napari's shape types.
    colours, labels : list of str
        One per shape.
    """

    shapes: list[np.ndarray]
    kinds: list[str]
    colours: list[str]
    labels: list[str]


def marks_of(
    *,
    ring: Ring,
    pattern: Place,
    scans: Sequence[Place],
    cursor: tuple[int, int],
    mrad_per_px: float | None,
    unit: str,
    side: float,
) -> Marks:
    """Everything that is drawn over the board; always the same shapes in the same order.

    Parameters
    ----------
    ring : Ring
        The virtual detector.
    pattern : Place
        Of the mean pattern.
    scans : sequence of Place
        Of the images over the scan.
    cursor : tuple of 2 ints
        Scan row and column.
    mrad_per_px : float or None
        For labels; None: pixels.
    unit : str
        Of lengths in the world.
    side : float
        Side of a pattern in the world.
    """
    marks = Marks([], [], [], [])

    def add(shape: Sequence[Sequence[float]], kind: str, colour: str, label: str = "") -> None:
        marks.shapes.append(np.array(shape, dtype=float))
        marks.kinds.append(kind)
        marks.colours.append(colour)
        marks.labels.append(label)

    cy, cx = pattern.world(ring.centre)
    pixel = pattern.pixel[0]
    for radius, colour in ((ring.outer, _DETECTOR), (ring.inner, _INNER)):
        r = max(radius * pixel, 1e-6 * side)
        corners = [(cy - r, cx - r), (cy - r, cx + r), (cy + r, cx + r), (cy + r, cx - r)]
        add(corners, "ellipse", colour, _angle(radius, mrad_per_px) if radius > 0 else "")
    arm = side / 40
    add([(cy - arm, cx), (cy + arm, cx)], "line", _DETECTOR)
    add([(cy, cx - arm), (cy, cx + arm)], "line", _DETECTOR)
    for place in scans:
        y, x = place.world((float(cursor[0]), float(cursor[1])))
        hy, hx = (max(0.5 * p, side / 80) for p in place.pixel)
        corners = [(y - hy, x - hx), (y - hy, x + hx), (y + hy, x + hx), (y + hy, x - hx)]
        add(corners, "rectangle", _CURSOR)
    per_px = mrad_per_px or 1.0
    length = _round_length(0.25 * pattern.shape[1] * per_px)
    words = f"{length:g} {'mrad' if mrad_per_px else 'px'}"
    _bar(add, pattern, length / per_px, side, words)
    scan = scans[0]
    length = _round_length(0.25 * scan.shape[1] * scan.pixel[1])
    _bar(add, scan, length / scan.pixel[1], side, f"{length:g} {unit}")
    return marks


def _bar(add: object, place: Place, pixels: float, side: float, words: str) -> None:
    """A horizontal bar in the lower right corner of an image."""
    assert callable(add)
    bottom, right = place.world((place.shape[0] - 0.5, place.shape[1] - 0.5))
    y, x = bottom - side / 25, right - side / 25
    add([(y, x - pixels * place.pixel[1]), (y, x)], "line", _BAR, words)


def _angle(pixels: float, mrad_per_px: float | None) -> str:
    return f"{pixels * mrad_per_px:.3g} mrad" if mrad_per_px else f"{pixels:.3g} px"


def _round_length(rough: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not longer."""
    power = 10.0 ** math.floor(math.log10(max(rough, 1e-12)))
    return max(m * power for m in (1, 2, 5) if m * power <= rough * (1 + 1e-9))
