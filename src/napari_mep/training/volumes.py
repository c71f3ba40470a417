"""Endless training volumes, drawn from a crystal library and rendered on the fly."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from napari_mep.crystals.cut import cut_box
from napari_mep.crystals.library import CrystalLibrary
from napari_mep.crystals.render import SliceRenderer
from napari_mep.crystals.structure import AtomBox, Crystal
from napari_mep.training.settings import TrainingSettings

__all__ = ["VolumeSource", "data_scale"]

# The paper views crystals along a, b and c; a share along face diagonals adds orientations in
# which columns of different elements separate.
_ZONE_AXES = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]])
_ZONE_WEIGHTS = np.array([0.28, 0.28, 0.28, 0.16 / 3, 0.16 / 3, 0.16 / 3])


class VolumeSource:
    """Random views of random crystals.

    Volume n depends on the seed and n alone, so a run can be cut and resumed anywhere and split
    over processes.

    Parameters
    ----------
    library : CrystalLibrary
        Crystals to draw from, uniformly.
    settings : TrainingSettings
        Voxels, tile and augmentation.
    device : torch.device or str
        Where volumes are rendered.
    """

    def __init__(
        self,
        library: CrystalLibrary,
        settings: TrainingSettings,
        device: torch.device | str = "cpu",
    ) -> None:
        self.library, self.settings = library, settings
        self.renderer = SliceRenderer(
            settings.tile_shape,
            settings.voxel_size_A,
            energy_keV=settings.energy_keV,
            device=device,
        )

    def __call__(self, first: int, count: int) -> Tensor:
        """Volumes first, ..., first + count - 1 as a (count, z, y, x) float32 tensor, radians."""
        return self.renderer([self._box(first + i) for i in range(count)])

    def _box(self, index: int) -> AtomBox:
        rng = np.random.default_rng([self.settings.seed, index])
        crystal = self.library[int(rng.integers(len(self.library)))]
        strain = rng.normal(0, self.settings.strain, (3, 3))
        deform = np.eye(3) + 0.5 * (strain + strain.T)
        crystal = Crystal(
            crystal.cell_A @ deform, crystal.numbers, crystal.fractional, crystal.occupancy
        )
        size = self.renderer.box_size_A
        box = cut_box(
            crystal,
            size,
            zone_axis=_ZONE_AXES[rng.choice(len(_ZONE_AXES), p=_ZONE_WEIGHTS)].tolist(),
            in_plane_deg=rng.uniform(0, 360),
            offset_A=tuple(rng.uniform(0, s) for s in size),  # type: ignore[arg-type]
            tilt_mrad=tuple(rng.normal(0, self.settings.tilt_mrad, 2)),  # type: ignore[arg-type]
        )
        keep = rng.random(len(box.numbers)) >= self.settings.vacancy_fraction
        return AtomBox(box.numbers[keep], box.positions_A[keep], size)


def data_scale(source: VolumeSource, volumes: int = 256) -> float:
    """1 / standard deviation of training volumes, per radian: what makes the data unit variance."""
    chunks = [source(2**40 + i, min(32, volumes - i)) for i in range(0, volumes, 32)]
    return float(1 / torch.cat(chunks).std())
