"""Small enough to be computed: two slices of a crystal, 72 patterns, a prior of white noise."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_mep.data.experiment import Experiment
from napari_mep.prior.files import ModelCard, save_prior
from napari_mep.prior.unet import LevelConfig, UNet3D, UNetConfig

SMALL_NETWORK = UNetConfig(
    (1, 4, 4), (LevelConfig(8, 1, (2, 2, 2)), LevelConfig(8, 1)), embedding=16
)


@pytest.fixture
def small_experiment() -> Experiment:
    return Experiment(
        thickness_A=3.2,
        scan_shape=(8, 9),
        scan_step_A=0.4,
        defocus_A=20.0,
        spherical_aberration_A=0.0,
        detector_pixels=32,
        detector_step_invA=0.15625,
    )


@pytest.fixture(scope="session")
def white_priors(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Weights whose last layer is zero, with cards that tell them apart."""
    folder = tmp_path_factory.mktemp("priors")
    paths = []
    for volumes in (100, 200):
        card = ModelCard(
            name="white",
            architecture=SMALL_NETWORK.to_dict(),
            scale_per_rad=20.0,
            voxel_size_A=(1.6, 0.2, 0.2),
            tile_shape=(2, 16, 16),
            logsnr_range=(-14.0, 10.0),
            energy_keV=300.0,
            trained_volumes=volumes,
            loss_curve={"edges": [], "v_loss": []},
            training_data={},
            settings={},
            licence="GPL-3.0-or-later",
        )
        path = folder / f"white{volumes}.safetensors"
        save_prior(path, UNet3D(SMALL_NETWORK).state_dict(), card)
        paths.append(str(path))
    return paths


@pytest.fixture
def crystals(tmp_path: Path) -> Path:
    """Three CIF files, one of them in a subfolder and one broken."""
    from napari_mep.benchmark.specimens import held_out

    folder = tmp_path / "crystals"
    (folder / "cubic").mkdir(parents=True)
    sources = {s.name: Path(s.source) for s in held_out()}
    (folder / "MgO.cif").write_bytes(sources["MgO"].read_bytes())
    (folder / "cubic" / "KTaO3.CIF").write_bytes(sources["KTaO3"].read_bytes())
    (folder / "broken.cif").write_text("data_broken\n_cell_length_a 4.2\n")
    return folder
