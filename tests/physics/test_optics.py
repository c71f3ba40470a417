from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_mep.errors import CalibrationError
from napari_mep.physics.optics import (
    core_absorption,
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


@pytest.mark.parametrize("pixel_A", [0.1, 0.2, 0.3])
def test_core_absorption_is_what_atoms_scatter_beyond_the_pixels(pixel_A):
    """Half the mean square of the phase that pixels miss, against the phase that they show."""
    parametrizations = pytest.importorskip("abtem.parametrizations")
    factors = parametrizations.LobatoParametrization()
    n, fine_A = 512, 0.0125
    k = np.fft.fftfreq(n, fine_A)
    k2 = k[:, None] ** 2 + k**2
    held = (np.abs(k)[:, None] <= 0.5 / pixel_A) & (np.abs(k) <= 0.5 / pixel_A)

    def low_pass(image):
        return np.fft.ifft2(np.fft.fft2(image) * held).real

    found = []
    for element in ("C", "O", "Al", "Ti", "Fe", "Sr", "Sn", "La", "Pb"):
        # 47.878 V A^2 turns a scattering factor into a projected potential (Kirkland, app. C).
        potential = np.fft.ifft2(factors.scattering_factor(element)(k2)).real * 47.878 / fine_A**2
        phase = interaction_constant(300.0) * potential
        shown = low_pass(phase)
        missed = low_pass((phase - shown) ** 2) / 2
        power = np.abs(shown) ** 2.5
        found.append((missed * power).sum() / (power**2).sum())
    assert core_absorption(pixel_A) == pytest.approx(np.mean(found), rel=0.1)
    # One for all elements: with the square of the phase it would be three times as much for lead
    # as for carbon.
    assert max(found) < 1.35 * core_absorption(pixel_A)
    assert min(found) > 0.8 * core_absorption(pixel_A)
