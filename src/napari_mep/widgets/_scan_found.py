"""What a calibration helper found, and running one in a thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_mep.data.estimate import Estimate
from napari_mep.data.opened import OpenedPatterns
from napari_mep.reconstruction.calibration_helpers import HELPERS, Request, measure
from napari_mep.widgets._watched import Watch

__all__ = ["Found", "fix_everything", "run_helper"]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What one press of a button found.

    Parameters
    ----------
    title : str
        For the undo button.
    estimates : tuple of Estimate
        With their proofs.
    calibration, preprocessing : mapping
        What would be changed.
    uncertainty : mapping
        One standard deviation by calibration key.
    bad : (ky, kx) bool ndarray or None
        Bad pixels.
    skipped : tuple of str
        What could not be done, and why.
    """

    title: str
    estimates: tuple[Estimate, ...]
    calibration: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    uncertainty: Mapping[str, float] = field(default_factory=dict)
    bad: np.ndarray | None = None
    skipped: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to apply."""
        return not self.calibration and not self.preprocessing and self.bad is None


def run_helper(
    name: str, opened: OpenedPatterns, vacuum: str, settings: Mapping[str, Any], watch: Watch
) -> Found:
    """One helper, in a thread.

    Raises
    ------
    MepError
        It lacks something, or the patterns do not show what it looks for.
    """
    from napari_mep.data._pattern_operations import read_image

    ky, kx = (int(n) for n in opened.patterns.shape[2:])
    image = read_image(vacuum, (ky, kx), "vacuum pattern") if vacuum else None
    title = HELPERS[name].title
    proposal = measure(
        name,
        Request(
            opened,
            vacuum=image,
            stop=watch.stop,
            progress=lambda done, total: watch.tell(done, total, title),
            **settings,
        ),
    )
    return Found(
        title,
        (proposal.estimate,),
        proposal.calibration,
        proposal.preprocessing,
        proposal.estimate.uncertainty,
        proposal.bad,
    )


def fix_everything(opened: OpenedPatterns, settings: Mapping[str, Any], watch: Watch) -> Found:
    """The whole chain, as ``napari-mep info --fix`` runs it, in a thread."""
    from napari_mep.reconstruction.calibrate import fix

    found = fix(
        opened,
        lattice_A=settings.get("lattice_A", ()),
        stop=watch.stop,
        progress=lambda done, total, what: watch.tell(done, total, f"{what} ({done + 1}/{total})"),
    )
    values = found.calibration.values
    fitted = {k: v for k, v in values.items() if found.calibration.sources[k] == "fitted"}
    return Found(
        "Fix everything",
        found.estimates,
        fitted,
        found.preprocessing.model_dump(exclude_defaults=True),
        found.uncertainty,
        found.bad,
        tuple(f"{skip.title}: {skip.reason}" for skip in found.skipped),
    )
