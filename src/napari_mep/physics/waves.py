"""Waves on their way through a specimen: shift the probe, transmit, propagate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from napari_mep.physics.cores import Cores
from napari_mep.physics.optics import fresnel_propagator, spatial_frequencies
from napari_mep.physics.windows import WindowPlan, as_positions, plan_windows

__all__ = ["SpecimenPass", "fft", "ifft"]


def fft(psi: torch.Tensor) -> torch.Tensor:
    """Unnormalised transform to Fourier space, over the last two axes."""
    return torch.fft.fft2(psi, norm="backward")


def ifft(psi: torch.Tensor) -> torch.Tensor:
    """Unnormalised transform to real space, over the last two axes."""
    return torch.fft.ifft2(psi, norm="forward")


@dataclass(frozen=True, slots=True, eq=False)
class SpecimenPass:
    """Constants of one pass of many probes, on the device and in the precision of the phase.

    Scaling is folded into the constants: all Fourier transforms are unnormalised, the propagator
    carries 1/N and the probe 1/N, so that the far field has the unit of an orthonormal transform
    and waves inside the specimen are smaller by sqrt(N). The gradient needs no factor then: the
    backward wave is larger by the same sqrt(N).

    Parameters
    ----------
    windows : WindowPlan
        Where the waves lie on the canvas.
    transmission : (nz, Y', X') complex tensor
        exp(i phase) of the padded canvas, or what atom cores make of it.
    probe : (Ny, Nx) complex tensor
        Probe in Fourier space, times sqrt(electrons) / N.
    propagator : (Ny, Nx) complex tensor
        Free space between two slices, over N. Even in k, so it is its own transpose.
    ramps : ((B, Ny, 1), (B, 1, Nx)) complex tensors
        Phase ramps that shift each probe to its place in the window.
    tilts : ((B, Ny, 1), (B, 1, Nx)) complex tensors or None
        Phase ramps on the exit waves that shift each pattern on the detector.
    """

    windows: WindowPlan
    transmission: torch.Tensor
    probe: torch.Tensor
    propagator: torch.Tensor
    ramps: tuple[torch.Tensor, torch.Tensor]
    tilts: tuple[torch.Tensor, torch.Tensor] | None

    @classmethod
    def start(
        cls,
        phase: torch.Tensor,
        positions_px: torch.Tensor | np.ndarray,
        *,
        probe_k: torch.Tensor,
        pixel_size_A: float,
        slice_thickness_A: float,
        energy_keV: float,
        cores: Cores | None,
        electrons: float,
        shifts_px: torch.Tensor | np.ndarray | None,
    ) -> SpecimenPass:
        """Prepare a pass; parameters as in `napari_mep.physics.multislice.MultisliceModel`.

        `shifts_px` are in samples of the far field, which is finer than the detector.

        Raises
        ------
        ValueError
            The phase is not a real volume, or the positions are no finite (B, 2) array.
        """
        real = phase.dtype in (torch.float32, torch.float64)
        if not real or phase.ndim != 3 or phase.numel() == 0:
            raise ValueError(
                f"phase: {phase.dtype} of shape {tuple(phase.shape)}, expected float32 or float64 "
                "(nz, Y, X), not empty"
            )
        positions = as_positions(positions_px)
        shape = (probe_k.shape[0], probe_k.shape[1])
        windows = plan_windows(positions, shape, (phase.shape[1], phase.shape[2]), phase.device)
        padded = windows.pad(phase)
        pixels = math.prod(shape)
        propagator = fresnel_propagator(shape, pixel_size_A, slice_thickness_A, energy_keV)
        probe = probe_k.detach() * (math.sqrt(electrons) / pixels)
        ky, kx = spatial_frequencies(shape, 1.0)
        # The window's centre pixel is part of the shift, so no wave is ever rolled.
        shift_y = windows.fraction[:, 0] + shape[0] // 2
        shift_x = windows.fraction[:, 1] + shape[1] // 2
        angle_y = -2.0 * math.pi * shift_y[:, None, None] * ky
        angle_x = -2.0 * math.pi * shift_x[:, None, None] * kx
        dtype = torch.complex128 if phase.dtype == torch.float64 else torch.complex64

        def here(values: torch.Tensor) -> torch.Tensor:
            return values.to(dtype).to(phase.device)

        tilts = None
        if shifts_px is not None:
            shifts = as_positions(shifts_px)
            y, x = (torch.arange(n, dtype=torch.float64) - n // 2 for n in shape)
            tilt_y = 2.0 * math.pi / shape[0] * shifts[:, 0, None, None] * y[:, None]
            tilt_x = 2.0 * math.pi / shape[1] * shifts[:, 1, None, None] * x
            tilts = (here(_unit(tilt_y)), here(_unit(tilt_x)))
        return cls(
            windows=windows,
            transmission=_unit(padded) if cores is None else cores.transmission(padded),
            probe=here(probe),
            propagator=here(propagator / pixels),
            ramps=(here(_unit(angle_y)), here(_unit(angle_x))),
            tilts=tilts,
        )

    @property
    def n_slices(self) -> int:
        """Slices of the specimen."""
        return self.transmission.shape[0]

    def empty_canvas(self) -> torch.Tensor:
        """Zeros (nz, Y', X') to add windows to."""
        return torch.zeros_like(self.transmission)

    def entrance_wave(self, part: slice) -> torch.Tensor:
        """Probes at their sub-pixel positions, (b, Ny, Nx), in windows of the canvas."""
        ramp_y, ramp_x = self.ramps
        return ifft((self.probe * ramp_y[part]).mul_(ramp_x[part]))

    def transmit(self, psi: torch.Tensor, n: int, part: slice) -> torch.Tensor:
        """Wave behind slice n."""
        return self.windows.cut(self.transmission[n], part).mul_(psi)

    def tilt(self, psi: torch.Tensor, part: slice) -> torch.Tensor:
        """Exit waves, tilted in place so that their far fields lie where the detector has them."""
        if self.tilts is not None:
            for ramp in self.tilts:
                psi.mul_(ramp[part])
        return psi

    def propagate(self, psi: torch.Tensor) -> torch.Tensor:
        """Wave one slice thickness further on."""
        return ifft(fft(psi).mul_(self.propagator))


def _unit(angle: torch.Tensor) -> torch.Tensor:
    return torch.polar(torch.ones_like(angle), angle)
