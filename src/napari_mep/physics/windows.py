"""Windows around scan positions: cut from a canvas, and added back onto it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["WindowPlan", "as_positions", "plan_windows"]


@dataclass(frozen=True, slots=True, eq=False)
class WindowPlan:
    """Where the window of each position lies on a canvas padded with as much vacuum as it takes.

    Parameters
    ----------
    corners : list of (int, int)
        First pixel (y, x) of each window on the padded canvas.
    index_y, index_x : (B,) int64 tensors
        The same, on the device of the canvas.
    fraction : (B, 2) float64 tensor
        What rounding a position to a whole pixel left over, between -0.5 and 0.5, on the CPU.
    shape : (Ny, Nx)
        Window in pixels.
    canvas_shape : (Y, X)
        Canvas without padding.
    padding : (top, bottom, left, right)
        Pixels of vacuum around it.
    """

    corners: list[tuple[int, int]]
    index_y: torch.Tensor
    index_x: torch.Tensor
    fraction: torch.Tensor
    shape: tuple[int, int]
    canvas_shape: tuple[int, int]
    padding: tuple[int, int, int, int]

    def __len__(self) -> int:
        return len(self.corners)

    def pad(self, phase: torch.Tensor) -> torch.Tensor:
        """Surround (nz, Y, X) with vacuum, that is with zero phase."""
        top, bottom, left, right = self.padding
        return torch.nn.functional.pad(phase, (left, right, top, bottom))

    def crop(self, padded: torch.Tensor) -> torch.Tensor:
        """Undo `pad`: a view of (nz, Y, X)."""
        top, _, left, _ = self.padding
        return padded[:, top : top + self.canvas_shape[0], left : left + self.canvas_shape[1]]

    def cut(self, padded: torch.Tensor, part: slice) -> torch.Tensor:
        """Windows (b, Ny, Nx) of one padded slice (Y', X'), copied."""
        ny, nx = self.shape
        every_window = padded.unfold(0, ny, 1).unfold(1, nx, 1)
        return every_window[self.index_y[part], self.index_x[part]]

    def add_to(self, padded: torch.Tensor, windows: torch.Tensor, part: slice) -> None:
        """Transpose of `cut`, for all slices: add windows (nz, b, Ny, Nx) onto (nz, Y', X').

        One window after the other, because they overlap: an indexed sum is no faster on a CPU, and
        on a GPU its atomic additions would make equal runs differ.
        """
        ny, nx = self.shape
        for b, (y, x) in enumerate(self.corners[part]):
            padded[:, y : y + ny, x : x + nx] += windows[:, b]


def plan_windows(
    positions: torch.Tensor,
    shape: tuple[int, int],
    canvas_shape: tuple[int, int],
    device: torch.device,
) -> WindowPlan:
    """Lay windows around positions so that each centre pixel, N // 2, is the nearest one.

    Parameters
    ----------
    positions : (B, 2) float64 tensor
        Positions (y, x) in pixels of the canvas, on the CPU.
    shape : (Ny, Nx)
        Window in pixels.
    canvas_shape : (Y, X)
        Canvas in pixels.
    device : torch.device
        Where the canvas lies.

    Returns
    -------
    WindowPlan
        The windows.
    """
    window = torch.tensor(shape)
    canvas = torch.tensor(canvas_shape)
    nearest = (positions + 0.5).floor()
    # A window that misses the canvas sees vacuum wherever it is: keep the padding bounded.
    corners = (nearest.clamp(-1e9, 1e9).long() - window // 2).maximum(-window).minimum(canvas)
    none = torch.zeros(1, 2, dtype=torch.int64)
    before = -torch.cat((corners, none)).amin(0)
    after = torch.cat((corners + window - canvas, none)).amax(0)
    corners = corners + before
    return WindowPlan(
        corners=[(int(y), int(x)) for y, x in corners.tolist()],
        index_y=corners[:, 0].to(device),
        index_x=corners[:, 1].to(device),
        fraction=positions - nearest,
        shape=shape,
        canvas_shape=canvas_shape,
        padding=(int(before[0]), int(after[0]), int(before[1]), int(after[1])),
    )


def as_positions(positions_px: torch.Tensor | np.ndarray) -> torch.Tensor:
    """Positions as (B, 2) float64 on the CPU: whole pixels are split off in double precision.

    Raises
    ------
    ValueError
        Another shape, or a position that is not finite.
    """
    if isinstance(positions_px, torch.Tensor):
        positions = positions_px.detach().cpu().to(torch.float64)
    else:
        positions = torch.as_tensor(np.asarray(positions_px, dtype=np.float64))
    if positions.ndim != 2 or positions.shape[1] != 2:
        raise ValueError(f"positions_px: shape {tuple(positions.shape)}, expected (B, 2)")
    if not bool(torch.isfinite(positions).all()):
        raise ValueError("positions_px: not finite")
    return positions
