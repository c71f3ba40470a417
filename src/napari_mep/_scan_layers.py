"""What napari shows of a 4D-STEM file: a mean pattern and a virtual bright-field image.

Never the four-dimensional data: they may be larger than memory, and no slice of them is what one
wants to see. The layers know the file, so the Reconstruct widget can open it.

A viewer has one unit: a layer in 1/A would take the unit from the scale bar of all others, with a
warning. So the pattern is an inset beside the image, as high as it, and its name says its step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari.types import LayerDataTuple

    from napari_mep.data.opened import OpenedPatterns

__all__ = ["GAP", "affordable", "contrast", "scan_layers", "scan_steps"]

Progress = Callable[[int, int], None]

GAP = 0.05  # between image and pattern, in heights of the image
_LOOK = 256  # patterns whose mean shows the bright-field disk
_MOST = 128 * 128  # pixels of a virtual image that need no second look
_BYTES = 1 << 28  # of patterns that are read for a picture: half a second from a fast disk


def scan_layers(
    opened: OpenedPatterns, source: str, progress: Progress | None = None
) -> list[LayerDataTuple]:
    """Two image layers: the virtual bright field, and beside it the mean pattern.

    Parameters
    ----------
    opened : OpenedPatterns
        Of a large scan a coarser raster is read: at most about 256 MB, or where whole scan rows
        must be decompressed 1 GB.
    source : str
        What opens the scan again; kept in ``metadata["napari_mep"]["dataset_path"]``.
    progress : callable, optional
        Told the patterns done and in all.

    Returns
    -------
    list of LayerData tuples
        Bright field (y, x) float32, in A with the first scan position at the origin, or in pixels
        if nobody knows the scan step. Mean pattern (ky, kx) as stored, float32; its step in 1/A is
        in its name and in ``metadata["napari_mep"]["detector_step_invA"]``.

    Raises
    ------
    DataError
        The patterns cannot be read.
    """
    from napari_mep.data.formats._disk import disk, disk_mask
    from napari_mep.data.virtual import VirtualDetector, scan_images

    look = scan_images(opened.patterns, max_patterns=affordable(opened, _LOOK))
    shape = look.mean_pattern.shape
    mask = disk_mask((shape[0], shape[1]), *disk(look.mean_pattern))
    detectors = [VirtualDetector("BF", mask=mask)] if mask.any() else []
    images = scan_images(
        opened.patterns, detectors, max_patterns=affordable(opened, _MOST), progress=progress
    )
    bright = images.virtual["BF"] if detectors else images.sums
    bright = bright.astype(np.float32)
    step_invA, step_yx = scan_steps(opened)
    scale = tuple(s * e for s, e in zip(step_yx or (1.0, 1.0), images.every, strict=True))
    units = ("angstrom" if step_yx else "pixel",) * 2
    field: dict[str, Any] = {
        "name": f"{opened.name}: virtual bright field",
        "scale": scale,
        "units": units,
        "axis_labels": ("y", "x"),
        "metadata": {"napari_mep": {"dataset_path": source}},
    }
    step = f", {step_invA:.3g} 1/Å per pixel" if step_invA else ""
    height = bright.shape[0] * scale[0]
    pixel = height / shape[0]
    pattern: dict[str, Any] = {
        "name": f"{opened.name}: mean pattern{step}",
        "scale": (pixel, pixel),
        # Upper edges in line, a gap between the two: a coordinate is that of a pixel's centre.
        "translate": (
            (pixel - scale[0]) / 2,
            (bright.shape[1] - 0.5) * scale[1] + GAP * height + pixel / 2,
        ),
        "units": units,
        "axis_labels": ("y", "x"),
        "gamma": 0.4,  # the dark field is a thousand times fainter than the disk
        "metadata": {"napari_mep": {"dataset_path": source, "detector_step_invA": step_invA}},
    }
    for settings, image in ((pattern, images.mean_pattern), (field, bright)):
        limits = contrast(image)
        if limits is not None:
            settings["contrast_limits"] = limits
    # napari fits its view to the first layer of an empty viewer.
    return [(bright, field, "image"), (images.mean_pattern, pattern, "image")]


def affordable(opened: OpenedPatterns, most: int = 1 << 62) -> int:
    """How many patterns may be read for a picture, `most` at most."""
    rows, columns, ky, kx = (int(n) for n in opened.patterns.shape)
    one = ky * kx * np.dtype(opened.patterns.dtype).itemsize
    count = min(most, max(1, _BYTES // one))
    if not isinstance(opened.patterns, np.ndarray):
        # Where skipping saves nothing, whole rows are read: every so manieth one is affordable.
        every = math.ceil(rows * columns * one / (4 * _BYTES))
        count = min(count, max(1, rows * columns // every**2))
    return count


def scan_steps(opened: OpenedPatterns) -> tuple[float | None, tuple[float, float] | None]:
    """Detector step in 1/A and scan step (y, x) in A, None for what is not known."""
    values = opened.calibration.values
    step = values.get("scan_step_A")
    step_yx = step if isinstance(step, tuple) or step is None else (step, step)
    step_invA = values.get("detector_step_invA")
    mrad, energy = values.get("detector_step_mrad"), values.get("beam_energy_keV")
    if mrad and energy:
        from napari_mep.physics.optics import wavelength_A

        step_invA = mrad * 1e-3 / float(wavelength_A(energy))
    return step_invA, step_yx


def contrast(image: np.ndarray) -> tuple[float, float] | None:
    """Contrast limits that neither a hot pixel nor NaN spoils; None for a flat image."""
    finite = image[np.isfinite(image)]
    if not finite.size:
        return None
    low, high = float(finite.min()), float(np.quantile(finite, 0.999))
    return (low, high) if high > low else None
