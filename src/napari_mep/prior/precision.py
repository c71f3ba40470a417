"""In which arithmetic the network runs, in training and in sampling.

Weights, their moments, the loss, the noising and the data term stay in float32. Only the network
runs in bfloat16, where the device multiplies it in hardware: there it is two to five times faster,
and rounding its input by 0.2 % is small beside the noise that the input carries.
"""

from __future__ import annotations

import torch

from napari_mep.errors import PlanError

__all__ = ["resolve_precision"]


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """What a precision setting means on a device.

    Parameters
    ----------
    precision : str
        ``float32``, ``bfloat16`` or ``auto``.
    device : torch.device
        Where the network runs.

    Returns
    -------
    torch.dtype
        torch.float32 or torch.bfloat16.

    Raises
    ------
    PlanError
        If bfloat16 is asked for on a device that has none, not even in software.
    """
    if precision == "float32":
        return torch.float32
    fast = _has_bfloat16(device)
    if precision == "bfloat16" and not fast and device.type not in ("cpu", "cuda"):
        raise PlanError(f"precision 'bfloat16': not on {device.type}; use auto")
    return torch.bfloat16 if fast or precision == "bfloat16" else torch.float32


def _has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware, and gains by it."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    # torch.ops.mkldnn._is_mkldnn_bf16_supported is also true where bfloat16 is emulated.
    if hasattr(torch.cpu, "get_capabilities"):  # torch 2.10 and later
        has = torch.cpu.get_capabilities()
        # Intel's vector units multiply it no faster than float32: on a Xeon without AMX a training
        # step (base, batch 8, one thread) takes 1.8 times as long with it.
        vector = has.get("avx512_bf16") and "Intel" not in str(has.get("cpu_name"))
        return bool(vector or has.get("amx_bf16"))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
