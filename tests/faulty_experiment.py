"""A simulated experiment whose instrument is out of order, with the answers known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from napari_mep.data.imperfections import Imperfections, Recording, record
from napari_mep.data.simulate import ExpectedPatterns, Experiment, simulate_expected

ROTATION_DEG, DEFOCUS_A = 23.0, -120.0
KNOWN = {
    "beam_energy_keV": 300.0,
    "convergence_semiangle_mrad": 20.0,
    "scan_step_A": 0.5,
    "specimen_thickness_A": 8.0,
}
IMPERFECTIONS = Imperfections(
    flip_y=True,
    dead_share=0.03,
    hot_share=0.002,
    centre_px=(0.7, -1.3),
    descan_px=(0.06, 0.02, -0.03, 0.08),
)


@dataclass(frozen=True)
class Case:
    """What was simulated and what was recorded."""

    expected: ExpectedPatterns
    recording: Recording

    def known(self, **changes: Any) -> dict[str, Any]:
        """What the user says: the defocus is 20 % wrong, rotation and flips are unknown."""
        values = {**KNOWN, "defocus_A": 0.8 * DEFOCUS_A, **changes}
        return {name: value for name, value in values.items() if value is not None}


@pytest.fixture(scope="session")
def case() -> Case:
    """SrTiO3 by abTEM, 16 x 16 positions, 1e5 e/A^2: half a dozen seconds."""
    expected = simulate_expected(
        "srtio3",
        Experiment(
            scan_shape=(16, 16),
            scan_step_A=0.5,
            scan_rotation_deg=ROTATION_DEG,
            semiangle_mrad=20.0,
            defocus_A=DEFOCUS_A,
            spherical_aberration_A=0.0,
            thickness_A=8.0,
            slice_thickness_A=2.0,
            detector_pixels=40,
            detector_step_invA=0.1,
        ),
    )
    recording = record(expected, IMPERFECTIONS, 1e5, seed=1)
    assert np.isin(recording.patterns.dtype.itemsize, (2, 4))
    return Case(expected, recording)
