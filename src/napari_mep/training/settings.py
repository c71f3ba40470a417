"""Settings of a training run; stored with its checkpoints and in the model card.

A plain dataclass: a node that trains needs torch, numpy and safetensors, and nothing to validate
twenty numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from napari_mep.errors import PlanError

if TYPE_CHECKING:
    from napari_mep.prior.unet import UNetConfig

__all__ = ["TrainingSettings"]


def _setting(default: Any, text: str, **limits: Any) -> Any:
    """A field with its description and limits: least, above, most, below, choices."""
    return field(default=default, metadata={"description": text, **limits})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """Everything a training run depends on, besides the crystal library and the code.

    Each field's metadata holds its ``description`` and limits (``least``, ``above``, ``most``,
    ``below``, ``choices``).

    Raises
    ------
    PlanError
        If a value is out of its limits.
    """

    preset: str = _setting("tiny", "Architecture: tiny, small, base or paper.")
    volumes: int = _setting(200_000, "Length of the run, in rendered volumes.", least=1)
    minutes: float = _setting(
        0.0, "Length in minutes of training, all pieces together; 0: `volumes` decides.", least=0
    )
    batch: int = _setting(16, "Volumes per optimiser step.", least=1)
    precision: str = _setting(
        "auto",
        "Arithmetic of the network; auto: bfloat16 where the device has it in hardware.",
        choices=("auto", "float32", "bfloat16"),
    )
    schedule: str = _setting(
        "linear",
        "How the learning rate falls.",
        choices=("linear", "cosine", "inverse-sqrt"),
    )
    reference_volumes: int = _setting(
        30_000, "Volumes after which inverse-sqrt begins to fall.", least=1
    )
    learning_rate: float = _setting(1e-3, "Peak learning rate of AdamW.", above=0)
    warmup_volumes: int = _setting(3_000, "Linear warm-up, in volumes.", least=1)
    decay_fraction: float = _setting(
        0.3, "Last part of the run, over which the rate falls to zero.", least=0, most=1
    )
    weight_decay: float = _setting(0.01, "Decoupled weight decay.", least=0)
    gradient_clip: float = _setting(1.0, "Largest gradient norm.", above=0)
    ema_relative_length: float = _setting(
        0.1, "Width of the power-function EMA relative to the run.", above=0, below=0.28
    )
    logsnr_mean: float = _setting(0.0, "Centre of the Gaussian logSNR weighting.")
    logsnr_width: float = _setting(2.5, "Standard deviation of that weighting.", above=0)
    logsnr_low: float = _setting(-12.0, "Lowest logSNR.")
    logsnr_high: float = _setting(6.0, "Highest logSNR.")
    uniform_fraction: float = _setting(
        0.1, "Share of a uniform floor in the weighting, so that no level starves.", least=0, most=1
    )
    estimate_share: float = _setting(
        0.0,
        "Volumes that are shown together with what a solver without a prior would make of them; "
        "0: the network takes no such estimate.",
        least=0,
        most=1,
    )
    quasi_newton_share: float = _setting(
        0.0,
        "Of these estimates, those as quasi-Newton steps leave them; the others are as gradient "
        "steps do.",
        least=0,
        most=1,
    )
    estimate_error_rad: float = _setting(
        0.03,
        "How wrong these estimates are over depth at most, besides counting noise: rad of a voxel, "
        "from 0.001 on. A forward model with fast waves needs 0.03, with precise ones 0.004.",
        least=0.001,
        most=1,
    )
    solved_share: float = _setting(
        0.0,
        "Volumes that come from a folder of solved views, with the estimate of a real solver; 0: "
        "there is no such folder.",
        least=0,
        most=1,
    )
    loss: str = _setting(
        "absolute",
        "Squared error of a volume: absolute, or relative to how much the depth sum of its "
        "estimate varies, so that light crystals count as much as heavy ones.",
        choices=("absolute", "relative"),
    )
    structure_weight: float = _setting(
        0.0,
        "How much 1 - SSIM of a prediction counts beside its squared error, at noise levels from "
        "which results are predicted (logSNR below -8).",
        least=0,
    )
    noise_levels: str = _setting(
        "adaptive",
        "How noise levels are drawn: adaptive, or as the weighting says.",
        choices=("adaptive", "weighting"),
    )
    voxel_size_A: tuple[float, float, float] = _setting(
        (1.6, 0.2, 0.2), "Voxels (z, y, x), angstrom.", above=0
    )
    tile_shape: tuple[int, int, int] = _setting((8, 64, 64), "Voxels of a volume.", least=1)
    energy_keV: float = _setting(300.0, "Beam energy, keV; sets phase per volt.", above=0)
    vacancy_fraction: float = _setting(0.01, "Atoms removed at random.", least=0, below=1)
    substitution_fraction: float = _setting(
        0.005, "Atoms replaced by another element.", least=0, below=1
    )
    grain_boundary_share: float = _setting(
        0.05, "Volumes in which two crystals meet.", least=0, most=1
    )
    surface_share: float = _setting(
        0.1, "Volumes with an edge, a surface or a step.", least=0, most=1
    )
    stacking_fault_share: float = _setting(
        0.03, "Crystals of which a part is displaced along a lattice plane.", least=0, most=1
    )
    amorphous_share: float = _setting(
        0.03, "Volumes with an amorphous layer, side or patch.", least=0, most=1
    )
    low_index_share: float = _setting(
        0.1,
        "Crystals seen along axes such as [111], [210] and [211]; the others along a, b, c and "
        "face diagonals.",
        least=0,
        most=1,
    )
    strain: float = _setting(0.01, "Standard deviation of lattice strain.", least=0, most=0.1)
    tilt_mrad: float = _setting(3.0, "Standard deviation of crystal tilt, mrad.", least=0)
    misaligned_share: float = _setting(
        0.1, "Crystals that are tilted by `misaligned_mrad` instead.", least=0, most=1
    )
    misaligned_mrad: float = _setting(35.0, "Standard deviation of their tilt, mrad.", least=0)
    seed: int = _setting(0, "Seed of every random number.", least=0)

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            reason = _refused(value, f.default, f.metadata)
            if reason:
                raise PlanError(f"training {f.name} {value!r}: {reason}")
        if self.logsnr_low >= self.logsnr_high:
            raise PlanError(
                f"training logsnr_low {self.logsnr_low:g}: must be below logsnr_high "
                f"({self.logsnr_high:g})"
            )
        if self.solved_share and not self.estimate_share:
            raise PlanError(
                f"training solved_share {self.solved_share:g}: the network takes no estimate; set "
                "estimate_share too (0.9), or leave out the solved views"
            )
        if self.loss == "relative" and not self.estimate_share:
            raise PlanError(
                "training loss 'relative': the network takes no estimate that tells how heavy a "
                "crystal is; set estimate_share too (0.9), or use absolute"
            )

        if self.structure_weight and min(self.tile_shape[1:]) < 7:
            raise PlanError(
                f"training structure_weight {self.structure_weight:g}: SSIM has windows of 7 "
                f"voxels, the tile {self.tile_shape}; use a larger tile_shape, or 0"
            )

    @property
    def architecture(self) -> UNetConfig:
        """The network of the preset, with an input for an estimate where there are any."""
        from napari_mep.prior.unet import PRESETS  # loads torch, which a form can do without

        return replace(PRESETS[self.preset], estimate=self.estimate_share > 0)

    def to_dict(self) -> dict[str, Any]:
        """The settings in types that JSON holds; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingSettings:
        """Settings that `to_dict` wrote; those an older version did not know take their defaults.

        Raises
        ------
        PlanError
            If a name is unknown or a value out of its limits.
        """
        unknown = sorted(values.keys() - {f.name for f in fields(cls)})
        if unknown:
            raise PlanError(f"training settings: {unknown[0]!r} is not known to this version")
        given: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**given)


def _refused(value: Any, like: Any, limits: Mapping[str, Any]) -> str | None:
    """Why a value cannot stand where the default is `like`, or None."""
    if isinstance(like, tuple):
        if not isinstance(value, tuple) or len(value) != len(like):
            return f"must be {len(like)} numbers"
        reasons = (_refused(v, part, limits) for v, part in zip(value, like, strict=True))
        return next((reason for reason in reasons if reason), None)
    if isinstance(like, str):
        choices = limits.get("choices", (value,))
        return None if value in choices else f"use {', '.join(choices)}"
    if isinstance(like, int) and (isinstance(value, bool) or not isinstance(value, int)):
        return "must be a whole number"
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return "must be a finite number"
    checks = (
        ("least", value >= limits.get("least", value), "at least"),
        ("above", value > limits.get("above", -math.inf), "above"),
        ("most", value <= limits.get("most", value), "at most"),
        ("below", value < limits.get("below", math.inf), "below"),
    )
    return next((f"must be {word} {limits[key]}" for key, good, word in checks if not good), None)
