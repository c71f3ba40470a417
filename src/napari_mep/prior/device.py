"""Where torch computes."""

from __future__ import annotations

import torch

from napari_mep.errors import DeviceError

__all__ = ["resolve_device"]


def resolve_device(name: str) -> torch.device:
    """The device that a plan names; ``auto`` takes a GPU where there is one.

    Raises
    ------
    DeviceError
        If there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"device {name!r}: unknown; use auto, cpu, cuda, cuda:N or mps") from None
    present = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }.get(device.type, 0)
    if (device.index or 0) >= present:
        raise DeviceError(
            f"device {name!r}: not there ({present} {device.type} device(s) found); use auto or cpu"
        )
    return device
