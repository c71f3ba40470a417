"""The lazy view that carries out a `PreprocessingPlan`, and what it does to the calibration."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_mep.data._pages import give_back
from napari_mep.data._pattern_operations import (
    LEAST_SHIFT_PX,
    fill_bad_pixels,
    read_image,
    read_positions,
    resampling,
    roll_whole,
    shift_patterns,
)
from napari_mep.data.calibration import Calibration
from napari_mep.data.dataset import (
    DiffractionDataset,
    PatternArray,
    orient_detector,
)
from napari_mep.data.preprocessing import PreprocessingPlan
from napari_mep.errors import DataError, PlanError

__all__ = [
    "PreprocessedPatterns",
    "as_stored",
    "in_whole_pixels",
    "preprocessed",
]

# A pixel of the result counts as measured where at least this share of the patterns measured it;
# descan drift moves bad pixels about, and the rest of the patterns hold replaced values there.
_MEASURED_SHARE = 0.5


def preprocessed(dataset: DiffractionDataset, plan: PreprocessingPlan) -> DiffractionDataset:
    """See `napari_mep.data.preprocessing.preprocess`."""
    view = PreprocessedPatterns(dataset.patterns, plan, dataset.name)
    c = dataset.calibration
    flags = (c.detector_transpose, c.detector_flip_y, c.detector_flip_x)
    # A mask that the data had already is oriented; the view works on patterns as stored.
    if dataset.mask is not None:
        view = replace(view, also_bad=~as_stored(dataset.mask, *flags))
    measured = view.measured
    mask = None if measured.all() else orient_detector(measured, *flags)
    step_y, step_x = c.scan_step_yx_A
    every = plan.scan_every
    step = c.scan_step_A if every == 1 else (step_y * every, step_x * every)
    dose = None if c.dose_e_per_A2 is None else c.dose_e_per_A2 / every**2
    values = c.model_dump() | {
        "scan_step_A": step,
        "detector_step_invA": c.detector_step_invA * plan.bin_detector,
        "dose_e_per_A2": dose,
    }
    kept = view.kept_indices
    positions = dataset.positions
    if plan.positions_file is not None:
        count = math.prod(dataset.scan_shape)
        positions = read_positions(plan.positions_file, count, dataset.name)
        positions = positions - positions[0]
    elif positions is None and kept[0] != 0:
        # The world origin stays at the first position of the whole scan, so that results from
        # different parts of it lie beside each other.
        places = np.stack(
            np.divmod(np.arange(math.prod(dataset.scan_shape)), dataset.scan_shape[1])
        )
        positions = places.T * np.array([step_y, step_x])
    positions = None if positions is None else positions[kept]
    same_window = plan.bin_detector == 1 and view.shape[2:] == tuple(dataset.patterns.shape[2:])
    if dataset.probe is not None and not same_window:
        raise PlanError(
            "preprocessing: bin_detector and detector_pixels change the window that the probe "
            "array was made for; leave them out or drop the probe"
        )
    return DiffractionDataset(
        patterns=view,
        calibration=Calibration(**values, sources=c.sources),
        name=dataset.name,
        path=dataset.path,
        mask=mask,
        truth=dataset.truth,
        probe=dataset.probe,
        provenance={**dataset.provenance, **_record(dataset, plan)},
        positions=positions,
    )


def as_stored_on_disk(dataset: DiffractionDataset) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Calibration of the scan in the file, and what is done to its patterns as they are read."""
    steps, patterns = [], dataset.patterns
    while isinstance(patterns, PreprocessedPatterns):
        steps.append(patterns.plan.model_dump(mode="json", exclude_defaults=True))
        patterns = patterns.source
    # A view that a measurement laid over patterns changes nothing of their calibration.
    calibration = dataset.calibration.model_dump(mode="json")
    if steps:
        calibration = dataset.provenance.get("stored_calibration", calibration)
    return calibration, steps[::-1]


def in_whole_pixels(
    dataset: DiffractionDataset,
) -> tuple[DiffractionDataset, NDArray[np.float64] | None]:
    """See `napari_mep.data.preprocessing.in_whole_pixels`."""
    if not isinstance(dataset.patterns, PreprocessedPatterns):
        return dataset, None
    patterns, left = dataset.patterns.in_whole_pixels()
    if np.abs(left).max(initial=0.0) < LEAST_SHIFT_PX:
        return dataset, None
    c = dataset.calibration
    left = left.reshape(-1, 2)
    if c.detector_transpose:
        left = left[:, ::-1]
    left = left * np.where((c.detector_flip_y, c.detector_flip_x), -1.0, 1.0)
    return replace(dataset, patterns=patterns), left


@dataclass(frozen=True, eq=False)
class PreprocessedPatterns:
    """Patterns as stored, preprocessed row by row as they are read.

    Parameters
    ----------
    source : PatternArray
        (scan_y, scan_x, ky, kx).
    plan : PreprocessingPlan
        What to do.
    name : str
        For messages.
    also_bad : (ky, kx) bool ndarray or None
        Pixels that are known to be bad besides those of the plan's file.

    Raises
    ------
    PlanError
        The plan keeps rows, columns or a centre that are not there.
    DataError
        A file cannot be read or does not fit.
    """

    source: PatternArray
    plan: PreprocessingPlan
    name: str
    also_bad: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        for label, part, axis in (
            ("scan_rows", self.plan.scan_rows, 0),
            ("scan_columns", self.plan.scan_columns, 1),
        ):
            length = int(self.source.shape[axis])
            if part is not None and part[1] > length:
                raise PlanError(
                    f"preprocessing: {label} = {list(part)}: the scan of {self.name} has {length}"
                )
        kept, before = (len(self._rows), len(self._columns)), tuple(self.source.shape[:2])
        if self.plan.scan_every > 1 and math.prod(kept) == 1 < math.prod(before):
            raise PlanError(
                f"preprocessing: scan_every = {self.plan.scan_every}: leaves one of the "
                f"{before[0]} x {before[1]} scan positions of {self.name}; make it smaller"
            )
        for place, length in zip(self.plan.centre_px or (), self.source.shape[2:], strict=False):
            if not 0 <= place <= length - 1:
                raise PlanError(
                    f"preprocessing: centre_px = {list(self.plan.centre_px or ())} px: outside the "
                    f"detector of {self.name}, {tuple(self.source.shape[2:])} pixels"
                )

    @property
    def shape(self) -> tuple[int, ...]:
        """(scan_y, scan_x, ky, kx) of the result."""
        return (len(self._rows), len(self._columns), *(len(m) for m in self._resample))

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32."""
        return np.dtype(np.float32)

    def __getitem__(self, key: tuple[int, slice]) -> NDArray[np.float32]:
        row, part = key
        columns = self._columns[part]
        rows, cols = self._detector
        if not len(columns):
            return np.empty((0, *self.shape[2:]), np.float32)
        first, last = int(columns.min()), int(columns.max())
        raw = np.asarray(self.source[int(self._rows[row]), slice(first, last + 1)])
        patterns = np.array(raw[columns - first], dtype=np.float32)
        give_back(raw)
        if self._dark is not None:
            patterns -= self._dark
        if self._gain is not None:
            patterns /= self._gain
        if self.plan.clip_negative:
            np.maximum(patterns, 0, out=patterns)
        if self._bad is not None:
            fill_bad_pixels(patterns, self._bad)
        if self._moves:
            offsets = self._offsets(np.array([self._rows[row]]), columns)[0]
            patterns = shift_patterns(patterns, -offsets, self.plan.subpixel)
        y, x = self._resample
        if not (_is_identity(y, rows) and _is_identity(x, cols)):
            patterns = np.einsum("ij,njk,lk->nil", y, patterns, x, optimize=True)
        return np.ascontiguousarray(patterns, dtype=np.float32)

    def in_whole_pixels(self) -> tuple[PreprocessedPatterns, NDArray[np.float64]]:
        """The same without interpolation, and where that leaves the zero frequency.

        Returns
        -------
        patterns : PreprocessedPatterns
            Moved by whole pixels only, so that electrons stay counted.
        left_px : (scan_y, scan_x, 2) float64 ndarray
            Place of the zero frequency relative to ``K // 2`` in pixels of the result.
        """
        source, left = self.source, np.zeros((*self.shape[:2], 2))
        if isinstance(source, PreprocessedPatterns):
            source, before = source.in_whole_pixels()
            left += before[self._rows[:, None], self._columns]
        if self._moves and self.plan.subpixel:
            offsets = self._offsets(self._rows, self._columns)
            left += offsets - np.rint(offsets)
        plan = self.plan.replace(subpixel=False)
        return replace(self, source=source, plan=plan), left / self.plan.bin_detector

    @property
    def kept_indices(self) -> NDArray[np.int64]:
        """Flat raster indices of the whole scan that are kept, in order."""
        width = int(self.source.shape[1])
        return (self._rows[:, None] * width + self._columns[None, :]).ravel().astype(np.int64)

    @cached_property
    def measured(self) -> NDArray[np.bool_]:
        """(ky, kx) bool, oriented as stored: pixels of the result that were really measured."""
        good = np.ones(self._detector) if self._bad is None else (~self._bad).astype(float)
        inside = np.ones(self._detector)
        if self._moves:
            whole = np.rint(self._offsets(self._rows, self._columns)).astype(int).reshape(-1, 2)
            steps, counts = np.unique(whole, axis=0, return_counts=True)
            share, everywhere = np.zeros(self._detector), np.ones(self._detector)
            for step, count in zip(steps, counts, strict=True):
                share += roll_whole(good[None], -step[None])[0] * (count / counts.sum())
                everywhere *= roll_whole(inside[None], -step[None])[0]
            good, inside = (share >= _MEASURED_SHARE).astype(float), everywhere
        y, x = self._resample
        weight = good * inside
        # Every bit of a binned pixel must have been measured, borders that are missing included.
        collected = y @ weight @ x.T
        area = self.plan.bin_detector**2
        return collected > area - 1e-6

    # --- settings made ready once ----------------------------------------------------------------

    @cached_property
    def _detector(self) -> tuple[int, int]:
        return int(self.source.shape[2]), int(self.source.shape[3])

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        return np.arange(*(self.plan.scan_rows or (0, int(self.source.shape[0]))))[
            :: self.plan.scan_every
        ]

    @cached_property
    def _columns(self) -> NDArray[np.int64]:
        return np.arange(*(self.plan.scan_columns or (0, int(self.source.shape[1]))))[
            :: self.plan.scan_every
        ]

    @cached_property
    def _dark(self) -> NDArray[np.float32] | None:
        if self.plan.background_file is None and self.plan.background == 0:
            return None
        image = self._image("background_file")
        level = np.float32(self.plan.background)
        return level + (np.zeros(self._detector, np.float32) if image is None else image)

    @cached_property
    def _gain(self) -> NDArray[np.float32] | None:
        gain = self._image("gain_file")
        if gain is not None and not (np.isfinite(gain).all() and (gain > 0).all()):
            raise DataError(
                f"gain_file {self.plan.gain_file}: gain must be positive everywhere; mark dead "
                "pixels in bad_pixels_file and give them gain 1"
            )
        return gain

    @cached_property
    def _bad(self) -> NDArray[np.bool_] | None:
        image = self._image("bad_pixels_file")
        bad = np.zeros(self._detector, bool) if image is None else image != 0
        if self.also_bad is not None:
            bad = bad | self.also_bad
        if bad.all():
            raise DataError(f"{self.name}: every detector pixel is marked bad; check the mask")
        return bad if bad.any() else None

    @cached_property
    def _moves(self) -> bool:
        return self.plan.centre_px is not None or any(self.plan.descan_px)

    @cached_property
    def _resample(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        plan = self.plan
        y, x = (
            resampling(length, plan.bin_detector, plan.detector_pixels) for length in self._detector
        )
        return y, x

    def _offsets(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Place of the zero frequency relative to ``K // 2``, (rows, columns, 2) pixels."""
        home = np.array(self._detector) // 2
        centre = home if self.plan.centre_px is None else np.array(self.plan.centre_px)
        drift = np.array(self.plan.descan_px).reshape(2, 2)
        middle = (np.array(self.source.shape[:2]) - 1) / 2
        return (
            (centre - home)
            + (rows - middle[0])[:, None, None] * drift[0]
            + (columns - middle[1])[None, :, None] * drift[1]
        )

    def _image(self, setting: str) -> NDArray[np.float32] | None:
        path = getattr(self.plan, setting)
        return None if path is None else read_image(path, self._detector, setting)


def _is_identity(matrix: NDArray[np.float32], length: int) -> bool:
    return len(matrix) == length and bool((matrix == np.eye(length, dtype=np.float32)).all())


def as_stored(
    mask: NDArray[np.bool_], transpose: bool, flip_y: bool, flip_x: bool
) -> NDArray[np.bool_]:
    """Undo `orient_detector`: a flip about the zero frequency is its own inverse."""
    mask = orient_detector(mask, False, flip_y, flip_x)
    return orient_detector(mask, transpose, False, False)


def _record(dataset: DiffractionDataset, plan: PreprocessingPlan) -> dict[str, Any]:
    """What was done, after whatever was done before, and the calibration of the stored scan."""
    changed = plan.model_dump(mode="json", exclude_defaults=True)
    before = dataset.provenance.get("preprocessing")
    return {
        "preprocessing": [*(before if isinstance(before, list) else []), changed],
        "stored_calibration": as_stored_on_disk(dataset)[0],
    }
