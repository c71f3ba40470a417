"""Patterns of a scan that is larger than memory: read from disk by mini-batch, one batch ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from napari_mep.reconstruction.memory import total_memory

if TYPE_CHECKING:
    from napari_mep.data.dataset import DiffractionDataset

__all__ = ["StreamedCounts", "fits_in_memory", "read_ahead"]

_SHARE = 0.4  # of the memory may hold patterns; the rest is for waves, canvas and other programs
_UNKNOWN_BYTES = 4 << 30  # a system that does not tell how much memory it has


class StreamedCounts:
    """Stands for the tensor of all counts (n, ky, kx), and reads those that are asked for.

    Parameters
    ----------
    dataset : DiffractionDataset
        Held lazily: a memory map, HDF5 or Zarr.
    fit : callable
        Brings counts (n, ky, kx) float32, zero frequency at ``K // 2``, into the form that the
        solver wants.
    device : torch.device
        Where the counts are wanted.
    """

    def __init__(
        self, dataset: DiffractionDataset, fit: Callable[[Tensor], Tensor], device: torch.device
    ) -> None:
        self._dataset = dataset
        self._fit = fit
        self.device = device
        self.shape = (dataset.n_patterns, *self.take(np.zeros(1, dtype=np.int64)).shape[1:])

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Counts of these patterns, on the device."""
        return self.take(indices.cpu().numpy())

    def take(self, indices: np.ndarray) -> Tensor:
        """Counts of these patterns, on the device.

        Raises
        ------
        DataError
            The file cannot be read.
        """
        counts = torch.from_numpy(self._dataset.counts(indices))
        return self._fit(counts).to(self.device)

    def sample(self, most: int = 1024) -> Tensor:
        """At most that many evenly spread patterns, for means."""
        count = min(len(self), most)
        return self.take((np.arange(count) * len(self)) // count)

    def cpu(self) -> Tensor:
        """All of them in memory: for solvers of other packages, which want them so."""
        return self.take(np.arange(len(self))).cpu()


def read_ahead(
    counts: Tensor | StreamedCounts, parts: Sequence[np.ndarray]
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Each part of the patterns with its counts; the next one is read while one is worked on.

    Parameters
    ----------
    counts : Tensor or StreamedCounts
        All counts. A tensor is only indexed: there is nothing to read.
    parts : sequence of (n,) int ndarrays
        Pattern indices of each part.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    if isinstance(counts, Tensor):
        for part in parts:
            yield part, counts[torch.from_numpy(part).to(counts.device)]
        return
    with ThreadPoolExecutor(1, "napari-mep read ahead") as reader:
        waiting = [reader.submit(counts.take, part) for part in parts[:1]]
        for number, part in enumerate(parts):
            ready = waiting.pop()
            if number + 1 < len(parts):
                waiting.append(reader.submit(counts.take, parts[number + 1]))
            yield part, ready.result()


def fits_in_memory(shape: Sequence[int], device: torch.device) -> bool:
    """Whether counts (n, ky, kx) in float32 may be kept in the memory of a device."""
    wanted = 4 * int(np.prod([int(n) for n in shape], dtype=np.int64))
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return wanted <= _SHARE * free
    return wanted <= _SHARE * (total_memory(device) or _UNKNOWN_BYTES)
