"""Samples of the prior alone: what it believes specimens look like."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from napari_mep.prior.denoiser import Denoiser
from napari_mep.prior.samplers import Prediction, sde_dpm_solver_2m, seeded_noise
from napari_mep.prior.schedule import polyexponential_logsnr

__all__ = ["sample_prior"]


@torch.no_grad()
def sample_prior(
    denoiser: Denoiser,
    seeds: Sequence[int],
    *,
    steps: int = 50,
    device: torch.device | str = "cpu",
    estimates: Tensor | None = None,
) -> Tensor:
    """Draw volumes from the prior.

    Parameters
    ----------
    denoiser : Denoiser
        The prior.
    seeds : sequence of int
        One per volume; a volume depends on its seed and `steps` alone, whatever is drawn beside it.
    steps : int
        Calls of the denoiser, at least 2.
    device : torch.device or str
        Where the network is.
    estimates : (n, z, y, x) tensor, optional
        Phase in radians that a prior which sees estimates is shown, one for each volume.

    Returns
    -------
    (n, z, y, x) float32 tensor
        Phase in radians.
    """
    levels = polyexponential_logsnr(steps).tolist()
    noise = seeded_noise(seeds, denoiser.tile_shape)
    start = noise().to(device) * math.exp(-levels[0] / 2)

    seen = None if estimates is None else estimates.to(device) * denoiser.scale

    def denoise(x: Tensor, level: float, _: int) -> Prediction:
        return Prediction(denoiser(x, level, seen))

    for step in sde_dpm_solver_2m(denoise, start, levels, noise):
        sample = step.prediction
    return (sample / denoiser.scale).float()
