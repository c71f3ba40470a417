"""A small specimen, scanned by the package's own physics: milliseconds instead of abTEM's minutes.

That the physics agrees with abTEM is tested in tests/physics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_mep.data.calibration import Calibration
from napari_mep.data.dataset import DiffractionDataset
from napari_mep.physics.multislice import MultisliceModel
from napari_mep.physics.noise import poisson_counts
from napari_mep.physics.probe import Aberrations, probe_fourier
from napari_mep.physics.scan import raster_positions_A
from napari_mep.prior.files import ModelCard, save_prior
from napari_mep.prior.unet import LevelConfig, UNet3D, UNetConfig
from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.volume import PhaseVolume

PIXEL_A, SLICE_A, DETECTOR = 0.2, 1.6, 32
CORNER = 40  # canvas pixel of the world origin
CALIBRATION = {
    "beam_energy_keV": 300.0,
    "convergence_semiangle_mrad": 21.4,
    "defocus_A": 20.0,
    "scan_step_A": 0.4,
    "detector_step_invA": 1 / (DETECTOR * PIXEL_A),
    "specimen_thickness_A": 2 * SLICE_A,
}
# World coordinates (y, x) in angstrom, height in radians; two slices that differ.
ATOMS = [
    [(0.42, 0.81, 0.35), (2.1, 1.9, 0.25)],
    [(1.3, 2.45, 0.3), (2.1, 1.9, 0.25), (0.4, 3.6, 0.3)],
]
SMALL = UNetConfig((1, 4, 4), (LevelConfig(8, 1, (2, 2, 2)), LevelConfig(8, 1)), embedding=16)


def _specimen(size: int = 96) -> torch.Tensor:
    """(2, size, size) float64 phase, radians; atoms as Gaussians of 0.25 A."""
    y, x = np.mgrid[:size, :size] * PIXEL_A - CORNER * PIXEL_A
    slices = [
        sum(h * np.exp(-((y - ay) ** 2 + (x - ax) ** 2) / (2 * 0.25**2)) for ay, ax, h in atoms)
        for atoms in ATOMS
    ]
    return torch.from_numpy(np.stack(slices))


@pytest.fixture(scope="session")
def specimen() -> torch.Tensor:
    """The true phase on a canvas of its own: pixel CORNER is the world origin."""
    return _specimen()


@pytest.fixture
def truth() -> Callable[[PhaseVolume], np.ndarray]:
    """The true phase at the voxels of a volume, found by world coordinates."""

    def at(volume: PhaseVolume) -> np.ndarray:
        assert volume.voxel_size_A == pytest.approx((SLICE_A, PIXEL_A, PIXEL_A), rel=0.01)
        assert volume.origin_A[0] == pytest.approx(SLICE_A / 2)
        y0, x0 = (round(o / PIXEL_A) + CORNER for o in volume.origin_A[1:])
        _, ny, nx = volume.data.shape
        return _specimen()[:, y0 : y0 + ny, x0 : x0 + nx].numpy()

    return at


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., DiffractionDataset]:
    """Scan the specimen: calibration by keyword, counts noise-free unless a seed is given."""

    def make(
        scan_shape: tuple[int, int] = (8, 9),
        *,
        electrons: float = 1e5,
        strength: float = 1.0,
        seed: int | None = None,
        crop: tuple[int, int] | None = None,
        mask: np.ndarray | None = None,
        probe: np.ndarray | None = None,
        shifts_px: np.ndarray | None = None,
        **changes: Any,
    ) -> DiffractionDataset:
        calibration = Calibration(**(CALIBRATION | changes))
        model = MultisliceModel(
            probe_fourier(
                (DETECTOR, DETECTOR),
                PIXEL_A,
                300.0,
                21.4,
                Aberrations.from_defocus(CALIBRATION["defocus_A"]),
                dtype=torch.complex128,
            ),
            pixel_size_A=PIXEL_A,
            slice_thickness_A=SLICE_A,
            energy_keV=300.0,
            detector_shape=(DETECTOR, DETECTOR),
            electrons=electrons,
        )
        positions = raster_positions_A(
            scan_shape, calibration.scan_step_yx_A, calibration.scan_rotation_deg
        )
        patterns = model.intensities(
            strength * _specimen(),
            np.asarray(positions) / PIXEL_A + CORNER,
            shifts_px=shifts_px,
        )
        counts = torch.fft.fftshift(patterns, dim=(1, 2)).numpy()
        if seed is not None:
            counts = poisson_counts(counts, seed)
        if crop is not None:
            (y0, x0) = (DETECTOR // 2 - n // 2 for n in crop)
            counts = counts[:, y0 : y0 + crop[0], x0 : x0 + crop[1]]
        counts = counts.reshape(*scan_shape, *counts.shape[1:]).astype(np.float32)
        return DiffractionDataset(counts, calibration, "test", mask=mask, probe=probe)

    return make


@pytest.fixture(scope="session")
def dataset(make_dataset: Callable[..., DiffractionDataset]) -> DiffractionDataset:
    """72 noise-free patterns of 32 x 32 pixels."""
    return make_dataset()


@pytest.fixture
def prior(tmp_path: Path) -> Path:
    """Weights whose last layer is zero: v = 0, which is the prior of white unit noise, exactly."""
    return _white_prior(tmp_path / "white.safetensors", SMALL)


@pytest.fixture
def seeing_prior(tmp_path: Path) -> Path:
    """The same, but the network takes an estimate."""
    return _white_prior(tmp_path / "seeing.safetensors", replace(SMALL, estimate=True))


@pytest.fixture
def depth_prior(tmp_path: Path) -> Path:
    """The same, and its training showed it what quasi-Newton steps leave."""
    settings = {"quasi_newton_share": 0.5}
    return _white_prior(tmp_path / "depth.safetensors", replace(SMALL, estimate=True), settings)


def _white_prior(
    path: Path, architecture: UNetConfig, settings: dict[str, Any] | None = None
) -> Path:
    card = ModelCard(
        name=path.stem,
        architecture=architecture.to_dict(),
        scale_per_rad=12.0,
        voxel_size_A=(SLICE_A, PIXEL_A, PIXEL_A),
        tile_shape=(2, 16, 16),
        logsnr_range=(-14.0, 10.0),
        energy_keV=300.0,
        trained_volumes=0,
        loss_curve={"edges": [], "v_loss": []},
        training_data={},
        settings=settings or {},
        licence="GPL-3.0-or-later",
    )
    save_prior(path, UNet3D(architecture).state_dict(), card)
    return path


@pytest.fixture
def plan() -> ReconstructionPlan:
    """Eight gradient steps on a wave window as wide as the detector's, as the data were made."""
    return ReconstructionPlan.parse(
        {
            "method": "gradient",
            "gradient": {"iterations": 8},
            "object": {"wave_oversampling": 1},
            "device": "cpu",
        }
    )


@pytest.fixture
def mep_plan(plan: ReconstructionPlan, prior: Path) -> ReconstructionPlan:
    """One sample of six steps after three gradient steps, and none after it."""
    return plan.replace(
        method="mep",
        prior=str(prior),
        steps=6,
        samples=1,
        gradient={"iterations": 3},
        start_logsnr=-3.0,
        end_logsnr=6.0,
        finish_iterations=0,
    )
