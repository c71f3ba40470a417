"""What a result was computed on and with."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from napari_mep import __version__
from napari_mep.data._memory import usable_memory

__all__ = ["describe_machine"]

_PACKAGES = ("torch", "numpy", "abtem", "ptyrad", "ptychi")


def describe_machine(device: str = "cpu") -> dict[str, Any]:
    """Hardware and software of this process, in values that JSON can hold; no date, no host name.

    Loads torch.

    Parameters
    ----------
    device : str
        The device of the reconstruction, as the plan names it.

    Returns
    -------
    dict
        ``cpu``, ``cores``, ``memory_GiB``, ``device``, ``threads`` (torch's in this process),
        ``system``, ``python`` and ``versions``.
    """
    import torch

    from napari_mep.prior.device import resolve_device

    resolved = resolve_device(device)
    gpu = torch.cuda.get_device_name(resolved) if resolved.type == "cuda" else None
    return {
        "cpu": _cpu(),
        "cores": _cores(),
        "memory_GiB": _memory_GiB(),
        "device": gpu or resolved.type,
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {"napari-mep": __version__, **_versions()},
    }


def _cpu() -> str:
    if platform.system() == "Darwin":
        asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            answer = subprocess.run(asked, capture_output=True, text=True, check=True)
            return answer.stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _cores() -> int:
    """Those this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_GiB() -> float | None:
    memory = usable_memory()
    return None if memory is None else round(memory / 2**30, 1)


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
