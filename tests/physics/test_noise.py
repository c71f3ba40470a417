from __future__ import annotations

import math

import numpy as np
import pytest

from napari_mep.physics.noise import (
    expected_residual_floor,
    poisson_counts,
    sqrt_count_variance,
)


def test_same_seed_same_counts():
    expected = np.random.default_rng(0).uniform(0, 5, (3, 8, 8))
    counts = poisson_counts(expected, 7)
    assert counts.dtype == np.float32
    np.testing.assert_array_equal(counts, poisson_counts(expected, 7))
    assert not np.array_equal(counts, poisson_counts(expected, 8))


def test_a_generator_makes_the_split_into_patterns_irrelevant():
    expected = np.random.default_rng(0).uniform(0, 50, (4, 8, 8))
    whole = poisson_counts(expected, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    np.testing.assert_array_equal(whole, [poisson_counts(pattern, rng) for pattern in expected])


def test_mean_and_variance_are_poisson():
    counts = poisson_counts(np.full(200_000, 3.0), 1)
    assert counts.mean() == pytest.approx(3.0, abs=0.02)
    assert counts.var() == pytest.approx(3.0, abs=0.05)


@pytest.mark.parametrize("mu", [1e-4, 0.03, 0.5, 1.7, 6.0, 19.9, 20.1, 40.0, 90.0])
def test_variance_of_the_square_root_is_the_sum_over_the_distribution(mu):
    exact = sum(
        math.exp(n * math.log(mu) - mu - math.lgamma(n + 1)) * (math.sqrt(n) - math.sqrt(mu)) ** 2
        for n in range(400)
    )
    assert float(sqrt_count_variance(np.array(mu))) == pytest.approx(exact, abs=1e-4, rel=2e-3)


def test_limits_of_many_and_no_electrons():
    assert float(sqrt_count_variance(np.array(1e8))) == pytest.approx(0.25)
    assert float(sqrt_count_variance(np.array(0.0))) == 0.0
    assert math.isnan(expected_residual_floor(np.zeros(4)))


@pytest.mark.parametrize("scale", [0.2, 3.0, 200.0])
def test_floor_is_the_residual_of_the_truth(scale):
    expected = scale * np.random.default_rng(5).exponential(size=(60, 32, 32))
    counts = poisson_counts(expected, 11).astype(np.float64)
    misfit = np.square(np.sqrt(expected) - np.sqrt(counts)).sum()
    residual = math.sqrt(misfit / counts.sum())
    assert residual == pytest.approx(expected_residual_floor(expected), rel=0.01)
