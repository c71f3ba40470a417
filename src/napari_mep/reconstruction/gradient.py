"""The solver without a prior: preconditioned gradient steps on all data, seconds to a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_mep.reconstruction.plan import GradientPlan
from napari_mep.reconstruction.problem import Problem

__all__ = ["Belief", "GradientStep", "solve_gradient"]


@dataclass(frozen=True, slots=True, eq=False)
class Belief:
    """What is believed of the specimen besides the data: a Gaussian, independent between voxels.

    Parameters
    ----------
    mean : (z, y, x) tensor
        Canvas in radians.
    deviation_rad : float
        Standard deviation of a voxel.
    """

    mean: Tensor
    deviation_rad: float


@dataclass(frozen=True, slots=True, eq=False)
class GradientStep:
    """Canvas after one step, and the relative amplitude residual before it."""

    index: int
    canvas: Tensor
    residual: float


def solve_gradient(
    problem: Problem,
    plan: GradientPlan,
    start: Tensor | None = None,
    belief: Belief | None = None,
) -> Iterator[GradientStep]:
    """Projected, Nesterov-accelerated gradient steps, coarse structure first.

    The amplitude objective is well conditioned once the illumination is divided out, so a handful
    of steps reaches the noise. What they cannot find is depth: the data hardly resist it. Nor do
    they find, at full resolution, the core of a heavy column, whose phase passes pi: the nearest
    minimum is a ring around it. So each step is smoothed by a Gaussian in Fourier space (a positive
    preconditioner: descent stays descent) whose width grows from step to step.

    Momentum follows Nesterov (1983), restarted where the gradient turns against it or the objective
    rises (O'Donoghue and Candes 2015). The second matters: the largest eigenvalue of the
    preconditioned Hessian is about 1.5 and not 1, at which full steps converge but momentum alone
    would make them diverge after some twelve iterations.

    Parameters
    ----------
    problem : Problem
        Data and model.
    plan : GradientPlan
        Number of steps and their length.
    start : (z, y, x) tensor, optional
        Canvas in radians to begin with; None: vacuum.
    belief : Belief, optional
        Adds its negative logarithm to the objective: what the data do not know better stays.

    Yields
    ------
    GradientStep
    """
    canvas = torch.zeros(problem.grid.shape, device=problem.device) if start is None else start
    ahead = canvas
    weight, lowest = 1.0, math.inf
    # Diagonal of the Hessian that a belief adds.
    firmness = 0.0 if belief is None else belief.deviation_rad**-2
    step_scale = problem.step_scale / (1 + firmness * problem.step_scale)
    for i in range(plan.iterations):
        result = problem.data_term(ahead)
        value, gradient = float(result.value), result.gradient
        if belief is not None:
            off = ahead - belief.mean
            value += 0.5 * firmness * float(off.square().sum())
            gradient = gradient + firmness * off
        step = plan.step * _low_pass(problem, step_scale * gradient, _width(plan, i))
        # Potentials are positive. This also decides what the data cannot: the depth sum of a heavy
        # column passes pi, and without it the solver settles one turn of phase too low.
        new = (ahead - step).clamp(min=0.0)
        moved = new - canvas
        if float((gradient * moved).sum()) > 0 or value > lowest:
            weight = 1.0
        lowest = min(lowest, value)
        next_weight = 0.5 * (1 + (1 + 4 * weight**2) ** 0.5)
        momentum = (weight - 1) / next_weight
        canvas, ahead, weight = new, new + momentum * moved, next_weight
        yield GradientStep(i, canvas, result.residual)


def _width(plan: GradientPlan, index: int) -> float:
    """Width of the low-pass on a step, 1/A."""
    done = index / max(1, plan.iterations - 1)
    return plan.coarse_invA * (plan.fine_invA / plan.coarse_invA) ** done


def _low_pass(problem: Problem, canvas: Tensor, width_invA: float) -> Tensor:
    """Multiply with exp(-k^2 / (2 width^2)) across the beam."""
    (_, height, width), (_, dy, dx) = canvas.shape, problem.grid.voxel_size_A
    ky = torch.fft.fftfreq(height, dy, device=canvas.device)[:, None]
    kx = torch.fft.rfftfreq(width, dx, device=canvas.device)
    filtered = torch.fft.rfft2(canvas) * torch.exp((ky**2 + kx**2) / (-2 * width_invA**2))
    return torch.fft.irfft2(filtered, s=(height, width))
