"""Diffusion posterior sampling: the prior denoises, the data correct each x-prediction."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_mep.prior.denoiser import Denoiser
from napari_mep.prior.orientation import Orientation
from napari_mep.prior.samplers import Prediction, sde_dpm_solver_2m, seeded_noise
from napari_mep.prior.tiling import TiledDenoiser
from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.reconstruction.problem import Problem
from napari_mep.reconstruction.schedules import guidance_weight, logsnr_schedule

__all__ = ["PosteriorStep", "sample_posterior"]


@dataclass(frozen=True, slots=True, eq=False)
class PosteriorStep:
    """One sampling step: the guided x-prediction on the canvas, in radians."""

    index: int
    canvas: Tensor
    logsnr: float
    weight: float
    residual: float


def sample_posterior(
    problem: Problem,
    denoiser: Denoiser,
    plan: ReconstructionPlan,
    start: Tensor | None = None,
    orientation: int = 0,
) -> Iterator[PosteriorStep]:
    """One sample of the specimen given the data.

    At each noise level the prior's x-prediction takes a step along the preconditioned gradient P
    of the data term, x~ = x^ - g(logsnr) P grad L (Belardi et al. 2025). The gradient is taken at
    x^, or carried back through the network (diffusion posterior sampling, Chung et al. 2023). In
    that case it is multiplied by (1 + k^2) J^T, J = dx^/dX, which is the prior covariance in units
    of that of a white unit prior: both choices are one for such a prior.

    Parameters
    ----------
    problem : Problem
        Data and model.
    denoiser : Denoiser
        The prior.
    plan : ReconstructionPlan
        Steps, schedule, guidance, seed.
    start : (z, y, x) tensor, optional
        Canvas in radians to start from, noised to the first level; None: pure noise. A prior that
        sees an estimate sees this one, at every level.
    orientation : int
        Which of the eight orientations of a square the network is shown the canvas in, modulo 8.
        A prior knows no direction across the beam, but a network only nearly knows that: what it
        gets wrong differs from one orientation to the next.

    Yields
    ------
    PosteriorStep
        The last one's canvas is the sample.
    """
    guidance = plan.guidance
    levels = logsnr_schedule(plan)
    shift = math.log(problem.curvature / denoiser.scale**2)
    weights = guidance_weight(levels, guidance, shift)
    seen = start if denoiser.sees_estimate else None
    turn = Orientation(orientation)
    tiled = TiledDenoiser(
        denoiser,
        denoiser.tile_shape,
        turn.shape(problem.grid.shape),
        overlap=plan.tile_overlap,
        batch=2 if problem.device.type == "cpu" else 16,
        check=problem.check_stop,
        estimate=None if seen is None else turn(seen * denoiser.scale),
    )
    noise = seeded_noise([plan.seed], problem.grid.shape)
    rng = np.random.default_rng([plan.seed, 1])
    through_network = guidance.gradient_at == "network"
    subset = guidance.patterns_per_step
    n_patterns = len(problem.positions_px)
    residuals = np.full(len(levels), math.nan)

    def denoise(x: Tensor, logsnr: float, index: int) -> Prediction:
        tile_shift = float(rng.random())
        with torch.set_grad_enabled(through_network):
            x = x.detach().requires_grad_(through_network)
            guess = turn.back(tiled(turn(x), logsnr, tile_shift))
        indices = None
        if subset is not None and subset < n_patterns:
            indices = np.sort(rng.choice(n_patterns, subset, replace=False))
        clean = guess.detach()
        result = problem.data_term(clean / denoiser.scale, indices)
        residuals[index] = result.residual
        step = problem.step_scale * result.gradient * denoiser.scale
        if through_network:
            (step,) = torch.autograd.grad(guess, x, step)
            step = step * (1 + math.exp(-logsnr))
        return Prediction(clean - weights[index] * step, clean if indices is not None else None)

    k = math.exp(-levels[0] / 2)
    state = k * noise()[0].to(problem.device)
    if start is not None:
        state = state + start * denoiser.scale

    steps = sde_dpm_solver_2m(denoise, state, levels.tolist(), lambda: noise()[0], eta=plan.eta)
    for step in steps:
        yield PosteriorStep(
            step.index,
            step.prediction / denoiser.scale,
            step.logsnr,
            float(weights[step.index]),
            float(residuals[step.index]),
        )
