"""Bounded quasi-Newton steps against scipy's, and what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from napari_mep.reconstruction.quasi_newton import Evaluation, minimise

SHAPE = (2, 3, 4)
SIZE = 24


@pytest.fixture
def quadratic():
    """A stiff one, half of whose free minimum lies below zero."""
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((SIZE, SIZE)))
    hessian = torch.from_numpy(basis @ np.diag(np.geomspace(1, 1e3, SIZE)) @ basis.T)
    lowest = torch.from_numpy(rng.standard_normal(SIZE))
    return hessian, lowest


def _objective(hessian, lowest, count=None):
    def objective(canvas):
        if count is not None:
            count.append(canvas)
        off = canvas.flatten() - lowest
        gradient = hessian @ off
        return Evaluation(float(0.5 * off @ gradient), gradient.reshape(SHAPE), 0.0)

    return objective


def _diagonal(hessian):
    scale = 1 / hessian.diagonal().reshape(SHAPE)
    return lambda gradient: scale * gradient


@pytest.mark.parametrize("bound", [0.0, -0.2])
def test_the_bounded_minimum_is_found(quadratic, bound):
    hessian, lowest = quadratic
    start = torch.ones(SHAPE, dtype=torch.float64)
    given = {"lowest": bound} if bound else {}  # zero if nothing is said
    *_, (found, _) = minimise(_objective(hessian, lowest), start, _diagonal(hessian), 400, **given)
    reference = minimize(
        lambda x: 0.5 * (x - lowest.numpy()) @ hessian.numpy() @ (x - lowest.numpy()),
        np.ones(SIZE),
        jac=lambda x: hessian.numpy() @ (x - lowest.numpy()),
        method="L-BFGS-B",
        bounds=[(bound, None)] * SIZE,
        options={"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-10},
    )
    assert (reference.x == bound).sum() > 4
    assert bool((found >= bound).all())
    np.testing.assert_allclose(found.numpy().ravel(), reference.x, atol=1e-4)


def test_each_evaluation_is_told_and_none_is_worse_than_the_one_before(quadratic):
    hessian, lowest = quadratic
    count = []
    steps = list(
        minimise(
            _objective(hessian, lowest, count),
            torch.ones(SHAPE, dtype=torch.float64),
            _diagonal(hessian),
            30,
        )
    )
    assert len(steps) == len(count) == 30
    values = [evaluation.value for _, evaluation in steps]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.05 * values[0]  # most of the rest is what the bounds cost
    assert all(float(canvas.min()) >= 0 for canvas, _ in steps)


def test_the_inverse_hessian_as_preconditioner_needs_one_step(quadratic):
    hessian, lowest = quadratic
    inverse = torch.linalg.inv(hessian)
    steps = minimise(
        _objective(hessian, lowest.abs()),
        torch.ones(SHAPE, dtype=torch.float64),
        lambda gradient: (inverse @ gradient.flatten()).reshape(SHAPE),
        2,
    )
    *_, (found, _) = steps
    torch.testing.assert_close(found.flatten(), lowest.abs())


def test_a_minimum_is_not_left_and_the_promised_steps_are_told(quadratic):
    hessian, lowest = quadratic
    count = []
    start = lowest.abs().reshape(SHAPE)
    steps = list(minimise(_objective(hessian, lowest.abs(), count), start, _diagonal(hessian), 50))
    assert len(steps) == 50
    assert len(count) < 10
    assert torch.equal(steps[-1][0], start)


def test_values_that_are_not_finite_are_no_steps(quadratic):
    hessian, lowest = quadratic
    inner = _objective(hessian, lowest)
    start = torch.ones(SHAPE, dtype=torch.float64)

    def objective(canvas):
        result = inner(canvas)
        far = float((canvas - start).abs().max()) > 0.1
        return Evaluation(float("nan"), result.gradient, 0.0) if far else result

    *_, (found, evaluation) = minimise(objective, start, _diagonal(hessian), 40)
    assert np.isfinite(evaluation.value)
    assert bool(torch.isfinite(found).all())
    assert evaluation.value < inner(start).value
