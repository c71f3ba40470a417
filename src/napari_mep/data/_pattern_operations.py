"""What can be done to diffraction patterns as plain arrays, and reading what that takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_mep.data._store import READ_ERRORS, one_line
from napari_mep.data.dataset import check_positions
from napari_mep.errors import DataError

__all__ = [
    "LEAST_SHIFT_PX",
    "fill_bad_pixels",
    "read_image",
    "read_positions",
    "resampling",
    "roll_whole",
    "shift_patterns",
]

LEAST_SHIFT_PX = 1e-3  # below this a shift is none


def read_image(path: str | Path, shape: tuple[int, int], what: str) -> NDArray[np.float32]:
    """An image (ky, kx) of a ``.npy`` file.

    Raises
    ------
    DataError
        The file is missing or broken, or has another shape.
    """
    try:
        image = np.load(Path(path).expanduser(), allow_pickle=False)
        image = np.asarray(image, dtype=np.float32)
    except READ_ERRORS as err:
        raise DataError(f"{what} {path}: not readable as .npy ({one_line(err)})") from None
    if image.shape != shape:
        raise DataError(f"{what} {path}: shape {image.shape}, expected that of a pattern, {shape}")
    return image


def read_positions(path: str | Path, count: int, name: str) -> NDArray[np.float64]:
    """Positions (n, 2) (y, x) in A, any origin, in the axes of the scan.

    Out of ``.npy``, ``.csv`` (a header is skipped) or text.

    Raises
    ------
    DataError
        The file is missing or broken, or does not hold one row per pattern.
    """
    path = Path(path).expanduser()
    try:
        if path.suffix.lower() == ".npy":
            table = np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
        else:
            comma = "," if path.suffix.lower() == ".csv" else None
            with path.open(encoding="utf-8") as file:
                first = file.readline().replace(",", " ").split()
            skip = int(bool(first) and not first[0].startswith("#") and not _is_number(first[0]))
            table = np.loadtxt(path, delimiter=comma, skiprows=skip, ndmin=2)
    except READ_ERRORS as err:
        raise DataError(
            f"positions_file {path}: not readable ({one_line(err)}); give one row (y, x) in A per "
            "pattern"
        ) from None
    return check_positions(table.reshape(-1, 2) if table.ndim == 3 else table, count, name)


def fill_bad_pixels(patterns: NDArray[np.float32], bad: NDArray[np.bool_]) -> None:
    """Replace bad pixels of (n, ky, kx) by the median of good ones nearby, in place."""
    rows, columns = bad.shape
    for y, x in np.argwhere(bad):
        for reach in range(1, max(rows, columns)):
            part = (
                slice(max(0, y - reach), y + reach + 1),
                slice(max(0, x - reach), x + reach + 1),
            )
            good = ~bad[part]
            # In a pattern a fringe is a few pixels wide: the nearest ones say most.
            if good.sum() >= 3 or good.all():
                break
        patterns[:, y, x] = np.median(patterns[:, *part][:, good], axis=1)


def shift_patterns(
    patterns: NDArray[np.float32], shifts_px: NDArray[np.float64], subpixel: bool
) -> NDArray[np.float32]:
    """Move each pattern of (n, ky, kx) by its (n, 2) shift; zeros come in from outside.

    Whole pixels are moved as they are, what is left over by a Fourier phase ramp, which blurs
    nothing. Where that swings below zero counts are set to zero, and the pattern's sum is kept.
    """
    whole = np.rint(shifts_px).astype(int)
    moved = roll_whole(patterns, whole)
    rest = shifts_px - whole
    if subpixel and np.abs(rest).max(initial=0.0) > LEAST_SHIFT_PX:
        _, rows, columns = moved.shape
        qy, qx = np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None, :]
        turn = rest[:, 0, None, None] * qy + rest[:, 1, None, None] * qx
        spectrum = np.fft.rfft2(moved) * np.exp(-2j * np.pi * turn)
        total = moved.sum(axis=(1, 2), dtype=np.float64)
        moved = np.fft.irfft2(spectrum, s=(rows, columns)).astype(np.float32)
        np.maximum(moved, 0, out=moved)
        positive = moved.sum(axis=(1, 2), dtype=np.float64)
        moved *= np.where(positive > 0, total / np.maximum(positive, 1e-30), 0)[:, None, None]
    return moved


def roll_whole(patterns: NDArray[Any], shifts: NDArray[np.int_]) -> NDArray[Any]:
    moved = np.zeros_like(patterns)
    rows, columns = patterns.shape[1:]
    for pattern, target, (dy, dx) in zip(patterns, moved, shifts, strict=True):
        y, x = slice(max(0, dy), rows + min(0, dy)), slice(max(0, dx), columns + min(0, dx))
        from_y = slice(max(0, -dy), rows - max(0, dy))
        from_x = slice(max(0, -dx), columns - max(0, dx))
        if abs(dy) < rows and abs(dx) < columns:
            target[y, x] = pattern[from_y, from_x]
    return moved


def resampling(length: int, factor: int, wanted: int | None) -> NDArray[np.float32]:
    """Matrix (new, old) that bins and then crops or pads one detector axis.

    Binned pixel j collects `factor` pixels around the one that is `factor` times as far from
    ``K // 2``; with an even factor its borders pass through pixels, which count half for either
    side, so that the zero frequency stays at the centre of a pixel. Half a pixel off would be a
    hidden tilt of the specimen.
    """
    new = wanted or max(2, length // factor)
    matrix = np.zeros((new, length), np.float32)
    reach = factor // 2
    weights = np.ones(2 * reach + 1, np.float32)
    if factor % 2 == 0:
        weights[[0, -1]] = 0.5
    for j in range(new):
        centre = length // 2 + factor * (j - new // 2)
        for step, weight in zip(range(-reach, reach + 1), weights, strict=True):
            if 0 <= centre + step < length:
                matrix[j, centre + step] = weight
    return matrix


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
