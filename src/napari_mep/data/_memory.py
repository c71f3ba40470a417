"""How much memory there is to plan with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["usable_memory"]

_CGROUPS = Path("/sys/fs/cgroup")
_MINE = Path("/proc/self/cgroup")


def usable_memory() -> int | None:
    """Bytes this process may use: the machine's, or fewer where a container or batch job says so.

    Returns
    -------
    int or None
        None where the system does not tell.
    """
    limits = list(_group_limits())
    with suppress(AttributeError, ValueError, OSError):  # not on Windows
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(limits, default=None)


def _group_limits() -> Iterator[int]:
    """Limits of the control groups (either version of Linux) that this process is in."""
    try:
        lines = _MINE.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, name = _CGROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = _CGROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        # A container may see its own group as the root, whatever the path says.
        group = Path(path.lstrip("/"))
        for folder in (group, *group.parents):
            try:
                yield int((top / folder / name).read_text())
            except (OSError, ValueError):  # no such group here, or "max"
                continue
