from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_mep.data import Calibration, DiffractionDataset

VALUES: dict[str, Any] = {
    "beam_energy_keV": 300.0,
    "convergence_semiangle_mrad": 21.4,
    "scan_step_A": 0.5,
    "detector_step_invA": 0.15,
}


@pytest.fixture
def values() -> dict[str, Any]:
    """A possible calibration; 16 detector pixels reach 23.6 mrad."""
    return dict(VALUES)


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "cal.toml"
    path.write_text("\n".join(f"{name} = {value}" for name, value in VALUES.items()))
    return path


@pytest.fixture
def patterns() -> np.ndarray:
    """(3, 4, 16, 16) whole counts, every pattern another one."""
    return np.random.default_rng(1).poisson(5.0, (3, 4, 16, 16)).astype(np.float32)


@pytest.fixture
def dataset(patterns: np.ndarray) -> DiffractionDataset:
    return DiffractionDataset(patterns, Calibration(**VALUES), "test")
