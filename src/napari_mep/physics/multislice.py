"""Multislice forward model of 4D-STEM and the gradient of a likelihood with respect to the phase.

The gradient is written out instead of recorded by autograd. With a_n the wave before slice n,
t_n = exp(i phi_n), P free space between slices and Psi the wave on the detector, the derivative is

    dL / d phi_n = -2 Im(a_n w_n),    w_n = t_n P(w_{n+1}),    w_last = t_last F(dL/dI conj(Psi)).

(With atom cores, t_n = exp(i phi_n - q(phi_n)), it is 2 Re((i - q') a_n w_n).)

w is the conjugate of the usual adjoint wave. Free space and transmission are symmetric operators,
so w travels through the same slices in reverse order: reciprocity, and the reason why no conjugate
of the specimen or of the propagator is ever formed. A forward pass takes 2 nz Fourier transforms a
pattern, the gradient 2 nz - 1 more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch

from napari_mep.physics.cores import Cores
from napari_mep.physics.detector import (
    add_beyond,
    bin_intensities,
    crop_beyond,
    spread_to_fine,
)
from napari_mep.physics.likelihood import LikelihoodKind, LikelihoodResult, pixel_terms
from napari_mep.physics.optics import fresnel_propagator
from napari_mep.physics.waves import SpecimenPass, fft
from napari_mep.physics.windows import as_positions

__all__ = ["MultisliceModel"]

_CPU_BUDGET_BYTES = 32 * 2**20
_ACCELERATOR_BUDGET_BYTES = 2**30


@dataclass(frozen=True, slots=True, eq=False)
class MultisliceModel:
    """What a microscope records of a phase object.

    The specimen is a canvas ``phase`` (nz, Y, X) of square pixels in radians, slice 0 at the
    entrance face. It acts as exp(i phase), slice by slice, with free space exp(-i pi lambda dz
    k^2) in between (Kirkland, "Advanced Computing in Electron Microscopy", ch. 6). Each position
    sees a window cut out around it; beyond the canvas there is vacuum. Computations run on the
    device of ``phase``, in complex64, or in complex128 where ``phase`` is float64.

    Parameters
    ----------
    probe_k : (s * (Ky + 2 b), s * (Kx + 2 b)) complex tensor
        Probe in Fourier space on the wave window, as from `napari_mep.physics.probe`: zero
        frequency at the corner, squared modulus summing to 1.
    pixel_size_A : float
        Pixel of wave and canvas in angstrom, 1 / ((K + 2 b) * detector step).
    slice_thickness_A : float
        Distance of neighbouring slices in angstrom.
    energy_keV : float
        Beam energy in keV.
    detector_shape : (Ky, Kx)
        Detector pixels.
    oversampling : int
        s, the width of the wave window in units of 1 / (detector step). With 1 the tail of a
        defocused probe may wrap around; from 2 on the detector bins as a real one does.
    beyond_px : int
        b, detector pixels beyond each edge of the detector to which waves are followed. What is
        scattered there would otherwise fold back onto the detector.
    cores : Cores or None
        What atoms do to the beam between the pixels; None: nothing.
    electrons : float
        Electrons in a pattern of vacuum.
    mask : (Ky, Kx) bool tensor or None
        True where the detector measured, zero frequency at the corner; None: everywhere.
    memory_budget_bytes : int or None
        What the waves of one chunk of patterns may occupy; None: 32 MiB on the CPU, where more
        would leave the cache, and 1 GiB on an accelerator. The canvas comes on top.

    Raises
    ------
    ValueError
        Shapes or values contradict each other.
    CalibrationError
        The energy is not positive.
    """

    probe_k: torch.Tensor
    _: KW_ONLY
    pixel_size_A: float
    slice_thickness_A: float
    energy_keV: float
    detector_shape: tuple[int, int]
    oversampling: int = 1
    beyond_px: int = 0
    cores: Cores | None = None
    electrons: float = 1.0
    mask: torch.Tensor | None = None
    memory_budget_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.oversampling < 1:
            raise ValueError(f"oversampling: {self.oversampling}, must be at least 1")
        if self.beyond_px < 0:
            raise ValueError(f"beyond_px: {self.beyond_px}, must not be negative")
        reached = (n + 2 * self.beyond_px for n in self.detector_shape)
        expected = tuple(self.oversampling * n for n in reached)
        if tuple(self.probe_k.shape) != expected or not self.probe_k.is_complex():
            raise ValueError(
                f"probe_k: {self.probe_k.dtype} of shape {tuple(self.probe_k.shape)}, expected "
                f"complex {expected}, oversampling times (detector_shape + 2 beyond_px)"
            )
        power = float(self.probe_k.abs().square().sum())
        if not abs(power - 1.0) < 1e-3:
            raise ValueError(f"probe_k: squared modulus sums to {power:.6g}, expected 1")
        for name in ("pixel_size_A", "slice_thickness_A", "electrons"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: {value}, must be positive")
        mask, shape = self.mask, tuple(self.detector_shape)
        if mask is not None and (tuple(mask.shape) != shape or mask.dtype != torch.bool):
            raise ValueError(f"mask: {mask.dtype} {tuple(mask.shape)}, expected bool {shape}")

    @property
    def window_shape(self) -> tuple[int, int]:
        """Wave window (y, x) in pixels."""
        return self.probe_k.shape[0], self.probe_k.shape[1]

    @torch.no_grad()
    def intensities(
        self,
        phase: torch.Tensor,
        positions_px: torch.Tensor | np.ndarray,
        *,
        shifts_px: torch.Tensor | np.ndarray | None = None,
        chunk: int | None = None,
    ) -> torch.Tensor:
        """Expected patterns.

        Parameters
        ----------
        phase : (nz, Y, X) real tensor
            Phase of the slices in radians.
        positions_px : (B, 2) float tensor or ndarray
            Probe centres (y, x) in pixels of the canvas, pixel centres at whole numbers.
        shifts_px : (B, 2) float tensor or ndarray, optional
            How far each pattern lies from the middle of the detector, (ky, kx) detector pixels
            (descan); a fraction of one changes what each pixel collects.
        chunk : int or None
            Patterns computed at once; None: what fits the memory budget.

        Returns
        -------
        (B, Ky, Kx) real tensor
            Expected electrons, zero frequency at the corner, unmeasured pixels included.
        """
        run = self._start(phase, positions_px, shifts_px)
        size = chunk or self._chunk(phase, stored_waves=1)
        patterns = phase.new_empty((len(run.windows), *self.detector_shape))
        for part in _parts(len(run.windows), size):
            psi = run.transmit(run.entrance_wave(part), 0, part)
            for n in range(1, run.n_slices):
                psi = run.transmit(run.propagate(psi), n, part)
            far = fft(run.tilt(psi, part))
            patterns[part] = self._collect(far)
        return patterns

    @torch.no_grad()
    def likelihood(
        self,
        phase: torch.Tensor,
        positions_px: torch.Tensor | np.ndarray,
        counts: torch.Tensor,
        kind: LikelihoodKind = "amplitude",
        *,
        shifts_px: torch.Tensor | np.ndarray | None = None,
        chunk: int | None = None,
    ) -> LikelihoodResult:
        """Negative log-likelihood of measured patterns, with its gradient.

        Parameters
        ----------
        phase : (nz, Y, X) real tensor
            Phase of the slices in radians.
        positions_px : (B, 2) float tensor or ndarray
            Probe centres (y, x) in pixels of the canvas.
        counts : (B, Ky, Kx) real tensor
            Measured electrons, zero frequency at the corner, not negative; on any device.
        kind : {"amplitude", "poisson"}
            Which likelihood, see `napari_mep.physics.likelihood.pixel_terms`.
        shifts_px : (B, 2) float tensor or ndarray, optional
            As for `intensities`.
        chunk : int or None
            Patterns computed at once; None: what fits the memory budget. Only rounding depends
            on it.

        Returns
        -------
        LikelihoodResult
            Value in nats, gradient (nz, Y, X), misfit and signal in electrons.

        Raises
        ------
        ValueError
            Shapes do not fit or ``kind`` is unknown.
        """
        run = self._start(phase, positions_px, shifts_px)
        expected = (len(run.windows), *self.detector_shape)
        if tuple(counts.shape) != expected:
            raise ValueError(f"counts: shape {tuple(counts.shape)}, expected {expected}")
        size = min(chunk or self._chunk(phase, stored_waves=2 * run.n_slices), max(len(counts), 1))
        mask = None if self.mask is None else self.mask.to(phase.device)
        mean = self.electrons / math.prod(self.detector_shape)
        gradient = run.empty_canvas()
        products = torch.empty(
            (run.n_slices, size, *self.window_shape), dtype=run.probe.dtype, device=phase.device
        )
        sums: list[torch.Tensor] = []
        for part in _parts(len(counts), size):
            psi = run.entrance_wave(part)
            before = [psi]
            for n in range(1, run.n_slices):
                psi = run.propagate(run.transmit(psi, n - 1, part))
                before.append(psi)
            psi = run.transmit(psi, run.n_slices - 1, part)
            far = fft(run.tilt(psi, part))
            measured = counts[part].to(device=phase.device, dtype=phase.dtype)
            patterns = self._collect(far)
            terms = pixel_terms(patterns, measured, mask, mean, kind)
            sums.append(torch.stack((terms.value, terms.misfit, terms.signal)))

            slope = spread_to_fine(add_beyond(terms.slope, self.beyond_px), self.oversampling)
            # A diagonal operator is its own transpose: the same tilt on the way back.
            back = run.tilt(fft(far.conj_physical_().mul_(slope)), part)
            product = products[:, : part.stop - part.start]
            for n in reversed(range(run.n_slices)):
                back = run.transmit(back, n, part)
                torch.mul(before.pop(), back, out=product[n])
                if n > 0:
                    back = run.propagate(back)
            run.windows.add_to(gradient, product, part)
        total = torch.stack(sums).sum(0) if sums else phase.new_zeros(3)
        slope_of_phase = run.windows.crop(gradient.imag).mul(-2.0)
        if self.cores is not None:
            slope_of_phase += self.cores.slope(phase) * run.windows.crop(gradient.real).mul(2.0)
        return LikelihoodResult(
            value=total[0],
            gradient=slope_of_phase,
            misfit=total[1],
            signal=total[2],
        )

    @torch.no_grad()
    def illumination(
        self,
        canvas_shape: tuple[int, int],
        positions_px: torch.Tensor | np.ndarray,
        n_slices: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> torch.Tensor:
        """Electrons that pass each pixel of the canvas, in vacuum, averaged over the slices.

        About twice this (less on a binned detector) is the curvature of the amplitude likelihood
        along the phase of one pixel in one slice, and nz times that along the depth sum: the
        natural scale of a gradient step. Sub-pixel positions are shared bilinearly among pixels, a
        blur far below the width of a probe.

        Parameters
        ----------
        canvas_shape : (Y, X)
            Canvas in pixels.
        positions_px : (B, 2) float tensor or ndarray
            Probe centres (y, x) in pixels of the canvas.
        n_slices : int
            Number of slices, at least 1.
        dtype, device
            Of the result.

        Returns
        -------
        (Y, X) real tensor
            Electrons per pixel, not negative; its sum is electrons * B where all windows lie
            within the canvas.
        """
        spectrum = self.probe_k.detach().to(device="cpu", dtype=torch.complex128)
        step = fresnel_propagator(
            self.window_shape, self.pixel_size_A, self.slice_thickness_A, self.energy_keV
        )
        density = torch.zeros(self.window_shape, dtype=torch.float64)
        for _ in range(n_slices):
            density += torch.fft.ifft2(spectrum, norm="ortho").abs().square()
            spectrum = spectrum * step
        density = torch.fft.fftshift(density) * (self.electrons / n_slices)

        # A margin of one window on either side keeps the periodic convolution off the canvas.
        margin = torch.tensor(self.window_shape, dtype=torch.int64)
        padded = tuple(int(n + 2 * m) for n, m in zip(canvas_shape, margin, strict=True))
        positions = as_positions(positions_px) + margin
        hits = torch.zeros(padded, dtype=torch.float64)
        corner = positions.floor().long()
        fraction = positions - corner
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
            y, x = corner[:, 0] + dy, corner[:, 1] + dx
            weight = (fraction[:, 0] - (1 - dy)).abs() * (fraction[:, 1] - (1 - dx)).abs()
            inside = (y >= 0) & (y < padded[0]) & (x >= 0) & (x < padded[1])
            hits.index_put_((y[inside], x[inside]), weight[inside], accumulate=True)
        kernel = torch.zeros(padded, dtype=torch.float64)
        kernel[: density.shape[0], : density.shape[1]] = density
        kernel = kernel.roll((-(density.shape[0] // 2), -(density.shape[1] // 2)), (0, 1))
        passed = torch.fft.irfft2(torch.fft.rfft2(hits) * torch.fft.rfft2(kernel), s=padded)
        passed = passed[margin[0] : -int(margin[0]), margin[1] : -int(margin[1])]
        return passed.clamp(min=0.0).to(dtype).to(device)

    def _start(
        self,
        phase: torch.Tensor,
        positions_px: torch.Tensor | np.ndarray,
        shifts_px: torch.Tensor | np.ndarray | None,
    ) -> SpecimenPass:
        return SpecimenPass.start(
            phase,
            positions_px,
            probe_k=self.probe_k,
            pixel_size_A=self.pixel_size_A,
            slice_thickness_A=self.slice_thickness_A,
            energy_keV=self.energy_keV,
            cores=self.cores,
            electrons=self.electrons,
            shifts_px=None if shifts_px is None else shifts_px * self.oversampling,
        )

    def _collect(self, far: torch.Tensor) -> torch.Tensor:
        """Electrons in each detector pixel from far fields."""
        reached = bin_intensities(_squared_modulus(far), self.oversampling)
        return crop_beyond(reached, self.beyond_px)

    def _chunk(self, phase: torch.Tensor, stored_waves: int) -> int:
        """Patterns at once: the stored waves and about four more for work fit the budget."""
        on_cpu = phase.device.type == "cpu"
        default = _CPU_BUDGET_BYTES if on_cpu else _ACCELERATOR_BUDGET_BYTES
        budget = default if self.memory_budget_bytes is None else self.memory_budget_bytes
        wave = 2 * phase.element_size() * math.prod(self.window_shape)
        return max(1, budget // ((stored_waves + 4) * wave))


def _squared_modulus(psi: torch.Tensor) -> torch.Tensor:
    return psi.real.square().addcmul_(psi.imag, psi.imag)


def _parts(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))
