"""One canvas, many tiles: applying a denoiser of small volumes to a large field of view.

Only the denoiser is tiled. Solver state, noise and data term live on the canvas, and predictions
are blended before noise is added: blending solver outputs instead would shrink the variance of an
SDE (see docs/method.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["TiledDenoiser", "tile_starts"]


def tile_starts(length: int, tile: int, overlap: float, shift: float = 0.0) -> list[int]:
    """Starts of tiles that cover an axis, the outer two flush with its ends.

    Parameters
    ----------
    length, tile : int
        Voxels of the axis and of a tile, tile <= length.
    overlap : float
        Smallest share of a tile that neighbours have in common.
    shift : float
        In [0, 1): where between its bounds each inner tile lies; vary it from step to step so
        that no seam stays in one place.

    Returns
    -------
    list of int
    """
    if tile > length:
        raise ValueError(f"axis of {length} voxels is shorter than a tile of {tile}")
    stride = max(1, math.floor(tile * (1 - overlap)))
    count = math.ceil((length - tile) / stride) + 1
    if count == 1:
        return [0]
    slack = stride * (count - 1) - (length - tile)  # how far inner tiles may move together
    moved = round(shift * slack)
    starts = [i * stride - moved for i in range(count)]
    return [0, *(min(max(s, 0), length - tile) for s in starts[1:-1]), length - tile]


class TiledDenoiser:
    """Blends the x-predictions of overlapping tiles over a canvas.

    Parameters
    ----------
    denoise : callable
        (B, z, y, x) tensor, logsnr -> x-prediction of the same shape.
    tile_shape : (z, y, x) ints
        What `denoise` was trained on.
    canvas_shape : (z, y, x) ints
        At least `tile_shape` along each axis.
    overlap : float
        Smallest lateral overlap of neighbouring tiles.
    depth_overlap : float
        Likewise along the beam, where one tile sees little.
    batch : int
        Tiles per call of the denoiser.
    check : callable
        Called before each of these calls; may raise to give up.
    estimate : (z, y, x) tensor, optional
        A canvas whose tiles `denoise` gets as a third argument.
    """

    def __init__(
        self,
        denoise: Callable[..., Tensor],
        tile_shape: tuple[int, int, int],
        canvas_shape: tuple[int, int, int],
        *,
        overlap: float = 0.25,
        depth_overlap: float = 0.5,
        batch: int = 8,
        check: Callable[[], None] = lambda: None,
        estimate: Tensor | None = None,
    ) -> None:
        self._denoise, self._tile, self._canvas = denoise, tile_shape, canvas_shape
        self._overlaps = (depth_overlap, overlap, overlap)
        self._batch, self._check, self._estimate = batch, check, estimate
        axes = [torch.sin(math.pi * (torch.arange(n) + 0.5) / n) ** 2 + 1e-3 for n in tile_shape]
        self._window = axes[0][:, None, None] * axes[1][:, None] * axes[2]

    def __call__(self, x: Tensor, logsnr: float, shift: float = 0.0) -> Tensor:
        """Denoise a (z, y, x) canvas; `shift` in [0, 1) moves the inner tiles."""
        starts = [
            tile_starts(n, t, o, shift)
            for n, t, o in zip(self._canvas, self._tile, self._overlaps, strict=True)
        ]
        places = [
            tuple(slice(s, s + t) for s, t in zip(corner, self._tile, strict=True))
            for corner in torch.cartesian_prod(*[torch.tensor(s) for s in starts]).tolist()
        ]
        self._check()
        if len(places) == 1:
            return self._predict(x, logsnr, places)[0]
        window = self._window.to(x.device, x.dtype)
        total, weight = torch.zeros_like(x), torch.zeros_like(x)
        for i in range(0, len(places), self._batch):
            self._check()
            some = places[i : i + self._batch]
            tiles = self._predict(x, logsnr, some)
            for place, tile in zip(some, tiles, strict=True):
                total[place] = total[place] + window * tile
                weight[place] = weight[place] + window
        return total / weight

    def _predict(self, x: Tensor, logsnr: float, places: list[tuple[slice, ...]]) -> Tensor:
        """x-predictions of some tiles."""
        canvases = [x] if self._estimate is None else [x, self._estimate]
        noisy, *estimate = (torch.stack([c[p] for p in places]) for c in canvases)
        return self._denoise(noisy, logsnr, *estimate)
