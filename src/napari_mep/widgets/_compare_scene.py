"""Where the panels of a comparison look: the volumes, the depth, a point, a line and a region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from napari_mep.evaluation.resample import WorldGrid, slice_index
from napari_mep.volume import PhaseVolume
from napari_mep.widgets._compare_looks import percentile_limits
from napari_mep.widgets._compare_prepare import Prepared, PreparedVolume
from napari_mep.widgets._compare_tiles import Box

__all__ = ["Scene", "box_of", "density_limits", "image_of", "marks_of"]

_DOT = 0.012  # radius of the dot at a scan position, of the width of the field


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


def marks_of(scene: Scene, tool: str, position_A: tuple[float, float] | None = None) -> np.ndarray:
    """What is drawn on the map, as lines for napari's canvas.

    Parameters
    ----------
    scene : Scene
        Where the pages look.
    tool : str
        What the page in front needs: "line", "cross", "region" or nothing.
    position_A : tuple of 2 floats, optional
        (y, x) of a scan position.

    Returns
    -------
    (n, 2, 2) float ndarray
        Start and end, each (y, x) in angstrom.
    """
    lines: list[Any] = []
    if not scene.prepared.volumes:
        return np.zeros((0, 2, 2))
    box = box_of(scene.prepared.reference.volume)
    if tool == "cross":
        y, x = scene.point_A
        lines += [((y, box.left), (y, box.right)), ((box.top, x), (box.bottom, x))]
    elif tool == "line":
        start, end = np.array(scene.line_A)
        along = end - start
        across = np.array([along[1], -along[0]]) / max(float(np.hypot(*along)), 1e-9)
        # The strip over which the profile is averaged, by its two edges.
        sides = (-0.5, 0.5) if scene.width_A else ()
        lines += [
            (start + s * scene.width_A * across, end + s * scene.width_A * across) for s in sides
        ]
        lines.append((start, end))
    elif tool == "region" and scene.region is not None:
        r = scene.region
        corners = [(r.top, r.left), (r.top, r.right), (r.bottom, r.right), (r.bottom, r.left)]
        lines += zip(corners, corners[1:] + corners[:1], strict=True)
    if position_A is not None:
        angles = np.linspace(0, 2 * np.pi, 13)
        circle = np.stack([np.sin(angles), np.cos(angles)], axis=1)
        circle = np.array(position_A) + _DOT * box.width * circle
        lines += pairwise(circle)
    return np.array(lines, float).reshape(-1, 2, 2)
