from __future__ import annotations

import ctypes
import mmap
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from napari_mep.data import open_dataset
from napari_mep.data._pages import fetch, give_back

PAGES = 64


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "block.raw"
    np.arange(PAGES * mmap.PAGESIZE // 8, dtype="<i8").tofile(path)
    return path


def resident(path: Path) -> int:
    """Bytes of a file that count as memory of this process, as Linux tells it."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    return 1024 * sum(
        int(next(line for line in lines if line.startswith("Rss:")).split()[1])
        for head in lines
        if head.endswith(f" {path}")
    )


def cached(mapped: np.ndarray) -> list[int]:
    """Which pages of a memory map the system holds, without touching them."""
    pages = (ctypes.c_ubyte * PAGES)()
    address = ctypes.c_void_p(mapped.ctypes.data)
    assert ctypes.CDLL(None).mincore(address, ctypes.c_size_t(PAGES * mmap.PAGESIZE), pages) == 0
    return [number for number, state in enumerate(pages) if state & 1]


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what is in memory")
def test_pages_that_are_asked_for_arrive_before_they_are_read_and_no_others(file):
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    mapped = np.memmap(file, np.uint8, "r").reshape(PAGES, -1)
    if cached(mapped):
        pytest.skip("this file system keeps files in memory")
    fetch(np.memmap(file, np.uint8, "r", offset=3 * mmap.PAGESIZE).reshape(PAGES - 3, -1)[17:20])
    until = time.monotonic() + 10
    while len(cached(mapped)) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    assert cached(mapped) == [20, 21, 22]


@pytest.mark.skipif(sys.platform != "linux", reason="resident pages are read from /proc")
def test_pages_that_were_read_are_given_back_and_read_again(file):
    mapped = np.memmap(file, dtype="<i8", mode="r").reshape(2, -1)
    total = int(mapped.sum())
    assert resident(file) == file.stat().st_size
    give_back(mapped[1, 5:9])  # any part of it
    assert resident(file) == 0
    assert int(mapped.sum()) == total


@pytest.mark.parametrize("read_only", [False, True])
def test_changes_that_exist_in_memory_alone_are_left_alone(file, read_only):
    """A copy-on-write map, even where the array does not allow writing any more."""
    mapped = np.memmap(file, dtype="<i8", mode="c")
    mapped[7] = -1
    mapped.flags.writeable = not read_only
    give_back(mapped[:16])
    assert mapped[7] == -1


def test_a_map_that_is_written_keeps_what_was_written(file):
    mapped = np.memmap(file, dtype="<i8", mode="r+")
    mapped[7] = -1
    give_back(mapped)
    assert mapped[7] == -1


@pytest.mark.parametrize("other", [np.arange(4), np.broadcast_to(1.0, (2, 2)), [1, 2], b"ab"])
def test_what_is_no_memory_map_is_left_alone(other):
    fetch(other)
    give_back(other)


@pytest.mark.skipif(sys.platform != "linux", reason="resident pages are read from /proc")
def test_a_pass_over_a_scan_leaves_nothing_of_it_in_memory(tmp_path, values):
    path = tmp_path / "scan.npy"
    np.save(path, np.random.default_rng(0).integers(0, 9, (16, 16, 64, 64)).astype("<u2"))
    dataset = open_dataset(path, values)
    mean = dataset.counts().mean(axis=0)
    assert resident(path) < os.path.getsize(path) / 8
    np.testing.assert_allclose(mean, np.load(path).mean(axis=(0, 1)), rtol=1e-5)
