from __future__ import annotations

import numpy as np
import pytest

from napari_mep.evaluation import paired_bootstrap


def test_agrees_with_the_normal_interval():
    """For many values the percentile interval is mean +- 1.96 standard errors."""
    values = np.random.default_rng(0).normal(0.3, 1.0, 400)
    interval = paired_bootstrap(values)
    error = values.std() / np.sqrt(400)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.05 * error * 2)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.05 * error * 2)


def test_same_seed_same_interval():
    values = [0.1, -0.2, 0.5, 0.3]
    assert paired_bootstrap(values, seed=3) == paired_bootstrap(values, seed=3)
    assert paired_bootstrap(values, 50, seed=3) != paired_bootstrap(values, 50, seed=4)


def test_equal_differences_leave_no_doubt():
    interval = paired_bootstrap([0.25, 0.25, 0.25])
    assert (interval.low, interval.mean, interval.high) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("values", [[], [1.0, np.nan]])
def test_nothing_to_compare(values):
    with pytest.raises(ValueError, match="expected 1 or more, all finite"):
        paired_bootstrap(values)
