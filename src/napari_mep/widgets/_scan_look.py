"""What is seen of a scan, computed in a thread: a sample of its patterns and the images of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_mep._scan_layers import affordable
from napari_mep.data.deflection import deflection
from napari_mep.data.opened import OpenedPatterns
from napari_mep.data.preprocessing import PreprocessingPlan
from napari_mep.errors import DataError
from napari_mep.widgets._watched import Watch

__all__ = ["IMAGES", "Images", "Ring", "Sample", "images_of", "pattern_at", "sample_of"]

_DETECTOR, _BRIGHT, _ANNULAR, _DARK = (
    "virtual detector",
    "bright field",
    "annular bright field",
    "annular dark field",
)
IMAGES = (
    _DETECTOR,
    _BRIGHT,
    _ANNULAR,
    _DARK,
    "centre of mass x",
    "centre of mass y",
    "centre of mass magnitude",
    "iCoM",
)
"""Images over the scan, by name."""


@dataclass(frozen=True, slots=True)
class Ring:
    """A virtual detector in detector pixels as stored.

    Parameters
    ----------
    centre : tuple of 2 floats
        (ky, kx).
    inner, outer : float
        Radii; pixel centres in [inner, outer) count.
    """

    centre: tuple[float, float]
    inner: float
    outer: float


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Patterns of a raster that fits into memory.

    Parameters
    ----------
    patterns : (rows, columns, ky, kx) ndarray
        As stored.
    every : tuple of 2 ints
        Every how manieth scan row and column.
    mean : (ky, kx) float32 ndarray
        Their mean.
    disk : Ring
        The bright-field disk, roughly; inner radius 0.
    lowest : float
        Smallest finite count; infinite if there is none.
    broken : (ky, kx) bool ndarray
        Pixels that hold NaN or infinity in some pattern.
    """

    patterns: NDArray[Any]
    every: tuple[int, int]
    mean: NDArray[np.float32]
    disk: Ring
    lowest: float
    broken: NDArray[np.bool_]

    @property
    def whole(self) -> bool:
        """Whether no position is left out."""
        return self.every == (1, 1)

    def trouble(self, plan: PreprocessingPlan) -> str:
        """Why no reconstruction can come of these counts, with the remedy; empty if one can."""
        if self.lowest == np.inf:
            return "no finite count in the patterns: check the file and which array of it is read"
        if not self.mean.any():
            return "all counts are zero: check the file and which array of it is read"
        if self.broken.any() and plan.bad_pixels_file is None:
            whole = self.broken.all()
            remedy = (
                "leave out the scan rows or columns with such patterns in Preprocessing"
                if whole
                else "mark them with the helper Bad pixels"
            )
            count = "all" if whole else str(int(self.broken.sum()))
            return f"NaN or infinite counts in {count} detector pixels: {remedy}"
        corrected = plan.clip_negative or plan.background_file is not None
        if self.lowest < plan.background and not corrected:
            return (
                f"negative counts, down to {self.lowest - plan.background:.3g}: tick Clip below "
                "zero in Preprocessing, or subtract the true Background there"
            )
        return ""


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Images over the scan.

    Parameters
    ----------
    images : mapping of str to (rows, columns) float32 ndarray
        By the names of `IMAGES`.
    units : mapping of str to str
        Of their values.
    every : tuple of 2 ints
        Every how manieth scan row and column.
    """

    images: Mapping[str, NDArray[np.float32]]
    units: Mapping[str, str]
    every: tuple[int, int]


def sample_of(opened: OpenedPatterns, watch: Watch) -> Sample:
    """Read as much of a scan as a look needs: all of a small one, 256 MB of a large one.

    Raises
    ------
    DataError
        The patterns cannot be read.
    """
    from scipy import ndimage

    from napari_mep.data.formats._disk import disk
    from napari_mep.data.virtual import sample_patterns

    most = affordable(opened)
    patterns, every = sample_patterns(
        opened.patterns,
        most,
        stop=watch.stop,
        progress=lambda done, total: watch.tell(done, total, "reading patterns"),
    )
    mean: NDArray[np.float64] = np.zeros(patterns.shape[2:])
    lowest, broken = np.inf, np.zeros(patterns.shape[2:], bool)
    for row in patterns:
        mean += row.sum(axis=0, dtype=np.float64)
        finite = np.isfinite(row)
        if finite.any():
            lowest = min(lowest, float(row[finite].min()))
        broken |= ~finite.all(axis=0)
    mean /= patterns.shape[0] * patterns.shape[1]
    try:
        # Hot pixels are brighter than the disk; among their neighbours they vanish.
        (cy, cx), radius = disk(ndimage.median_filter(np.where(np.isfinite(mean), mean, 0), 3))
    except (DataError, ValueError):
        cy, cx, radius = mean.shape[0] / 2, mean.shape[1] / 2, min(mean.shape) / 4
    ring = Ring((cy, cx), 0.0, max(radius, 1.0))
    return Sample(patterns, every, mean.astype(np.float32), ring, lowest, broken)


def images_of(
    patterns: Any,
    every: tuple[int, int],
    ring: Ring,
    disk: Ring,
    known: Mapping[str, Any],
    plan: PreprocessingPlan,
    mrad_per_px: float | None,
    watch: Watch,
) -> Images:
    """One pass over patterns for all images.

    Parameters
    ----------
    patterns : PatternArray
        A sample, or the whole scan.
    every : tuple of 2 ints
        Of the sample.
    ring, disk : Ring
        The detector that is dragged, and the bright-field disk.
    known, plan
        Orientation, rotation, bad pixels and drift that count.
    mrad_per_px : float or None
        Where known, the centre of mass is told in mrad.
    watch : Watch
        Progress and stop.

    Raises
    ------
    DataError
        The patterns or the bad pixels cannot be read, or the ring holds no pixel.
    """
    from napari_mep.data._pattern_operations import read_image
    from napari_mep.data.virtual import VirtualDetector, integrate_centre_of_mass, scan_images

    shape = (int(patterns.shape[2]), int(patterns.shape[3]))
    path = plan.bad_pixels_file
    bad = None if path is None else read_image(path, shape, "bad_pixels_file") != 0
    radius = disk.outer
    reach = float(np.hypot(*shape))
    rings = {
        _DETECTOR: ring,
        _BRIGHT: Ring(disk.centre, 0.0, radius),
        _ANNULAR: Ring(disk.centre, radius / 2, radius),
        _DARK: Ring(disk.centre, 1.1 * radius, reach),
    }
    detectors = []
    for name, each in rings.items():
        detector = VirtualDetector(name, each.inner, each.outer, each.centre)
        if name != _DETECTOR:
            try:
                detector.weights(shape)
            except DataError:  # no room outside the disk: that image is left out
                continue
        detectors.append(detector)
    found = scan_images(
        patterns,
        detectors,
        bad=bad,
        stop=watch.stop,
        progress=lambda done, total: watch.tell(done, total, "virtual images"),
    )
    moved = deflection(found.centre_of_mass, known, every=every, descan_px=plan.descan_px)
    unit = "px"
    if mrad_per_px is not None:
        moved, unit = moved * mrad_per_px, "mrad"
    images = {name: np.asarray(image, np.float32) for name, image in found.virtual.items()}
    images |= {
        "centre of mass x": moved[..., 1].astype(np.float32),
        "centre of mass y": moved[..., 0].astype(np.float32),
        "centre of mass magnitude": np.hypot(moved[..., 0], moved[..., 1]).astype(np.float32),
        "iCoM": integrate_centre_of_mass(moved).astype(np.float32),
    }
    units = {name: unit if name.startswith("centre") else "counts" for name in images}
    units["iCoM"] = f"{unit} × scan steps"
    return Images(images, units, every)


def pattern_at(opened: OpenedPatterns, row: int, column: int) -> NDArray[np.float32]:
    """One pattern as stored, (ky, kx) float32.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    from napari_mep.data.virtual import read_part

    return np.asarray(read_part(opened.patterns, row, np.array([column]))[0])
