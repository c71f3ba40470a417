"""What a worker computes, wherever it runs: a simulation, or one method on one dataset."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from napari_mep.benchmark.machine import describe_machine
from napari_mep.benchmark.records import SCORES
from napari_mep.data.simulate import ExpectedPatterns, apply_dose, simulate_expected
from napari_mep.errors import SolverError
from napari_mep.evaluation import compare_volumes

if TYPE_CHECKING:
    from napari_mep.crystals.samples import Sample
    from napari_mep.data.experiment import Experiment
    from napari_mep.reconstruction.plan import ReconstructionPlan
    from napari_mep.reconstruction.snapshot import Snapshot

__all__ = ["Measured", "Stop", "Stopped", "simulate", "solve"]


class Stop(Protocol):
    """A flag, of a thread or of a process."""

    def is_set(self) -> bool:
        """Whether the user wants to stop."""


class Stopped(Exception):
    """The work was given up because the user asked to stop."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What `solve` found; the fields are those of `Result`."""

    ssim: float
    psnr: float
    ssim_sum: float
    psnr_sum: float
    residual: float | None
    residual_floor: float | None
    seconds: float
    machine: dict[str, Any]


def simulate(
    sample: Sample, experiment: Experiment, *, stop: Stop | None = None
) -> ExpectedPatterns:
    """Noise-free simulation.

    Raises
    ------
    Stopped
        When `stop` is set.
    CrystalError
        The specimen cannot be made.
    """

    def look(done: int, total: int) -> None:
        if stop is not None and stop.is_set():
            raise Stopped

    return simulate_expected(sample, experiment, progress=look)


def solve(
    expected: ExpectedPatterns,
    dose_e_per_A2: float,
    seed: int,
    plan: ReconstructionPlan,
    *,
    stop: Any = None,
) -> Measured:
    """Count electrons, reconstruct, compare with the truth.

    Parameters
    ----------
    expected : ExpectedPatterns
        The simulation.
    dose_e_per_A2 : float
        Dose, e/A^2.
    seed : int
        Of the counting noise.
    plan : ReconstructionPlan
        The method.
    stop : event, optional
        Gives the reconstruction up when set.

    Raises
    ------
    Stopped
        When `stop` is set.
    MepError
        What `reconstruct` raises; SolverError also for a result without finite scores.
    """
    from napari_mep.reconstruction import reconstruct

    dataset = apply_dose(expected, dose_e_per_A2, seed=seed)
    began = time.perf_counter()
    last: Snapshot | None = None
    for snapshot in reconstruct(dataset, plan, stop, preview_seconds=math.inf):
        last = snapshot
    seconds = time.perf_counter() - began
    if stop is not None and stop.is_set():
        raise Stopped
    if last is None or last.volume is None or dataset.truth is None:
        raise SolverError(f"method {plan.method}: ended without a volume")
    scores = compare_volumes(last.volume, dataset.truth)
    measured = Measured(
        ssim=scores.ssim,
        psnr=scores.psnr,
        ssim_sum=scores.ssim_sum,
        psnr_sum=scores.psnr_sum,
        residual=_finite(last.residual),
        residual_floor=_finite(last.residual_floor),
        seconds=seconds,
        machine=describe_machine(plan.device),
    )
    for name in SCORES:
        if not math.isfinite(getattr(measured, name)):
            raise SolverError(f"method {plan.method}: {name} is {getattr(measured, name)}")
    return measured


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
