"""Pairs of a specimen and what the solver without a prior made of its patterns, kept in a folder.

`napari_mep.reconstruction.solve_views` makes them. They show a network what no formula does: what a
forward model on coarse pixels leaves of a crystal that does not end at their Nyquist frequency.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from napari_mep.crystals.render import SliceRenderer
from napari_mep.crystals.structure import AtomBox
from napari_mep.errors import PlanError, WeightsError
from napari_mep.training.run_directory import replacing
from napari_mep.training.settings import TrainingSettings
from napari_mep.training.turning import turned_atoms, turned_volume

__all__ = ["SolvedView", "SolvedViews", "load_view", "save_view", "view_path"]

# Of the draws of a view whose atoms are known: as it was solved it is soon known by heart.
_TURNED_SHARE = 0.7


@dataclass(frozen=True, slots=True, eq=False)
class SolvedView:
    """A crystal and what the solver without a prior made of its patterns.

    Parameters
    ----------
    specimen, estimate : (z, y, x) ndarrays
        Phase of the crystal and of the gradient solution, rad.
    atoms : AtomBox, optional
        Those beside the canvas included; lateral positions are from the centre of its first pixel.
        Views of older versions do not know them.
    """

    specimen: np.ndarray
    estimate: np.ndarray
    atoms: AtomBox | None = None


def view_path(folder: Path, number: int) -> Path:
    """File of one view."""
    return folder / f"view-{number:06d}.npz"


def save_view(path: Path, view: SolvedView) -> None:
    """Store one view; a file is there whole or not at all.

    Parameters
    ----------
    path : Path
        From `view_path`.
    view : SolvedView
        Volumes are kept in half precision: a thousandth of a heavy column's phase, far below any
        noise.
    """
    arrays = {name: getattr(view, name).astype(np.float16) for name in ("specimen", "estimate")}
    if view.atoms is not None:
        arrays["numbers"] = view.atoms.numbers.astype(np.uint8)
        arrays["positions_A"] = view.atoms.positions_A.astype(np.float32)
        arrays["size_A"] = np.array(view.atoms.size_A)
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def load_view(path: Path) -> SolvedView:
    """Read one view; volumes are float16.

    Raises
    ------
    WeightsError
        It cannot be read.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            atoms = None
            if "numbers" in archive:
                numbers, positions_A = archive["numbers"].astype(np.int64), archive["positions_A"]
                atoms = AtomBox(numbers, positions_A.astype(float), tuple(archive["size_A"]))
            return SolvedView(archive["specimen"], archive["estimate"], atoms)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as err:
        raise WeightsError(f"solved view {path}: not readable ({err}); delete it") from None


class SolvedViews:
    """Tiles of solved views, drawn at random.

    Parameters
    ----------
    folder : path
        Files of `save_view`, in it or in folders within.
    settings : TrainingSettings
        Of the training: shape and voxels of its volumes, beam energy.

    Raises
    ------
    WeightsError
        The folder holds no views, or one cannot be read.
    PlanError
        One is smaller than a tile.
    """

    def __init__(self, folder: str | Path, settings: TrainingSettings) -> None:
        self.folder, self.settings = Path(folder), settings
        self.tile_shape = settings.tile_shape
        self._renderer: SliceRenderer | None = None
        paths = sorted(self.folder.rglob("view-*.npz"))
        if not paths:
            raise WeightsError(
                f"solved views {self.folder}: holds none; make some with `napari-mep solve`"
            )
        self._views = [self._read(path) for path in paths]

    def __len__(self) -> int:
        return len(self._views)

    def put_among(
        self,
        tiles: Tensor,
        estimates: Tensor,
        share: float,
        draws: Sequence[np.random.Generator],
    ) -> None:
        """Replace a share of tiles and their estimates, in place.

        Each by any of the views, cut anywhere, in one of the eight orientations that leave round
        optics and square pixels as they are. Most of those whose atoms are known are turned by any
        angle before: the atoms are rendered again, the estimate is what is interpolated.

        Parameters
        ----------
        tiles, estimates : (B, z, y, x) float32 tensors
            Phase, rad.
        share : float
            Of the volumes that are replaced.
        draws : sequence of numpy Generators
            One per volume.
        """
        for i, rng in enumerate(draws):
            if rng.random() < share:
                tiles[i], estimates[i] = self._tile(rng, tiles.device)

    def _tile(self, rng: np.random.Generator, device: torch.device) -> Tensor:
        view = self._views[rng.integers(len(self._views))]
        angle = 0.0
        if view.atoms is not None and rng.random() < _TURNED_SHARE:
            angle = rng.uniform(-math.pi / 4, math.pi / 4)
        corner = []
        for axis, (voxels, size) in enumerate(
            zip(view.specimen.shape, self.tile_shape, strict=True)
        ):
            # A turned tile lies about the middle, as far away as its corners remain on the canvas.
            within = voxels / (math.cos(angle) + abs(math.sin(angle))) if axis else voxels
            room = max(0, int(within) - size)
            corner.append((voxels - size - room) // 2 + int(rng.integers(room + 1)))
        z, y, x = (slice(a, a + n) for a, n in zip(corner, self.tile_shape, strict=True))
        if view.atoms is not None and angle:
            deep = torch.from_numpy(view.estimate[z]).to(device, torch.float32)
            estimate = turned_volume(deep, angle)[:, y, x]
            _, height, width = view.specimen.shape
            _, dy, dx = self.settings.voxel_size_A
            middle_A = ((height - 1) / 2 * dy, (width - 1) / 2 * dx)
            specimen = self._rendered(turned_atoms(view.atoms, angle, middle_A), corner, device)
            pair = torch.stack([specimen, estimate])
        else:
            cut = np.stack([view.specimen[z, y, x], view.estimate[z, y, x]])
            pair = torch.from_numpy(cut).to(device, torch.float32)
        pair = torch.rot90(pair, int(rng.integers(4)), (-2, -1))
        return pair.flip(-1) if rng.random() < 0.5 else pair

    def _rendered(self, atoms: AtomBox, corner: Sequence[int], device: torch.device) -> Tensor:
        """A tile of them that begins at a voxel of the canvas."""
        if self._renderer is None or self._renderer.device != device:
            self._renderer = SliceRenderer(
                self.tile_shape,
                self.settings.voxel_size_A,
                energy_keV=self.settings.energy_keV,
                device=device,
            )
        size_A, margin = self._renderer.box_size_A, self._renderer.margin
        first = np.array([corner[0], corner[1] - margin, corner[2] - margin])
        positions = atoms.positions_A - first * self.settings.voxel_size_A
        inside = ((positions >= 0) & (positions < size_A)).all(1)
        return self._renderer([AtomBox(atoms.numbers[inside], positions[inside], size_A)])[0]

    def _read(self, path: Path) -> SolvedView:
        view = load_view(path)
        shape = view.specimen.shape
        if any(n < t for n, t in zip(shape, self.tile_shape, strict=True)):
            raise PlanError(
                f"solved view {path}: has {shape} voxels, a training volume "
                f"{self.tile_shape}; train on smaller tiles or solve thicker specimens"
            )
        return view
