"""Which priors there are and what their cards say, without loading torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from napari_mep.errors import WeightsError

__all__ = ["ModelCard", "checksum", "load_card", "shipped_priors", "weights_path"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a set of weights is, machine-readable; the prose is in docs/."""

    name: str
    architecture: dict[str, Any]
    scale_per_rad: float
    voxel_size_A: tuple[float, float, float]
    tile_shape: tuple[int, int, int]
    logsnr_range: tuple[float, float]
    energy_keV: float
    trained_volumes: int
    loss_curve: dict[str, list[float | None]]
    training_data: dict[str, str]
    settings: dict[str, Any]
    licence: str
    sha256: str = ""

    def to_json(self) -> str:
        """The card as text; `from_dict` takes it back once parsed."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelCard:
        """A card from parsed JSON; KeyError, TypeError or ValueError if it is none."""
        unknown = values.keys() - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"{min(unknown)!r} is no entry of a card")
        converted = {
            "scale_per_rad": float(values["scale_per_rad"]),
            "energy_keV": float(values["energy_keV"]),
            "trained_volumes": int(values["trained_volumes"]),
            "voxel_size_A": _three(float, values["voxel_size_A"]),
            "tile_shape": _three(int, values["tile_shape"]),
            "logsnr_range": (float(values["logsnr_range"][0]), float(values["logsnr_range"][1])),
        }
        return cls(**{**values, **converted})

    @property
    def sees_estimate(self) -> bool:
        """Whether the prior also sees an estimate of the volume that was made without it."""
        return bool(self.architecture.get("estimate", False))

    @property
    def knows_depth(self) -> bool:
        """Whether such estimates in its training were what quasi-Newton steps leave."""
        return self.sees_estimate and float(self.settings.get("quasi_newton_share", 0.0)) > 0

    def denoising_variance(self) -> tuple[list[float], list[float]]:
        """The denoiser's own mean squared error C against logSNR, in scaled units.

        C = sigmoid(-logsnr) times the v-loss seen in training; levels without a measurement are
        left out.
        """
        edges = self.loss_curve["edges"]
        levels, variances = [], []
        for low, high, loss in zip(edges[:-1], edges[1:], self.loss_curve["v_loss"], strict=True):
            if loss is not None and low is not None and high is not None:
                middle = 0.5 * (low + high)
                levels.append(middle)
                variances.append(loss / (1 + math.exp(middle)))
        return levels, variances


def _three(kind: type, values: Any) -> Any:
    z, y, x = values
    return kind(z), kind(y), kind(x)


def shipped_priors() -> list[str]:
    """Names of the priors in this package."""
    folder = files("napari_mep.prior").joinpath("weights")
    if not folder.is_dir():
        return []
    return sorted(
        p.name.removesuffix(".safetensors")
        for p in folder.iterdir()
        if p.name.endswith(".safetensors")
    )


def weights_path(name_or_path: str | Path) -> Path:
    """Where the weights of a shipped or user-made prior lie.

    Raises
    ------
    WeightsError
        If there are none.
    """
    path = Path(name_or_path)
    if path.suffix == ".safetensors":
        if path.is_file():
            return path
        raise WeightsError(f"prior {path}: no such weights file")
    if str(name_or_path) in shipped_priors():
        folder = files("napari_mep.prior").joinpath("weights")
        return Path(str(folder.joinpath(f"{name_or_path}.safetensors")))
    raise WeightsError(
        f"prior {str(name_or_path)!r}: not shipped with this version (there are: "
        f"{', '.join(shipped_priors()) or 'none'}); give one of these or the path of a "
        ".safetensors file"
    )


def load_card(name_or_path: str | Path) -> ModelCard:
    """The card of a prior, without its weights.

    Raises
    ------
    WeightsError
        If the card is missing or not understood.
    """
    path = weights_path(name_or_path).with_suffix(".json")
    try:
        return ModelCard.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise WeightsError(
            f"prior {name_or_path}: its card {path.name} is missing beside the weights; copy both"
        ) from None
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as err:
        reason = f"{type(err).__name__}: {' '.join(str(err).split())}"
        raise WeightsError(f"prior {name_or_path}: card {path} not readable ({reason})") from None


def checksum(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
