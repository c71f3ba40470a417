"""What a solver without a prior makes of a crystal, without simulating a scan.

Far from the truth in one respect only: depth, which `depth_coupling` makes a small matrix of for
every lateral frequency. Its large eigenvalue is close to the depth sum; preconditioned gradient
steps find that at once, the others hardly, and noise enters as 1 / sqrt(H). So what such a solver
ends with is linear in the crystal, but for the clamp to positive phase, and costs two small Fourier
transforms. Few steps leave depth flat; many end where the quasi-Newton steps of
`reconstruction.gradient` end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_mep.physics.depth_coupling import depth_coupling

__all__ = ["Estimates", "LinearSolver", "gradient_filter"]

# From the solver's own default to where the first moment over depth has converged.
_ITERATIONS = (24, 50, 100, 200, 400)
_COARSE_INVA, _FINE_INVA = 0.4, 2.5
_APERTURE_INVA = (0.6, 1.5)  # 12 to 30 mrad at 300 keV
_WAVELENGTH_A = (0.0197, 0.042)  # 300 to 80 keV
_NOISE_RAD = (0.0025, 0.05)  # of a voxel that is measured as well as the depth sum: 2e6 to 5e3 e/A2
# Besides counting noise depth suffers from whatever the forward model gets wrong.
_DEPTH_ERROR_RAD = (0.001, 0.03)
_BANK = 48  # combinations of optics, thickness and iterations that are drawn from
_RINGS = 96  # lateral frequencies at which matrices are worked out


def gradient_filter(eigenvalues: np.ndarray, k_invA: np.ndarray, iterations: int) -> np.ndarray:
    """Share of each eigenmode that Nesterov's steps from vacuum have found, coarse detail first.

    Parameters
    ----------
    eigenvalues : (n, slices) ndarray
        Of `depth_coupling`.
    k_invA : (n,) ndarray
        Lateral frequencies, 1/A.
    iterations : int
        Steps of 1 / slices each, multiplied with a Gaussian in k that widens from step to step.

    Returns
    -------
    (n, slices) float64 ndarray
    """
    slices = eigenvalues.shape[1]
    found = ahead = np.zeros_like(eigenvalues)
    weight = 1.0
    for i in range(iterations):
        width = _COARSE_INVA * (_FINE_INVA / _COARSE_INVA) ** (i / (iterations - 1))
        low_pass = np.exp(-(k_invA**2) / (2 * width**2))[:, None]
        new = ahead + low_pass * eigenvalues / slices * (1 - ahead)
        next_weight = 0.5 * (1 + (1 + 4 * weight**2) ** 0.5)
        ahead = new + (weight - 1) / next_weight * (new - found)
        found, weight = new, next_weight
    return found


@dataclass(frozen=True, slots=True, eq=False)
class LinearSolver:
    """The solver without a prior, as far as it is linear.

    Parameters
    ----------
    slices : int
        Of the specimen.
    signal : (Y, X // 2 + 1, slices, slices) complex tensor
        For each lateral frequency, what becomes of the specimen.
    noise : (Y, X // 2 + 1, slices, slices) complex tensor
        What becomes of noise in the gradient, in units of that of a voxel with Hessian 1.
    """

    slices: int
    signal: Tensor
    noise: Tensor

    @classmethod
    def of(
        cls,
        shape: tuple[int, int, int],
        voxel_size_A: tuple[float, float, float],
        *,
        wavelength_A: float,
        aperture_invA: float,
        iterations: int,
        device: torch.device | str = "cpu",
    ) -> LinearSolver:
        """For specimens of (z, y, x) voxels under some optics, after some steps."""
        slices, height, width = shape
        ky = np.fft.fftfreq(height, voxel_size_A[1])[:, None]
        k = np.hypot(ky, np.fft.rfftfreq(width, voxel_size_A[2]))
        rings = np.linspace(0, k.max(), _RINGS)
        coupling = depth_coupling(rings, slices, voxel_size_A[0], wavelength_A, aperture_invA)
        values, modes = np.linalg.eigh(coupling)
        values = values.clip(1e-9)  # rounding may leave the smallest below zero
        share = gradient_filter(values, rings, iterations)
        nearest = np.rint(k / k.max() * (_RINGS - 1)).astype(int)

        def matrices(gain: np.ndarray) -> Tensor:
            full = np.einsum("kab,kb,kcb->kac", modes, gain, modes)[nearest]
            return torch.from_numpy(full).to(device, torch.complex64)

        return cls(slices, matrices(share), matrices(share / np.sqrt(values)))

    def __call__(self, specimen: Tensor, noise: Tensor) -> Tensor:
        """What it ends with, (slices, y, x) rad: filtered, noisy and positive."""
        seen, disturbed = torch.fft.rfft2(specimen), torch.fft.rfft2(noise)
        spectrum = torch.einsum("yxab,byx->ayx", self.signal, seen)
        spectrum = spectrum + torch.einsum("yxab,byx->ayx", self.noise, disturbed)
        return torch.fft.irfft2(spectrum, s=specimen.shape[-2:]).clamp(min=0.0)


class Estimates:
    """Pairs of a volume and what a solver without a prior would make of it.

    Optics, thickness, dose and the number of steps are drawn anew for every volume, so that a
    prior that learns from them depends on none. Most specimens are as thick as the tile; some are
    twice as thick and the tile lies anywhere within, some are thinner and there is no estimate of
    what lies below.

    Parameters
    ----------
    tile_shape : (z, y, x) ints
        Volumes that the prior is trained on.
    voxel_size_A : (dz, dy, dx)
        Their voxels, A.
    share : float
        Volumes that get an estimate; the others get zeros, which says that there is none.
    device : torch.device or str
        Where volumes are.
    """

    def __init__(
        self,
        tile_shape: tuple[int, int, int],
        voxel_size_A: tuple[float, float, float],
        share: float,
        device: torch.device | str = "cpu",
    ) -> None:
        self.tile_shape, self.share = tile_shape, share
        self.shape = (2 * tile_shape[0], *tile_shape[1:])
        rng = np.random.default_rng(0)  # the bank is part of the method and not of a run
        self._bank = [_drawn(tile_shape, voxel_size_A, rng, device) for _ in range(_BANK)]

    def __call__(
        self, volumes: Tensor, draws: Sequence[np.random.Generator], white: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Cut tiles out of volumes and estimate each.

        Parameters
        ----------
        volumes : (B, 2 z, y, x) tensor
            Phase, rad: `shape` for each, the thickest specimen.
        draws : sequence of numpy Generators
            One per volume.
        white : (B, 2, 2 z, y, x) tensor
            Unit noise.

        Returns
        -------
        tiles, estimates : (B, z, y, x) tensors
            Phase, rad.
        """
        depth = self.tile_shape[0]
        tiles, estimates = [], []
        for volume, rng, noise in zip(volumes, draws, white, strict=True):
            solver = self._bank[rng.integers(len(self._bank))]
            counting = _log_uniform(rng, _NOISE_RAD)
            wrong = _log_uniform(rng, _DEPTH_ERROR_RAD)
            first = int(rng.integers(max(0, solver.slices - depth) + 1))
            known = rng.random() < self.share
            tile = volume[first : first + depth]
            estimate = torch.zeros_like(tile)
            if known:
                specimen = volume[: solver.slices]
                counted, differs = noise[:, : solver.slices]
                error = counting * counted + wrong * (differs - differs.mean(0))
                found = solver(specimen, error)[first : first + depth]
                estimate[: len(found)] = found
            tiles.append(tile)
            estimates.append(estimate)
        return torch.stack(tiles), torch.stack(estimates)


def _drawn(
    tile_shape: tuple[int, int, int],
    voxel_size_A: tuple[float, float, float],
    rng: np.random.Generator,
    device: torch.device | str,
) -> LinearSolver:
    """One for random optics and specimens of up to twice the tile."""
    tile, *lateral = tile_shape
    kind, slices = rng.random(), tile
    if kind > 0.65:
        slices = 2 * tile
    elif kind < 0.1:
        slices = int(rng.integers(max(1, tile // 4), tile + 1))
    return LinearSolver.of(
        (slices, lateral[0], lateral[1]),
        voxel_size_A,
        wavelength_A=_log_uniform(rng, _WAVELENGTH_A),
        aperture_invA=_log_uniform(rng, _APERTURE_INVA),
        iterations=int(rng.choice(_ITERATIONS)),
        device=device,
    )


def _log_uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    low, high = limits
    return low * math.exp(rng.uniform(0.0, math.log(high / low)))
