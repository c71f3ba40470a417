"""The solver without a prior: coarse to fine, then quasi-Newton steps that know depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from napari_mep.physics.depth_coupling import depth_coupling
from napari_mep.reconstruction.plan import GradientPlan
from napari_mep.reconstruction.positivity import negativity
from napari_mep.reconstruction.problem import Problem
from napari_mep.reconstruction.quasi_newton import Evaluation, minimise

__all__ = ["Belief", "GradientStep", "solve_gradient"]

# The spectrum of a crystal's depth sum falls with the lateral frequency as the potential of an atom
# does; rms over rendered crystals of the training library, 0.2 to 2.5 1/A.
_ATOMIC_FALL_INVA = 1.1
# Added to the Hessian over depth, in units of its diagonal: the smallest eigenvalues are not to be
# trusted, single scattering and a uniform illumination are approximations.
_DAMPING = 0.25
_RINGS = 128  # lateral frequencies at which matrices are worked out
# How far averages over neighbouring pixels go below zero where single pixels may: hardly.
_NEGATIVE_RAD = 0.0005


@dataclass(frozen=True, slots=True, eq=False)
class Belief:
    """What is believed of the specimen besides the data: a Gaussian.

    Parameters
    ----------
    mean : (z, y, x) tensor
        Canvas in radians; zeros: vacuum.
    depth_rad : float
        Standard deviation of a voxel's departure from the mean over depth, rad.
    sum_rad : float
        Of the mean over depth, times the square root of the number of slices, rad: equal to
        `depth_rad` where slices are independent.
    fall_invA : float
        The latter falls as exp(-k / fall) with the lateral frequency; infinite: pixels are
        independent.
    weight : (y, x) tensor, optional
        What deviations are multiplied with; 1 by default.
    """

    mean: Tensor
    depth_rad: float
    sum_rad: float
    fall_invA: float = math.inf
    weight: Tensor | None = None

    def firmness(self, k_invA: Tensor) -> tuple[Tensor, Tensor]:
        """1 / variance of departures from the mean over depth and of that mean, at each k."""
        even = torch.exp(2 * k_invA / self.fall_invA) / self.sum_rad**2
        return torch.full_like(even, self.depth_rad**-2), even

    def disbelief(self, canvas: Tensor, k_invA: Tensor) -> tuple[float, Tensor]:
        """Negative logarithm of its density, and the gradient of that."""
        departing, even = self.firmness(k_invA)
        off = canvas - self.mean
        if self.weight is not None:
            off = off * self.weight
        spectrum = torch.fft.rfft2(off)
        mean = spectrum.mean(0, keepdim=True)
        spectrum = departing * (spectrum - mean) + even * mean
        gradient = torch.fft.irfft2(spectrum, s=off.shape[-2:])
        value = 0.5 * float((off * gradient).sum())
        return value, gradient if self.weight is None else gradient * self.weight


@dataclass(frozen=True, slots=True, eq=False)
class GradientStep:
    """Canvas after one step, and the relative amplitude residual of it or of the one before."""

    index: int
    canvas: Tensor
    residual: float


def solve_gradient(
    problem: Problem,
    plan: GradientPlan,
    start: Tensor | None = None,
    belief: Belief | None = None,
    *,
    lowest: float = 0.0,
) -> Iterator[GradientStep]:
    """The most probable specimen under the data and a Gaussian belief.

    From vacuum the first steps go coarse structure first: nearest to vacuum, at full resolution,
    lies a ring around the core of a heavy column, whose phase passes pi. They are smoothed by a
    Gaussian in Fourier space that widens from step to step (a positive preconditioner: descent
    stays descent), and momentum follows Nesterov (1983).

    They find the depth sum. Depth itself the data hardly resist, by one to three orders of
    magnitude, but how much is known: `depth_coupling`. Its inverse over depth, for each lateral
    frequency, preconditions the quasi-Newton steps that follow.

    Parameters
    ----------
    problem : Problem
        Data and model.
    plan : GradientPlan
        Number of steps, and the belief.
    start : (z, y, x) tensor, optional
        Canvas in radians to begin with, which leaves the first part out; None: vacuum.
    belief : Belief, optional
        Instead of the plan's, which is about vacuum.
    lowest : float
        Phase below which no quasi-Newton step takes a voxel, rad. If it is negative, voxels may
        ring beside atoms, and `negativity` adds to the objective: data only nearly know the phase
        of vacuum, and would lower all of it.

    Yields
    ------
    GradientStep
        `GradientPlan.iterations` of them, each an evaluation of all data.
    """
    iterations, coarse = plan.counts()
    done = 0
    if start is None:
        start = torch.zeros(problem.grid.shape, device=problem.device)
        for step in _coarse_to_fine(problem, plan, start, min(iterations, coarse)):
            start, done = step.canvas, step.index + 1
            yield step
    if done == iterations:
        return
    # Further slices only give a prior the depth it was trained on; nothing is known of them.
    slices = problem.grid.measured_slices
    beyond = start[slices:]
    if belief is None:
        belief = Belief(
            torch.zeros_like(start),
            plan.depth_deviation_rad,
            plan.sum_deviation_rad,
            _ATOMIC_FALL_INVA,
            # A specimen goes on beyond the scan. Vacuum there, believed in as firmly as in the
            # middle, would be told from the patterns by phases that are wrong within the scan.
            (1 / (problem.step_scale * problem.curvature)).sqrt(),
        )
    believed = replace(belief, mean=belief.mean[:slices])
    k_invA = _lateral_invA(problem)

    def objective(specimen: Tensor) -> Evaluation:
        data = problem.data_term(torch.cat([specimen, beyond]), precisely=True)
        value, gradient = believed.disbelief(specimen, k_invA)
        gradient = gradient + data.gradient[:slices]
        if lowest < 0:
            lacking, raising = negativity(specimen, _NEGATIVE_RAD)
            value, gradient = value + lacking, gradient + raising
        return Evaluation(float(data.value) + value, gradient, data.residual)

    inverse = _inverse_over_depth(problem, believed)
    steps = minimise(objective, start[:slices], inverse, iterations - done, lowest=lowest)
    for i, (specimen, result) in enumerate(steps, start=done):
        yield GradientStep(i, torch.cat([specimen, beyond]), result.residual)


def _coarse_to_fine(
    problem: Problem, plan: GradientPlan, canvas: Tensor, count: int
) -> Iterator[GradientStep]:
    ahead = canvas
    weight, lowest = 1.0, math.inf
    for i in range(count):
        result = problem.data_term(ahead)
        value, gradient = float(result.value), result.gradient
        width = plan.coarse_invA * (plan.fine_invA / plan.coarse_invA) ** (i / max(1, count - 1))
        step = plan.step * _low_pass(problem, problem.step_scale * gradient, width)
        # Potentials are positive. This also decides what the data cannot: the depth sum of a heavy
        # column passes pi, and without it the solver settles one turn of phase too low.
        new = (ahead - step).clamp(min=0.0)
        moved = new - canvas
        # Restarts of O'Donoghue and Candes (2015). The second condition matters: the largest
        # eigenvalue of the preconditioned Hessian is about 1.5 and not 1, at which full steps
        # converge but momentum alone would make them diverge after some twelve iterations.
        if float((gradient * moved).sum()) > 0 or value > lowest:
            weight = 1.0
        lowest = min(lowest, value)
        next_weight = 0.5 * (1 + (1 + 4 * weight**2) ** 0.5)
        momentum = (weight - 1) / next_weight
        canvas, ahead, weight = new, new + momentum * moved, next_weight
        yield GradientStep(i, canvas, result.residual)


def _lateral_invA(problem: Problem) -> Tensor:
    """|k| of each coefficient of a real Fourier transform across the beam, 1/A."""
    (_, height, width), (_, dy, dx) = problem.grid.shape, problem.grid.voxel_size_A
    ky = torch.fft.fftfreq(height, dy, device=problem.device)[:, None]
    return torch.hypot(ky, torch.fft.rfftfreq(width, dx, device=problem.device))


def _low_pass(problem: Problem, canvas: Tensor, width_invA: float) -> Tensor:
    """Multiply with exp(-k^2 / (2 width^2)) across the beam."""
    pass_ = torch.exp(_lateral_invA(problem) ** 2 / (-2 * width_invA**2))
    return torch.fft.irfft2(torch.fft.rfft2(canvas) * pass_, s=canvas.shape[-2:])


def _inverse_over_depth(problem: Problem, belief: Belief) -> Callable[[Tensor], Tensor]:
    """Inverse of the Hessian of data and belief, as far as it is known beforehand.

    D^-1/2 F^-1 (h (H + damping) + B)^-1 F D^-1/2: D the diagonal relative to the middle of the
    scan, F the Fourier transform across the beam, h the stiffness of a voxel there, H the coupling
    over depth, B that of the belief.
    """
    slices, stiffness = problem.grid.measured_slices, problem.stiffness
    k = _lateral_invA(problem)
    rings = np.linspace(0.0, float(k.max()), _RINGS)
    hessian = depth_coupling(
        rings,
        slices,
        problem.grid.voxel_size_A[0],
        problem.wavelength_A,
        problem.aperture_invA,
    )
    identity, even = np.eye(slices), np.full((slices, slices), 1 / slices)
    firm, firm_even = (w.numpy()[:, None, None] for w in belief.firmness(torch.from_numpy(rings)))
    inverse = np.linalg.inv(
        stiffness * (hessian + _DAMPING * identity) + firm * (identity - even) + firm_even * even
    )
    over_depth = torch.from_numpy(inverse).to(problem.device, torch.complex64)
    ring = torch.round(k / k.max() * (_RINGS - 1)).long().flatten()
    order = ring.argsort(stable=True)
    back = order.argsort()
    sizes = torch.bincount(ring, minlength=_RINGS).tolist()
    # The diagonal relative to the middle: all of it where belief is weighted as the data are.
    base = belief.depth_rad**-2 if belief.weight is None else 0.0
    local = 1 / (problem.step_scale * slices)
    spread = ((stiffness + base) / (local + base)).sqrt()

    def apply(gradient: Tensor) -> Tensor:
        # Ring by ring: a matrix for each coefficient would not fit into memory.
        spectrum = torch.fft.rfft2(spread * gradient)
        parts = spectrum.flatten(1)[:, order].split(sizes, dim=1)
        done = torch.cat([m @ part for m, part in zip(over_depth, parts, strict=True)], dim=1)
        return spread * torch.fft.irfft2(
            done[:, back].reshape(spectrum.shape), s=gradient.shape[-2:]
        )

    return apply
