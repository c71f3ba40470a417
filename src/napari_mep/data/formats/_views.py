"""Arrays on disk seen as (scan_y, scan_x, ky, kx) without reading them."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

__all__ = ["Concatenated", "Reordered", "StackAsScan"]


@dataclass(frozen=True, slots=True)
class StackAsScan:
    """A lazily held stack (n, ky, kx) in raster order, seen as (scan_y, scan_x, ky, kx).

    The stack may be longer than the scan: what follows is not looked at.
    """

    stack: Any
    scan_shape: tuple[int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.scan_shape, *(int(n) for n in self.stack.shape[1:]))

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.stack.dtype)

    def __getitem__(self, key: tuple[int, slice]) -> Any:
        row, columns = key
        first, last, step = columns.indices(self.scan_shape[1])
        offset = row * self.scan_shape[1]
        return self.stack[offset + first : offset + last : step]


@dataclass(frozen=True, slots=True)
class Reordered:
    """A lazily held 4D array whose axes lie in another order.

    Parameters
    ----------
    array : array
        Anything that takes a tuple of ints and slices.
    order : tuple of 4 ints
        For scan_y, scan_x, ky and kx the axis of `array`.
    """

    array: Any
    order: tuple[int, int, int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(self.array.shape[axis]) for axis in self.order)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.array.dtype)

    def __getitem__(self, key: tuple[int, slice]) -> Any:
        row, columns = key
        where: list[int | slice] = [slice(None)] * 4
        where[self.order[0]], where[self.order[1]] = row, columns
        block = np.asarray(self.array[tuple(where)])
        left = [axis for axis in range(4) if axis != self.order[0]]
        return block.transpose([left.index(axis) for axis in self.order[1:]])


@dataclass(frozen=True, slots=True)
class Concatenated:
    """Lazily held stacks (n, ky, kx) of one detector, one behind the other.

    Parameters
    ----------
    parts : sequence of arrays
        Equal in detector shape and type.
    """

    parts: Sequence[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        frames = sum(int(part.shape[0]) for part in self.parts)
        return (frames, *(int(n) for n in self.parts[0].shape[1:]))

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.parts[0].dtype)

    def __getitem__(self, key: slice) -> np.ndarray:
        starts = [0, *accumulate(int(part.shape[0]) for part in self.parts)]
        first, last, step = key.indices(starts[-1])
        blocks = []
        for index in range(bisect.bisect_right(starts, first) - 1, len(self.parts)):
            if index < 0 or starts[index] >= last:
                break
            # The first wanted frame in this part, on the grid of `step`.
            skip = max(0, -(-(starts[index] - first) // step)) * step
            begin, end = first + skip - starts[index], last - starts[index]
            blocks.append(np.asarray(self.parts[index][begin:end:step]))
        return np.concatenate(blocks) if blocks else np.empty((0, *self.shape[1:]), self.dtype)
