"""Volumes of any grid on one common grid in world coordinates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np

from napari_mep.errors import DataError
from napari_mep.evaluation.metrics import common_volumes
from napari_mep.volume import PhaseVolume

__all__ = ["WorldGrid", "common_grid", "sample_on", "slice_index"]

_SAME = 1e-3  # voxels, as in `common_volumes`
_LEAST = (1, 3, 3)  # slices and pixels that make a comparison


@dataclass(frozen=True, slots=True)
class WorldGrid:
    """Where the voxels of a volume lie.

    Parameters
    ----------
    shape : tuple of 3 ints
        Voxels (z, y, x).
    voxel_size_A : tuple of 3 floats
        Slice thickness and pixel sizes in angstrom.
    origin_A : tuple of 3 floats
        Centre of voxel [0, 0, 0] in angstrom.
    """

    shape: tuple[int, int, int]
    voxel_size_A: tuple[float, float, float]
    origin_A: tuple[float, float, float]

    @classmethod
    def of(cls, volume: PhaseVolume) -> Self:
        """The grid that a volume lies on."""
        nz, ny, nx = volume.data.shape
        return cls((nz, ny, nx), volume.voxel_size_A, volume.origin_A)

    def spans_A(self) -> tuple[tuple[float, float], ...]:
        """(low, high) outer edges of the voxels for each axis, in angstrom."""
        return tuple(
            (origin - step / 2, origin + (n - 0.5) * step)
            for n, step, origin in zip(self.shape, self.voxel_size_A, self.origin_A, strict=True)
        )


def common_grid(reference: PhaseVolume, others: Iterable[PhaseVolume]) -> WorldGrid:
    """The reference's grid, cut to what all other volumes cover.

    A slice counts if all of its thickness is covered, a pixel if its centre is: slices hold the
    phase of their whole thickness, pixels are samples.

    Parameters
    ----------
    reference : PhaseVolume
        Whose voxels are kept.
    others : iterable of PhaseVolume
        Any grids; none at all gives the reference's own grid.

    Returns
    -------
    WorldGrid

    Raises
    ------
    DataError
        Less than one slice of 3 x 3 pixels is left.
    """
    own = WorldGrid.of(reference)
    spans = [WorldGrid.of(other).spans_A() for other in others]
    shape, origin = [], []
    for axis, (n, step, start) in enumerate(
        zip(own.shape, own.voxel_size_A, own.origin_A, strict=True)
    ):
        centres = start + step * np.arange(n)
        reach, slack = (step / 2 if axis == 0 else 0.0), _SAME * step
        inside = np.ones(n, bool)
        for span in spans:
            low, high = span[axis]
            inside &= (centres - reach >= low - slack) & (centres + reach <= high + slack)
        if np.count_nonzero(inside) < _LEAST[axis]:
            raise DataError(
                f"volumes share {np.count_nonzero(inside)} voxels along {'zyx'[axis]}, at least "
                f"{_LEAST[axis]} are needed; check scale and translation of the layers (angstrom)"
            )
        shape.append(int(np.count_nonzero(inside)))
        origin.append(float(centres[np.argmax(inside)]))
    return WorldGrid(
        (shape[0], shape[1], shape[2]), own.voxel_size_A, (origin[0], origin[1], origin[2])
    )


def sample_on(volume: PhaseVolume, grid: WorldGrid) -> PhaseVolume:
    """A volume on another grid.

    Slices are resampled so that the projected phase is conserved, (y, x) by cubic splines; see
    `napari_mep.evaluation.metrics.common_volumes`.

    Parameters
    ----------
    volume : PhaseVolume
        Radians per slice of its own grid.
    grid : WorldGrid
        Must lie within the volume, as one from `common_grid` does.

    Returns
    -------
    PhaseVolume
        Radians per slice of `grid`.

    Raises
    ------
    DataError
        The volume does not cover the grid.
    """
    if WorldGrid.of(volume) == grid:
        return volume
    template = PhaseVolume(np.zeros(grid.shape, np.float32), grid.voxel_size_A, grid.origin_A)
    sampled, covered = common_volumes(volume, template)
    if covered.shape != grid.shape:
        raise DataError(
            f"volume covers {covered.shape} of the {grid.shape} voxels asked for; cut the grid "
            "with common_grid first"
        )
    return PhaseVolume(sampled, grid.voxel_size_A, grid.origin_A)


def slice_index(volume: PhaseVolume, depth_A: float) -> int:
    """The slice that holds a depth; the first or last one for depths outside of the volume."""
    index = round((depth_A - volume.origin_A[0]) / volume.voxel_size_A[0])
    return min(max(index, 0), volume.data.shape[0] - 1)
