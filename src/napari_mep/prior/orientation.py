"""The eight orientations of a square: a crystal has no preferred direction across the beam."""

from __future__ import annotations

from torch import Tensor

__all__ = ["ORIENTATIONS", "Orientation"]

ORIENTATIONS = 8
# Far apart ones come first, so that the mean over a few is nearly the mean over all.
_ORDER = (0, 7, 1, 6, 2, 5, 3, 4)


class Orientation:
    """Turns canvases by flips and an exchange of the lateral axes, and back.

    Parameters
    ----------
    number : int
        Modulo 8; 0 leaves everything as it is.
    """

    def __init__(self, number: int) -> None:
        code = _ORDER[number % ORIENTATIONS]
        self._flipped = tuple(axis for axis, bit in ((-1, 4), (-2, 2)) if code & bit)
        self._exchanged = bool(code & 1)

    def shape(self, canvas: tuple[int, int, int]) -> tuple[int, int, int]:
        """Shape of a canvas, turned."""
        depth, height, width = canvas
        return (depth, width, height) if self._exchanged else canvas

    def __call__(self, canvas: Tensor) -> Tensor:
        """Turn a (..., y, x) canvas."""
        canvas = canvas.flip(self._flipped) if self._flipped else canvas
        return canvas.transpose(-1, -2).contiguous() if self._exchanged else canvas

    def back(self, canvas: Tensor) -> Tensor:
        """Undo it."""
        canvas = canvas.transpose(-1, -2).contiguous() if self._exchanged else canvas
        return canvas.flip(self._flipped) if self._flipped else canvas
