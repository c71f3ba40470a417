"""Samplers: pure functions of a denoiser, one generator per algorithm.

State is kept in variance-exploding coordinates X = x + k n, k = exp(-logsnr / 2), in which the
solver does not depend on how the network was parametrised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Prediction", "SamplerStep", "sde_dpm_solver_2m", "seeded_noise"]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a denoiser says at one noise level.

    Parameters
    ----------
    value : tensor
        x-prediction to use, guidance included.
    smooth : tensor or None
        The part of it that varies smoothly with the noise level, for second-order extrapolation;
        None: all of `value`. Guidance by random mini-batches is not smooth: its noise would be
        amplified by 1 / (2 r).
    """

    value: Tensor
    smooth: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SamplerStep:
    """One step done: index, logSNR it was evaluated at, and the (guided) x-prediction there."""

    index: int
    logsnr: float
    prediction: Tensor


def seeded_noise(seeds: Sequence[int], shape: Sequence[int]) -> Callable[[], Tensor]:
    """White noise whose sample i depends on seeds[i] alone, whatever else is in the batch.

    Drawn on the CPU, so that it is the same on every device.

    Parameters
    ----------
    seeds : sequence of int
        One seed per sample.
    shape : sequence of int
        Shape of one sample.

    Returns
    -------
    callable
        Each call returns the next (len(seeds), *shape) float32 tensor.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw() -> Tensor:
        return torch.stack([torch.randn(tuple(shape), generator=g) for g in generators])

    return draw


def sde_dpm_solver_2m(
    denoise: Callable[[Tensor, float, int], Prediction],
    start: Tensor,
    logsnr: Sequence[float],
    noise: Callable[[], Tensor],
    *,
    eta: float = 1.0,
) -> Iterator[SamplerStep]:
    """SDE-DPM-Solver++(2M), midpoint form (Lu et al. 2022, arXiv 2211.01095, eq. 18).

    Parameters
    ----------
    denoise : callable
        (X, logsnr, step index) -> Prediction.
    start : (...) tensor
        X at the first noise level.
    logsnr : sequence of float
        Increasing noise levels at which the denoiser is evaluated, one call each.
    noise : callable
        Returns the next unit white noise of the shape of `start`.
    eta : float
        1 solves the SDE, 0 the probability-flow ODE.

    Yields
    ------
    SamplerStep
        After each call of the denoiser; the last one's prediction is the sample.
    """
    x = start
    previous: Tensor | None = None
    h_previous = 0.0
    for i, level in enumerate(logsnr):
        guess = denoise(x, level, i)
        yield SamplerStep(i, level, guess.value)
        if i + 1 == len(logsnr):
            return
        k, k_next = math.exp(-level / 2), math.exp(-logsnr[i + 1] / 2)
        h = math.log(k / k_next)
        smooth = guess.value if guess.smooth is None else guess.smooth
        slope = 0.0 if previous is None else (smooth - previous) * (h / (2 * h_previous))
        kept = (k_next / k) * math.exp(-eta * h)
        x = kept * x + (1 - math.exp(-(1 + eta) * h)) * (guess.value + slope)
        if eta > 0:
            spread = k_next * math.sqrt(1 - math.exp(-2 * eta * h))
            x = x + spread * noise().to(x.device, x.dtype)
        previous, h_previous = smooth, h
