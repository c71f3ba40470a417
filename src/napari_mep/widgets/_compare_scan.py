"""The scan that compared volumes were made from; everything here runs in a thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_mep.errors import MepError
from napari_mep.evaluation.resample import WorldGrid
from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.volume import PhaseVolume
from napari_mep.widgets._compare_layers import ScanSource

if TYPE_CHECKING:
    from napari_mep.data.dataset import DiffractionDataset

__all__ = ["Patterns", "misfit", "open_source", "patterns_at", "plan_of", "residuals"]

_MOST = 64  # patterns: enough for two digits, seconds to compute
_EDGE = 0.25  # of the field on each side: there, a volume cannot tell what lies beyond it


@dataclass(frozen=True, slots=True, eq=False)
class Patterns:
    """Measured and predicted diffraction at one scan position.

    Parameters
    ----------
    position : (int, int)
        Scan indices (y, x).
    position_A : (float, float)
        World coordinates (y, x).
    measured : (ky, kx) float32 ndarray
        Electrons, zero frequency at ``K // 2``.
    predicted : tuple of (name, (ky, kx) ndarray or None, problem)
        For each volume.
    step_invA : float
        Detector pixel, 1/A.
    """

    position: tuple[int, int]
    position_A: tuple[float, float]
    measured: np.ndarray
    predicted: tuple[tuple[str, np.ndarray | None, str], ...]
    step_invA: float


def open_source(source: ScanSource) -> DiffractionDataset:
    """Open a scan with the calibration that a result remembers.

    Raises
    ------
    DataError, CalibrationError, PlanError
        The scan is not there any more, its calibration is incomplete, or its preprocessing does
        not fit.
    """
    from napari_mep.data.calibration import Calibration
    from napari_mep.data.preprocessing import PreprocessingPlan, preprocess
    from napari_mep.data.readers import open_dataset

    known = source.calibration
    if known is None:
        return open_dataset(source.path)
    dataset = open_dataset(source.path, Calibration.model_validate(known))
    for step in source.preprocessing:
        dataset = preprocess(dataset, PreprocessingPlan.parse(step))
    return dataset


def plan_of(record: Mapping[str, Any]) -> ReconstructionPlan:
    """The plan that a layer remembers; the default one if it has none that is understood."""
    try:
        return ReconstructionPlan.parse(dict(record.get("plan") or {}))
    except MepError:
        return ReconstructionPlan()


def misfit(predicted: np.ndarray, measured: np.ndarray) -> float:
    """Relative amplitude residual over the pixels that the volume explains."""
    known = np.isfinite(predicted)
    a, b = np.sqrt(np.maximum(predicted[known], 0)), np.sqrt(measured[known])
    return float(np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), 1e-12))


def residuals(
    source: ScanSource, volumes: Sequence[tuple[str, PhaseVolume, ReconstructionPlan]]
) -> dict[str, float]:
    """How badly each volume explains the same measured patterns.

    They are spread over the middle of the field that the volumes share, so that no volume is
    judged by its edge. Each is simulated on its own voxels.

    Parameters
    ----------
    source : ScanSource
        Where the patterns are.
    volumes : sequence of (key, PhaseVolume, ReconstructionPlan)
        To simulate from.

    Returns
    -------
    dict
        ||sqrt(I_model) - sqrt(I)|| / ||sqrt(I)|| for each key; a volume that cannot be simulated
        is missing, as are all if no position lies in the middle.

    Raises
    ------
    MepError
        The scan cannot be read.
    """
    from napari_mep.reconstruction.predicted import predicted_patterns

    dataset = open_source(source)
    positions = dataset.positions_A()
    spans = np.array([WorldGrid.of(volume).spans_A()[1:] for _, volume, _ in volumes])
    low, high = spans[..., 0].max(axis=0), spans[..., 1].min(axis=0)
    room = _EDGE * (high - low)
    middle = ((positions >= low + room) & (positions <= high - room)).all(axis=1)
    indices = np.flatnonzero(middle)
    indices = indices[:: max(1, -(-len(indices) // _MOST))]
    if not len(indices):
        return {}
    measured = dataset.counts(indices)
    found = {}
    for key, volume, plan in volumes:
        try:
            predicted = predicted_patterns(dataset, plan, volume, indices)
        except MepError:  # the Diffraction page says why
            continue
        if dataset.mask is not None:
            predicted = np.where(dataset.mask, predicted, np.nan)
        found[key] = misfit(predicted, measured)
    return found


def patterns_at(
    source: ScanSource,
    volumes: Sequence[tuple[str, PhaseVolume, ReconstructionPlan]],
    point_A: tuple[float, float],
) -> Patterns:
    """Measured and simulated patterns at the scan position nearest to a point.

    Parameters
    ----------
    source : ScanSource
        Where the patterns are.
    volumes : sequence of (name, PhaseVolume, ReconstructionPlan)
        To simulate from.
    point_A : tuple of 2 floats
        World coordinates (y, x) in angstrom.

    Raises
    ------
    MepError
        The scan cannot be read. What stands in the way of one volume is told beside it.
    """
    from napari_mep.reconstruction.predicted import predicted_patterns

    dataset = open_source(source)
    positions = dataset.positions_A()
    index = int(np.argmin(np.square(positions - np.array(point_A)).sum(axis=1)))
    measured = dataset.counts([index])[0]
    predicted: list[tuple[str, np.ndarray | None, str]] = []
    for name, volume, plan in volumes:
        try:
            predicted.append((name, predicted_patterns(dataset, plan, volume, [index])[0], ""))
        except MepError as error:
            predicted.append((name, None, str(error)))
    return Patterns(
        position=divmod(index, dataset.scan_shape[1]),
        position_A=(float(positions[index, 0]), float(positions[index, 1])),
        measured=measured,
        predicted=tuple(predicted),
        step_invA=dataset.calibration.detector_step_invA,
    )
