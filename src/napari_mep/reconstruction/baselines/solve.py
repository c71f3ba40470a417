"""A baseline as a solver among ours: a problem in, one step an iteration out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_mep.reconstruction.baselines.catalogue import BASELINES, baseline_settings
from napari_mep.reconstruction.baselines.job import make_job
from napari_mep.reconstruction.baselines.process import run_job
from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.reconstruction.problem import Problem

__all__ = ["BaselineStep", "problem_plan", "solve_baseline"]


@dataclass(frozen=True, slots=True, eq=False)
class BaselineStep:
    """Canvas after one of the package's iterations, and the residual on the way there.

    `residual` has our definition: each mini-batch counts as it was before the step taken on it.
    """

    index: int
    total: int
    canvas: Tensor
    residual: float


def problem_plan(plan: ReconstructionPlan) -> ReconstructionPlan:
    """The plan to build a baseline's problem with: the wave window is as wide as its preset's."""
    window = baseline_settings(plan).window
    return plan.replace(object={**plan.object.model_dump(), "wave_oversampling": window})


def solve_baseline(
    problem: Problem, plan: ReconstructionPlan, *, semiangle_mrad: float, device: torch.device
) -> Iterator[BaselineStep]:
    """Run another package on a problem, in a process of its own.

    Parameters
    ----------
    problem : Problem
        Made with `problem_plan`, on the CPU.
    plan : ReconstructionPlan
        Its method is one of `BASELINES`.
    semiangle_mrad : float
        Convergence semi-angle, mrad.
    device : torch.device
        Where the package computes.

    Yields
    ------
    BaselineStep

    Raises
    ------
    Interrupted
        The problem's stop flag was set; the child is dead by then.
    SolverError
        The package failed.
    """
    baseline, settings = BASELINES[plan.method], baseline_settings(plan)
    number = 0 if device.type == "cuda" and device.index is None else device.index
    job = make_job(
        problem,
        settings,
        method=plan.method,
        semiangle_mrad=semiangle_mrad,
        seed=plan.seed,
        device=device.type if number is None else f"{device.type}:{number}",
        threads=torch.get_num_threads(),
    )
    for frame in run_job(job, baseline.module, baseline.title, problem.check_stop):
        canvas = torch.from_numpy(frame.canvas)
        yield BaselineStep(frame.iteration - 1, settings.iterations, canvas, frame.residual)
