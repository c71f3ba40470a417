"""File > Open Sample: small simulated scans of built-in crystals.

A sample is simulated with abTEM when it is first opened (seconds to a minute) and kept in the
user's cache folder; the layers know the scan, so the Reconstruct widget can pick it up.
"""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_mep import __version__
from napari_mep.errors import DataError

if TYPE_CHECKING:
    from napari.types import LayerDataTuple

    from napari_mep.data.dataset import DiffractionDataset
    from napari_mep.widgets._waiting import Progress

__all__ = ["batio3", "catio3", "rutile", "srtio3", "srtio3_vacancy"]

log = logging.getLogger(__name__)

_SCAN = (16, 16)
_DOSE_E_PER_A2 = 1e5


def srtio3() -> list[LayerDataTuple]:
    """Simulated scan of SrTiO3 along [001]."""
    return _layers("srtio3", "SrTiO3")


def batio3() -> list[LayerDataTuple]:
    """Simulated scan of tetragonal BaTiO3 along [001]."""
    return _layers("batio3", "BaTiO3")


def catio3() -> list[LayerDataTuple]:
    """Simulated scan of CaTiO3, whose octahedra are tilted, along [001]."""
    return _layers("catio3", "CaTiO3")


def srtio3_vacancy() -> list[LayerDataTuple]:
    """Simulated scan of SrTiO3 with a column that lacks atoms in part of the depth."""
    return _layers("srtio3-vacancy", "SrTiO3 with vacancies")


def rutile() -> list[LayerDataTuple]:
    """Simulated scan of rutile TiO2, which is no perovskite, along [001]."""
    return _layers("tio2-rutile", "rutile TiO2")


def cached_scan(name: str, folder: Path | None = None) -> Path:
    """Path of the simulated scan of a built-in sample, made now if it is not there.

    Parameters
    ----------
    name : str
        Built-in sample.
    folder : Path, optional
        Where scans are kept; the user's cache folder by default (or what the environment variable
        ``NAPARI_MEP_CACHE`` says).

    Raises
    ------
    CrystalError
        There is no such sample.
    ExportError
        The folder cannot be written.
    DataError
        The user cancelled the simulation.
    """
    from napari_mep.data.native import is_native, write_dataset
    from napari_mep.widgets._waiting import Cancelled, wait_for

    folder = folder or _cache_folder()
    # The version is part of the name: another release may simulate something else.
    path = folder / f"{name}-{_SCAN[0]}x{_SCAN[1]}-{__version__}.zarr"
    if not is_native(path):
        log.info("simulating %s with abTEM", name)
        try:
            dataset = wait_for(partial(_simulate, name), f"Simulating {name} with abTEM")
        except Cancelled:
            raise DataError(f"sample {name}: cancelled; open it again to simulate it") from None
        write_dataset(path, dataset, overwrite=True)
    return path


def _simulate(name: str, progress: Progress) -> DiffractionDataset:
    from napari_mep.data.simulate import simulate_dataset

    return simulate_dataset(
        name, scan_shape=_SCAN, dose_e_per_A2=_DOSE_E_PER_A2, seed=0, progress=progress
    )


def _cache_folder() -> Path:
    import platformdirs

    chosen = os.environ.get("NAPARI_MEP_CACHE")
    base = Path(chosen) if chosen else platformdirs.user_cache_path("napari-mep")
    return base / "samples"


def _layers(name: str, title: str) -> list[LayerDataTuple]:
    """Virtual dark-field image of the scan and the truth below it, on the same coordinates."""
    from napari_mep.data.readers import open_dataset

    path = cached_scan(name)
    dataset = open_dataset(path)
    layers: list[LayerDataTuple] = []
    truth = dataset.truth
    if truth is not None:
        layers.append(
            (
                truth.data,
                {
                    "name": f"{title}: simulated truth",
                    "scale": truth.voxel_size_A,
                    "translate": truth.origin_A,
                    "units": ("angstrom",) * 3,
                    "axis_labels": ("z", "y", "x"),
                    "visible": False,
                },
                "image",
            )
        )
    layers.append(
        (
            virtual_dark_field(dataset),
            {
                "name": f"{title}: virtual dark field",
                "scale": dataset.calibration.scan_step_yx_A,
                "units": ("angstrom",) * 2,
                "axis_labels": ("y", "x"),
                "metadata": {"napari_mep": {"dataset_path": str(path)}},
            },
            "image",
        )
    )
    return layers


def virtual_dark_field(dataset: DiffractionDataset) -> np.ndarray:
    """Electrons scattered beyond the bright-field disk, (scan_y, scan_x) float32.

    Parameters
    ----------
    dataset : DiffractionDataset
        Read as a whole, so meant for small scans.
    """
    calibration = dataset.calibration
    ky, kx = (np.arange(n) - n // 2 for n in dataset.detector_shape)
    angle_mrad = np.hypot(ky[:, None], kx[None, :]) * calibration.detector_step_mrad
    dark = angle_mrad > calibration.convergence_semiangle_mrad
    counts: Any = dataset.counts()
    image: np.ndarray = counts[:, dark].sum(axis=1, dtype=np.float64).astype(np.float32)
    return image.reshape(dataset.scan_shape)
