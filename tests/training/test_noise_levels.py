"""Noise levels: draws, weighting and importance weights that keep the objective what it is."""

from __future__ import annotations

import numpy as np
import pytest

from napari_mep.training.noise_levels import NoiseLevels
from napari_mep.training.settings import TrainingSettings

SETTINGS = TrainingSettings(logsnr_mean=-3.0, logsnr_width=2.0, uniform_fraction=0.2)


def _v_loss(logsnr):
    """A made-up curve of the usual shape: 1 where nothing is known, small in the middle."""
    return 0.05 + 1 / (1 + np.exp(logsnr + 5)) + 0.4 / (1 + np.exp(4 - logsnr))


def _learned(settings=SETTINGS) -> NoiseLevels:
    levels = NoiseLevels(settings)
    middle = 0.5 * (levels.edges[1:] + levels.edges[:-1])
    levels.loss = _v_loss(middle)
    return levels


def test_weighting_has_mean_one_and_its_centre():
    grid = np.linspace(SETTINGS.logsnr_low, SETTINGS.logsnr_high, 200_001)
    weight = NoiseLevels(SETTINGS).weight(grid)
    assert weight.mean() == pytest.approx(1, abs=1e-4)
    assert grid[weight.argmax()] == pytest.approx(-3, abs=1e-3)
    assert weight.min() >= 0.2


@pytest.mark.parametrize("noise_levels", ["adaptive", "weighting"])
def test_the_estimate_of_the_objective_has_no_bias(noise_levels):
    settings = TrainingSettings(
        logsnr_mean=-3.0, logsnr_width=2.0, uniform_fraction=0.2, noise_levels=noise_levels
    )
    levels = _learned(settings)
    grid = np.linspace(settings.logsnr_low, settings.logsnr_high, 200_001)
    objective = (levels.weight(grid) * _v_loss(grid)).mean()
    rng = np.random.default_rng(0)
    estimates = []
    for _ in range(4000):
        logsnr, importance = levels.draw(8, rng)
        estimates.append((importance * _v_loss(logsnr)).mean())
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - objective) < 4 * error
    assert error < 0.01 * objective


def test_adaptive_draws_scatter_less():
    rng = np.random.default_rng(0)

    def scatter(levels):
        draws = [levels.draw(1, rng) for _ in range(4000)]
        return np.std([(i * _v_loss(x)).item() for x, i in draws])

    plain = TrainingSettings(
        logsnr_mean=-3.0, logsnr_width=2.0, uniform_fraction=0.2, noise_levels="weighting"
    )
    assert scatter(_learned()) < 0.3 * scatter(_learned(plain))


def test_draws_follow_the_density_and_forget_no_bin():
    levels = _learned()
    levels.loss[:10] = 0.0
    density = levels.density()
    assert density.sum() == pytest.approx(1)
    assert density.min() == pytest.approx(0.02 / len(density))
    rng = np.random.default_rng(0)
    draws = np.concatenate([levels.draw(16, rng)[0] for _ in range(2000)])
    counts = np.histogram(draws, levels.edges)[0]
    expected = len(draws) * density
    # Stratified draws scatter less than independent ones, so chi-square stays below 72 +- 12.
    assert ((counts - expected) ** 2 / expected).sum() < 100


def test_draws_of_a_batch_are_stratified():
    levels = NoiseLevels(TrainingSettings(uniform_fraction=1.0, logsnr_low=-10.0, logsnr_high=10.0))
    draws, importance = levels.draw(20, np.random.default_rng(0))
    assert sorted(np.floor(draws).astype(int)) == list(range(-10, 10))
    assert draws.tolist() != sorted(draws)
    assert importance == pytest.approx(np.ones(20))


def test_running_means_do_not_depend_on_the_order():
    one, other = NoiseLevels(SETTINGS), NoiseLevels(SETTINGS)
    assert np.isnan(one.loss).all()
    x, loss = np.array([-1.49, 0.51, -1.3, 2.0]), np.array([3.0, 1.0, 4.0, 0.5])
    one.update(x, loss)
    other.update(x[::-1], loss[::-1])
    assert np.array_equal(one.loss, other.loss, equal_nan=True)
    assert one.loss[one.edges[:-1] == -1.5] == 3.5
    one.update(x[:1], np.array([4.5]))
    assert one.loss[one.edges[:-1] == -1.5] == pytest.approx(3.52)


def test_state_survives_a_checkpoint_and_older_bins():
    levels = _learned()
    levels.loss[3] = np.nan
    again = NoiseLevels(SETTINGS)
    again.restore(levels.state())
    assert np.array_equal(again.loss, levels.loss, equal_nan=True)
    edges = list(range(-12, 7))
    again.restore({"loss_curve_edges": edges, "loss_curve": [float(e) for e in edges[:-1]]})
    assert np.array_equal(again.loss, np.floor(levels.edges[:-1]))


def test_bands_average_what_was_seen():
    levels = NoiseLevels(SETTINGS)
    levels.update(np.array([-11.9, -11.0]), np.array([1.0, 2.0]))
    edges, losses = levels.bands(6)
    assert edges == [-12, -9, -6, -3, 0, 3, 6]
    assert losses == [1.5, None, None, None, None, None]
