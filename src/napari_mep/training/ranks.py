"""Training on several processes, through accelerate.

Every process holds the whole network and takes its share of each batch; gradients are averaged in
one call. The networks are small (at most some 10^8 parameters), so there is nothing to overlap. A
lone process needs no accelerate.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_mep.errors import PlanError

__all__ = ["Ranks", "join_ranks", "local_rank"]


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes of a run; without torchrun there is one.

    Parameters
    ----------
    rank : int
        Number of this process; 0 leads and writes.
    count : int
        How many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the run directory."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """The part of a batch that falls to this process.

        Raises
        ------
        PlanError
            If the batch does not divide into equal parts.
        """
        if batch % self.count:
            raise PlanError(f"training batch {batch}: must be a multiple of {self.count} processes")
        part = batch // self.count
        return slice(self.rank * part, (self.rank + 1) * part)

    def gather(self, values: Tensor) -> Tensor:
        """Parts of all processes (n, ...) as one tensor (count n, ...), in the order of `share`."""
        if self.count == 1:
            return values
        from accelerate.utils import gather

        gathered: Tensor = gather(values)
        return gathered

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes."""
        if self.count == 1:
            return
        from accelerate.utils import reduce

        flat = reduce(torch.cat([t.reshape(-1) for t in tensors]), "mean")
        for t, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            t.copy_(part.view(t.shape))

    def agree(self, stop: bool, seconds: float, device: torch.device) -> tuple[bool, float]:
        """Whether any process wants to stop, and the longest training time of them all."""
        if self.count == 1:
            return stop, seconds
        longest = self.gather(torch.tensor([[float(stop), seconds]], device=device)).amax(0)
        return bool(longest[0]), float(longest[1])


def local_rank() -> int:
    """Number of this process on its machine, as torchrun says; 0 without it."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def join_ranks(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that torchrun started; a lone process needs no group.

    Raises
    ------
    PlanError
        There are several and accelerate is not installed.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks()
        return
    try:
        from accelerate import PartialState
    except ImportError:
        raise PlanError(
            f"training on {count} processes: needs accelerate, which is not installed; "
            "pip install accelerate, or train without torchrun"
        ) from None
    # Takes NCCL between GPUs, gloo between CPUs, and what other accelerators have.
    state = PartialState(cpu=device.type == "cpu")
    try:
        yield Ranks(state.process_index, state.num_processes)
    finally:
        state.destroy_process_group()
