"""Turned views: atoms and volumes go the same way."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_mep.crystals.structure import AtomBox
from napari_mep.training.turning import turned_atoms, turned_volume

SHAPE = (3, 40, 46)
STEP_A = 0.2


@pytest.fixture
def atoms() -> AtomBox:
    """Some in the middle of a volume of that shape, so that none leaves it or meets its edges."""
    rng = np.random.default_rng(0)
    height, width = ((n - 1) * STEP_A for n in SHAPE[1:])
    radius, angle = 2.2 * np.sqrt(rng.random(12)), 2 * np.pi * rng.random(12)
    y, x = height / 2 + radius * np.sin(angle), width / 2 + radius * np.cos(angle)
    z = rng.integers(SHAPE[0], size=12).astype(float)
    return AtomBox(rng.integers(1, 80, 12), np.stack([z, y, x], 1), (4.8, height, width))


def _blobs(atoms: AtomBox) -> torch.Tensor:
    """A round peak at each atom, far below the Nyquist frequency."""
    y, x = (np.arange(n) * STEP_A for n in SHAPE[1:])
    volume = np.zeros(SHAPE)
    for number, (z, ay, ax) in zip(atoms.numbers, atoms.positions_A, strict=True):
        squared = (y[:, None] - ay) ** 2 + (x - ax) ** 2
        volume[int(z)] += number * np.exp(-squared / (2 * (1.5 * STEP_A) ** 2))
    return torch.from_numpy(volume)


@pytest.mark.parametrize("angle", [-math.pi / 4, -0.1, 0.3, math.pi / 4])
def test_a_volume_is_turned_as_its_atoms_are(atoms, angle):
    middle = tuple((n - 1) / 2 * STEP_A for n in SHAPE[1:])
    turned = turned_atoms(atoms, angle, middle)
    expected, found = _blobs(turned), turned_volume(_blobs(atoms), angle)
    assert (found - expected).norm() < 0.002 * expected.norm()
    assert (found - _blobs(atoms)).norm() > 0.2 * expected.norm()
    assert np.array_equal(turned.positions_A[:, 0], atoms.positions_A[:, 0])
    assert turned.size_A == atoms.size_A
    there_and_back = turned_atoms(turned, -angle, middle)
    np.testing.assert_allclose(there_and_back.positions_A, atoms.positions_A)


def test_what_leaves_on_one_side_does_not_come_in_on_the_other(atoms):
    corner = replace(atoms, positions_A=np.array([[1.0, 0.8, 0.4]]), numbers=np.array([8]))
    volume = _blobs(corner)
    assert volume.max() > 7
    assert turned_volume(volume, math.pi / 4).abs().max() < 0.05


def test_edges_are_faded_and_the_rest_stays():
    volume = torch.ones(2, 32, 40)
    same = turned_volume(volume, 0.0)
    torch.testing.assert_close(same[:, 4:-4, 4:-4], volume[:, 4:-4, 4:-4])
    assert same[:, 0].max() < 0.05
