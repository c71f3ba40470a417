"""Pairs of a specimen and what the solver without a prior made of its patterns, kept in a folder.

`napari_mep.reconstruction.solve_views` makes them. They show a network what no formula does: what a
forward model on coarse pixels leaves of a crystal that does not end at their Nyquist frequency.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from napari_mep.errors import PlanError, WeightsError
from napari_mep.training.run_directory import replacing

__all__ = ["SolvedViews", "load_view", "save_view", "view_path"]


def view_path(folder: Path, number: int) -> Path:
    """File of one view."""
    return folder / f"view-{number:06d}.npz"


def save_view(path: Path, specimen: np.ndarray, estimate: np.ndarray) -> None:
    """Store one view; a file is there whole or not at all.

    Parameters
    ----------
    path : Path
        From `view_path`.
    specimen, estimate : (z, y, x) ndarrays
        Phase of the crystal and of the gradient solution, rad.
    """
    with replacing(path) as partial, partial.open("wb") as file:
        # Half precision: a thousandth of a heavy column's phase, far below any noise.
        np.savez(file, specimen=specimen.astype(np.float16), estimate=estimate.astype(np.float16))


def load_view(path: Path) -> np.ndarray:
    """Read one view.

    Returns
    -------
    (2, z, y, x) float16 ndarray
        Specimen and estimate, rad.

    Raises
    ------
    WeightsError
        It cannot be read.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return np.stack([archive["specimen"], archive["estimate"]])
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as err:
        raise WeightsError(f"solved view {path}: not readable ({err}); delete it") from None


class SolvedViews:
    """Tiles of solved views, drawn at random.

    Parameters
    ----------
    folder : path
        Files of `save_view`, in it or in folders within.
    tile_shape : (z, y, x) ints
        Volumes that the prior is trained on.

    Raises
    ------
    WeightsError
        The folder holds no views, or one cannot be read.
    PlanError
        One is smaller than a tile.
    """

    def __init__(self, folder: str | Path, tile_shape: tuple[int, int, int]) -> None:
        self.folder, self.tile_shape = Path(folder), tile_shape
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
        optics as they are.

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
                pair = torch.from_numpy(self._tile(rng)).to(tiles)
                tiles[i], estimates[i] = pair[0], pair[1]

    def _tile(self, rng: np.random.Generator) -> np.ndarray:
        view = self._views[rng.integers(len(self._views))]
        window = [slice(None)]
        for voxels, size in zip(view.shape[1:], self.tile_shape, strict=True):
            first = int(rng.integers(voxels - size + 1))
            window.append(slice(first, first + size))
        pair = np.rot90(view[tuple(window)], int(rng.integers(4)), (-2, -1))
        return np.ascontiguousarray(pair[..., ::-1] if rng.random() < 0.5 else pair)

    def _read(self, path: Path) -> np.ndarray:
        view = load_view(path)
        if any(n < t for n, t in zip(view.shape[1:], self.tile_shape, strict=True)):
            raise PlanError(
                f"solved view {path}: has {view.shape[1:]} voxels, a training volume "
                f"{self.tile_shape}; train on smaller tiles or solve thicker specimens"
            )
        return view
