"""Noise levels: the coordinates and the schedule that everything else is written in."""

from __future__ import annotations

import math

import pytest
import torch

from napari_mep.prior.schedule import (
    alpha_sigma,
    logsnr_from_noise_level,
    polyexponential_logsnr,
)


def test_signal_and_noise_amplitudes_share_unit_variance():
    logsnr = torch.linspace(-20, 20, 81, dtype=torch.float64)
    alpha, sigma = alpha_sigma(logsnr)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(logsnr))
    torch.testing.assert_close(2 * torch.log(alpha / sigma), logsnr)


def test_noise_level_is_the_ratio_of_noise_to_signal():
    k = torch.tensor([800.0, 1.0, 0.1], dtype=torch.float64)
    alpha, sigma = alpha_sigma(logsnr_from_noise_level(k))
    torch.testing.assert_close(sigma / alpha, k)


def test_default_schedule_is_that_of_the_paper():
    # k from 800 to 0.1 (Belardi et al. 2025), evenly in log k
    logsnr = polyexponential_logsnr(50)
    k = torch.exp(-logsnr / 2)
    assert float(k[0]) == pytest.approx(800, rel=1e-2)
    assert float(k[-1]) == pytest.approx(0.1, rel=1e-3)
    torch.testing.assert_close(logsnr.diff(), torch.full_like(logsnr[1:], float(logsnr.diff()[0])))


def test_rho_places_steps_near_the_end():
    # Crowson's poly-exponential: k = exp(ramp^rho ln(kmax / kmin) + ln kmin)
    ramp = torch.linspace(1, 0, 9, dtype=torch.float64)
    k = torch.exp(ramp**2 * math.log(8000.0) + math.log(0.1))
    logsnr = polyexponential_logsnr(9, -2 * math.log(800.0), -2 * math.log(0.1), rho=2)
    torch.testing.assert_close(logsnr, logsnr_from_noise_level(k))


@pytest.mark.parametrize(("steps", "start", "end"), [(1, -3, 3), (5, 3, 3), (5, 4, 3)])
def test_impossible_schedules_are_refused(steps, start, end):
    with pytest.raises(ValueError, match="need 2 and start < end"):
        polyexponential_logsnr(steps, start, end)
