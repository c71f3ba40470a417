"""Counting noise, and the residual that no reconstruction should go below."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["expected_residual_floor", "poisson_counts", "sqrt_count_variance"]

_EXACT_BELOW = 20.0


def poisson_counts(
    expected: np.ndarray, seed: int | np.random.SeedSequence | np.random.Generator
) -> np.ndarray:
    """Draw electron counts.

    Parameters
    ----------
    expected : ndarray
        Expected electrons per pixel, not negative; any shape.
    seed : int, SeedSequence or Generator
        Same seed, same counts. A generator continues its stream, so drawing pattern after pattern
        from one generator gives what drawing all of them at once gives.

    Returns
    -------
    float32 ndarray
        Whole numbers (exact up to 2^24 electrons a pixel), shape of ``expected``.
    """
    rng = np.random.default_rng(seed)
    return rng.poisson(np.asarray(expected, dtype=np.float64)).astype(np.float32)


def sqrt_count_variance(expected: np.ndarray) -> np.ndarray:
    """Mean square of sqrt(n) - sqrt(mu) for counts n that are Poisson with mean mu.

    It is 2 mu below one electron, peaks near 0.46 and tends to 1/4, the value that the variance
    stabilising transform of Anscombe (Biometrika 35, 246, 1948) is built on. Up to 20 electrons
    the Poisson distribution is summed and interpolated (error below 1e-5), above the asymptotic
    series 1/4 + 7/(64 mu) + 75/(512 mu^2) is used (error below 1e-4).

    Parameters
    ----------
    expected : ndarray
        Expected electrons mu, not negative; any shape.

    Returns
    -------
    float64 ndarray
        Shape of ``expected``.
    """
    mu = np.asarray(expected, dtype=np.float64)
    # The function is smooth in sqrt(mu), not in mu: equal steps there.
    root = np.linspace(0.0, math.sqrt(_EXACT_BELOW), 1025)
    counts = np.arange(101.0)
    log_factorial = np.concatenate(([0.0], np.log(counts[1:]).cumsum()))
    with np.errstate(divide="ignore", invalid="ignore"):
        log_p = np.where(counts == 0, 0.0, 2 * counts * np.log(root[:, None])) - log_factorial
    probability = np.exp(log_p - np.square(root)[:, None])
    table = (probability * np.square(np.sqrt(counts) - root[:, None])).sum(axis=1)
    inverse = 1.0 / np.maximum(mu, _EXACT_BELOW)
    series = 0.25 + inverse * (7 / 64 + 75 / 512 * inverse)
    return np.where(mu < _EXACT_BELOW, np.interp(np.sqrt(mu), root, table), series)


def expected_residual_floor(expected: np.ndarray) -> float:
    """Relative amplitude residual that counting noise alone leaves.

    sqrt(sum E[(sqrt(n) - sqrt(mu))^2] / sum mu): what ``||sqrt(I) - sqrt(n)|| / ||sqrt(n)||`` is
    for the true intensities. A residual below it means that noise is being fitted.

    Parameters
    ----------
    expected : ndarray
        Expected electrons of the measured pixels; any shape. Counts are no substitute at low
        dose, where empty pixels would contribute nothing: pass the model's intensities, or the
        mean pattern.

    Returns
    -------
    float
        The floor; NaN where no electron is expected at all.
    """
    mu = np.asarray(expected, dtype=np.float64)
    total = float(mu.sum())
    return math.sqrt(float(sqrt_count_variance(mu).sum()) / total) if total > 0 else math.nan
