"""The prior as the sampler sees it: a denoiser of phase volumes in radians."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from napari_mep.prior.schedule import alpha_sigma

__all__ = ["Denoiser"]


@dataclass(frozen=True, slots=True, eq=False)
class Denoiser:
    """x-prediction from noisy volumes, with the data scale folded in.

    Everything is in the scaled units of training (standard deviation about 1) unless it says
    radians; k is the variance-exploding noise level exp(-logsnr / 2).

    Parameters
    ----------
    network : torch.nn.Module
        Predicts v from (alpha x + sigma eps, logsnr), both batched.
    scale : float
        Scaled units per radian.
    voxel_size_A : tuple of 3 floats
        (dz, dy, dx) that the network was trained on, angstrom.
    tile_shape : (z, y, x) ints
        Volume that the network was trained on.
    logsnr_range : (low, high)
        Noise levels it was trained on.
    energy_keV : float
        Beam energy of the phases it was trained on; `scale` is right for this energy only.
    precision : torch.dtype
        What the network multiplies in: torch.float32, or torch.bfloat16 where it runs faster (see
        `napari_mep.prior.precision`). Everything around the network keeps its own.
    """

    network: nn.Module
    scale: float
    voxel_size_A: tuple[float, float, float]
    tile_shape: tuple[int, int, int]
    logsnr_range: tuple[float, float]
    energy_keV: float = 300.0
    precision: torch.dtype = torch.float32

    @property
    def sees_estimate(self) -> bool:
        """Whether it was trained to see an estimate that was made without a prior."""
        config = getattr(self.network, "config", None)
        return config is not None and config.estimate

    def __call__(self, x: Tensor, logsnr: float, estimate: Tensor | None = None) -> Tensor:
        """Posterior mean of the clean volume under the prior.

        Parameters
        ----------
        x : (B, z, y, x) tensor
            Volume plus k times white noise (variance-exploding coordinates), scaled units.
        logsnr : float
            Log signal-to-noise ratio, -2 ln k.
        estimate : (B, z, y, x) tensor, optional
            What a solver without a prior found, scaled units; only where `sees_estimate`.

        Returns
        -------
        (B, z, y, x) tensor
            x^ = alpha z - sigma v^ (Salimans and Ho 2022, eq. 11), scaled units.
        """
        # Trained range: beyond it the network would extrapolate. Its input stays at unit variance
        # either way, and at the low end the answer hardly depends on the input.
        level = torch.tensor(min(max(logsnr, self.logsnr_range[0]), self.logsnr_range[1]))
        alpha, sigma = (float(v) for v in alpha_sigma(torch.tensor(logsnr, dtype=torch.float64)))
        z = alpha * x
        batch_level = level.to(x.device, torch.float32).expand(len(x))
        reduced = self.precision != torch.float32
        with torch.autocast(x.device.type, self.precision if reduced else None, reduced):
            seen = () if estimate is None else (estimate.float(),)
            v = self.network(z.float(), batch_level, *seen)
        v = v.to(x.dtype)
        return alpha * z - sigma * v
