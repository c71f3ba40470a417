"""A 4D-STEM scan with its calibration: the one form in which patterns reach the physics."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_mep.data._pages import fetch, give_back
from napari_mep.data._store import READ_ERRORS, one_line
from napari_mep.data.calibration import Calibration
from napari_mep.errors import DataError
from napari_mep.volume import PhaseVolume

__all__ = [
    "DiffractionDataset",
    "PatternArray",
    "check_pattern_array",
    "check_positions",
    "orient_detector",
]

_CHECK_BYTES = 1 << 30  # validate and the dose scale read everything below this size
_BLOCK_BYTES = 1 << 26
_MAX_GAP = 8  # patterns between two wanted ones that are read along rather than sought over


class PatternArray(Protocol):
    """What patterns must offer: a numpy array, a memmap, a zarr.Array, an h5py.Dataset, ..."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(scan_y, scan_x, ky, kx)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """A real number type."""

    def __getitem__(self, key: tuple[int, slice]) -> ArrayLike:
        """Patterns of part of one scan row, (n, ky, kx)."""


@dataclass(frozen=True, slots=True, eq=False)
class DiffractionDataset:
    """Diffraction patterns of a raster scan, lazily held, with a complete calibration.

    Parameters
    ----------
    patterns : PatternArray
        (scan_y, scan_x, ky, kx) as stored, zero frequency at index ``K // 2``. Electrons, or any
        linear unit if the calibration gives a dose. Read only where and when it is needed.
    calibration : Calibration
        Beam, probe, scan and detector.
    name : str
        Name shown to people.
    path : Path or None
        Where the patterns come from.
    mask : (ky, kx) bool ndarray or None
        True where a detector pixel was measured; oriented as `counts` returns patterns.
    truth : PhaseVolume or None
        The specimen that a simulation started from.
    probe : (ky, kx) complex ndarray or None
        Known probe wave in real space, centred at index ``K // 2``, on the pixels of
        `pixel_size_A`, oriented as `counts` returns patterns.
    provenance : mapping
        How the data came about; values that JSON can hold.
    positions : (scan_y * scan_x, 2) float64 ndarray or None
        Where the probe really stood, (y, x) in A from the world origin in the axes of the scan, row
        by row; the scan rotation turns them as it turns a raster. None: the raster of the scan
        step, with the first position at the origin.

    Raises
    ------
    DataError
        Wrong number of axes, complex or non-numeric patterns, a mask, a probe or positions that
        do not fit.
    CalibrationError
        The detector does not reach the edge of the bright-field disk.
    """

    patterns: PatternArray
    calibration: Calibration
    name: str
    path: Path | None = None
    mask: NDArray[np.bool_] | None = None
    truth: PhaseVolume | None = None
    probe: NDArray[np.complexfloating] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    positions: NDArray[np.float64] | None = None
    # Mean stored sum of a pattern; found on first use because it needs to read the patterns.
    _mean_sum: list[float] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        check_pattern_array(self.patterns, self.name)
        self.calibration.check_detector(self.detector_shape)
        for label, array in (("mask", self.mask), ("probe", self.probe)):
            if array is not None and tuple(array.shape) != self.detector_shape:
                raise DataError(
                    f"{self.name}: {label} of shape {tuple(array.shape)} does not fit patterns of "
                    f"{self.detector_shape}; give one value per detector pixel"
                )
        if self.positions is not None:
            positions = check_positions(self.positions, self.n_patterns, self.name)
            object.__setattr__(self, "positions", positions)

    @property
    def scan_shape(self) -> tuple[int, int]:
        """Scan positions (y, x)."""
        return int(self.patterns.shape[0]), int(self.patterns.shape[1])

    @property
    def detector_shape(self) -> tuple[int, int]:
        """Detector pixels (ky, kx) as `counts` returns them, that is after a transposition."""
        ky, kx = (int(n) for n in self.patterns.shape[2:])
        return (kx, ky) if self.calibration.detector_transpose else (ky, kx)

    @property
    def n_patterns(self) -> int:
        """Number of scan positions."""
        return self.scan_shape[0] * self.scan_shape[1]

    @property
    def pixel_size_A(self) -> tuple[float, float]:
        """Real-space pixel (y, x) that the detector reaches, 1 / (K dk), in A."""
        ky, kx = self.detector_shape
        step = self.calibration.detector_step_invA
        return 1 / (ky * step), 1 / (kx * step)

    @property
    def electrons_per_pattern(self) -> float:
        """Mean electrons per pattern (from all patterns, or an even sample of 1 GB of them)."""
        dose = self.calibration.dose_e_per_A2
        if dose is not None:
            step_y, step_x = self.calibration.scan_step_yx_A
            return dose * step_y * step_x
        return self._mean_stored_sum()

    @property
    def scan_extent_A(self) -> tuple[float, float]:
        """Height and width (y, x) of the box that holds all scan positions, in A."""
        positions = self.positions_A()
        height, width = positions.max(axis=0) - positions.min(axis=0)
        return float(height), float(width)

    def counts(self, indices: ArrayLike | None = None) -> NDArray[np.float32]:
        """Some patterns in electrons, transposed and flipped as the calibration says.

        Parameters
        ----------
        indices : (n,) array of int, optional
            Flat raster indices (scan_y * columns + scan_x) in any order; all by default.

        Returns
        -------
        (n, ky, kx) float32 ndarray
            Electrons, zero frequency at ``K // 2``; pixels outside the mask are zero.

        Raises
        ------
        DataError
            An index is outside the scan, or the file cannot be read.
        """
        wanted = np.arange(self.n_patterns) if indices is None else np.atleast_1d(indices)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= self.n_patterns):
            raise DataError(
                f"{self.name}: pattern index {int(wanted.max())} outside 0..{self.n_patterns - 1}"
            )
        patterns = self._oriented(self._stored(wanted.astype(np.int64)))
        scale = self._electrons_per_unit()
        if scale != 1.0:
            patterns = patterns * np.float32(scale)
        if self.mask is not None:
            patterns = np.where(self.mask, patterns, np.float32(0))
        return np.ascontiguousarray(patterns, dtype=np.float32)

    def positions_A(self) -> NDArray[np.float64]:
        """Scan positions in world coordinates, (n, 2) float64 (y, x) in A.

        A raster begins at the world origin, (0, 0); a part of a scan stays where it was in it.
        """
        from napari_mep.physics.scan import raster_positions_A

        rotation = self.calibration.scan_rotation_deg
        if self.positions is not None:
            return _turned(self.positions, rotation)
        step = self.calibration.scan_step_yx_A
        return np.asarray(raster_positions_A(self.scan_shape, step, rotation), dtype=np.float64)

    def mean_pattern(self, max_patterns: int = 1024) -> NDArray[np.float32]:
        """Mean of at most `max_patterns` evenly spread patterns, (ky, kx) float32, electrons."""
        total = np.zeros(self.detector_shape, dtype=np.float64)
        indices = _evenly(self.n_patterns, max_patterns)
        for block in self._blocks(indices):
            total += self.counts(block).sum(axis=0, dtype=np.float64)
        return (total / len(indices)).astype(np.float32)

    def fingerprint(self) -> str:
        """SHA-256 that tells this dataset from others, as 64 hexadecimal digits.

        It covers the scan and detector shape, 64 evenly spread patterns in float32 as stored, the
        mask, explicit positions and the physical calibration; not the name, the path, the
        container format, the sources of the calibration or the truth. So the same data in another
        file has the same fingerprint, and reading it never takes long.
        """
        digest = hashlib.sha256(repr((*self.scan_shape, *self.detector_shape)).encode())
        digest.update(self.calibration.model_dump_json().encode())
        for index in _evenly(self.n_patterns, 64):
            digest.update(self._stored(np.array([index])).astype("<f4").tobytes())
        if self.mask is not None:
            digest.update(np.packbits(self.mask).tobytes())
        if self.positions is not None:
            digest.update(self.positions.astype("<f8").tobytes())
        return digest.hexdigest()

    def validate(self, max_patterns: int | None = None) -> int:
        """Look for values that no detector delivers.

        Reads every pattern of a dataset below 1 GB, and above it an even sample of that size.

        Parameters
        ----------
        max_patterns : int, optional
            Read an even sample of so many patterns at most.

        Returns
        -------
        int
            Number of patterns that were checked.

        Raises
        ------
        DataError
            NaN, infinite or negative counts, or nothing but zeros; names the scan position.
        """
        most = max(1, _CHECK_BYTES // self._pattern_bytes())
        indices = _evenly(self.n_patterns, min(most, max_patterns or most))
        total = 0.0
        for block in self._blocks(indices):
            patterns = self._oriented(self._stored(block))
            if self.mask is not None:
                patterns = np.where(self.mask, patterns, 0)
            low = patterns.min(axis=(1, 2))  # NaN propagates through both
            high = patterns.max(axis=(1, 2))
            for bad, what, remedy in (
                (np.isnan(low), "NaN", "mask these detector pixels or replace them"),
                (np.isinf(low) | np.isinf(high), "infinite counts", "mask these detector pixels"),
                (low < 0, "negative counts", "subtract the true dark level or clip at 0"),
            ):
                if bad.any():
                    y, x = divmod(int(block[int(np.argmax(bad))]), self.scan_shape[1])
                    raise DataError(
                        f"{self.name}: {what} at scan position (y={y}, x={x}), "
                        f"{int(bad.sum())} of the {len(block)} patterns from there on; {remedy}"
                    )
            total += float(high.sum(dtype=np.float64))
        if total == 0:
            raise DataError(f"{self.name}: all counts are zero; check the dataset and its path")
        return len(indices)

    def _electrons_per_unit(self) -> float:
        if self.calibration.dose_e_per_A2 is None:
            return 1.0
        mean = self._mean_stored_sum()
        if not (np.isfinite(mean) and mean > 0):
            raise DataError(
                f"{self.name}: mean pattern sum is {mean:g}, so dose_e_per_A2 = "
                f"{self.calibration.dose_e_per_A2:g} e/A2 cannot scale it; check the patterns"
            )
        return self.electrons_per_pattern / mean

    def _mean_stored_sum(self) -> float:
        if self._mean_sum:
            return self._mean_sum[0]
        indices = _evenly(self.n_patterns, max(1, _CHECK_BYTES // self._pattern_bytes()))
        total = 0.0
        for block in self._blocks(indices):
            patterns = self._oriented(self._stored(block))
            measured = patterns if self.mask is None else patterns[:, self.mask]
            total += float(measured.sum(dtype=np.float64))
        self._mean_sum.append(total / len(indices))
        return self._mean_sum[0]

    def _pattern_bytes(self) -> int:
        return 4 * self.detector_shape[0] * self.detector_shape[1]

    def _blocks(self, indices: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        length = max(1, _BLOCK_BYTES // self._pattern_bytes())
        for start in range(0, len(indices), length):
            yield indices[start : start + length]

    def _oriented(self, patterns: NDArray[np.float32]) -> NDArray[np.float32]:
        c = self.calibration
        return orient_detector(patterns, c.detector_transpose, c.detector_flip_y, c.detector_flip_x)

    def _stored(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Patterns as stored, float32, in the order of `indices`; each file region read once."""
        out = np.empty((len(indices), *self.patterns.shape[2:]), dtype=np.float32)
        order = np.argsort(indices, kind="stable")
        rows, columns = np.divmod(indices[order], self.scan_shape[1])
        # A new read begins with a new scan row, or where too many unwanted patterns lie between.
        breaks = (np.diff(rows) != 0) | (np.diff(columns) > _MAX_GAP)
        runs = [
            run for run in np.split(np.arange(len(order)), np.flatnonzero(breaks) + 1) if len(run)
        ]
        parts = [
            (int(rows[run[0]]), slice(int(columns[run[0]]), int(columns[run[-1]]) + 1))
            for run in runs
        ]
        if isinstance(self.patterns, np.ndarray):
            for part in parts:
                fetch(self.patterns[part])
        for run, part in zip(runs, parts, strict=True):
            try:
                block = np.asarray(self.patterns[part])
            except READ_ERRORS as err:
                raise DataError(
                    f"{self.name}: scan row {part[0]} cannot be read ({one_line(err)}); "
                    "the file is truncated or corrupted"
                ) from None
            out[order[run]] = block[columns[run] - part[1].start]
            give_back(block)
        return out


def check_pattern_array(patterns: PatternArray, name: str) -> None:
    """Refuse what cannot be the patterns of a raster scan.

    Raises
    ------
    DataError
        Wrong number of axes, an empty axis, or values that are not real numbers.
    """
    shape = tuple(int(n) for n in patterns.shape)
    if len(shape) != 4:
        hint = "; give the scan shape" if len(shape) == 3 else ""
        raise DataError(
            f"{name}: {len(shape)} axes of shape {shape}, expected 4 (scan_y, scan_x, ky, kx){hint}"
        )
    if min(shape[:2]) < 1 or min(shape[2:]) < 2:
        raise DataError(f"{name}: shape {shape} has no patterns; expected (scan_y, scan_x, ky, kx)")
    if np.dtype(patterns.dtype).kind not in "uif":
        raise DataError(
            f"{name}: values of type {patterns.dtype}; expected real intensities "
            "(store |wave|^2, not the complex wave)"
        )


def _evenly(length: int, most: int) -> NDArray[np.int64]:
    """At most `most` indices, evenly spread over ``range(length)``, the first one included."""
    count = min(length, most)
    return (np.arange(count, dtype=np.int64) * length) // count


def _turned(positions: NDArray[np.float64], rotation_deg: float) -> NDArray[np.float64]:
    """Places (slow, fast) in the axes of the scan as world (y, x); sign as in `physics.scan`."""
    cos, sin = math.cos(math.radians(rotation_deg)), math.sin(math.radians(rotation_deg))
    return positions @ np.array([[cos, sin], [-sin, cos]])


def check_positions(positions: ArrayLike, count: int, name: str) -> NDArray[np.float64]:
    """Explicit scan positions as (count, 2) float64.

    Raises
    ------
    DataError
        Another shape, or a place that is not finite.
    """
    places = np.asarray(positions, dtype=np.float64)
    if places.shape != (count, 2):
        raise DataError(
            f"{name}: positions of shape {places.shape} do not fit {count} patterns; give one "
            "row (y, x) in A per pattern"
        )
    if not np.isfinite(places).all():
        raise DataError(f"{name}: positions hold values that are not finite; give (y, x) in A")
    return places


def orient_detector(
    images: NDArray[Any], transpose: bool, flip_y: bool, flip_x: bool
) -> NDArray[Any]:
    """Detector images (..., ky, kx) as stored, transposed first and then flipped.

    Flips reverse a frequency axis about the zero frequency, which stays at ``K // 2``. For even K
    the lone -K/2 has no partner and keeps its place.
    """
    if transpose:
        images = images.swapaxes(-1, -2)
    for axis, flip in ((-2, flip_y), (-1, flip_x)):
        if flip:
            images = np.flip(images, axis)
            if images.shape[axis] % 2 == 0:
                images = np.roll(images, 1, axis)
    return images
