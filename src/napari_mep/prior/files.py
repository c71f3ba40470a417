"""Weights on disk: half-precision safetensors beside a JSON card that says what they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from napari_mep.errors import WeightsError
from napari_mep.prior.catalogue import (
    ModelCard,
    checksum,
    load_card,
    shipped_priors,
    weights_path,
)
from napari_mep.prior.denoiser import Denoiser
from napari_mep.prior.unet import UNet3D, UNetConfig

__all__ = ["ModelCard", "load_card", "load_prior", "save_prior", "shipped_priors", "weights_path"]


def save_prior(path: str | Path, weights: Mapping[str, Tensor], card: ModelCard) -> ModelCard:
    """Write weights in half precision and their card (same name, .json) with its checksum."""
    path = Path(path)
    save_file({k: v.detach().cpu().half().contiguous() for k, v in weights.items()}, path)
    card = replace(card, sha256=checksum(path))
    path.with_suffix(".json").write_text(card.to_json() + "\n", encoding="utf-8")
    return card


def load_prior(name_or_path: str | Path, device: torch.device | str = "cpu") -> Denoiser:
    """A prior ready to denoise.

    Raises
    ------
    WeightsError
        If weights or card are missing, the checksum disagrees or the tensors do not fit the
        architecture.
    """
    path = weights_path(name_or_path)
    card = load_card(name_or_path)
    if checksum(path) != card.sha256:
        raise WeightsError(
            f"prior {name_or_path}: {path.name} is corrupted (its checksum is not the card's); "
            "copy or download it again"
        )
    try:
        with torch.random.fork_rng(devices=()):  # layers draw weights that are replaced at once
            network = UNet3D(UNetConfig.from_dict(card.architecture))
        network.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    except (SafetensorError, OSError, KeyError, TypeError, RuntimeError) as err:
        reason = str(err).splitlines()[0]
        raise WeightsError(f"prior {name_or_path}: weights do not load ({reason})") from None
    network.requires_grad_(False)
    network.eval().to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return Denoiser(
        network,
        card.scale_per_rad,
        card.voxel_size_A,
        card.tile_shape,
        card.logsnr_range,
        card.energy_keV,
    )
