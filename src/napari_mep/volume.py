"""The volume that every part of the program hands around: phase per slice on world coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["PhaseVolume"]


@dataclass(frozen=True, slots=True, eq=False)
class PhaseVolume:
    """Projected phase of a specimen, slice by slice.

    Parameters
    ----------
    data : (z, y, x) float32 ndarray
        Phase shift of each slice, sigma * V * dz, in radians. Slice 0 is the entrance face.
    voxel_size_A : tuple of 3 floats
        Slice thickness and pixel sizes (dz, dy, dx) in angstrom.
    origin_A : tuple of 3 floats
        World coordinates (z, y, x) of the *centre* of voxel [0, 0, 0], in angstrom. The world
        origin is the first scan position at the entrance face, so slice 0 has its centre at dz / 2.
    """

    data: np.ndarray
    voxel_size_A: tuple[float, float, float]
    origin_A: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        data = np.asarray(self.data)
        if data.ndim != 3:
            raise ValueError(f"phase volume: {data.ndim} axes, expected 3 (z, y, x)")
        if len(self.voxel_size_A) != 3 or min(self.voxel_size_A) <= 0:
            raise ValueError(f"voxel_size_A: {self.voxel_size_A} A, expected 3 positive lengths")
        object.__setattr__(self, "data", np.ascontiguousarray(data, dtype=np.float32))
        object.__setattr__(self, "voxel_size_A", tuple(float(v) for v in self.voxel_size_A))
        object.__setattr__(self, "origin_A", tuple(float(v) for v in self.origin_A))

    @property
    def thickness_A(self) -> float:
        """Total thickness in angstrom."""
        return self.data.shape[0] * self.voxel_size_A[0]

    def depth_sum(self) -> np.ndarray:
        """Phase summed over depth, (y, x) float32, radians."""
        return self.data.sum(axis=0)
