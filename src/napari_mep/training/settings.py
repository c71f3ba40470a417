"""Settings of a training run; stored with its checkpoints and in the model card."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["TrainingSettings"]


class TrainingSettings(BaseModel):
    """Everything a training run depends on, besides the crystal library and the code."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: str = Field("tiny", description="Architecture: tiny, base or paper.")
    volumes: int = Field(200_000, ge=1, description="Length of the run, in rendered volumes.")
    batch: int = Field(16, ge=1, description="Volumes per optimiser step.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate of AdamW.")
    warmup_volumes: int = Field(3_000, ge=1, description="Linear warm-up, in volumes.")
    decay_fraction: float = Field(
        0.3, ge=0, le=1, description="Last part of the run, over which the rate falls to zero."
    )
    weight_decay: float = Field(0.01, ge=0, description="Decoupled weight decay.")
    gradient_clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    ema_relative_length: float = Field(
        0.1, gt=0, lt=0.28, description="Width of the power-function EMA relative to the run."
    )
    logsnr_mean: float = Field(0.0, description="Centre of the Gaussian logSNR weighting.")
    logsnr_width: float = Field(2.5, gt=0, description="Standard deviation of that weighting.")
    logsnr_low: float = Field(-12.0, description="Lowest logSNR.")
    logsnr_high: float = Field(6.0, description="Highest logSNR.")
    uniform_fraction: float = Field(
        0.1, ge=0, le=1, description="Share of uniform logSNR mixed in, so that no level starves."
    )
    voxel_size_A: tuple[float, float, float] = (1.6, 0.2, 0.2)
    tile_shape: tuple[int, int, int] = (8, 64, 64)
    energy_keV: float = Field(300.0, gt=0, description="Beam energy; sets phase per volt.")
    vacancy_fraction: float = Field(0.01, ge=0, lt=1, description="Atoms removed at random.")
    strain: float = Field(0.01, ge=0, le=0.1, description="Standard deviation of lattice strain.")
    tilt_mrad: float = Field(3.0, ge=0, description="Standard deviation of crystal tilt, mrad.")
    seed: int = Field(0, ge=0, description="Seed of every random number.")
