"""Where the panels of a comparison look: the volumes, the depth, a point, a line and a region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_mep.evaluation.resample import WorldGrid, slice_index
from napari_mep.volume import PhaseVolume
from napari_mep.widgets._compare_looks import percentile_limits
from napari_mep.widgets._compare_prepare import Prepared, PreparedVolume
from napari_mep.widgets._compare_tiles import Box

__all__ = ["Scene", "box_of", "density_limits", "image_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What all panels are told.

    Parameters
    ----------
    prepared : Prepared
        The volumes, corrected.
    depth_A : float
        World coordinate of the slice.
    summed : bool
        Look at the mean over the depth instead of one slice.
    point_A : tuple of 2 floats
        (y, x) of the crosshair.
    line_A : ((y, x), (y, x))
        Of the line profile.
    width_A : float
        Integration width of the line, and diameter of the depth profile.
    region : Box or None
        Of the live Fourier transform; None: the whole field.
    percentiles : tuple of 2 floats
        Contrast of pictures.
    """

    prepared: Prepared
    depth_A: float = 0.0
    summed: bool = False
    point_A: tuple[float, float] = (0.0, 0.0)
    line_A: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 0.0), (1.0, 1.0))
    width_A: float = 0.0
    region: Box | None = None
    percentiles: tuple[float, float] = (1.0, 99.0)

    @property
    def words(self) -> str:
        """Which slice, for people."""
        return "mean over depth" if self.summed else f"depth {self.depth_A:.1f} Å"


def image_of(volume: PhaseVolume, scene: Scene) -> np.ndarray:
    """The slice that a scene looks at, (y, x) in rad/A."""
    if scene.summed:
        image: Any = volume.data.mean(axis=0)
    else:
        image = volume.data[slice_index(volume, scene.depth_A)]
    return image / np.float32(volume.voxel_size_A[0])


def box_of(volume: PhaseVolume) -> Box:
    """Outer edges of a slice in angstrom."""
    _, (top, bottom), (left, right) = WorldGrid.of(volume).spans_A()
    return Box(top, left, bottom, right)


def density_limits(
    volumes: Sequence[PreparedVolume], percentiles: tuple[float, float]
) -> tuple[float, float]:
    """Limits in rad/A from percentiles of the first volume."""
    volume = volumes[0].volume
    dz = volume.voxel_size_A[0]
    low, high = percentile_limits(volume.data, percentiles)
    return low / dz, high / dz
