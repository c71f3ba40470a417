"""What a solver without a prior makes of a crystal, without simulating a scan.

Far from the truth in one respect only: depth, which `depth_coupling` makes a small matrix of for
every lateral frequency. Its large eigenvalue is close to the depth sum; preconditioned gradient
steps find that at once, the others hardly, and noise enters as 1 / sqrt(H). So what such a solver
ends with is linear in the crystal, but for the clamp to positive phase, and costs two small Fourier
transforms. The quasi-Newton steps of `reconstruction.gradient` head for the most probable specimen
under a Gaussian belief, which is linear as well, a Wiener filter over depth, and stop on the way:
what changes from slice to slice they have hardly begun to find.
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

# What `reconstruction.plan.GradientPlan` believes by default; training knows nothing of that layer.
_DEPTH_DEVIATION_RAD, _SUM_DEVIATION_RAD, _ATOMIC_FALL_INVA = 0.05, 0.3, 1.1
# The diagonal of the Hessian falls with the lateral frequency. Probed with white noise on abTEM's
# patterns: 0.7 of the illumination at 0.5 1/A, 0.2 at 2.1 1/A.
_STIFFNESS = (0.7, 0.9)
_STIFFNESS_WIDTH_INVA = (1.5, 2.2)
# From the solver's own default to where the first moment over depth has converged.
_ITERATIONS = (24, 50, 100, 200, 400)
_COARSE_INVA, _FINE_INVA = 0.4, 2.5
# Preconditioned steps that leave as much of depth as 21 quasi-Newton evaluations do on abTEM's
# patterns at 1e6 e/A^2: 5 of the higher moments over depth, 20 of the first.
_QUASI_NEWTON_STEPS = (5, 7, 10, 14, 20)
_DAMPING = 0.25  # of their preconditioner, as in `reconstruction.gradient`
_APERTURE_INVA = (0.6, 1.5)  # 12 to 30 mrad at 300 keV
_WAVELENGTH_A = (0.0197, 0.042)  # 300 to 80 keV
_NOISE_RAD = (0.0025, 0.05)  # of a voxel that is measured as well as the depth sum: 2e6 to 5e3 e/A2
_LEAST_ERROR_RAD = 0.001  # over depth, besides counting noise
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
class Optics:
    """How depth is coupled for specimens of one size.

    Parameters
    ----------
    slices : int
        Of the specimen.
    rings_invA : (n,) ndarray
        Lateral frequencies at which matrices are worked out, 1/A.
    ring_of_coefficient : (Y, X // 2 + 1) int ndarray
        The nearest to each coefficient of a real Fourier transform across the beam.
    coupling : (n, slices, slices) ndarray
        Of `depth_coupling`.
    device : torch.device or str
        Where volumes are.
    """

    slices: int
    rings_invA: np.ndarray
    ring_of_coefficient: np.ndarray
    coupling: np.ndarray
    device: torch.device | str

    @classmethod
    def of(
        cls,
        shape: tuple[int, int, int],
        voxel_size_A: tuple[float, float, float],
        *,
        wavelength_A: float,
        aperture_invA: float,
        device: torch.device | str = "cpu",
    ) -> Optics:
        """For specimens of (z, y, x) voxels."""
        slices, height, width = shape
        ky = np.fft.fftfreq(height, voxel_size_A[1])[:, None]
        k = np.hypot(ky, np.fft.rfftfreq(width, voxel_size_A[2]))
        rings = np.linspace(0, k.max(), _RINGS)
        coupling = depth_coupling(rings, slices, voxel_size_A[0], wavelength_A, aperture_invA)
        nearest = np.rint(k / k.max() * (_RINGS - 1)).astype(int)
        return cls(slices, rings, nearest, coupling, device)


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
    counting_rad : float, optional
        Counting noise that it is made for, rad of such a voxel; None: any.
    """

    slices: int
    signal: Tensor
    noise: Tensor
    counting_rad: float | None

    @classmethod
    def after_gradient_steps(cls, optics: Optics, iterations: int) -> LinearSolver:
        """Nesterov's steps from vacuum, coarse structure first."""
        values, modes = np.linalg.eigh(optics.coupling)
        values = values.clip(1e-9)  # rounding may leave the smallest below zero
        share = gradient_filter(values, optics.rings_invA, iterations)

        def matrices(gain: np.ndarray) -> np.ndarray:
            return np.einsum("kab,kb,kcb->kac", modes, gain, modes)

        return cls._from_rings(optics, matrices(share), matrices(share / np.sqrt(values)), None)

    @classmethod
    def after_quasi_newton_steps(
        cls, optics: Optics, counting_rad: float, stiffness: np.ndarray, steps: int
    ) -> LinearSolver:
        """On the way from vacuum to the most probable specimen, (H + s^2 B)^-1 H.

        s is the counting noise, B the belief. Steps with the preconditioner P have found
        1 - (1 - P (H + s^2 B))^steps of it. `stiffness`, (n,), is the diagonal of the Hessian at
        each of the rings.
        """
        values, modes = np.linalg.eigh(stiffness[:, None, None] * optics.coupling)
        values = values.clip(1e-9)
        hessian = np.einsum("kab,kb,kcb->kac", modes, values, modes)
        root = np.einsum("kab,kb,kcb->kac", modes, np.sqrt(values), modes)
        slices = optics.slices
        identity, even = np.eye(slices), np.full((slices, slices), 1 / slices)
        fall = np.exp(2 * optics.rings_invA / _ATOMIC_FALL_INVA)[:, None, None]
        belief = (identity - even) / _DEPTH_DEVIATION_RAD**2 + fall * even / _SUM_DEVIATION_RAD**2
        resisting = hessian + counting_rad**2 * belief
        step = (
            np.linalg.inv(optics.coupling + _DAMPING * identity + counting_rad**2 * belief)
            @ resisting
        )
        found = identity - np.linalg.matrix_power(identity - step, steps)
        inverse = found @ np.linalg.inv(resisting)
        return cls._from_rings(optics, inverse @ hessian, inverse @ root, counting_rad)

    @classmethod
    def _from_rings(
        cls,
        optics: Optics,
        signal: np.ndarray,
        noise: np.ndarray,
        counting_rad: float | None,
    ) -> LinearSolver:
        """Matrices of rings, (n, slices, slices), put where their lateral frequencies are."""
        at = optics.ring_of_coefficient
        return cls(
            optics.slices,
            torch.from_numpy(signal[at]).to(optics.device, torch.complex64),
            torch.from_numpy(noise[at]).to(optics.device, torch.complex64),
            counting_rad,
        )

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
    quasi_newton_share : float
        Of the estimates, those by quasi-Newton steps; the others are by gradient steps.
    error_rad : float
        What the forward model gets wrong shows over depth: at most so many rad of a voxel.
    device : torch.device or str
        Where volumes are.
    """

    def __init__(
        self,
        tile_shape: tuple[int, int, int],
        voxel_size_A: tuple[float, float, float],
        share: float,
        *,
        quasi_newton_share: float = 0.0,
        error_rad: float = 0.03,
        device: torch.device | str = "cpu",
    ) -> None:
        self.tile_shape, self.share = tile_shape, share
        self.quasi_newton_share, self.error_rad = quasi_newton_share, error_rad
        self.shape = (2 * tile_shape[0], *tile_shape[1:])
        # Banks are part of the method and not of a run.
        rng = np.random.default_rng(0)
        self._gradient: list[LinearSolver] = []
        if quasi_newton_share < 1:
            for _ in range(_BANK):
                optics = _drawn(tile_shape, voxel_size_A, rng, device)
                iterations = int(rng.choice(_ITERATIONS))
                self._gradient.append(LinearSolver.after_gradient_steps(optics, iterations))
        rng = np.random.default_rng(1)
        self._quasi_newton: list[LinearSolver] = []
        if quasi_newton_share > 0:
            for _ in range(_BANK):
                optics = _drawn(tile_shape, voxel_size_A, rng, device)
                stiffness = rng.uniform(*_STIFFNESS) * np.exp(
                    -((optics.rings_invA / rng.uniform(*_STIFFNESS_WIDTH_INVA)) ** 2)
                )
                counting = _log_uniform(rng, _NOISE_RAD)
                steps = int(rng.choice(_QUASI_NEWTON_STEPS))
                self._quasi_newton.append(
                    LinearSolver.after_quasi_newton_steps(optics, counting, stiffness, steps)
                )

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
            bank = self._gradient
            if self._quasi_newton and rng.random() < self.quasi_newton_share:
                bank = self._quasi_newton
            solver = bank[rng.integers(len(bank))]
            counting = solver.counting_rad or _log_uniform(rng, _NOISE_RAD)
            wrong = _log_uniform(rng, (_LEAST_ERROR_RAD, self.error_rad))
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
) -> Optics:
    """Random optics for specimens of up to twice the tile."""
    tile, *lateral = tile_shape
    kind, slices = rng.random(), tile
    if kind > 0.65:
        slices = 2 * tile
    elif kind < 0.1:
        slices = int(rng.integers(max(1, tile // 4), tile + 1))
    return Optics.of(
        (slices, lateral[0], lateral[1]),
        voxel_size_A,
        wavelength_A=_log_uniform(rng, _WAVELENGTH_A),
        aperture_invA=_log_uniform(rng, _APERTURE_INVA),
        device=device,
    )


def _log_uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    low, high = limits
    return low * math.exp(rng.uniform(0.0, math.log(high / low)))
