"""Learning rate and averaging of the weights in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from napari_mep.training.schedules import ema_decay, learning_rate, run_progress
from napari_mep.training.settings import TrainingSettings


def test_progress_counts_volumes_or_minutes():
    by_volumes = TrainingSettings(volumes=1000)
    assert run_progress(250, 1e6, by_volumes) == 0.25
    by_time = TrainingSettings(volumes=1000, minutes=2.0)
    assert run_progress(5000, 30.0, by_time) == 0.25
    assert run_progress(0, 130.0, by_time) == 1


def test_linear_warms_up_stays_and_falls_to_zero():
    settings = TrainingSettings(warmup_volumes=100, decay_fraction=0.3, learning_rate=2e-3)

    def rate(n):
        return learning_rate(n, n / 1000, settings)

    assert rate(0) == pytest.approx(2e-3 / 100)
    assert rate(49) == pytest.approx(1e-3)
    assert {rate(n) for n in range(99, 700)} == {2e-3}
    assert rate(850) == pytest.approx(1e-3)
    assert rate(1000) == 0
    assert np.diff([rate(n) for n in range(700, 1001)]).max() < 0


def test_cosine_is_half_way_at_half_time():
    settings = TrainingSettings(warmup_volumes=1, schedule="cosine", learning_rate=2e-3)
    assert learning_rate(0, 0.0, settings) == 2e-3
    assert learning_rate(9, 0.25, settings) == pytest.approx(1e-3 * (1 + 2**-0.5))
    assert learning_rate(9, 0.5, settings) == pytest.approx(1e-3)
    assert learning_rate(9, 1.0, settings) == pytest.approx(0, abs=1e-12)


def test_inverse_sqrt_falls_from_its_reference_and_ends_at_zero():
    settings = TrainingSettings(
        warmup_volumes=1, schedule="inverse-sqrt", reference_volumes=100, decay_fraction=0.2
    )
    top = settings.learning_rate
    assert learning_rate(100, 0.1, settings) == top
    assert learning_rate(400, 0.4, settings) == pytest.approx(top / 2)
    assert learning_rate(900, 0.9, settings) == pytest.approx(top / 3 / 2)
    assert learning_rate(1000, 1.0, settings) == 0


@pytest.mark.parametrize(("length", "gamma"), [(0.05, 16.97), (0.10, 6.94)])
def test_ema_decay_has_the_exponents_of_edm2(length, gamma):
    # Karras et al. 2024: beta_n = (1 - 1 / n)^(gamma + 1)
    assert ema_decay(1, length) == 0
    assert ema_decay(100, length) == pytest.approx(0.99 ** (gamma + 1), rel=1e-4)


def test_ema_has_the_relative_width_it_is_named_for():
    steps, length = 2000, 0.1
    decay = np.array([ema_decay(n, length) for n in range(1, steps + 1)])
    kept = np.append(np.cumprod(decay[::-1])[::-1][1:], 1.0)
    weight = (1 - decay) * kept
    time = np.arange(1, steps + 1) / steps
    mean = (weight * time).sum()
    assert weight.sum() == pytest.approx(1)
    assert np.sqrt((weight * (time - mean) ** 2).sum()) == pytest.approx(length, rel=0.01)
