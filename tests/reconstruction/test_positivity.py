"""Atoms ring on voxels, their averages over neighbours do not; and what is made of that."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from napari_mep.crystals.render import SliceRenderer
from napari_mep.crystals.structure import AtomBox
from napari_mep.reconstruction.positivity import nearest_positive, negativity, neighbour_average


@pytest.fixture
def noise():
    return torch.randn(2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("number", [6, 14, 38, 82])
def test_atoms_ring_and_their_averages_over_neighbours_do_not(number):
    renderer = SliceRenderer((2, 48, 48), (1.6, 0.2, 0.2), energy_keV=300.0)
    size_A = renderer.box_size_A
    rng = np.random.default_rng(number)
    rings, lacks = [], []
    for _ in range(8):
        at = np.array([[1.6, *(np.array(size_A[1:]) / 2 + rng.uniform(0, 0.2, 2))]])
        atom = renderer([AtomBox(np.array([number]), at, size_A)])[0]
        rings.append(float(atom.min() / atom.max()))
        lacks.append(float(neighbour_average(atom).min() / atom.max()))
    assert min(rings) < -0.005
    assert min(lacks) > -1e-4


def test_averages_have_no_nyquist_frequency_and_the_same_mean(noise):
    wide = noise[..., :4]
    pattern = torch.tensor([1.0, -1.0, 1.0, -1.0])
    torch.testing.assert_close(
        neighbour_average(wide + pattern), neighbour_average(wide), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(neighbour_average(noise).mean(), noise.mean())


def test_the_gradient_of_negativity_is_that_of_its_value(noise):
    noise.requires_grad_(True)
    below = neighbour_average(noise).clamp(max=0)
    expected = 0.5 * below.square().sum() / 0.02**2
    expected.backward()
    value, gradient = negativity(noise.detach(), 0.02)
    assert value == pytest.approx(float(expected.detach()))
    assert value > 0
    torch.testing.assert_close(gradient, noise.grad)


def test_the_nearest_canvas_is_the_one_scipy_finds(noise):
    found = nearest_positive(noise)
    start = noise.flatten().numpy()

    def averages(x):
        return neighbour_average(torch.from_numpy(x).reshape(noise.shape)).numpy().ravel()

    reference = minimize(
        lambda x: 0.5 * ((x - start) ** 2).sum(),
        np.ones(start.size),
        jac=lambda x: x - start,
        method="SLSQP",
        constraints={"type": "ineq", "fun": averages},
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert reference.success
    distance = float((found - noise).norm())
    assert distance == pytest.approx(np.linalg.norm(reference.x - start), rel=0.02)
    assert float(neighbour_average(found).min()) > 0.05 * float(neighbour_average(noise).min())


def test_a_positive_canvas_stays(noise):
    assert torch.equal(nearest_positive(noise.abs()), noise.abs())


def test_the_search_can_be_given_up(noise):
    def stop():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        nearest_positive(noise, stop)
