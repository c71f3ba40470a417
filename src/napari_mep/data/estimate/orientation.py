"""Orientations of detector and scan that describe the same experiment.

World axes are the detector's, so turning transpose, flips and scan rotation together by 90 degrees
turns the specimen and changes nothing that could be measured. Of eight orientations and a full
turn of the scan, that leaves two kinds (mirrored or not) and the angle; a rotation of at most 45
degrees makes the description unique.
"""

from __future__ import annotations

import numpy as np

__all__ = ["Orientation", "canonical_orientation", "describe_orientation", "wrap"]

Orientation = tuple[bool, bool, bool]
"""Transpose, flip y, flip x: `orient_detector` in this order."""


def canonical_orientation(rotation_deg: float, flags: Orientation) -> tuple[float, Orientation]:
    """The equivalent rotation of at most 45 degrees, and the orientation that goes with it."""
    matrix = _matrix(flags)
    turns = round(rotation_deg / 90)
    # A turn of the world by -90 degrees, as in `physics.scan` (y down, x right).
    back = np.array([[0, 1], [-1, 0]])
    for _ in range(turns % 4):
        matrix = back @ matrix
    return wrap(rotation_deg - 90 * turns), _flags(matrix)


def describe_orientation(flags: Orientation) -> str:
    """An orientation in words."""
    words = [
        word
        for word, used in zip(("transposed", "flipped in y", "flipped in x"), flags, strict=True)
        if used
    ]
    return "detector " + (", ".join(words) if words else "as stored")


def wrap(angle_deg: float) -> float:
    """The same angle in (-180, 180]."""
    return 180.0 - (180.0 - angle_deg) % 360.0


def _matrix(flags: Orientation) -> np.ndarray:
    transpose, flip_y, flip_x = flags
    swap = np.array([[0, 1], [1, 0]]) if transpose else np.eye(2, dtype=int)
    return np.diag([-1 if flip_y else 1, -1 if flip_x else 1]) @ swap


def _flags(matrix: np.ndarray) -> Orientation:
    return bool(matrix[0, 0] == 0), bool(matrix[0].sum() < 0), bool(matrix[1].sum() < 0)
