"""What a reconstruction takes of a machine's memory at the least, told before it starts.

A system out of memory kills without a word, so what cannot fit is refused in time. All estimates
are low: they leave out what depends on details, and refuse nothing that could have worked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_mep.data._memory import usable_memory
from napari_mep.errors import PlanError
from napari_mep.reconstruction.baselines.catalogue import BASELINES, baseline_settings
from napari_mep.reconstruction.geometry import model_voxels

if TYPE_CHECKING:
    import torch

    from napari_mep.data.dataset import DiffractionDataset
    from napari_mep.prior.denoiser import Denoiser
    from napari_mep.reconstruction.geometry import ModelVoxels
    from napari_mep.reconstruction.plan import ReconstructionPlan

__all__ = ["check_memory", "total_memory"]

_FLOAT, _COMPLEX = 4, 8  # bytes
_MOST_SLICES = 5000  # 0.8 um of slices as thin as the prior's: more than a beam passes coherently
_CANVASES = 28  # that the solver holds: ten remembered steps, two each, and what lies between
_WORK_WAVES = 4  # beside the two of each slice that our gradient needs
# Waves that a package keeps for each slice of each pattern in a mini-batch; measured.
_PACKAGE_WAVES = {"ptychi": 3, "ptyrad": 7}
_PATTERN_COPIES = {"cpu": 4}  # two on either side of the pipe; on an accelerator only the child's


def check_memory(
    dataset: DiffractionDataset,
    plan: ReconstructionPlan,
    device: torch.device,
    denoiser: Denoiser | None = None,
) -> None:
    """Refuse a reconstruction that the memory of its device cannot hold; reads no pattern.

    Parameters
    ----------
    dataset : DiffractionDataset
        After the preprocessing.
    plan : ReconstructionPlan
        Any method.
    device : torch.device
        Where it is to run.
    denoiser : Denoiser, optional
        The prior, which dictates the voxel.

    Raises
    ------
    PlanError
        It does not fit, or there are more slices than make sense; also what `model_voxels` says.
    """
    voxels = model_voxels(dataset, plan, denoiser.voxel_size_A if denoiser else None)
    size = f"{voxels.n_slices} slices of {voxels.slice_thickness_A:g} A"
    mend = f"check object.thickness_A = {voxels.thickness_A:g} A, the slice thickness, the pixel"
    if plan.method in BASELINES:
        settings = baseline_settings(plan)
        batch = settings.patterns_per_batch(dataset.n_patterns)
        window = settings.window * voxels.detector_pixels
        needed = _of_package(dataset, plan, voxels, window, batch, device)
        at_once = f"batches of {batch} patterns"
        mend += f" {voxels.pixel_size_A:.3g} A, or lower baseline.batch"
    else:
        window = plan.object.wave_oversampling * voxels.detector_pixels
        needed = _of_ours(dataset, voxels, window)
        at_once = "one pattern at a time"
        mend += f" {voxels.pixel_size_A:.3g} A or object.wave_oversampling"
    total = total_memory(device)
    if total is not None and needed > total:
        raise PlanError(
            f"reconstruction needs at least {needed / 1e9:.1f} GB of memory, {device} has "
            f"{total / 1e9:.1f} GB: {size}, waves of {window} x {window} pixels, {at_once}; {mend}"
        )
    if voxels.n_slices > _MOST_SLICES:
        raise PlanError(
            f"object.thickness_A = {voxels.thickness_A:g} A: makes {size}, at most {_MOST_SLICES} "
            "make sense; check the thickness or choose thicker slices"
        )


def total_memory(device: torch.device) -> int | None:
    """Memory of a device in bytes, None where the system does not tell."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[1])
    return usable_memory()


def _of_ours(dataset: DiffractionDataset, voxels: ModelVoxels, window: int) -> int:
    """Bytes of one pattern's waves, of the canvas and of its padded complex copies."""
    waves = (2 * voxels.n_slices + _WORK_WAVES) * window**2 * _COMPLEX
    scanned = _pixels(dataset, voxels, 0) * voxels.n_slices * _FLOAT * _CANVASES
    # Transmission and gradient reach as far as the windows.
    padded = 2 * _pixels(dataset, voxels, window) * voxels.n_slices * _COMPLEX
    return waves + scanned + padded


def _of_package(
    dataset: DiffractionDataset,
    plan: ReconstructionPlan,
    voxels: ModelVoxels,
    window: int,
    batch: int,
    device: torch.device,
) -> int:
    """Bytes of a mini-batch's waves, of the object with gradient and moments, and of patterns."""
    kept = _PACKAGE_WAVES[BASELINES[plan.method].package]
    waves = kept * voxels.n_slices * batch * window**2 * _COMPLEX
    objects = 2 * _pixels(dataset, voxels, window) * voxels.n_slices * _COMPLEX
    pattern = voxels.detector_pixels**2 * _FLOAT
    return waves + objects + _PATTERN_COPIES.get(device.type, 1) * dataset.n_patterns * pattern


def _pixels(dataset: DiffractionDataset, voxels: ModelVoxels, margin: int) -> int:
    """Pixels across the beam of the box of scan positions, with so many more on each axis."""
    sides = np.ptp(dataset.positions_A(), axis=0) / voxels.pixel_size_A + 1 + margin
    return int(np.prod(sides))
