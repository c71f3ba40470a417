"""The inverse problem of one dataset: canvas, forward model, data and the scale of a data step."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from napari_mep.data.preprocessing import in_whole_pixels
from napari_mep.physics.detector import bin_intensities, centred_resize
from napari_mep.physics.likelihood import LikelihoodKind, LikelihoodResult
from napari_mep.physics.multislice import MultisliceModel
from napari_mep.physics.noise import expected_residual_floor
from napari_mep.physics.optics import fresnel_propagator, wavelength_A
from napari_mep.physics.probe import probe_radius_A
from napari_mep.reconstruction.geometry import CanvasGrid, canvas_grid, model_voxels
from napari_mep.reconstruction.streaming import StreamedCounts, fits_in_memory, read_ahead
from napari_mep.reconstruction.waves import PRECISE_COST, PreciseWaves, precise_waves, wave_probe

if TYPE_CHECKING:
    from napari_mep.data.dataset import DiffractionDataset
    from napari_mep.reconstruction.plan import ReconstructionPlan

__all__ = ["CanvasGrid", "Interrupted", "Problem", "build_problem"]

_log = logging.getLogger(__name__)

# The canvas reaches as far beyond the scan as this share of the probe's intensity does.
_PROBE_SHARE = 0.98
# Depth lies in phase differences of a few hundredths of a radian. Below this noise of a voxel, rad,
# quasi-Newton steps find more of it than of noise (measured: docs/method.md).
_DEPTH_NOISE_RAD = 0.025
# Where the beam hardly goes a full step would amplify noise: illumination is floored here.
_FAINT = 0.05


# Patterns between two looks at the stop flag: a tenth of a second of work on one CPU core.
_PATTERNS_AT_ONCE = {"cpu": 32}


class Interrupted(Exception):
    """The user asked to stop in the middle of a step."""


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Everything that solvers need to know about the data.

    Parameters
    ----------
    grid : CanvasGrid
        The canvas.
    model : MultisliceModel
        Forward model.
    positions_px : (N, 2) float64 ndarray
        Probe centres on the canvas.
    counts : (N, Ky, Kx) float32 tensor or StreamedCounts
        Electrons, zero frequency at the corner; streamed from disk if they do not fit in memory.
    shifts_px : (N, 2) float64 ndarray or None
        How far each pattern lies from there, in detector pixels; less than half of one.
    step_scale : (Y, X) tensor
        What a gradient is multiplied with to make one preconditioned step: 1 / (2 nz W), with
        W the illumination; nz because a phase error shared by all slices adds up.
    curvature : float
        Median of 1 / step_scale over the scanned area, 1/rad^2: the stiffness of the depth sum.
    residual_floor : float
        Relative amplitude residual that counting noise leaves.
    wavelength_A : float
        Of the electrons, A.
    aperture_invA : float
        Radius of the probe-forming aperture, 1/A.
    likelihood : str
        "amplitude" or "poisson".
    device : torch.device
        Where solvers run.
    stop : threading.Event
        Interrupts a step that is under way.
    precise : PreciseWaves or None
        What finds depth at high dose, where errors of the model weigh more than noise.
    """

    grid: CanvasGrid
    model: MultisliceModel
    positions_px: np.ndarray
    counts: Tensor | StreamedCounts
    shifts_px: np.ndarray | None
    step_scale: Tensor
    curvature: float
    residual_floor: float
    wavelength_A: float
    aperture_invA: float
    likelihood: LikelihoodKind
    device: torch.device
    stop: threading.Event
    precise: PreciseWaves | None = None

    @property
    def stiffness(self) -> float:
        """That of a single voxel, 1/rad^2: one over the variance that counting noise leaves it."""
        return self.curvature / self.grid.measured_slices

    @property
    def resolves_depth(self) -> bool:
        """Whether the dose suffices for steps that find depth."""
        return self.stiffness > _DEPTH_NOISE_RAD**-2

    def with_precise_waves(self, dataset: DiffractionDataset) -> Problem:
        """The same problem, able to evaluate its data precisely; made from the same dataset."""
        shape = (self.grid.shape[1], self.grid.shape[2])
        return replace(self, precise=precise_waves(self.model, shape, dataset, self.device))

    def check_stop(self) -> None:
        """Raise `Interrupted` once the user has asked to stop."""
        if self.stop.is_set():
            raise Interrupted

    def data_term(
        self, canvas: Tensor, indices: np.ndarray | None = None, *, precisely: bool = False
    ) -> LikelihoodResult:
        """Negative log-likelihood of a canvas and its gradient, scaled to all patterns.

        Parameters
        ----------
        canvas : (z, y, x) float32 tensor
            Phase in radians.
        indices : int ndarray, optional
            Patterns to use; all by default. Value and gradient are extrapolated to all of them.
        precisely : bool
            With the precise waves, where the problem has them.
        """
        phase, model, positions = canvas[: self.grid.measured_slices], self.model, self.positions_px
        precise = self.precise if precisely else None
        if precise is not None:
            model = precise.model
            phase, positions = precise.finer(phase, positions)
        chosen = np.arange(len(positions)) if indices is None else indices
        share = len(positions) / len(chosen)
        gradient = torch.zeros_like(phase)
        value = misfit = signal = torch.zeros((), device=canvas.device)
        size = _PATTERNS_AT_ONCE.get(self.device.type, len(chosen))
        if precise is not None:
            size = max(1, size // PRECISE_COST)
        parts = [chosen[first : first + size] for first in range(0, len(chosen), size)]
        for part, counts in read_ahead(self.counts, parts):
            self.check_stop()
            result = model.likelihood(
                phase,
                positions[part],
                counts,
                self.likelihood,
                shifts_px=None if self.shifts_px is None else self.shifts_px[part],
            )
            gradient += result.gradient * share
            value, misfit = value + result.value * share, misfit + result.misfit
            signal = signal + result.signal
        if precise is not None:
            gradient = precise.pixels.transpose(gradient)
        beyond = torch.zeros_like(canvas[self.grid.measured_slices :])
        return LikelihoodResult(value, torch.cat([gradient, beyond]), misfit, signal)


def build_problem(
    dataset: DiffractionDataset,
    plan: ReconstructionPlan,
    *,
    device: torch.device,
    prior_voxel_A: tuple[float, float, float] | None = None,
    smallest_canvas: tuple[int, int, int] = (1, 1, 1),
    stop: threading.Event | None = None,
) -> Problem:
    """Set up the inverse problem.

    Parameters
    ----------
    dataset : DiffractionDataset
        Patterns and calibration.
    plan : ReconstructionPlan
        Object settings.
    device : torch.device
        Where solvers will run.
    prior_voxel_A : tuple of 3 floats, optional
        Voxel (dz, dy, dx) that a prior dictates.
    smallest_canvas : (z, y, x) ints
        The canvas is at least this large.
    stop : threading.Event, optional
        Interrupts a step that is under way.

    Raises
    ------
    PlanError
        If the thickness is unknown, or the voxel cannot be reached with this detector.
    """
    calibration = dataset.calibration
    voxels = model_voxels(dataset, plan, prior_voxel_A)
    thickness, detector, n_slices = voxels.thickness_A, voxels.detector_pixels, voxels.n_slices
    slice_A, pixel_A = voxels.slice_thickness_A, voxels.pixel_size_A

    s = plan.object.wave_oversampling
    probe = wave_probe(dataset, s, detector, pixel_A)
    exit_probe = probe * fresnel_propagator(
        (s * detector, s * detector), pixel_A, thickness, calibration.beam_energy_keV
    )
    margin_A = max(probe_radius_A(p, pixel_A, _PROBE_SHARE) for p in (probe, exit_probe))
    positions_A = dataset.positions_A()
    grid = canvas_grid(
        positions_A, margin_A, (slice_A, pixel_A, pixel_A), n_slices, smallest_canvas
    )
    positions_px = positions_A / pixel_A + np.array(grid.corner_px)

    whole, shifts_px = in_whole_pixels(dataset)
    counts, mask = _fit_detector(whole, detector, device)
    # Means of a scan that is larger than memory are those of an even sample.
    sample = (counts if isinstance(counts, Tensor) else counts.sample()).cpu()
    electrons = _electrons(sample, mask, probe, s)
    model = MultisliceModel(
        probe.to(torch.complex64),
        pixel_size_A=pixel_A,
        slice_thickness_A=slice_A,
        energy_keV=calibration.beam_energy_keV,
        detector_shape=(detector, detector),
        oversampling=s,
        electrons=electrons,
        mask=mask,
    )
    illumination = model.illumination(grid.shape[1:], positions_px, n_slices, device=device)
    floored = torch.clamp(illumination, min=_FAINT * float(illumination.max()))
    stiffness = 2 * n_slices * floored
    (y0, y1), (x0, x1) = grid.scanned_px
    wavelength = wavelength_A(calibration.beam_energy_keV)
    mean = sample.mean(0).numpy()
    measured = mean if mask is None else mean[mask.numpy()]
    _log.info("canvas %s voxels, %d patterns, %.3g e/pattern", grid.shape, len(counts), electrons)
    return Problem(
        grid=grid,
        model=model,
        positions_px=positions_px,
        counts=counts,
        shifts_px=shifts_px,
        step_scale=1 / stiffness,
        curvature=float(stiffness[y0:y1, x0:x1].median()),
        residual_floor=expected_residual_floor(measured),
        wavelength_A=wavelength,
        aperture_invA=calibration.convergence_semiangle_mrad * 1e-3 / wavelength,
        likelihood=plan.counting,
        device=device,
        stop=stop or threading.Event(),
    )


def _electrons(counts: Tensor, mask: Tensor | None, probe: Tensor, oversampling: int) -> float:
    """Electrons in a pattern of vacuum: the mean of those counted, over the share that was seen.

    Without a mask that is all of them: a pure phase object scatters, it does not absorb.
    """
    counted = float(counts.sum(dtype=torch.float64)) / len(counts)
    if mask is None:
        return counted
    vacuum = bin_intensities(probe.abs().square(), oversampling)
    return counted * float(vacuum.sum() / vacuum[mask.to(vacuum.device)].sum())


def _fit_detector(
    dataset: DiffractionDataset, detector: int, device: torch.device
) -> tuple[Tensor | StreamedCounts, Tensor | None]:
    """Counts (N, K, K) with zero frequency at the corner, and the mask of measured pixels."""
    measured = np.ones(dataset.detector_shape, bool) if dataset.mask is None else dataset.mask

    def fit(array: Tensor) -> Tensor:
        return torch.fft.ifftshift(centred_resize(array, detector), dim=(-2, -1)).contiguous()

    mask = fit(torch.from_numpy(np.ascontiguousarray(measured)))
    streamed = not fits_in_memory((dataset.n_patterns, detector, detector), device)
    counts: Tensor | StreamedCounts
    if streamed:
        _log.info("%s: larger than memory, patterns are streamed from disk", dataset.name)
        counts = StreamedCounts(dataset, fit, device)
    else:
        counts = fit(torch.from_numpy(dataset.counts())).to(device)
    return counts, None if bool(mask.all()) else mask
