"""A prior trained at one beam energy serves data taken at another."""

from __future__ import annotations

import pytest
import torch

from napari_mep.physics.optics import interaction_constant
from napari_mep.prior.denoiser import Denoiser
from napari_mep.reconstruction.engine import _at_energy


def test_the_same_potential_means_the_same_to_the_prior_at_another_energy() -> None:
    prior = Denoiser(torch.nn.Identity(), 20.0, (1.6, 0.2, 0.2), (8, 64, 64), (-12.0, 6.0), 300.0)
    volts = 100.0
    at_300 = volts * interaction_constant(300.0) * prior.scale
    other = _at_energy(prior, 80.0)
    assert volts * interaction_constant(80.0) * other.scale == pytest.approx(at_300)
    assert other.scale < prior.scale  # phases are larger at lower energy
