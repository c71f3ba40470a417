"""Noise levels in logSNR and the schedules that sampling walks along.

Variance-preserving coordinates: z = alpha x + sigma eps with alpha^2 = sigmoid(logsnr) and
sigma^2 = sigmoid(-logsnr) (Kingma et al. 2021, Variational Diffusion Models, eq. 3). The
variance-exploding noise level is k = sigma / alpha = exp(-logsnr / 2).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["alpha_sigma", "logsnr_from_noise_level", "polyexponential_logsnr"]


def alpha_sigma(logsnr: Tensor) -> tuple[Tensor, Tensor]:
    """Signal and noise amplitudes (alpha, sigma) of a log signal-to-noise ratio."""
    return torch.sigmoid(logsnr).sqrt(), torch.sigmoid(-logsnr).sqrt()


def logsnr_from_noise_level(k: Tensor) -> Tensor:
    """LogSNR of the variance-exploding noise level k: -2 ln k."""
    return -2.0 * torch.log(k)


def polyexponential_logsnr(
    steps: int, start: float = -13.37, end: float = 4.605, rho: float = 1.0
) -> Tensor:
    """Increasing logSNR values at which the denoiser is evaluated.

    The poly-exponential noise levels of Crowson's k-diffusion, expressed in logSNR: linear for
    rho = 1. The defaults are k from 800 to 0.1, as in MEP-Diffusion.

    Parameters
    ----------
    steps : int
        Number of values, at least 2.
    start, end : float
        First and last logSNR.
    rho : float
        Above 1, steps are finer near the end.

    Returns
    -------
    (steps,) float64 tensor
    """
    if steps < 2 or start >= end:
        raise ValueError(f"schedule of {steps} steps from {start} to {end}: need 2 and start < end")
    ramp = torch.linspace(1, 0, steps, dtype=torch.float64) ** rho
    return end + ramp * (start - end)
