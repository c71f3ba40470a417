"""Likelihoods and their written gradient."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from napari_mep.physics.cores import Cores
from napari_mep.physics.likelihood import pixel_terms
from napari_mep.physics.multislice import MultisliceModel
from napari_mep.physics.noise import poisson_counts
from napari_mep.physics.optics import wavelength_A
from napari_mep.physics.probe import Aberrations, probe_fourier

KINDS = ("amplitude", "poisson")
# on the canvas, between pixels, and windows that reach beyond it on every side
POSITIONS = torch.tensor([(9.0, 10.0), (7.3, 12.6), (0.4, -3.2), (19.8, 21.5)], dtype=torch.float64)


def _problem(s=1, detector=(12, 10), masked=True, electrons=2000.0, beyond=0, cores=None):
    """Model, phase and counts of another phase; the canvas is 18 x 20 pixels."""
    generator = torch.Generator().manual_seed(s)
    probe = probe_fourier(
        (s * (detector[0] + 2 * beyond), s * (detector[1] + 2 * beyond)),
        0.2,
        300.0,
        30.0,
        Aberrations.from_defocus(15.0),
        dtype=torch.complex128,
    )
    mask = torch.rand(detector, generator=generator) > 0.2 if masked else None
    model = MultisliceModel(
        probe,
        pixel_size_A=0.2,
        slice_thickness_A=6.0,
        energy_keV=300.0,
        detector_shape=detector,
        oversampling=s,
        beyond_px=beyond,
        cores=cores,
        electrons=electrons,
        mask=mask,
    )
    truth, phase = torch.rand(2, 3, 18, 20, dtype=torch.float64, generator=generator)
    counts = torch.as_tensor(poisson_counts(model.intensities(truth, POSITIONS).numpy(), s))
    return model, phase, counts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("s", [1, 2, 3])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("shifted", [True, False])
@pytest.mark.parametrize(("beyond", "cores"), [(0, None), (2, Cores(0.1))])
def test_gradient_is_the_finite_difference(kind, s, masked, shifted, beyond, cores):
    model, phase, counts = _problem(s, masked=masked, beyond=beyond, cores=cores)
    shifts = 0.4 * torch.rand(len(POSITIONS), 2, dtype=torch.float64) if shifted else None

    def likelihood(phase):
        return model.likelihood(phase, POSITIONS, counts, kind, shifts_px=shifts)

    gradient = likelihood(phase).gradient
    generator = torch.Generator().manual_seed(99)
    scale = float(gradient.norm())
    assert scale > 0
    for _ in range(3):
        direction = torch.randn(phase.shape, dtype=torch.float64, generator=generator)
        direction /= direction.norm()
        step = 1e-4
        # five-point formula: its own error stays below the tolerance
        values = [float(likelihood(phase + h * step * direction).value) for h in (-2, -1, 1, 2)]
        difference = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
        assert float((gradient * direction).sum()) == pytest.approx(
            difference, rel=1e-6, abs=1e-8 * scale
        )


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_that_of_autograd_on_a_plain_model(kind):
    """A second, independent forward model: no unnormalised transforms, no windows, no reuse."""
    model, phase, counts = _problem(masked=False)
    canvas = torch.nn.functional.pad(phase, (20, 20, 20, 20)).requires_grad_()
    ky = torch.fft.fftfreq(12, 0.2, dtype=torch.float64)[:, None]
    kx = torch.fft.fftfreq(10, 0.2, dtype=torch.float64)[None]
    free = torch.exp(-1j * math.pi * wavelength_A(300.0) * 6.0 * (ky**2 + kx**2))
    dark = {"amplitude": 1e-9 * 2000.0 / 120, "poisson": 0.5}[kind]  # over half an electron a pixel
    value = torch.zeros((), dtype=torch.float64)
    for (py, px), pattern in zip((POSITIONS + 20).tolist(), counts.double(), strict=True):
        y, x = math.floor(py + 0.5), math.floor(px + 0.5)
        shift = torch.exp(-2j * math.pi * 0.2 * (ky * (py - y) + kx * (px - x)))
        psi = torch.fft.fftshift(torch.fft.ifft2(model.probe_k * shift))
        for n in range(3):
            psi = psi * torch.exp(1j * canvas[n, y - 6 : y + 6, x - 5 : x + 5])
            if n < 2:
                psi = torch.fft.ifft2(torch.fft.fft2(psi) * free)
        expected = 2000.0 * torch.fft.fft2(psi).abs().square() + dark
        pattern = pattern + dark
        if kind == "amplitude":
            value = value + 2 * (expected.sqrt() - pattern.sqrt()).square().sum()
        else:
            value = value + (expected - pattern + torch.xlogy(pattern, pattern)).sum()
            value = value - (pattern * expected.log()).sum()
    (autograd,) = torch.autograd.grad(value, canvas)
    ours = model.likelihood(phase, POSITIONS, counts, kind)
    assert float(ours.value) == pytest.approx(float(value.detach()), rel=1e-8)
    error = (ours.gradient - autograd[:, 20:-20, 20:-20]).norm() / ours.gradient.norm()
    assert float(error) < 1e-8


@pytest.mark.parametrize("kind", KINDS)
def test_truth_without_noise_is_the_minimum(kind):
    model, phase, _ = _problem(2)
    patterns = model.intensities(phase, POSITIONS)
    result = model.likelihood(phase, POSITIONS, patterns, kind)
    elsewhere = model.likelihood(phase + 0.1 * torch.rand_like(phase), POSITIONS, patterns, kind)
    assert 0 <= float(result.value) < 1e-9 < float(elsewhere.value)
    assert float(result.gradient.abs().max()) < 1e-9 * float(elsewhere.gradient.abs().max())
    assert result.residual < 1e-8


def test_values_are_the_formulas():
    intensities = torch.tensor([[[4.0, 1.0], [2.0, 0.0]]], dtype=torch.float64)
    counts = torch.tensor([[[9.0, 1.0], [0.0, 4.0]]], dtype=torch.float64)
    mask = torch.tensor([[True, True], [True, False]])
    amplitude = pixel_terms(intensities, counts, mask, 1.0, "amplitude")
    assert float(amplitude.misfit) == pytest.approx(1 + 0 + 2, rel=1e-4)
    assert float(amplitude.value) == pytest.approx(6, rel=1e-4)
    assert float(amplitude.signal) == 10
    # half an electron, or half the mean where that is less, is added to model and data
    for mean, b in ((8.0, 0.5), (1e-3, 5e-4)):
        poisson = pixel_terms(intensities, counts, mask, mean, "poisson")
        bright = 4 - 9 + (9 + b) * math.log((9 + b) / (4 + b))
        empty = 2 + b * math.log(b / (2 + b))
        assert float(poisson.value) == pytest.approx(bright + 0 + empty, rel=1e-9)
        assert float(poisson.misfit) == pytest.approx(float(amplitude.misfit), rel=1e-3)
    with pytest.raises(ValueError, match="kind"):
        pixel_terms(intensities, counts, mask, 1.0, "gaussian")


def test_near_the_truth_a_likelihood_counts_half_a_nat_per_pixel():
    # What makes the values nats: 2 E[(sqrt n - sqrt mu)^2] = 1/2 for bright pixels.
    model, phase, _ = _problem(masked=False, electrons=1e7)
    expected = model.intensities(phase, POSITIONS)
    counts = torch.as_tensor(poisson_counts(expected.numpy(), 3))
    for kind in KINDS:
        value = float(model.likelihood(phase, POSITIONS, counts, kind).value)
        assert value / counts.numel() == pytest.approx(0.5, rel=0.15)


@pytest.mark.parametrize("expected", [0.02, 0.3, 2.0, 40.0])
def test_the_poisson_slope_vanishes_on_average_at_the_truth(expected):
    counts = torch.as_tensor(poisson_counts(np.full((1, 400, 400), expected), 5)).double()
    model = torch.full_like(counts, expected)
    slope = pixel_terms(model, counts, None, expected, "poisson").slope
    assert abs(float(slope.mean())) < 4 * float(slope.std()) / 400
    if expected < 1:  # the amplitude term asks for fainter pixels than there are
        biased = pixel_terms(model, counts, None, expected, "amplitude").slope
        assert float(biased.mean()) > 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_unmeasured_pixels_may_hold_anything(kind):
    model, phase, counts = _problem(2)
    clean = model.likelihood(phase, POSITIONS, counts, kind)
    broken = counts.clone()
    broken[:, ~model.mask] = math.nan
    dirty = model.likelihood(phase, POSITIONS, broken, kind)
    torch.testing.assert_close(dirty.gradient, clean.gradient)
    assert float(dirty.value) == float(clean.value)


@pytest.mark.parametrize("kind", KINDS)
def test_empty_pixels_and_an_empty_model_stay_finite(kind):
    # vacuum has no electrons outside the aperture; data have, and the other way round
    model, _, counts = _problem(masked=False)
    vacuum = torch.zeros(3, 18, 20)
    for data in (counts, torch.zeros_like(counts)):
        result = model.likelihood(vacuum, POSITIONS, data, kind)
        assert torch.isfinite(result.gradient).all()
        assert math.isfinite(float(result.value))
    assert math.isnan(result.residual)


def test_chunks_and_precision_do_not_matter():
    model, phase, counts = _problem(2)
    whole = model.likelihood(phase, POSITIONS, counts)
    for chunk in (1, 3, 4, 100):
        part = model.likelihood(phase, POSITIONS, counts, chunk=chunk)
        torch.testing.assert_close(part.gradient, whole.gradient)
        torch.testing.assert_close(part.value, whole.value)
    single = model.likelihood(phase.float(), POSITIONS, counts)
    assert single.gradient.dtype == torch.float32
    assert float((single.gradient - whole.gradient).norm() / whole.gradient.norm()) < 1e-4
    assert float(single.value) == pytest.approx(float(whole.value), rel=1e-5)


def test_no_positions_no_gradient():
    model, phase, counts = _problem()
    result = model.likelihood(phase, POSITIONS[:0], counts[:0])
    assert float(result.value) == 0
    assert float(result.gradient.abs().max()) == 0
    assert result.gradient.shape == phase.shape


def test_nothing_is_recorded_and_nothing_is_changed():
    model, phase, counts = _problem()
    phase.requires_grad_()
    before = phase.detach().clone()
    kept = counts.clone()
    result = model.likelihood(phase, POSITIONS, counts)
    assert not result.gradient.requires_grad
    assert torch.equal(phase.detach(), before)
    assert torch.equal(counts, kept)


class TestIllumination:
    def test_counts_every_electron_once(self):
        model, *_ = _problem(2)
        positions = torch.tensor([(40.0, 40.0), (44.3, 38.9)])
        light = model.illumination((80, 80), positions, 4)
        assert float(light.sum()) == pytest.approx(2 * model.electrons, rel=1e-5)
        assert float(light.min()) >= 0

    def test_is_the_probe_at_every_depth(self):
        model, *_ = _problem()
        light = model.illumination((30, 30), [(15, 14)], 1, dtype=torch.float64)
        wave = torch.fft.fftshift(torch.fft.ifft2(model.probe_k, norm="ortho"))
        expected = torch.zeros(30, 30, dtype=torch.float64)
        expected[15 - 6 : 15 + 6, 14 - 5 : 14 + 5] = model.electrons * wave.abs().square()
        torch.testing.assert_close(light, expected, atol=1e-9, rtol=1e-9)

    def test_light_beyond_the_canvas_is_lost_not_wrapped(self):
        model, *_ = _problem()
        wide = model.illumination((60, 60), [(20.5, 22.0), (37, 43)], 3)
        narrow = model.illumination((20, 24), [(0.5, 2.0), (17, 23), (500, 0)], 3)
        torch.testing.assert_close(narrow, wide[20:40, 20:44], atol=1e-3, rtol=1e-4)

    def test_is_half_the_curvature_of_the_amplitude_likelihood(self):
        # mean of the diagonal of the Hessian at the truth, by random probing along one slice
        model, phase, _ = _problem(masked=False)
        positions = torch.tensor(list(itertools.product((5.0, 8.0, 11.0), repeat=2)))
        patterns = model.intensities(phase, positions)
        light = model.illumination((18, 20), positions, 3, dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)
        curvatures = []
        for _ in range(12):
            signs = torch.randint(0, 2, phase.shape, generator=generator) * 2.0 - 1.0
            step = 1e-4 * signs.double()
            ahead = model.likelihood(phase + step, positions, patterns).gradient
            curvatures.append(float((ahead * step).sum() / 1e-8))
        measured = sum(curvatures) / len(curvatures)
        assert measured == pytest.approx(3 * 2 * float(light.sum()), rel=0.25)
