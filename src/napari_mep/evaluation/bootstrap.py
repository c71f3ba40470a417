"""How sure one can be of a mean difference between two methods on the same specimens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["BootstrapInterval", "paired_bootstrap"]


@dataclass(frozen=True, slots=True)
class BootstrapInterval:
    """A mean with its 95 % interval.

    Parameters
    ----------
    mean : float
        Mean of the differences.
    low, high : float
        2.5 and 97.5 percentile of the resampled means.
    """

    mean: float
    low: float
    high: float


def paired_bootstrap(differences: ArrayLike, n: int = 10_000, seed: int = 0) -> BootstrapInterval:
    """Percentile bootstrap of a mean of paired differences.

    Parameters
    ----------
    differences : (m,) array of float
        One difference (method A minus method B) for each specimen.
    n : int
        Number of resamples.
    seed : int
        Same seed, same interval.

    Returns
    -------
    BootstrapInterval
        In the units of the differences.

    Raises
    ------
    ValueError
        No differences, or one that is not finite.

    References
    ----------
    Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    values = np.asarray(differences, dtype=np.float64).ravel()
    if not values.size or not np.isfinite(values).all():
        raise ValueError(f"differences: {values.size} values, expected 1 or more, all finite")
    rng = np.random.default_rng(seed)
    means = values[rng.integers(values.size, size=(n, values.size))].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return BootstrapInterval(float(values.mean()), float(low), float(high))
