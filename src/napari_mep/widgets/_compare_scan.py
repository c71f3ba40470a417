"""The scan that compared volumes were made from; everything here runs in a thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_mep.errors import MepError
from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.volume import PhaseVolume
from napari_mep.widgets._compare_layers import ScanSource

if TYPE_CHECKING:
    from napari_mep.data.dataset import DiffractionDataset

__all__ = ["Patterns", "open_source", "patterns_at", "plan_of"]


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
    DataError, CalibrationError
        The scan is not there any more, or its calibration is incomplete.
    """
    from napari_mep.data.calibration import Calibration
    from napari_mep.data.readers import open_dataset

    known = source.calibration
    return open_dataset(source.path, None if known is None else Calibration.model_validate(known))


def plan_of(record: Mapping[str, Any]) -> ReconstructionPlan:
    """The plan that a layer remembers; the default one if it has none that is understood."""
    try:
        return ReconstructionPlan.parse(dict(record.get("plan") or {}))
    except MepError:
        return ReconstructionPlan()


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
