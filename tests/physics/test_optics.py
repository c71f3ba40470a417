from __future__ import annotations

import math

import pytest
import torch

from napari_mep.errors import CalibrationError
from napari_mep.physics.optics import (
    fresnel_propagator,
    interaction_constant,
    spatial_frequencies,
    wavelength_A,
)

abtem_energy = pytest.importorskip("abtem.core.energy")


@pytest.mark.parametrize(
    ("energy_keV", "expected_A"),
    [(100.0, 0.0370144), (200.0, 0.0250793), (300.0, 0.0196875)],
)
def test_wavelength_is_the_tabulated_one(energy_keV, expected_A):
    assert wavelength_A(energy_keV) == pytest.approx(expected_A, abs=6e-8)


def test_interaction_constant_is_the_tabulated_one():
    assert interaction_constant(300.0) == pytest.approx(6.526e-4, abs=5e-8)


@pytest.mark.parametrize("energy_keV", [30.0, 80.0, 300.0])
def test_optics_agree_with_abtem(energy_keV):
    assert wavelength_A(energy_keV) == pytest.approx(
        abtem_energy.energy2wavelength(1e3 * energy_keV), rel=1e-6
    )
    assert interaction_constant(energy_keV) == pytest.approx(
        abtem_energy.energy2sigma(1e3 * energy_keV), rel=1e-6
    )


@pytest.mark.parametrize("energy_keV", [0.0, -300.0, math.nan, math.inf])
def test_impossible_energy_names_field_and_unit(energy_keV):
    with pytest.raises(CalibrationError, match=r"beam_energy_keV: .* keV"):
        wavelength_A(energy_keV)


def test_frequency_grid_is_that_of_the_fourier_transform():
    ky, kx = spatial_frequencies((6, 5), 0.2)
    y = 0.2 * torch.arange(6, dtype=torch.float64)
    x = 0.2 * torch.arange(5, dtype=torch.float64)
    wave = torch.exp(2j * math.pi * (ky[4, 0] * y[:, None] + kx[0, 3] * x[None, :]))
    spectrum = torch.fft.fft2(wave).abs()
    assert int(spectrum.argmax()) == 4 * 5 + 3
    assert float(spectrum.sum()) == pytest.approx(30.0)


def test_propagators_compose_and_have_no_hidden_tilt():
    there = fresnel_propagator((8, 12), 0.2, 30.0, 300.0)
    further = fresnel_propagator((8, 12), 0.2, 12.0, 300.0)
    back = fresnel_propagator((8, 12), 0.2, -42.0, 300.0)
    torch.testing.assert_close(there * further * back, torch.ones_like(there))
    # Even in k: a grid that is off by half a bin is not, and shifts the wave sideways.
    mirrored = there.flip(0, 1).roll((1, 1), (0, 1))
    torch.testing.assert_close(mirrored, there)
