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

_LOOK = 4096  # patterns whose mean is the vacuum probe


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
    title = HELPERS[name].title
    image = _vacuum_image(vacuum, opened, watch) if name == "vacuum" else None
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


def fix_everything(
    opened: OpenedPatterns, vacuum: str, settings: Mapping[str, Any], watch: Watch
) -> Found:
    """The whole chain, as ``napari-mep info --fix`` runs it, in a thread.

    Raises
    ------
    MepError
        The patterns cannot be read, or show no disk.
    """
    from napari_mep.reconstruction.calibrate import fix

    found = fix(
        opened,
        vacuum=_vacuum_image(vacuum, opened, watch),
        **settings,
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


def _vacuum_image(path: str, opened: OpenedPatterns, watch: Watch) -> np.ndarray | None:
    """A pattern without specimen: an image, or the mean of any scan that can be opened."""
    from napari_mep.data._pattern_operations import read_image
    from napari_mep.data.readers import open_patterns
    from napari_mep.data.virtual import scan_images

    if not path:
        return None
    ky, kx = (int(n) for n in opened.patterns.shape[2:])
    if path.endswith(".npy") and _axes(path) == 2:
        return read_image(path, (ky, kx), "vacuum pattern")
    scan = open_patterns(path).patterns
    return scan_images(scan, max_patterns=_LOOK, stop=watch.stop).mean_pattern


def _axes(path: str) -> int:
    """Axes of an array in a file; 2 if it is broken, since images say best what is wrong."""
    try:
        return int(np.load(path, mmap_mode="r").ndim)
    except (OSError, ValueError):
        return 2
