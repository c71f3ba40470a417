"""The sampler against Gaussian posteriors that are known exactly; no trained network involved."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from napari_mep.prior.samplers import Prediction, sde_dpm_solver_2m, seeded_noise
from napari_mep.prior.schedule import alpha_sigma, polyexponential_logsnr

N, BATCH = 128, 512
FREQUENCY = torch.fft.fftfreq(N, 1 / N, dtype=torch.float64).abs()
# Data on a ring: white, and with long-range order (its power spectrum falls from 4 to 0.04).
SPECTRA = {
    "white": torch.ones(N, dtype=torch.float64),
    "correlated": 4 / (1 + (FREQUENCY / 6) ** 2),
}
# Bands of at least a dozen frequencies: each standard deviation is then known to better than 1 %.
BANDS = [(0, 7), (7, 20), (20, 40), (40, 65)]


def _filter(x: Tensor, transfer: Tensor) -> Tensor:
    return torch.fft.ifft(torch.fft.fft(x) * transfer).real


def _relative_std(error: Tensor, power: Tensor) -> list[float]:
    """Standard deviation over its expectation, by bands of frequency."""
    ratio = (torch.fft.fft(error).abs() ** 2).mean(0) / N / power
    return [
        float(ratio[(low <= FREQUENCY) & (high > FREQUENCY)].mean().sqrt()) for low, high in BANDS
    ]


def _sample(denoise, steps: int, eta: float, end: float, start: float = -13.37) -> Tensor:
    logsnr = polyexponential_logsnr(steps, start, end).tolist()
    generator = torch.Generator().manual_seed(3)

    def noise() -> Tensor:
        return torch.randn(BATCH, N, generator=generator, dtype=torch.float64)

    *_, last = sde_dpm_solver_2m(
        denoise, math.exp(-logsnr[0] / 2) * noise(), logsnr, noise, eta=eta
    )
    return last.prediction


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("steps", [50, 100])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_unguided_samples_have_the_covariance_of_the_prior(spectrum, steps, eta):
    power, end = SPECTRA[spectrum], 4.605

    def denoise(x: Tensor, logsnr: float, index: int) -> Prediction:
        return Prediction(_filter(x, power / (power + math.exp(-logsnr))))

    sample = _sample(denoise, steps, eta, end)
    # The last prediction lacks what the noise still hides at its level.
    left = power**2 / (power + math.exp(-end))
    assert _relative_std(sample, left) == pytest.approx([1] * len(BANDS), abs=0.03)
    assert float(sample.mean()) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("steps", [50, 100])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_exactly_guided_samples_follow_the_posterior(spectrum, steps, eta):
    # y = b * x + n: the data know low frequencies well and high ones hardly.
    power, noise_std = SPECTRA[spectrum], 0.5
    transfer = torch.exp(-((FREQUENCY / 25) ** 2))
    curvature = transfer**2 / noise_std**2
    generator = torch.Generator().manual_seed(1)
    white = torch.randn(2, 1, N, generator=generator, dtype=torch.float64)
    data = _filter(_filter(white[0], power.sqrt()), transfer) + noise_std * white[1]
    variance = 1 / (1 / power + curvature)
    mean = _filter(data, variance * transfer / noise_std**2)

    def denoise(x: Tensor, logsnr: float, index: int) -> Prediction:
        k2 = math.exp(-logsnr)
        uncertain = power * k2 / (power + k2)
        clean = _filter(x, power / (power + k2))
        gradient = _filter(_filter(clean, transfer) - data, transfer / noise_std**2)
        return Prediction(clean - _filter(gradient, uncertain / (1 + uncertain * curvature)))

    sample = _sample(denoise, steps, eta, end=9.0)
    assert _relative_std(sample - mean, variance) == pytest.approx([1] * len(BANDS), abs=0.04)
    # The mean of the batch is known to the posterior's own spread / sqrt(BATCH).
    off = (sample.mean(0) - mean).std() / variance.mean().sqrt()
    assert float(off) < 1.6 / math.sqrt(BATCH)
    slope = float((sample.mean(0) * mean).sum() / mean.square().sum())
    assert slope == pytest.approx(1, abs=0.02)


def test_one_step_is_the_formula_of_the_paper():
    # Lu et al. 2022 in variance-preserving coordinates z = alpha X:
    # z' = (sigma' / sigma) e^-h z + alpha' (1 - e^-2h) D + sigma' sqrt(1 - e^-2h) eps
    levels = torch.tensor([-2.0, -0.5, 1.5], dtype=torch.float64)
    alpha, sigma = alpha_sigma(levels)
    h = 0.5 * levels.diff()
    generator = torch.Generator().manual_seed(0)
    x, d0, d1, e0, e1 = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    seen = []

    def denoise(x: Tensor, logsnr: float, index: int) -> Prediction:
        seen.append(x)
        return Prediction([d0, d1, d1][index])

    noises = iter([e0, e1])
    list(sde_dpm_solver_2m(denoise, x, levels.tolist(), lambda: next(noises)))

    def step(i: int, z: Tensor, d: Tensor, eps: Tensor) -> Tensor:
        shrink = 1 - torch.exp(-2 * h[i])
        return (
            sigma[i + 1] / sigma[i] * torch.exp(-h[i]) * z
            + alpha[i + 1] * shrink * d
            + sigma[i + 1] * shrink.sqrt() * eps
        )

    z1 = step(0, alpha[0] * x, d0, e0)
    torch.testing.assert_close(alpha[1] * seen[1], z1)
    second_order = d1 + (d1 - d0) / (2 * h[0] / h[1])
    torch.testing.assert_close(alpha[2] * seen[2], step(1, z1, second_order, e1))


def test_only_the_smooth_part_is_extrapolated():
    levels = [-2.0, 0.0, 2.0]
    rough = [torch.tensor([5.0]), torch.tensor([-7.0]), torch.tensor([0.0])]
    seen: dict[str, list[Tensor]] = {"all": [], "smooth": []}

    def run(kind: str) -> None:
        def denoise(x: Tensor, logsnr: float, index: int) -> Prediction:
            seen[kind].append(x)
            smooth = torch.ones(1) if kind == "smooth" else None
            return Prediction(1 + rough[index], smooth)

        list(sde_dpm_solver_2m(denoise, torch.zeros(1), levels, lambda: torch.zeros(1), eta=0.0))

    run("all")
    run("smooth")
    assert torch.equal(seen["all"][1], seen["smooth"][1])  # the first step is of first order
    kept, taken = math.exp(-1), 1 - math.exp(-1)
    expected = kept * seen["smooth"][1] + taken * (1 + rough[1])
    torch.testing.assert_close(seen["smooth"][2], expected)
    torch.testing.assert_close(
        seen["all"][2] - expected, taken * 0.5 * (rough[1] - rough[0]), rtol=1e-5, atol=1e-5
    )


def test_every_level_is_reported_once_with_its_prediction():
    levels = [-3.0, 0.0, 3.0]
    steps = list(
        sde_dpm_solver_2m(
            lambda x, logsnr, index: Prediction(torch.full((2,), float(index))),
            torch.zeros(2),
            levels,
            lambda: torch.zeros(2),
        )
    )
    assert [(s.index, s.logsnr, float(s.prediction[0])) for s in steps] == [
        (0, -3.0, 0.0),
        (1, 0.0, 1.0),
        (2, 3.0, 2.0),
    ]


def test_noise_of_a_sample_depends_on_its_seed_alone():
    alone = seeded_noise([7], (3, 4))
    among = seeded_noise([5, 7, 11], (3, 4))
    for _ in range(3):
        single, batch = alone(), among()
        assert torch.equal(single[0], batch[1])
        assert not torch.equal(batch[0], batch[1])
        assert single.dtype == torch.float32


def test_same_seed_same_sample_whatever_the_batch():
    levels = polyexponential_logsnr(12, -4.0, 4.0).tolist()

    def sample(seeds: list[int]) -> Tensor:
        noise = seeded_noise(seeds, (N,))
        *_, last = sde_dpm_solver_2m(
            lambda x, logsnr, index: Prediction(x / (1 + math.exp(-logsnr))),
            7.4 * noise(),
            levels,
            noise,
        )
        return last.prediction

    assert torch.equal(sample([3])[0], sample([1, 2, 3, 4])[2])
    assert not torch.equal(sample([3]), sample([4]))


def test_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    seeded_noise([1], (4,))()
    assert torch.equal(before, torch.get_rng_state())
