from __future__ import annotations

import numpy as np
import pytest

from napari_mep.crystals.library import CrystalLibrary
from napari_mep.crystals.structure import Crystal
from napari_mep.prior.unet import PRESETS, LevelConfig, UNetConfig
from napari_mep.training.settings import TrainingSettings

SMALL = UNetConfig(
    (1, 4, 4),
    (LevelConfig(8, 1, (2, 2, 2)), LevelConfig(16, 1, attention=True)),
    embedding=16,
)


@pytest.fixture
def settings() -> TrainingSettings:
    """Ten steps of two small volumes.

    In float32: torch 2.13 leaves the bfloat16 gradient of a 3x3x3 convolution over 2x4x4 voxels
    partly unwritten on CPUs; levels of the default tile (4x4x4 and larger) are not concerned.
    """
    return TrainingSettings(
        preset="tiny",
        volumes=20,
        batch=2,
        warmup_volumes=4,
        tile_shape=(2, 16, 16),
        precision="float32",
    )


@pytest.fixture
def library() -> CrystalLibrary:
    """Rock salt and an oblique cell."""
    oblique = np.array([[4.1, 0, 0], [0.9, 4.6, 0], [-0.7, 0.5, 5.2]])
    return CrystalLibrary.from_crystals(
        [
            Crystal(4.2 * np.eye(3), [12, 8], [[0, 0, 0], [0.5, 0.5, 0.5]], name="MgO"),
            Crystal(oblique, [22, 8, 8], [[0, 0, 0], [0.4, 0.5, 0.1], [0.2, 0.1, 0.6]]),
        ],
        {"test": "made up"},
    )


@pytest.fixture
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training the preset "tiny" trains a network that is really small."""
    monkeypatch.setitem(PRESETS, "tiny", SMALL)
