"""Where images and patterns lie in the world, and how counts become grey values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_mep.widgets._scan_state import ScanState

__all__ = ["SCALES", "Place", "mrad_per_px", "scaled"]

SCALES = ("linear", "square root", "logarithm")
"""Grey scales of patterns."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image lies: world = origin + pixel * index.

    Parameters
    ----------
    origin : tuple of 2 floats
        World (y, x) of the centre of the first pixel.
    pixel : tuple of 2 floats
        World units per pixel.
    shape : tuple of 2 ints
        Pixels.
    """

    origin: tuple[float, float]
    pixel: tuple[float, float]
    shape: tuple[int, int]

    def index(self, world: tuple[float, float]) -> tuple[float, float]:
        """Pixel coordinates of a world point."""
        return (
            (world[0] - self.origin[0]) / self.pixel[0],
            (world[1] - self.origin[1]) / self.pixel[1],
        )

    def world(self, index: tuple[float, float]) -> tuple[float, float]:
        """World point of pixel coordinates."""
        return (
            self.origin[0] + self.pixel[0] * index[0],
            self.origin[1] + self.pixel[1] * index[1],
        )

    def holds(self, world: tuple[float, float]) -> bool:
        """Whether a world point lies on the image."""
        return all(-0.5 <= i <= n - 0.5 for i, n in zip(self.index(world), self.shape, strict=True))


def mrad_per_px(state: ScanState) -> float | None:
    """Width of a detector pixel as a scattering angle, None where nobody knows it."""
    values = state.calibration.values
    if "detector_step_mrad" in values:
        return float(values["detector_step_mrad"])
    if "detector_step_invA" in values and "beam_energy_keV" in values:
        from napari_mep.physics.optics import wavelength_A

        return float(values["detector_step_invA"] * wavelength_A(values["beam_energy_keV"]) * 1e3)
    return None


def scaled(raw: NDArray[np.float32], scale: str) -> NDArray[np.float32]:
    """Counts as grey values: what is below zero is background, and black."""
    counts = np.maximum(np.nan_to_num(raw, nan=0.0, posinf=0.0), 0)
    if scale == SCALES[1]:
        return np.sqrt(counts, dtype=np.float32)
    if scale == SCALES[2]:
        positive = counts[counts > 0]
        floor = float(np.quantile(positive, 0.05)) if positive.size else 1.0
        return np.log10(np.maximum(counts, floor)).astype(np.float32)
    return counts.astype(np.float32)
