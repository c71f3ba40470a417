"""The grids of a reconstruction: voxels that detector and prior agree on, canvas around the scan.

Numpy only, so that a plan can be checked against a dataset before anything heavy is loaded.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_mep.errors import PlanError
from napari_mep.volume import PhaseVolume

if TYPE_CHECKING:
    from torch import Tensor

    from napari_mep.data.dataset import DiffractionDataset
    from napari_mep.reconstruction.plan import ReconstructionPlan

__all__ = ["CanvasGrid", "ModelVoxels", "canvas_grid", "model_voxels"]

_log = logging.getLogger(__name__)

_DEFAULT_SLICE_A = 1.6
_PIXEL_TOLERANCE = 0.02  # lattice constants vary by more than this within any training set


@dataclass(frozen=True, slots=True)
class ModelVoxels:
    """What the forward model samples the specimen and the patterns on.

    Parameters
    ----------
    thickness_A : float
        Of the specimen, angstrom.
    slice_thickness_A, pixel_size_A : float
        Voxel, angstrom; the pixel is what `detector_pixels` make of the detector step.
    n_slices : int
        Slices that hold the specimen.
    detector_pixels : int
        Side of the square detector that makes this pixel: the measured one, padded or cropped.
    """

    thickness_A: float
    slice_thickness_A: float
    pixel_size_A: float
    n_slices: int
    detector_pixels: int


@dataclass(frozen=True, slots=True)
class CanvasGrid:
    """Where the canvas lies in world coordinates.

    Parameters
    ----------
    shape : (z, y, x) ints
        Voxels; the first `measured_slices` hold the specimen, further ones only give a prior
        the depth it was trained on.
    measured_slices : int
        Slices that the beam passes.
    voxel_size_A : (dz, dy, dx)
        Voxel, angstrom.
    corner_px : (y, x) ints
        Canvas index of the world origin.
    scanned_px : ((y0, y1), (x0, x1))
        Canvas indices of the voxels whose centres lie within the box of scan positions.
    """

    shape: tuple[int, int, int]
    measured_slices: int
    voxel_size_A: tuple[float, float, float]
    corner_px: tuple[int, int]
    scanned_px: tuple[tuple[int, int], tuple[int, int]]

    def crop(self, canvas: Tensor) -> PhaseVolume:
        """The scanned, measured part of a canvas as a volume in world coordinates."""
        (y0, y1), (x0, x1) = self.scanned_px
        part = canvas[: self.measured_slices, y0:y1, x0:x1].detach().float().cpu().numpy().copy()
        dz, dy, dx = self.voxel_size_A
        origin = (dz / 2, (y0 - self.corner_px[0]) * dy, (x0 - self.corner_px[1]) * dx)
        return PhaseVolume(part, self.voxel_size_A, origin)


def model_voxels(
    dataset: DiffractionDataset,
    plan: ReconstructionPlan,
    prior_voxel_A: tuple[float, float, float] | None = None,
) -> ModelVoxels:
    """Settle thickness, voxel and detector of a reconstruction.

    Parameters
    ----------
    dataset : DiffractionDataset
        Its calibration counts, patterns are not read.
    plan : ReconstructionPlan
        Object settings.
    prior_voxel_A : tuple of 3 floats, optional
        Voxel (dz, dy, dx) that a prior dictates.

    Raises
    ------
    PlanError
        The thickness is unknown, the voxel is not the prior's or cannot be reached with this
        detector, or a probe array does not fit.
    """
    thickness_A = plan.object.thickness_A or dataset.calibration.specimen_thickness_A
    if thickness_A is None:
        raise PlanError(
            "specimen_thickness_A: not known; give it in the calibration or as "
            "object.thickness_A in the plan (angstrom)"
        )
    slice_A, pixel_A = _voxel(dataset, plan, prior_voxel_A)
    detector = _detector_pixels(dataset, pixel_A)
    if dataset.probe is not None and dataset.probe.shape != (detector, detector):
        raise PlanError(
            f"probe array of {dataset.probe.shape} pixels: does not fit the reconstruction's "
            f"window of {detector}; choose pixel_size_A = "
            f"{dataset.pixel_size_A[0]:.4g} A or drop it"
        )
    return ModelVoxels(
        thickness_A,
        slice_A,
        1 / (detector * dataset.calibration.detector_step_invA),
        max(1, math.ceil(thickness_A / slice_A - 1e-3)),
        detector,
    )


def canvas_grid(
    positions_A: np.ndarray,
    margin_A: float,
    voxel_A: tuple[float, float, float],
    n_slices: int,
    smallest: tuple[int, int, int],
) -> CanvasGrid:
    """Canvas around the scan, pixel centres on multiples of the pixel from the world origin."""
    corner, sides, scanned = [], [], []
    for axis in (0, 1):
        pixel = voxel_A[1 + axis]
        low, high = positions_A[:, axis].min() / pixel, positions_A[:, axis].max() / pixel
        margin = margin_A / pixel
        first, last = math.floor(low - margin), math.ceil(high + margin)
        lacking = smallest[1 + axis] - (last - first + 1)
        if lacking > 0:
            first, last = first - lacking // 2, last + (lacking + 1) // 2
        corner.append(-first)
        sides.append(last - first + 1)
        scanned.append((math.ceil(low - 1e-6) - first, math.floor(high + 1e-6) - first + 1))
    return CanvasGrid(
        (max(n_slices, smallest[0]), sides[0], sides[1]),
        n_slices,
        voxel_A,
        (corner[0], corner[1]),
        (scanned[0], scanned[1]),
    )


def _voxel(
    dataset: DiffractionDataset,
    plan: ReconstructionPlan,
    prior_voxel_A: tuple[float, float, float] | None,
) -> tuple[float, float]:
    """Slice thickness and lateral pixel: the plan's, else the prior's, else the detector's."""
    slice_A, pixel_A = plan.object.slice_thickness_A, plan.object.pixel_size_A
    if prior_voxel_A is not None:
        for name, wanted, given in (
            ("slice_thickness_A", prior_voxel_A[0], slice_A),
            ("pixel_size_A", prior_voxel_A[2], pixel_A),
        ):
            if given is not None and abs(given / wanted - 1) > _PIXEL_TOLERANCE:
                raise PlanError(
                    f"object.{name} = {given:g} A: prior {plan.prior!r} was trained for voxels of "
                    f"{wanted:g} A; leave it out, or use method 'gradient' or another prior"
                )
        return prior_voxel_A[0], prior_voxel_A[2]
    return slice_A or _DEFAULT_SLICE_A, pixel_A or min(dataset.pixel_size_A)


def _detector_pixels(dataset: DiffractionDataset, pixel_A: float) -> int:
    """Square detector that makes the wanted real-space pixel: padded (unmeasured) or cropped."""
    calibration = dataset.calibration
    step = calibration.detector_step_invA
    native = max(dataset.detector_shape)
    square = all(n == native for n in dataset.detector_shape)
    if square and abs(1 / (native * step) / pixel_A - 1) <= _PIXEL_TOLERANCE / 2:
        return native
    wanted = round(1 / (pixel_A * step))
    reached = 1 / (wanted * step) if wanted > 0 else math.inf
    disk = calibration.convergence_semiangle_mrad * 1e-3 / calibration.wavelength_A
    if abs(reached / pixel_A - 1) > _PIXEL_TOLERANCE or wanted * step / 2 < disk:
        raise PlanError(
            f"pixel_size_A = {pixel_A:g} A: a detector of {dataset.detector_shape} pixels of "
            f"{step:g} 1/A gives {reached:.4g} A at best and a bright-field disk of {disk:.3g} 1/A "
            "must fit; check detector_step_invA, or choose another pixel size or prior"
        )
    _log.info("detector of %s pixels made %d wide", dataset.detector_shape, wanted)
    return wanted
