"""Memory maps: pages are asked for together before they are read, and given back afterwards."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

__all__ = ["fetch", "give_back"]


def fetch(block: Any) -> None:
    """Begin to read the part of a file that a block of a memory map stands for.

    Returns at once. Left to itself the system notices page after page that something is missing,
    waits for each, and reads ahead, up to megabytes, what a random batch of patterns never asks
    for.

    Parameters
    ----------
    block : ndarray or anything
        About to be read; anything but part of a memory map is left alone.
    """
    mapped = _map_of(block)
    if mapped is None or not block.size:
        return
    start = np.frombuffer(mapped, np.uint8).__array_interface__["data"][0]
    first, end = (int(place) - start for place in np.lib.array_utils.byte_bounds(block))
    first -= first % mmap.PAGESIZE
    mapped.madvise(mmap.MADV_WILLNEED, first, end - first)


def give_back(block: Any) -> None:
    """Let the system take back the pages of the memory map that a block is part of.

    A mapped page counts as memory of the process for as long as the file is mapped, so one pass
    over a scan of 16 GB looks like 16 GB in use, and other programs are pushed out for it. Nothing
    is lost: a page that is wanted again comes from the file, or from the system's cache of it.

    Parameters
    ----------
    block : ndarray or anything
        What was read and has been copied since; anything but part of a memory map that is only
        read is left alone, for pages that somebody changed may exist in memory alone.
    """
    mapped = _map_of(block)
    if mapped is None:
        return
    # The map's own word counts: a view may be read-only over a copy-on-write map with changes.
    with memoryview(mapped) as view:
        changeable = not view.readonly
    if not changeable:
        mapped.madvise(mmap.MADV_DONTNEED)


def _map_of(block: Any) -> mmap.mmap | None:
    """The memory map that an array is part of, where the system takes advice on it."""
    while isinstance(block, np.ndarray):
        block = block.base
    advisable = isinstance(block, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED")  # not on Windows
    return block if advisable else None
