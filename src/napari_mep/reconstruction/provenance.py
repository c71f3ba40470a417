"""Where a result comes from: everything needed to make it again."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_mep import __version__
from napari_mep.data._preprocessed import as_stored_on_disk
from napari_mep.prior.catalogue import load_card
from napari_mep.reconstruction.baselines.catalogue import baseline_record

if TYPE_CHECKING:
    from napari_mep.data.dataset import DiffractionDataset
    from napari_mep.reconstruction.plan import ReconstructionPlan
    from napari_mep.reconstruction.snapshot import Snapshot

__all__ = ["outcome", "provenance"]

_PACKAGES = ("torch", "numpy", "zarr", "abtem")


def provenance(
    dataset: DiffractionDataset,
    plan: ReconstructionPlan,
    last: Snapshot | None = None,
    *,
    fingerprint: str | None = None,
) -> dict[str, Any]:
    """What an exported reconstruction carries besides its voxels.

    Parameters
    ----------
    dataset : DiffractionDataset
        The data.
    plan : ReconstructionPlan
        The settings; what they leave open is open in the record, too, until there is a `last`.
    last : Snapshot, optional
        The snapshot whose volume is exported; see `outcome`. None while there is none yet.
    fingerprint : str, optional
        Of the dataset, where it is known already: making it reads patterns.

    Returns
    -------
    dict
        Values that JSON can hold.

    Raises
    ------
    WeightsError
        The prior that the plan names is not there.
    """
    # Whoever opens the scan again has the file, not what came out of preprocessing it.
    calibration, steps = as_stored_on_disk(dataset)
    card = load_card(plan.prior) if plan.method == "mep" else None
    record: dict[str, Any] = {
        "method": plan.method,
        "plan": plan.used(),
        "data": {
            "name": dataset.name,
            "fingerprint": fingerprint or dataset.fingerprint(),
            "calibration": calibration,
            **({"preprocessing": steps} if steps else {}),
        },
        "versions": {
            "napari-mep": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
        },
        **baseline_record(plan),
    }
    if dataset.path is not None:  # whoever opens the result may want to see its patterns
        record["dataset_path"] = str(Path(dataset.path).absolute())
    if card is not None:
        record["prior"] = {"name": card.name, "sha256": card.sha256}
    return record if last is None else record | outcome(last)


def outcome(last: Snapshot) -> dict[str, Any]:
    """What was done, how it ended, and when; a run that was stopped: by its step and total."""
    return {
        "method": last.method,
        "plan": last.plan.used(),  # nothing left open: defaults may be others one day
        "step": last.step,
        "total": last.total,
        "samples": last.samples,
        "residual": last.residual,
        "residual_floor": last.residual_floor,
        "seconds": last.seconds,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
