"""Fast electrons: wavelength, interaction constant, frequency grids and free-space propagation."""

from __future__ import annotations

import math

import torch

from napari_mep.errors import CalibrationError

__all__ = [
    "fresnel_propagator",
    "interaction_constant",
    "spatial_frequencies",
    "wavelength_A",
]

# CODATA 2022 (https://physics.nist.gov/cuu/Constants). h c is exact since the SI of 2019.
_HC_KEV_A = 12.398_419_843_320_026
_REST_ENERGY_KEV = 510.998_950_69


def _checked_energy(energy_keV: float) -> float:
    if not (math.isfinite(energy_keV) and energy_keV > 0):
        raise CalibrationError(
            f"beam_energy_keV: {energy_keV} keV, must be positive; give the beam energy in keV"
        )
    return float(energy_keV)


def wavelength_A(energy_keV: float) -> float:
    """Relativistic de Broglie wavelength of the beam electrons.

    Kirkland, "Advanced Computing in Electron Microscopy" (2nd ed.), eq. 2.5:
    lambda = h c / sqrt(E (2 m c^2 + E)).

    Parameters
    ----------
    energy_keV : float
        Kinetic energy in keV.

    Returns
    -------
    float
        Wavelength in angstrom; 0.0196875 A at 300 keV.

    Raises
    ------
    CalibrationError
        The energy is not a positive number.
    """
    energy = _checked_energy(energy_keV)
    return _HC_KEV_A / math.sqrt(energy * (2.0 * _REST_ENERGY_KEV + energy))


def interaction_constant(energy_keV: float) -> float:
    """Phase that one volt angstrom of projected potential gives to the beam.

    Kirkland (2nd ed.), eq. 5.6: sigma = 2 pi / (lambda E) (m c^2 + E) / (2 m c^2 + E).

    Parameters
    ----------
    energy_keV : float
        Kinetic energy in keV.

    Returns
    -------
    float
        sigma in rad / (V angstrom); 6.526e-4 at 300 keV.

    Raises
    ------
    CalibrationError
        The energy is not a positive number.
    """
    energy = _checked_energy(energy_keV)
    relativistic = (_REST_ENERGY_KEV + energy) / (2.0 * _REST_ENERGY_KEV + energy)
    volts = 1e3 * energy
    return 2.0 * math.pi / (wavelength_A(energy) * volts) * relativistic


def spatial_frequencies(
    shape: tuple[int, int], pixel_size_A: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Frequencies of the discrete Fourier transform, zero at the corner.

    Parameters
    ----------
    shape : (Ny, Nx)
        Grid points.
    pixel_size_A : float
        Real-space pixel in angstrom.

    Returns
    -------
    ky : (Ny, 1) float64 tensor
        Frequencies in 1/angstrom, on the CPU: grids are made once, in double precision.
    kx : (1, Nx) float64 tensor
        The same along x.
    """
    ky = torch.fft.fftfreq(shape[0], pixel_size_A, dtype=torch.float64)
    kx = torch.fft.fftfreq(shape[1], pixel_size_A, dtype=torch.float64)
    return ky[:, None], kx[None, :]


def fresnel_propagator(
    shape: tuple[int, int], pixel_size_A: float, distance_A: float, energy_keV: float
) -> torch.Tensor:
    """Transfer function of free space in the paraxial approximation.

    exp(-i pi lambda dz k^2) (Kirkland, ch. 6) on the grid of the discrete Fourier transform. A
    grid that is off by half a bin would tilt the specimen by half a detector pixel.

    Parameters
    ----------
    shape : (Ny, Nx)
        Wave window in pixels.
    pixel_size_A : float
        Real-space pixel in angstrom.
    distance_A : float
        Distance along the beam in angstrom; negative propagates back.
    energy_keV : float
        Kinetic energy in keV.

    Returns
    -------
    (Ny, Nx) complex128 tensor
        Unit modulus, zero frequency at the corner, even in k, on the CPU.

    Raises
    ------
    CalibrationError
        The energy is not a positive number.
    """
    ky, kx = spatial_frequencies(shape, pixel_size_A)
    angle = -math.pi * wavelength_A(energy_keV) * distance_A * (ky.square() + kx.square())
    return torch.polar(torch.ones_like(angle), angle)
