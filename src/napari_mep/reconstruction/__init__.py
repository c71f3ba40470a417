"""Plans, guidance and solvers; `reconstruct` runs any of them as a stream of snapshots."""

from typing import Any

from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.reconstruction.snapshot import Snapshot

__all__ = ["ReconstructionPlan", "Snapshot", "reconstruct"]


def __getattr__(name: str) -> Any:
    # The engine loads torch; widgets and the command line read plans without it.
    if name == "reconstruct":
        from napari_mep.reconstruction.engine import reconstruct

        return reconstruct
    raise AttributeError(name)
