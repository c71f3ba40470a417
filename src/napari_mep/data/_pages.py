"""Memory maps that do not pile up in memory: pages are given back once they have been read."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

__all__ = ["give_back"]


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
    while isinstance(block, np.ndarray):
        block = block.base
    if not isinstance(block, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        return
    # The map's own word counts: a view may be read-only over a copy-on-write map with changes.
    with memoryview(block) as view:
        changeable = not view.readonly
    if not changeable:
        block.madvise(mmap.MADV_DONTNEED)
