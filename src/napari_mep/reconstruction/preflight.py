"""What can be said against a plan before it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_mep.reconstruction.baselines import BASELINES
from napari_mep.reconstruction.baselines.catalogue import check_baseline
from napari_mep.reconstruction.memory import check_memory

if TYPE_CHECKING:
    from napari_mep.data.dataset import DiffractionDataset
    from napari_mep.reconstruction.plan import ReconstructionPlan

__all__ = ["preflight"]


def preflight(dataset: DiffractionDataset, plan: ReconstructionPlan) -> None:
    """Raise what `reconstruct` would raise before its first step, without reading any pattern.

    Takes a second or two the first time, because it loads torch and reads the weights.

    Parameters
    ----------
    dataset : DiffractionDataset
        What is to be reconstructed; its patterns have a check of their own,
        `DiffractionDataset.validate`.
    plan : ReconstructionPlan
        How.

    Raises
    ------
    DeviceError
        There is no such device, or the package of a baseline does not run on it.
    WeightsError
        Weights are missing, corrupted or do not fit their card.
    PlanError
        The package of a baseline is not installed, the thickness is unknown, the voxel is not the
        prior's or cannot be reached with this detector, a probe array does not fit, or the memory
        of the device cannot hold what the plan asks for.
    """
    from napari_mep.data.preprocessing import preprocess
    from napari_mep.prior.device import resolve_device
    from napari_mep.prior.files import load_prior

    device = resolve_device(plan.device)
    if plan.method in BASELINES:
        check_baseline(plan, device)
    if plan.preprocessing is not None:
        dataset = preprocess(dataset, plan.preprocessing)
    denoiser = load_prior(plan.prior) if plan.method == "mep" else None
    check_memory(dataset, plan, device, denoiser)
