from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest
import torch

from napari_mep.errors import CalibrationError, DataError
from napari_mep.physics.optics import fresnel_propagator, wavelength_A
from napari_mep.physics.probe import (
    Aberrations,
    probe_fourier,
    probe_from_array,
    probe_radius_A,
)

SHAPE = (96, 80)
PIXEL_A = 0.2
ENERGY_KEV = 300.0
SEMIANGLE_MRAD = 21.4

EACH_ABERRATION = [
    {"C10": -150.0},
    {"C12": 60.0, "phi12": 0.4},
    {"C21": 3e3, "phi21": -0.9},
    {"C23": 2e3, "phi23": 0.3},
    {"C30": 5e3},
    {"C32": 8e4, "phi32": 0.7},
    {"C34": 9e4, "phi34": -0.2},
    {"C10": -200.0, "C12": 30.0, "phi12": 1.0, "C21": 2e3, "phi21": 0.5, "C30": 1e4},
]


def _probe(aberrations: Aberrations, shape=SHAPE) -> torch.Tensor:
    return probe_fourier(
        shape, PIXEL_A, ENERGY_KEV, SEMIANGLE_MRAD, aberrations, dtype=torch.complex128
    )


@pytest.mark.parametrize("coefficients", EACH_ABERRATION, ids=lambda c: "+".join(c))
def test_probe_is_abtems(coefficients):
    abtem = pytest.importorskip("abtem")
    with abtem.config.set({"precision": "float64", "antialias.cutoff": 10.0}):
        theirs = abtem.Probe(
            energy=1e3 * ENERGY_KEV,
            semiangle_cutoff=SEMIANGLE_MRAD,
            extent=(SHAPE[1] * PIXEL_A, SHAPE[0] * PIXEL_A),
            gpts=SHAPE[::-1],
            **coefficients,
        )
        wave = theirs.build(scan=(0.0, 0.0), lazy=False).array
    # abTEM's first axis is x
    theirs_k = np.fft.fft2(np.squeeze(wave).T)
    theirs_k /= np.linalg.norm(theirs_k)
    ours_k = _probe(Aberrations(**coefficients)).numpy()
    assert np.abs(ours_k - theirs_k).max() < 1e-5 * np.abs(theirs_k).max()


def test_every_field_is_tested_against_abtem():
    tested = {name for case in EACH_ABERRATION for name in case}
    assert tested == {entry.name for entry in fields(Aberrations)}


def test_200_A_underfocus_is_in_focus_after_200_A():
    in_focus = _probe(Aberrations())
    underfocused = _probe(Aberrations.from_defocus(200.0))
    assert Aberrations.from_defocus(200.0).C10 == -200.0
    travelled = underfocused * fresnel_propagator(SHAPE, PIXEL_A, 200.0, ENERGY_KEV)
    torch.testing.assert_close(travelled, in_focus, atol=1e-12, rtol=0)
    overfocused = _probe(Aberrations.from_defocus(-200.0))
    further = overfocused * fresnel_propagator(SHAPE, PIXEL_A, 200.0, ENERGY_KEV)
    assert probe_radius_A(further, PIXEL_A) > 2 * probe_radius_A(in_focus, PIXEL_A)


def test_probe_holds_one_electron_and_its_disk_has_the_semiangle():
    probe = _probe(Aberrations.from_defocus(100.0))
    power = probe.abs().square()
    assert float(power.sum()) == pytest.approx(1.0, abs=1e-12)
    # the open area of a disk whose edge is softened symmetrically is that of the sharp disk
    amplitude = probe.abs() / probe.abs().max()
    cell = 1.0 / (SHAPE[0] * SHAPE[1] * PIXEL_A**2)
    radius = math.sqrt(float(amplitude.sum()) * cell / math.pi)
    assert radius * wavelength_A(ENERGY_KEV) * 1e3 == pytest.approx(SEMIANGLE_MRAD, rel=5e-3)


def test_single_precision_is_the_rounded_double():
    arguments = ((64, 64), PIXEL_A, ENERGY_KEV, SEMIANGLE_MRAD, Aberrations.from_defocus(-200.0))
    single, double = probe_fourier(*arguments), probe_fourier(*arguments, dtype=torch.complex128)
    assert single.dtype == torch.complex64
    torch.testing.assert_close(single.to(torch.complex128), double, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("shape", [(32, 32), (31, 40)])
def test_probe_from_array_undoes_the_transform(shape):
    probe = _probe(Aberrations.from_defocus(20.0), shape)
    centred = torch.fft.fftshift(torch.fft.ifft2(probe))
    again = probe_from_array(17.0 * centred.numpy(), dtype=torch.complex128)
    torch.testing.assert_close(again, probe)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4), complex), "probe: all zero"),
        (np.full((4, 4), np.nan + 0j), "probe: all zero or not finite"),
        (np.ones((2, 4, 4), complex), "probe: 3 axes"),
    ],
)
def test_broken_probe_arrays_are_refused(array, message):
    with pytest.raises(DataError, match=message):
        probe_from_array(array)


@pytest.mark.parametrize("semiangle", [0.0, -21.4, math.nan, 60.0])
def test_impossible_semiangle_names_field_and_unit(semiangle):
    with pytest.raises(CalibrationError, match=r"convergence_semiangle_mrad: .* mrad"):
        probe_fourier((64, 64), PIXEL_A, ENERGY_KEV, semiangle, Aberrations())


def test_aberrations_must_be_finite():
    with pytest.raises(CalibrationError, match="C30: nan A"):
        Aberrations(C30=math.nan)


def test_radius_of_a_gaussian_beam():
    # |psi|^2 = exp(-r^2 / w^2) holds 1 - exp(-R^2 / w^2) within R
    y, x = np.mgrid[-64:64, -64:64] * 0.1
    width = 0.8
    probe = probe_from_array(np.exp(-(y**2 + x**2) / (2 * width**2)), dtype=torch.complex128)
    expected = width * math.sqrt(-math.log(1 - 0.99))
    assert probe_radius_A(probe, 0.1) == pytest.approx(expected, abs=0.05)
    with pytest.raises(ValueError, match="fraction"):
        probe_radius_A(probe, 0.1, fraction=1.0)


@pytest.mark.parametrize("defocus_A", [250.0, 500.0])
def test_defocused_probe_is_as_wide_as_geometry_says(defocus_A):
    # 90 %: the slow tail that diffraction at the aperture's edge adds is no matter of geometry
    probe = _probe(Aberrations.from_defocus(defocus_A), (256, 256))
    disk = defocus_A * SEMIANGLE_MRAD * 1e-3
    assert probe_radius_A(probe, PIXEL_A, fraction=0.9) == pytest.approx(disk, rel=0.1)
