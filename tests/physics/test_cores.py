"""What atoms hide between pixels, from their scattering factors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_mep.physics.cores import Cores
from napari_mep.physics.optics import interaction_constant


@pytest.mark.parametrize("pixel_A", [0.1, 0.2, 0.3])
def test_one_absorption_does_for_all_elements(pixel_A):
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
    mean = float(np.mean(found))
    # With the square of the phase it would be three times as much for lead as for carbon.
    assert max(found) < 1.25 * mean
    assert min(found) > 0.75 * mean
    # What is used is a quarter more, on all pixels.
    assert Cores.hidden_by(pixel_A).absorption == pytest.approx(1.27 * mean, rel=0.1)


def test_slope_is_that_of_the_transmission():
    cores = Cores(0.3)
    phase = torch.linspace(-1.2, 1.5, 28, dtype=torch.float64, requires_grad=True)
    log_modulus = torch.log(cores.transmission(phase)).real
    (expected,) = torch.autograd.grad(log_modulus.sum(), phase)
    torch.testing.assert_close(cores.slope(phase.detach()), expected)
    assert float(log_modulus.detach().max()) < 1e-12
