"""Training checkpoints: one safetensors file with everything a run needs to continue."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from napari_mep.errors import WeightsError
from napari_mep.training.run_directory import CHECKPOINT_NAME, writing

__all__ = ["load_checkpoint", "read_checkpoint", "save_checkpoint"]

_MOMENTS = ("exp_avg", "exp_avg_sq")


def save_checkpoint(
    run_dir: Path,
    network: nn.Module,
    ema: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
) -> None:
    """Write weights, their EMA, the optimiser's moments and `state`, atomically.

    A full disk or a kill leaves the previous checkpoint intact: the new one is written beside it,
    flushed, and renamed over it.

    Raises
    ------
    ExportError
        If it cannot be written.
    """
    names = {id(p): name for name, p in network.named_parameters()}
    tensors = {f"model.{name}": p.detach() for name, p in network.named_parameters()}
    tensors |= {f"ema.{name}": p for name, p in ema.items()}
    for group in optimizer.param_groups:
        for p in group["params"]:
            for moment in _MOMENTS:
                if moment in optimizer.state[p]:
                    tensors[f"{moment}.{names[id(p)]}"] = optimizer.state[p][moment]
    tensors = {name: t.cpu().contiguous() for name, t in tensors.items()}
    partial = run_dir / (CHECKPOINT_NAME + ".partial")
    try:
        with writing(run_dir):
            try:
                save_file(tensors, partial, metadata={"state": json.dumps(state)})
            except SafetensorError as err:  # how safetensors reports a full disk
                raise OSError(str(err)) from None
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(run_dir / CHECKPOINT_NAME)
    finally:
        partial.unlink(missing_ok=True)


def read_checkpoint(run_dir: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors and the state of a checkpoint.

    Raises
    ------
    WeightsError
        If there is none or it is broken.
    """
    path = run_dir / CHECKPOINT_NAME
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            state = json.loads(file.metadata()["state"])
    except FileNotFoundError:
        raise WeightsError(f"checkpoint {path}: no such file; start without --resume") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as err:
        raise WeightsError(f"checkpoint {path}: not readable ({err})") from None
    return tensors, state


def load_checkpoint(
    run_dir: Path,
    network: nn.Module,
    ema: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> dict[str, Any]:
    """Put a checkpoint into a fresh network, EMA and optimiser; returns its state."""
    tensors, state = read_checkpoint(run_dir)
    try:
        with torch.no_grad():
            for name, p in network.named_parameters():
                p.copy_(tensors[f"model.{name}"])
                ema[name].copy_(tensors[f"ema.{name}"])
                if f"exp_avg.{name}" in tensors:
                    optimizer.state[p] = {
                        "step": torch.tensor(float(state["step"])),
                        # like=p: the moments take the memory format of their parameter, so that
                        # a resumed run does the same arithmetic bit for bit
                        **{m: torch.empty_like(p).copy_(tensors[f"{m}.{name}"]) for m in _MOMENTS},
                    }
    except (KeyError, RuntimeError) as err:
        raise WeightsError(
            f"checkpoint in {run_dir}: made for another architecture "
            f"(preset {state['settings']['preset']}): {str(err).splitlines()[0]}"
        ) from None
    return state
