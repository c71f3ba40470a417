"""Everything that is computed once for a choice of volumes and corrections; runs in a thread."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from napari_mep.errors import DataError
from napari_mep.evaluation.alignment import Adjusted, Adjustments, adjust
from napari_mep.evaluation.resample import WorldGrid, common_grid, sample_on
from napari_mep.volume import PhaseVolume

__all__ = [
    "Candidate",
    "Prepared",
    "PreparedVolume",
    "Row",
    "Settings",
    "prepare",
    "score",
    "short_names",
]

_NAME = re.compile(r"(.+) \[(.+)\]")  # as runs call their layers

Flips = tuple[bool, bool, bool]


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A volume to compare.

    Parameters
    ----------
    key : str
        Identifies its layer.
    name : str
        Shown to people.
    volume : PhaseVolume
        As the layer holds it.
    record : mapping
        What the layer remembers of its reconstruction.
    """

    key: str
    name: str
    volume: PhaseVolume
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """The corrections that the user sees and switches.

    Parameters
    ----------
    crop : bool
        Compare over the field that all volumes share; else each over what it shares with the
        reference.
    register, offset, ramp : bool
        See `napari_mep.evaluation.alignment.Adjustments`; never applied to the reference.
    flips : mapping
        (z, y, x) for each key that is flipped.
    """

    crop: bool = True
    register: bool = False
    offset: bool = False
    ramp: bool = False
    flips: Mapping[str, Flips] = field(default_factory=dict)

    def adjustments(self, key: str, *, is_reference: bool) -> Adjustments:
        """What is done to one volume."""
        wanted = Adjustments(*self.flips.get(key, (False, False, False)))
        if is_reference:
            return wanted
        return replace(wanted, register=self.register, offset=self.offset, ramp=self.ramp)


@dataclass(frozen=True, slots=True, eq=False)
class PreparedVolume:
    """A volume ready for comparison.

    Parameters
    ----------
    candidate : Candidate
        What it was.
    adjusted : Adjusted
        On its own voxels, with what was done to it.
    on_grid, reference_on_grid : PhaseVolume or None
        It and the reference on the same voxels; None if they cannot be compared.
    problem : str
        Why not, one line; empty if they can.
    changed : bool
        Whether `adjusted` differs from what the layer holds.
    corrections : str
        What was done to it, for people; empty if nothing.
    """

    candidate: Candidate
    adjusted: Adjusted
    on_grid: PhaseVolume | None
    reference_on_grid: PhaseVolume | None
    problem: str
    changed: bool
    corrections: str = ""

    @property
    def key(self) -> str:
        """Identifies the layer."""
        return self.candidate.key

    @property
    def name(self) -> str:
        """Shown to people."""
        return self.candidate.name

    @property
    def volume(self) -> PhaseVolume:
        """On its own voxels."""
        return self.adjusted.volume

    def difference(self) -> PhaseVolume | None:
        """Volume minus reference on the reference's voxels, rad/A as in all pictures."""
        if self.on_grid is None or self.reference_on_grid is None:
            return None
        voxel = self.on_grid.voxel_size_A
        density = (self.on_grid.data - self.reference_on_grid.data) / np.float32(voxel[0])
        return PhaseVolume(density, voxel, self.on_grid.origin_A)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """The reference and all results; the reference comes first in `volumes`."""

    volumes: tuple[PreparedVolume, ...] = ()
    settings: Settings = field(default_factory=Settings)

    @property
    def reference(self) -> PreparedVolume:
        """What the others are compared with."""
        return self.volumes[0]

    @property
    def results(self) -> tuple[PreparedVolume, ...]:
        """All but the reference."""
        return self.volumes[1:]

    @property
    def labels(self) -> list[str]:
        """A name for each volume where there is little room."""
        return short_names([volume.name for volume in self.volumes])

    @property
    def comparable(self) -> tuple[PreparedVolume, ...]:
        """The results that have voxels in common with the reference."""
        return tuple(result for result in self.results if result.on_grid is not None)


def prepare(candidates: Sequence[Candidate], settings: Settings) -> Prepared:
    """Correct all volumes and bring them onto common voxels.

    Parameters
    ----------
    candidates : sequence of Candidate
        The reference first.
    settings : Settings
        What to correct.
    """
    if not candidates:
        return Prepared()
    first, *others = candidates
    own = settings.adjustments(first.key, is_reference=True)
    reference = adjust(first.volume, first.volume, own)
    adjusted: list[tuple[Candidate, Adjusted, str, Adjustments]] = []
    for candidate in others:
        wanted = settings.adjustments(candidate.key, is_reference=False)
        try:
            done = adjust(candidate.volume, reference.volume, wanted)
            adjusted.append((candidate, done, "", wanted))
        except DataError as error:
            untouched = Adjusted(candidate.volume)
            adjusted.append((candidate, untouched, str(error), Adjustments()))
    shared = _shared_grid(reference.volume, adjusted) if settings.crop else None
    volumes = [_on_common(first, reference, reference.volume, shared, "", own)]
    for candidate, done, problem, wanted in adjusted:
        volumes.append(_on_common(candidate, done, reference.volume, shared, problem, wanted))
    return Prepared(tuple(volumes), settings)


def _shared_grid(
    reference: PhaseVolume, adjusted: Sequence[tuple[Candidate, Adjusted, str, Adjustments]]
) -> WorldGrid | None:
    """Of all volumes that lie on the reference at all; a stranger does not spoil the others."""
    overlapping = []
    for _, done, problem, _ in adjusted:
        try:
            common_grid(reference, [done.volume])
        except DataError:
            continue
        if not problem:
            overlapping.append(done.volume)
    try:
        return common_grid(reference, overlapping)
    except DataError:
        return None


def _on_common(
    candidate: Candidate,
    done: Adjusted,
    reference: PhaseVolume,
    shared: WorldGrid | None,
    problem: str,
    wanted: Adjustments,
) -> PreparedVolume:
    on_grid = reference_on_grid = None
    if not problem:
        try:
            grid = common_grid(reference, [done.volume]) if shared is None else shared
            on_grid, reference_on_grid = sample_on(done.volume, grid), sample_on(reference, grid)
        except DataError as error:
            problem = str(error)
            on_grid = reference_on_grid = None
    return PreparedVolume(
        candidate, done, on_grid, reference_on_grid, problem, wanted.any, _words(wanted, done)
    )


def _words(wanted: Adjustments, done: Adjusted) -> str:
    """What was done, each with its unit."""
    flips = zip("zyx", (wanted.flip_z, wanted.flip_y, wanted.flip_x), strict=True)
    words = [f"flipped {axis}" for axis, on in flips if on]
    if wanted.register:
        y, x = done.shift_A
        words.append(f"moved {y:+.2f}, {x:+.2f} Å")
    if wanted.offset:
        words.append(f"offset {done.offset_rad_per_A:+.4f} rad/Å")
    if wanted.ramp:
        y, x = done.ramp_rad_per_A2
        words.append(f"ramp {y:+.1e}, {x:+.1e} rad/Å²")
    return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; NaN where there is no value.

    Parameters
    ----------
    name : str
        Of the volume.
    psnr_dB, ssim, psnr_sum_dB, ssim_sum : float
        Against the reference; see `napari_mep.evaluation.compare_volumes`.
    frc_invA, fsc_invA : float
        Where ring and shell correlation with the reference fall below 0.5, 1/A.
    frc_limit_invA, fsc_limit_invA : float
        The highest frequencies that were compared: a crossing there is none.
    residual, residual_floor : float
        Relative amplitude residual that the run reports and what counting noise leaves of it.
        Programs differ in which patterns they take and when in a step.
    common_residual : float
        The same measure for every volume; see `napari_mep.widgets._compare_scan.residuals`.
    seconds : float
        Duration of the run.
    problem : str
        Why there are no scores.
    reference, corrections : str
        What the volume was compared with, and what was done to it before.
    crop : bool
        Whether the field is that of all volumes.
    depth_from_A, depth_to_A : float
        The depths that were compared.
    scan : str
        Whose patterns gave the common residual.
    """

    name: str
    psnr_dB: float = math.nan
    ssim: float = math.nan
    psnr_sum_dB: float = math.nan
    ssim_sum: float = math.nan
    frc_invA: float = math.nan
    fsc_invA: float = math.nan
    frc_limit_invA: float = math.nan
    fsc_limit_invA: float = math.nan
    residual: float = math.nan
    residual_floor: float = math.nan
    common_residual: float = math.nan
    seconds: float = math.nan
    problem: str = ""
    reference: str = ""
    corrections: str = ""
    crop: bool = True
    depth_from_A: float = math.nan
    depth_to_A: float = math.nan
    scan: str = ""


def score(prepared: Prepared) -> tuple[Row, ...]:
    """A row for each result, compared over the prepared voxels."""
    from napari_mep.evaluation.frc import compare_frc
    from napari_mep.evaluation.metrics import compare_volumes

    rows = []
    reference = prepared.reference.name if prepared.volumes else ""
    if prepared.volumes and prepared.reference.corrections:
        reference += f" ({prepared.reference.corrections})"
    for result in prepared.results:
        record = result.candidate.record
        row = Row(
            result.name,
            residual=_number(record.get("residual")),
            residual_floor=_number(record.get("residual_floor")),
            seconds=_number(record.get("seconds")),
            problem=result.problem,
            reference=reference,
            corrections=result.corrections,
            crop=prepared.settings.crop,
        )
        if result.on_grid is not None and result.reference_on_grid is not None:
            first, last = WorldGrid.of(result.on_grid).spans_A()[0]
            row = replace(row, depth_from_A=first, depth_to_A=last)
            try:
                scores = compare_volumes(result.on_grid, result.reference_on_grid)
                ring, shell = compare_frc(result.on_grid, result.reference_on_grid)
                row = replace(
                    row,
                    psnr_dB=scores.psnr,
                    ssim=scores.ssim,
                    psnr_sum_dB=scores.psnr_sum,
                    ssim_sum=scores.ssim_sum,
                    frc_invA=ring.crossing_invA(),
                    fsc_invA=shell.crossing_invA() if shell else math.nan,
                    frc_limit_invA=ring.limit_invA,
                    fsc_limit_invA=shell.limit_invA if shell else math.nan,
                )
            except DataError as error:  # NaN in a volume
                row = replace(row, problem=str(error))
        rows.append(row)
    return tuple(rows)


def short_names(names: Sequence[str]) -> list[str]:
    """What tells names apart: of "scan [method]" the method, where the scan is always the same."""
    parts = [_NAME.fullmatch(name) for name in names]
    scans = {part[1] for part in parts if part}
    return [
        part[2] if part and len(scans) == 1 else n for part, n in zip(parts, names, strict=True)
    ]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float, np.number)) else math.nan
