"""One pass over a scan: mean pattern, virtual detectors, centre of mass.

Patterns are read block by block, so a scan may be larger than memory; a subsample is a coarser
raster, and every image stays one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_mep.data._pages import fetch, give_back
from napari_mep.data._store import READ_ERRORS, one_line
from napari_mep.data.dataset import DiffractionDataset, PatternArray
from napari_mep.data.opened import OpenedPatterns
from napari_mep.errors import DataError

__all__ = [
    "Progress",
    "ScanImages",
    "Stopped",
    "VirtualDetector",
    "coarse_raster",
    "integrate_centre_of_mass",
    "sample_patterns",
    "scan_images",
]

Progress = Callable[[int, int], None]
"""Called with the number of patterns done and in all."""

_BLOCK_BYTES = 1 << 25


class Stopped(Exception):
    """The user asked to stop; nothing that was begun is kept."""


@dataclass(frozen=True, slots=True, eq=False)
class VirtualDetector:
    """Which detector pixels a virtual image adds up.

    Parameters
    ----------
    name : str
        Key of the image, for people too: ``"BF"``, ``"ADF"``, ...
    inner_px, outer_px : float
        Radii of the ring in detector pixels; pixel centres in [inner, outer) count.
    centre_px : tuple of 2 floats or None
        Centre (ky, kx); None: the zero frequency, ``K // 2``.
    mask : (ky, kx) ndarray or None
        Weights instead of a ring.
    """

    name: str
    inner_px: float = 0.0
    outer_px: float = math.inf
    centre_px: tuple[float, float] | None = None
    mask: NDArray[Any] | None = None

    def weights(self, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Weight of each detector pixel, (ky, kx) float32.

        Raises
        ------
        DataError
            The mask has another shape, or the ring holds no pixel.
        """
        if self.mask is not None:
            weights = np.asarray(self.mask, dtype=np.float32)
            if weights.shape != tuple(shape):
                raise DataError(
                    f"virtual detector {self.name}: mask of shape {weights.shape}, expected {shape}"
                )
        else:
            cy, cx = self.centre_px or (shape[0] // 2, shape[1] // 2)
            y, x = np.arange(shape[0])[:, None] - cy, np.arange(shape[1])[None, :] - cx
            radius = np.hypot(y, x)
            weights = ((radius >= self.inner_px) & (radius < self.outer_px)).astype(np.float32)
        if not weights.any():
            raise DataError(
                f"virtual detector {self.name}: {self.inner_px:g} to {self.outer_px:g} px holds no "
                "detector pixel; make the ring wider"
            )
        return weights


@dataclass(frozen=True, slots=True, eq=False)
class ScanImages:
    """What one pass over the scan found; detector axes as stored, not oriented.

    Parameters
    ----------
    mean_pattern : (ky, kx) float32 ndarray
        Mean of the patterns that were read.
    sums : (rows, columns) float64 ndarray
        Everything each pattern counted in good pixels.
    virtual : mapping of str to (rows, columns) float64 ndarray
        One image per virtual detector.
    centre_of_mass : (rows, columns, 2) float64 ndarray
        (ky, kx) in detector pixels from ``K // 2``.
    every : tuple of 2 ints
        Every how manieth scan row and column was read.
    """

    mean_pattern: NDArray[np.float32]
    sums: NDArray[np.float64]
    virtual: Mapping[str, NDArray[np.float64]]
    centre_of_mass: NDArray[np.float64]
    every: tuple[int, int]


def scan_images(
    data: PatternArray | OpenedPatterns | DiffractionDataset,
    detectors: Sequence[VirtualDetector] = (),
    *,
    bad: NDArray[np.bool_] | None = None,
    max_patterns: int | None = None,
    stop: Event | None = None,
    progress: Progress | None = None,
) -> ScanImages:
    """Read the scan once and make all its images.

    Parameters
    ----------
    data : PatternArray, OpenedPatterns or DiffractionDataset
        Patterns, taken as stored.
    detectors : sequence of VirtualDetector
        Which virtual images are wanted.
    bad : (ky, kx) bool ndarray, optional
        Pixels that count in no sum and in no centre of mass; the mean pattern holds them.
    max_patterns : int, optional
        Read about that many at most, on a coarser raster; None: all.
    stop : threading.Event, optional
        Looked at between blocks.
    progress : callable, optional
        Told after every block.

    Raises
    ------
    Stopped
        `stop` was set.
    DataError
        A block cannot be read, or a virtual detector is none.
    """
    held = isinstance(data, OpenedPatterns | DiffractionDataset)
    patterns: PatternArray = data.patterns if held else data  # type: ignore[union-attr, assignment]
    shape = (int(patterns.shape[2]), int(patterns.shape[3]))
    rows, columns = coarse_raster((int(patterns.shape[0]), int(patterns.shape[1])), max_patterns)
    good = np.ones(shape, np.float32) if bad is None else (~bad).astype(np.float32)
    ky = np.arange(shape[0], dtype=np.float32) - shape[0] // 2
    kx = np.arange(shape[1], dtype=np.float32) - shape[1] // 2
    names = [detector.name for detector in detectors]
    # One matrix product a block gives every sum at once.
    images = [detector.weights(shape) * good for detector in detectors]
    images += [good, good * ky[:, None], good * kx[None, :]]
    weights = np.stack(images).reshape(len(images), -1).T.astype(np.float32)
    found = np.empty((len(rows), len(columns), len(images)))
    total = np.zeros(shape)
    every = tuple(int(part[1] - part[0]) if len(part) > 1 else 1 for part in (rows, columns))
    per_block = max(1, _BLOCK_BYTES // (4 * math.prod(shape) * every[1]))
    done = 0
    for i, row in enumerate(rows):
        for start in range(0, len(columns), per_block):
            if stop is not None and stop.is_set():
                raise Stopped
            part = columns[start : start + per_block]
            block = read_part(patterns, int(row), part)
            total += block.sum(axis=0, dtype=np.float64)
            found[i, start : start + len(part)] = block.reshape(len(part), -1) @ weights
            done += len(part)
            if progress is not None:
                progress(done, len(rows) * len(columns))
    sums = found[..., -3]
    moments = found[..., -2:]
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = np.where(sums[..., None] > 0, moments / sums[..., None], 0.0)
    return ScanImages(
        mean_pattern=(total / max(done, 1)).astype(np.float32),
        sums=sums,
        virtual={name: found[..., i] for i, name in enumerate(names)},
        centre_of_mass=centre,
        every=(every[0], every[1]),
    )


def sample_patterns(
    patterns: PatternArray,
    max_patterns: int | None,
    *,
    stop: Event | None = None,
    progress: Progress | None = None,
) -> tuple[NDArray[Any], tuple[int, int]]:
    """A coarser raster of the scan in memory, for looking at it again and again.

    Parameters
    ----------
    patterns : PatternArray
        (scan_y, scan_x, ky, kx).
    max_patterns : int or None
        About that many at most; None: all.
    stop, progress
        See `scan_images`.

    Returns
    -------
    sample : (rows, columns, ky, kx) ndarray
        In the type of the patterns.
    every : tuple of 2 ints
        Every how manieth scan row and column it holds.

    Raises
    ------
    Stopped
        `stop` was set.
    DataError
        The file cannot be read.
    """
    rows, columns = coarse_raster((int(patterns.shape[0]), int(patterns.shape[1])), max_patterns)
    shape = (len(rows), len(columns), int(patterns.shape[2]), int(patterns.shape[3]))
    sample = np.empty(shape, dtype=np.dtype(patterns.dtype).newbyteorder("="))
    for i, row in enumerate(rows):
        if stop is not None and stop.is_set():
            raise Stopped
        sample[i] = read_part(patterns, int(row), columns)
        if progress is not None:
            progress((i + 1) * len(columns), len(rows) * len(columns))
    every = tuple(int(part[1] - part[0]) if len(part) > 1 else 1 for part in (rows, columns))
    return sample, (every[0], every[1])


def coarse_raster(
    scan_shape: tuple[int, int], max_patterns: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Scan rows and columns of a raster of at most about `max_patterns` positions."""
    step = 1
    if max_patterns is not None:
        step = max(1, math.ceil(math.sqrt(math.prod(scan_shape) / max(1, max_patterns))))
    rows, columns = (np.arange(0, n, min(step, n), dtype=np.int64) for n in scan_shape)
    return rows, columns


def read_part(patterns: PatternArray, row: int, columns: NDArray[np.int64]) -> NDArray[np.float32]:
    """Some columns, evenly spaced, of one scan row as (n, ky, kx) float32.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    first, last = int(columns[0]), int(columns[-1])
    try:
        stored = np.asarray(patterns[row, slice(first, last + 1)])
        # A dense row is asked for at once: each piece of advice takes 30 us.
        dense = len(stored) == len(columns)
        for part in [stored] if dense else [stored[i] for i in columns - first]:
            fetch(part)
        block = stored[columns - first]  # a copy
        give_back(stored)
    except READ_ERRORS as err:
        raise DataError(
            f"scan row {row} cannot be read ({one_line(err)}); the file is truncated or corrupted"
        ) from None
    return np.asarray(block, dtype=np.float32)


def integrate_centre_of_mass(field_yx: NDArray[np.floating]) -> NDArray[np.float64]:
    """The image whose gradient the field is: iCoM, by Fourier integration of the mirrored scan.

    Lazic, Bosch and Lazar, Ultramicroscopy 160 (2016) 265, eq. 29.

    Parameters
    ----------
    field_yx : (rows, columns, 2) ndarray
        Centre of mass in the axes of the scan (slow, fast), any unit.

    Returns
    -------
    (rows, columns) float64 ndarray
        In the unit of the field times scan steps, mean zero.
    """
    rows, columns, _ = field_yx.shape
    centred = field_yx - field_yx.mean(axis=(0, 1))
    # Mirrored so that the periodic Fourier transform meets no edge: the potential is made even,
    # so its derivative along an axis changes sign there.
    slow = np.block(
        [
            [centred[..., 0], centred[:, ::-1, 0]],
            [-centred[::-1, :, 0], -centred[::-1, ::-1, 0]],
        ]
    )
    fast = np.block(
        [
            [centred[..., 1], -centred[:, ::-1, 1]],
            [centred[::-1, :, 1], -centred[::-1, ::-1, 1]],
        ]
    )
    qy = np.fft.fftfreq(2 * rows)[:, None]
    qx = np.fft.fftfreq(2 * columns)[None, :]
    q2 = qy**2 + qx**2
    q2[0, 0] = 1.0
    spectrum = (qy * np.fft.fft2(slow) + qx * np.fft.fft2(fast)) / (2j * np.pi * q2)
    spectrum[0, 0] = 0.0
    image = np.fft.ifft2(spectrum).real[:rows, :columns]
    return np.asarray(image - image.mean())
