"""The focused probe: aberrations, aperture and how far its intensity reaches."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch

from napari_mep.errors import CalibrationError, DataError
from napari_mep.physics.optics import spatial_frequencies, wavelength_A

__all__ = ["Aberrations", "probe_fourier", "probe_from_array", "probe_radius_A"]


@dataclass(frozen=True, slots=True)
class Aberrations:
    """Coherent aberrations up to third order, in Krivanek's polar notation.

    Lengths are in angstrom, azimuths in radians, counted from +kx towards +ky (on a screen with y
    downwards that is clockwise). The phase error is Kirkland (2nd ed.), eq. 2.22::

        chi = 2 pi / lambda * (1/2 a^2 [C10 + C12 cos 2(phi - phi12)]
                             + 1/3 a^3 [C21 cos(phi - phi21) + C23 cos 3(phi - phi23)]
                             + 1/4 a^4 [C30 + C32 cos 2(phi - phi32) + C34 cos 4(phi - phi34)])

    with a = lambda k, and the probe is the inverse transform of aperture * exp(-i chi).

    Parameters
    ----------
    C10 : float
        Minus the defocus: a negative C10 is underfocus.
    C12, phi12 : float
        Two-fold astigmatism.
    C21, phi21 : float
        Axial coma.
    C23, phi23 : float
        Three-fold astigmatism.
    C30 : float
        Spherical aberration Cs.
    C32, phi32 : float
        Star aberration.
    C34, phi34 : float
        Four-fold astigmatism.

    Raises
    ------
    CalibrationError
        A coefficient is not a finite number.
    """

    C10: float = 0.0
    C12: float = 0.0
    phi12: float = 0.0
    C21: float = 0.0
    phi21: float = 0.0
    C23: float = 0.0
    phi23: float = 0.0
    C30: float = 0.0
    C32: float = 0.0
    phi32: float = 0.0
    C34: float = 0.0
    phi34: float = 0.0

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not math.isfinite(value):
                unit = "rad" if entry.name.startswith("phi") else "A"
                raise CalibrationError(f"{entry.name}: {value} {unit}, must be a finite number")

    @classmethod
    def from_defocus(cls, defocus_A: float, spherical_aberration_A: float = 0.0) -> Self:
        """Defocus (positive is underfocus) and spherical aberration, both in angstrom."""
        return cls(C10=-float(defocus_A), C30=float(spherical_aberration_A))

    def phase_error(self, ky: torch.Tensor, kx: torch.Tensor, wavelength: float) -> torch.Tensor:
        """Phase error chi in radians.

        Parameters
        ----------
        ky, kx : real tensors
            Frequencies in 1/angstrom, broadcast against each other.
        wavelength : float
            Wavelength in angstrom.

        Returns
        -------
        real tensor
            chi, of the broadcast shape.
        """
        alpha = wavelength * torch.hypot(ky, kx)
        phi = torch.atan2(ky.expand_as(alpha), kx.expand_as(alpha))
        second = self.C10 + self.C12 * torch.cos(2 * (phi - self.phi12))
        coma, trefoil = torch.cos(phi - self.phi21), torch.cos(3 * (phi - self.phi23))
        third = self.C21 * coma + self.C23 * trefoil
        fourth = (
            self.C30
            + self.C32 * torch.cos(2 * (phi - self.phi32))
            + self.C34 * torch.cos(4 * (phi - self.phi34))
        )
        path = alpha**2 * (second / 2 + alpha * (third / 3 + alpha * fourth / 4))
        return 2 * math.pi / wavelength * path


def probe_fourier(
    shape: tuple[int, int],
    pixel_size_A: float,
    energy_keV: float,
    semiangle_mrad: float,
    aberrations: Aberrations,
    *,
    dtype: torch.dtype = torch.complex64,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Aberrated probe in Fourier space.

    The edge of the aperture falls linearly from 1 to 0 over one pixel of the reciprocal grid, half
    of it on either side of the semi-angle, as in abTEM's default. So the open area, and with it
    the probe, changes smoothly with the semi-angle.

    Parameters
    ----------
    shape : (Ny, Nx)
        Wave window in pixels.
    pixel_size_A : float
        Real-space pixel in angstrom.
    energy_keV : float
        Beam energy in keV.
    semiangle_mrad : float
        Convergence semi-angle in mrad.
    aberrations : Aberrations
        Aberration coefficients.
    dtype : torch.dtype
        complex64 or complex128.
    device : torch.device or str
        Where the result lies.

    Returns
    -------
    (Ny, Nx) complex tensor
        Zero frequency at the corner, squared modulus summing to 1; its orthonormal inverse
        transform is the probe centred on pixel [0, 0].

    Raises
    ------
    CalibrationError
        The energy or the semi-angle is not positive, or the aperture does not fit on the grid.
    """
    wavelength = wavelength_A(energy_keV)
    if not (math.isfinite(semiangle_mrad) and semiangle_mrad > 0):
        raise CalibrationError(
            f"convergence_semiangle_mrad: {semiangle_mrad} mrad, must be positive; "
            "give the semi-angle in mrad"
        )
    edge_invA = semiangle_mrad * 1e-3 / wavelength
    if edge_invA >= 0.5 / pixel_size_A:
        raise CalibrationError(
            f"convergence_semiangle_mrad: {semiangle_mrad} mrad reaches beyond the detector edge "
            f"({0.5e3 * wavelength / pixel_size_A:.1f} mrad at pixel_size_A {pixel_size_A:.4g} A); "
            "check semi-angle and detector step"
        )
    ky, kx = spatial_frequencies(shape, pixel_size_A)
    k = torch.hypot(ky, kx)
    # Width of one grid cell along the direction of k: cells of a window that is not square differ.
    cell_y = ky / (shape[0] * pixel_size_A)
    cell_x = kx / (shape[1] * pixel_size_A)
    cell = torch.hypot(cell_y, cell_x) / k
    cell[0, 0] = 1.0
    aperture = ((edge_invA - k) / cell + 0.5).clamp(0.0, 1.0)
    aperture[0, 0] = 1.0
    amplitude = aperture / aperture.square().sum().sqrt()
    probe = torch.polar(amplitude, -aberrations.phase_error(ky, kx, wavelength))
    return probe.to(dtype).to(device)


def probe_from_array(
    array: np.ndarray | torch.Tensor,
    *,
    dtype: torch.dtype = torch.complex64,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Probe given as a wave in real space, for instance from another program.

    Parameters
    ----------
    array : (Ny, Nx) complex ndarray or tensor
        Probe centred on pixel [Ny // 2, Nx // 2]; any scale.
    dtype : torch.dtype
        complex64 or complex128.
    device : torch.device or str
        Where the result lies.

    Returns
    -------
    (Ny, Nx) complex tensor
        As from `probe_fourier`.

    Raises
    ------
    DataError
        The array is not a finite, non-zero image.
    """
    wave = torch.as_tensor(array).detach().to(device="cpu", dtype=torch.complex128)
    if wave.ndim != 2:
        raise DataError(f"probe: {wave.ndim} axes, expected 2 (y, x); give a single probe mode")
    power = wave.abs().square().sum()
    if not (bool(torch.isfinite(power)) and float(power) > 0):
        raise DataError("probe: all zero or not finite; give a complex wave in real space")
    spectrum = torch.fft.fft2(torch.fft.ifftshift(wave), norm="ortho") / power.sqrt()
    return spectrum.to(dtype).to(device)


def probe_radius_A(probe: torch.Tensor, pixel_size_A: float, fraction: float = 0.99) -> float:
    """Radius of the disk around the probe centre that holds a fraction of its intensity.

    For the reach inside a specimen take the larger of this at the entrance and, with ``probe``
    multiplied by `napari_mep.physics.optics.fresnel_propagator`, at the exit.

    Parameters
    ----------
    probe : (Ny, Nx) complex tensor
        Probe in Fourier space, as from `probe_fourier`.
    pixel_size_A : float
        Real-space pixel in angstrom.
    fraction : float
        Fraction of the intensity, between 0 and 1.

    Returns
    -------
    float
        Radius in angstrom. A window that is too small for the probe folds its tail back, so the
        radius never exceeds the half diagonal of the window.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction: {fraction}, must lie between 0 and 1")
    spectrum = probe.detach().to(device="cpu", dtype=torch.complex128)
    intensity = torch.fft.ifft2(spectrum, norm="ortho").abs().square()
    y, x = (
        torch.fft.fftfreq(n, 1.0 / (n * pixel_size_A), dtype=torch.float64) for n in intensity.shape
    )
    radius, order = torch.hypot(y[:, None], x[None, :]).flatten().sort()
    held = intensity.flatten()[order].cumsum(0)
    return float(radius[torch.searchsorted(held, fraction * held[-1])])
