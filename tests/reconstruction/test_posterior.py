"""The posterior sampler's real code path on Gaussian priors, where the posterior is known.

The prior is a network that computes v in closed form, the data are the specimen itself plus white
noise. Then every Fourier coefficient has its own scalar posterior, and one sample of a canvas
holds thousands of independent ones.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_mep.physics.likelihood import LikelihoodResult
from napari_mep.prior.denoiser import Denoiser
from napari_mep.prior.schedule import alpha_sigma
from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.reconstruction.posterior import sample_posterior
from napari_mep.reconstruction.problem import CanvasGrid

SHAPE, SCALE = (8, 64, 64), 20.0
VOXEL_A = (1.6, 0.2, 0.2)
RADIUS = torch.sqrt(
    (4 * torch.fft.fftfreq(8, 1 / 8, dtype=torch.float64))[:, None, None] ** 2
    + torch.fft.fftfreq(64, 1 / 64, dtype=torch.float64)[:, None] ** 2
    + torch.fft.fftfreq(64, 1 / 64, dtype=torch.float64) ** 2
)
WHITE = torch.ones(SHAPE, dtype=torch.float64)
CORRELATED = 8 / (1 + (RADIUS / 8) ** 2)  # from 8 down to 0.2, unit variance in all
BANDS = [(0, 16), (16, 30), (30, 60)]


def _filter(x: Tensor, transfer: Tensor) -> Tensor:
    axes = (-3, -2, -1)
    return torch.fft.ifftn(torch.fft.fftn(x, dim=axes) * transfer, dim=axes).real


class GaussianNetwork(nn.Module):
    """v of the exact posterior mean under a stationary Gaussian prior with this power spectrum."""

    def __init__(self, power: Tensor) -> None:
        super().__init__()
        self.power = power

    def forward(self, z: Tensor, logsnr: Tensor) -> Tensor:
        alpha, sigma = (a[:, None, None, None] for a in alpha_sigma(logsnr.double()))
        z = z.double()
        clean = _filter(z, alpha * self.power / (alpha**2 * self.power + sigma**2))
        return (alpha * z - clean) / sigma


class Case:
    """Data of noise level `noise` (in units of the prior's voxels) and their exact posterior."""

    def __init__(self, power: Tensor, noise: float, shape=SHAPE) -> None:
        generator = torch.Generator().manual_seed(99)
        white = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
        self.data = _filter(white[0], power.sqrt()) + noise * white[1]
        self.variance = 1 / (1 / power + 1 / noise**2)
        self.mean = _filter(self.data, self.variance / noise**2)
        self.denoiser = Denoiser(GaussianNetwork(power), SCALE, VOXEL_A, shape, (-14.0, 12.0))
        self.curvature = SCALE**2 / noise**2  # 1/rad^2
        self.used: list[Any] = []
        grid = CanvasGrid(shape, shape[0], VOXEL_A, (0, 0), ((0, shape[1]), (0, shape[2])))
        self.problem: Any = SimpleNamespace(
            grid=grid,
            positions_px=np.zeros((16, 2)),
            step_scale=torch.full(shape[1:], 1 / self.curvature),
            curvature=self.curvature,
            data_term=self.data_term,
            check_stop=lambda: None,
            device=torch.device("cpu"),
        )

    def data_term(self, canvas: Tensor, indices: np.ndarray | None = None) -> LikelihoodResult:
        self.used.append(indices)
        miss = canvas - (self.data / SCALE).float()
        value = 0.5 * self.curvature * miss.square().sum()
        return LikelihoodResult(value, self.curvature * miss, value, torch.tensor(1.0))

    def sample(self, **changes: Any) -> Tensor:
        """A sample in the prior's units."""
        values = {"steps": 50, "start": "noise", "end_logsnr": 9.0} | changes
        *_, last = sample_posterior(self.problem, self.denoiser, ReconstructionPlan.parse(values))
        return last.canvas.double() * SCALE

    def compare(self, sample: Tensor) -> list[tuple[float, float]]:
        """Standard deviation and slope of the mean, both over the exact ones, by bands."""
        miss, drawn, exact = (torch.fft.fftn(x) for x in (sample - self.mean, sample, self.mean))
        ratio = miss.abs().square() / sample.numel() / self.variance
        result = []
        for low, high in BANDS:
            band = (low <= RADIUS) & (high > RADIUS)
            slope = (drawn * exact.conj()).real[band].sum() / exact[band].abs().square().sum()
            result.append((float(ratio[band].mean().sqrt()), float(slope)))
        return result


@pytest.mark.parametrize("steps", [50, 100])
@pytest.mark.parametrize("gradient_at", ["prediction", "network"])
def test_white_prior_gives_the_exact_posterior(gradient_at, steps):
    case = Case(WHITE, noise=0.1)
    sample = case.sample(steps=steps, guidance={"gradient_at": gradient_at})
    for std, slope in case.compare(sample):
        assert std == pytest.approx(1, abs=0.03)
        assert slope == pytest.approx(1, abs=0.01)


def test_the_flow_without_noise_leads_there_too():
    case = Case(WHITE, noise=0.1)
    for std, slope in case.compare(case.sample(eta=0.0)):
        assert std == pytest.approx(1, abs=0.04)
        assert slope == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("gradient_at", ["prediction", "network"])
def test_correlated_prior_gives_the_posterior_to_a_few_percent(gradient_at):
    # One weight for all bands is exact only where the data know far more than the prior.
    case = Case(CORRELATED, noise=0.1)
    for std, slope in case.compare(case.sample(guidance={"gradient_at": gradient_at})):
        assert std == pytest.approx(1, abs=0.05)
        assert slope == pytest.approx(1, abs=0.02)


def test_poor_data_are_followed_as_far_as_the_schedule_says():
    case = Case(WHITE, noise=0.3)
    for std, slope in case.compare(case.sample()):
        assert std == pytest.approx(1, abs=0.04)
        assert slope == pytest.approx(1, abs=0.03)


def test_without_guidance_the_prior_is_sampled():
    case = Case(CORRELATED, noise=0.1)
    sample = case.sample(guidance={"strength": 0.0})
    ratio = torch.fft.fftn(sample).abs().square() / sample.numel() / CORRELATED
    for low, high in BANDS:
        band = (low <= RADIUS) & (high > RADIUS)
        assert float(ratio[band].mean().sqrt()) == pytest.approx(1, abs=0.05)


def test_warm_start_is_noised_to_the_first_level_and_ends_in_the_posterior():
    # k = 3 leaves white unit data hardly visible: the start must not bias the sample.
    case = Case(WHITE, noise=0.1)
    plan = ReconstructionPlan.parse(
        {"steps": 40, "start": "gradient", "start_logsnr": -2 * math.log(3), "end_logsnr": 9.0}
    )
    start = (case.data / SCALE).float()
    *_, last = sample_posterior(case.problem, case.denoiser, plan, start)
    for std, slope in case.compare(last.canvas.double() * SCALE):
        assert std == pytest.approx(1, abs=0.04)
        assert slope == pytest.approx(1, abs=0.02)


def test_steps_report_level_weight_and_residual():
    case = Case(WHITE, noise=0.1)
    plan = ReconstructionPlan(steps=9, start="noise", end_logsnr=9.0)
    steps = list(sample_posterior(case.problem, case.denoiser, plan))
    assert [s.index for s in steps] == list(range(9))
    assert (steps[0].logsnr, steps[-1].logsnr) == (-13.37, 9.0)
    # the shift is measured: ln(1 / noise^2) in the prior's units
    expected = 1 / (1 + np.exp([s.logsnr - math.log(100.0) for s in steps]))
    np.testing.assert_allclose([s.weight for s in steps], expected, rtol=1e-9)
    assert all(math.isfinite(s.residual) for s in steps)


def test_random_patterns_are_drawn_without_repetition_from_the_seed():
    draws = []
    for seed in (0, 0, 1):
        case = Case(WHITE[:, :16, :16], 0.1, (8, 16, 16))
        case.sample(steps=5, seed=seed, guidance={"patterns_per_step": 6})
        assert all(len(set(i.tolist())) == 6 and 0 <= i.min() <= i.max() < 16 for i in case.used)
        draws.append(np.stack(case.used))
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    assert not np.array_equal(draws[0][0], draws[0][1])


def test_all_patterns_are_used_where_as_many_are_asked_for():
    case = Case(WHITE[:, :16, :16], 0.1, (8, 16, 16))
    case.sample(steps=3, guidance={"patterns_per_step": 16})
    assert case.used == [None, None, None]


@pytest.mark.parametrize("gradient_at", ["prediction", "network"])
def test_tiles_do_not_change_a_prior_that_sees_single_voxels(gradient_at):
    case = Case(WHITE, 0.1)
    options = {"steps": 12, "guidance": {"gradient_at": gradient_at}}
    whole = case.sample(**options)
    tile = (4, 32, 32)
    case.denoiser = Denoiser(
        GaussianNetwork(torch.ones(tile, dtype=torch.float64)), SCALE, VOXEL_A, tile, (-14.0, 12.0)
    )
    torch.testing.assert_close(case.sample(**options), whole, rtol=1e-3, atol=1e-4)


def test_same_seed_same_sample():
    case = Case(WHITE[:, :16, :16], 0.1, (8, 16, 16))
    first, again, other = (case.sample(steps=6, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
