"""What the views of a comparison can be told, and the arithmetic of how they look."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from napari.utils.colormaps import Colormap

from napari_mep.volume import PhaseVolume

__all__ = [
    "DIVERGING",
    "Options",
    "View",
    "composite",
    "grid_shape",
    "percentile_limits",
    "symmetric_limit",
    "with_data",
]

# Blue, white, red of ColorBrewer: as dark at both ends, and told apart by colour-blind people.
DIVERGING = Colormap(
    [
        [0.02, 0.19, 0.38],
        [0.26, 0.58, 0.76],
        [0.97, 0.97, 0.97],
        [0.84, 0.38, 0.30],
        [0.40, 0, 0.12],
    ],
    name="signed difference",
)


class View(Enum):
    """What the canvas shows."""

    NONE = "none"
    SIDE = "side by side"
    DIFFERENCE = "difference"
    CHECKER = "checkerboard"
    CURTAIN = "curtain"
    FLICKER = "flicker"

    @property
    def pairwise(self) -> bool:
        """Whether it shows the reference and one partner only."""
        return self in (View.CHECKER, View.CURTAIN, View.FLICKER)


@dataclass(frozen=True, slots=True)
class Options:
    """How the views look.

    Parameters
    ----------
    partner : str
        Key of the volume that pairwise views show against the reference.
    tile_A : float
        Side of the squares of the checkerboard in angstrom.
    split : float
        Where the curtain hangs, 0 (left edge) to 1.
    percentiles : tuple of 2 floats
        Of the reference, for the common contrast.
    """

    partner: str = ""
    tile_A: float = 2.0
    split: float = 0.5
    percentiles: tuple[float, float] = (1.0, 99.0)


def composite(
    a: PhaseVolume, b: PhaseVolume, *, tile_A: float | None, split: float = 0.5
) -> np.ndarray:
    """Two volumes in one picture: squares in turn, or one on either side of a line.

    Parameters
    ----------
    a, b : PhaseVolume
        On the same grid.
    tile_A : float or None
        Side of the squares in angstrom, the first one `a`; None for a curtain.
    split : float
        Share of the width, from the left, in which a curtain shows `a`.

    Returns
    -------
    (z, y, x) float32 ndarray
    """
    _, ny, nx = a.data.shape
    if tile_A is None:
        mask = np.broadcast_to(np.arange(nx) < round(split * nx), (ny, nx))
    else:
        _, dy, dx = a.voxel_size_A
        rows, columns = (np.arange(n) * d // tile_A for n, d in ((ny, dy), (nx, dx)))
        mask = (rows[:, None] + columns[None, :]) % 2 == 0
    return np.where(mask, a.data, b.data)


def grid_shape(panels: int, canvas_px: tuple[int, ...]) -> tuple[int, int]:
    """(rows, columns) that give square panels the most room on a canvas (height, width)."""
    height, width = canvas_px

    def room(columns: int) -> tuple[float, int]:
        rows = -(-panels // columns)
        return min(width / columns, height / rows), panels - rows * columns

    columns = max(range(1, panels + 1), key=room)
    return -(-panels // columns), columns


def symmetric_limit(differences: list[np.ndarray]) -> float:
    """Limit of a scale that is centred at zero: the 99.5 percentile of all magnitudes.

    Rounded up to two digits, so that it can be written beside the colours.
    """
    some = [d.reshape(-1)[:: max(1, d.size // 100_000)] for d in differences]
    values = np.abs(np.concatenate(some)) if some else np.zeros(1)
    values = values[np.isfinite(values)]
    limit = max(float(np.percentile(values, 99.5)) if values.size else 0.0, 1e-6)
    digit = 10.0 ** (np.floor(np.log10(limit)) - 1)
    return float(np.ceil(limit / digit - 1e-9) * digit)


def percentile_limits(data: np.ndarray, percentiles: tuple[float, float]) -> tuple[float, float]:
    some = data.reshape(-1)[:: max(1, data.size // 100_000)]
    some = some[np.isfinite(some)]
    if not some.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(some, percentiles))
    return low, max(high, low + 1e-6)


def with_data(volume: PhaseVolume, data: np.ndarray) -> PhaseVolume:
    """A volume on the same voxels with other values."""
    return PhaseVolume(data, volume.voxel_size_A, volume.origin_A)
