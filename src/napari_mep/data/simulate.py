"""A 4D-STEM experiment on the computer: patterns from abTEM's multislice, truth beside them.

The simulation is one size better than the model that later reconstructs it, so that nobody
reconstructs with the very equations the data came from: the wave lives on a window three or more
detector windows (1 / detector step) wide, so that the tail of a defocused probe does not wrap and a
detector pixel integrates over its area as a real one does; and the pixels are fine enough that
abTEM's antialiasing aperture (2/3 of the Nyquist frequency) reaches the corners of the detector.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_mep.crystals.structure import AtomBox, Crystal
from napari_mep.data._abtem_multislice import (
    Progress,
    abtem_settings,
    fourier_crop,
    projected_potential,
    scan_patterns,
)
from napari_mep.data._simulation_grid import SimulationGrid, plan_grid
from napari_mep.data.calibration import Calibration
from napari_mep.data.dataset import DiffractionDataset
from napari_mep.data.experiment import Experiment
from napari_mep.errors import DataError
from napari_mep.volume import PhaseVolume

if TYPE_CHECKING:
    from napari_mep.crystals.samples import Sample

__all__ = [
    "NOISE_FREE_DOSE",
    "ExpectedPatterns",
    "Experiment",
    "apply_dose",
    "simulate_atoms",
    "simulate_dataset",
    "simulate_expected",
    "simulated_size_A",
    "simulation_grid",
]

_log = logging.getLogger(__name__)

NOISE_FREE_DOSE = 1e5
"""Dose in e/A^2 that patterns without counting noise are scaled to."""


@dataclass(frozen=True, slots=True, eq=False)
class ExpectedPatterns:
    """Noise-free result of a simulation; `apply_dose` makes datasets of any dose from it.

    Parameters
    ----------
    patterns : (scan_y, scan_x, ky, kx) float32 ndarray
        Chance that one electron arrives in each detector pixel, zero frequency at ``K // 2``. They
        sum to a little less than 1: the rest is scattered beyond the detector.
    specimen : PhaseVolume
        Phase of everything that was simulated, also around the scanned area.
    calibration : Calibration
        Beam, probe, scan and detector.
    name : str
        For people.
    provenance : mapping
        Specimen, settings and versions, values that JSON can hold.
    """

    patterns: NDArray[np.float32]
    specimen: PhaseVolume
    calibration: Calibration
    name: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def truth(self) -> PhaseVolume:
        """The scanned part of `specimen`.

        The voxels whose centres lie in the box around the scan positions, [low, high) along each
        axis: 64 x 64 of them in the paper's conditions.
        """
        from napari_mep.physics.scan import raster_positions_A

        rows_columns = (self.patterns.shape[0], self.patterns.shape[1])
        positions = raster_positions_A(
            rows_columns, self.calibration.scan_step_yx_A, self.calibration.scan_rotation_deg
        )
        oz, *origin = self.specimen.origin_A
        parts = [
            _scanned(along, pixel, start)
            for along, pixel, start in zip(
                positions.T, self.specimen.voxel_size_A[1:], origin, strict=True
            )
        ]
        (rows, first_y), (columns, first_x) = parts
        return PhaseVolume(
            self.specimen.data[:, rows, columns], self.specimen.voxel_size_A, (oz, first_y, first_x)
        )


def simulate_dataset(
    source: str | Path | Crystal | Sample,
    *,
    dose_e_per_A2: float | None = 1e5,
    seed: int = 0,
    device: str = "cpu",
    workers: int = 1,
    progress: Progress | None = None,
    **settings: Any,
) -> DiffractionDataset:
    """Simulate one scan, counting noise included: `simulate_expected`, then `apply_dose`.

    Parameters
    ----------
    source : str, Path, Crystal or Sample
        CIF file, built-in sample or crystal.
    dose_e_per_A2 : float or None
        Dose, e/A^2; None: no counting noise, expected electrons at `NOISE_FREE_DOSE`.
    seed : int
        Of the counting noise and of partially occupied sites.
    device : str
        ``"cpu"`` or ``"auto"``: abTEM runs on the processor here.
    workers : int
        Threads; the result does not depend on it.
    progress : callable, optional
        Called as ``progress(patterns done, patterns in all)``.
    **settings
        Fields of `Experiment` by name.

    Returns
    -------
    DiffractionDataset
        Patterns in electrons; the truth in `DiffractionDataset.truth`.

    Raises
    ------
    CrystalError, CalibrationError, DataError, DeviceError
        The specimen cannot be made, a setting is impossible, or the device is not there.
    """
    expected = simulate_expected(
        source,
        Experiment(**settings),
        seed=seed,
        device=device,
        workers=workers,
        progress=progress,
    )
    return apply_dose(expected, dose_e_per_A2, seed=seed)


def simulate_expected(
    source: str | Path | Crystal | Sample,
    experiment: Experiment | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    workers: int = 1,
    progress: Progress | None = None,
) -> ExpectedPatterns:
    """Simulate the expected patterns of one electron with abTEM.

    Independent atoms with the scattering factors of Lobato and Van Dyck (2014), each projected
    whole into its slice; static lattice; multislice with abTEM's default propagator; coherent
    probe.

    Parameters
    ----------
    source : str, Path, Crystal or Sample
        CIF file, built-in sample or crystal.
    experiment : Experiment, optional
        Conditions; the defaults of `Experiment` if not given.
    seed, device, workers, progress
        See `simulate_dataset`.

    Returns
    -------
    ExpectedPatterns
        Same arguments, same result, bit by bit on one machine.

    Raises
    ------
    CrystalError, DeviceError
        The specimen cannot be made, or the device is not there.
    """
    from napari_mep.crystals.samples import resolve

    experiment = experiment or Experiment()
    specimen = resolve(source)
    atoms = specimen.box(
        (experiment.thickness_A, *simulated_size_A(experiment)),
        zone_axis=experiment.zone_axis,
        seed=seed,
    )
    expected = simulate_atoms(atoms, experiment, device=device, workers=workers, progress=progress)
    about = {
        "specimen": specimen.name,
        "description": specimen.description,
        "specimen_seed": seed,
    }
    return replace(expected, name=specimen.name, provenance={**expected.provenance, **about})


def simulated_size_A(experiment: Experiment) -> tuple[float, float]:
    """Area (y, x) that a specimen must fill, A: the scan and what the probe reaches beside it."""
    return simulation_grid(experiment).size_A


def simulate_atoms(
    atoms: AtomBox,
    experiment: Experiment,
    *,
    device: str = "cpu",
    workers: int = 1,
    progress: Progress | None = None,
) -> ExpectedPatterns:
    """Simulate the expected patterns of atoms that are in place already.

    Parameters
    ----------
    atoms : AtomBox
        Of size (`Experiment.thickness_A`, *`simulated_size_A`), A.
    experiment : Experiment
        Conditions; the zone axis is not looked at.
    device, workers, progress
        See `simulate_dataset`.

    Returns
    -------
    ExpectedPatterns
        As `simulate_expected`.
    """
    grid = simulation_grid(experiment)
    with abtem_settings(device) as version:
        potential_VA = projected_potential(atoms, experiment.n_slices, grid)
        patterns = scan_patterns(potential_VA, experiment, grid, progress, workers)
    _log.info(
        "%d patterns on %d x %d waves, %d slices, %d atoms",
        len(patterns),
        grid.window_px,
        grid.window_px,
        experiment.n_slices,
        len(atoms.numbers),
    )
    return ExpectedPatterns(
        patterns.reshape(*experiment.scan_shape, *patterns.shape[1:]),
        _specimen_phase(potential_VA, experiment, grid),
        experiment.calibration(),
        "atoms",
        {"simulated_with": f"abtem {version}", "experiment": asdict(experiment)},
    )


def apply_dose(
    expected: ExpectedPatterns, dose_e_per_A2: float | None, *, seed: int = 0
) -> DiffractionDataset:
    """Electron counts of a given dose; many doses from one simulation cost nothing.

    Parameters
    ----------
    expected : ExpectedPatterns
        From `simulate_expected`.
    dose_e_per_A2 : float or None
        Dose, e/A^2: each position gets dose * step_y * step_x electrons on average, Poisson
        distributed. None: no noise, expected electrons at `NOISE_FREE_DOSE`.
    seed : int
        Of the counting noise.

    Returns
    -------
    DiffractionDataset
        Patterns uint16 or uint32 (float32 without noise), in electrons.

    Raises
    ------
    DataError
        The dose is not positive.
    """
    dose = NOISE_FREE_DOSE if dose_e_per_A2 is None else float(dose_e_per_A2)
    if not (math.isfinite(dose) and dose > 0):
        raise DataError(f"dose = {dose_e_per_A2} e/A2: must be positive")
    step_y, step_x = expected.calibration.scan_step_yx_A
    electrons = dose * step_y * step_x
    patterns = expected.patterns * np.float32(electrons)
    if dose_e_per_A2 is not None:
        from napari_mep.physics.noise import poisson_counts

        counts = np.asarray(poisson_counts(patterns, seed))
        patterns = counts.astype(np.uint16 if counts.max() < 2**16 else np.uint32)
    return DiffractionDataset(
        patterns=patterns,
        calibration=expected.calibration,
        name=expected.name,
        truth=expected.truth,
        provenance={
            **expected.provenance,
            "dose_e_per_A2": dose,
            "counting_noise": dose_e_per_A2 is not None,
            "noise_seed": seed,
        },
    )


# --- the steps of a simulation ------------------------------------------------------------------


def simulation_grid(experiment: Experiment) -> SimulationGrid:
    """Pixels and windows on which an experiment is simulated."""
    return plan_grid(
        experiment.scan_shape,
        experiment.scan_step_A,
        detector_pixels=experiment.detector_pixels,
        detector_step_invA=experiment.detector_step_invA,
        # The probe's diffraction fringes and the tails of the atoms under its rim go farther.
        margin_A=experiment.probe_radius_A + 5.0,
        scan_rotation_deg=experiment.scan_rotation_deg,
    )


def _specimen_phase(
    potential_VA: NDArray[np.float32], experiment: Experiment, grid: SimulationGrid
) -> PhaseVolume:
    """Phase sigma V of each slice on the detector's real-space pixels.

    It is the potential that was simulated without the frequencies above the detector's reach.
    """
    from napari_mep.physics.optics import interaction_constant

    sigma = float(interaction_constant(experiment.energy_keV))
    phase = sigma * fourier_crop(potential_VA, grid.coarse_px)
    dz = experiment.thickness_A / experiment.n_slices
    y, x = grid.first_A
    return PhaseVolume(phase, (dz, grid.pixel_A, grid.pixel_A), (dz / 2, -y, -x))


def _scanned(along_A: NDArray[np.float64], pixel_A: float, origin_A: float) -> tuple[slice, float]:
    """Voxels with centres in [lowest, highest) scan position, and the place of the first one."""
    low, high = float(along_A.min()), float(along_A.max())
    world = round(-origin_A / pixel_A)  # index of the world origin
    first = math.ceil(low / pixel_A - 1e-6)
    last = max(first + 1, math.ceil(high / pixel_A - 1e-6))
    return slice(world + first, world + last), first * pixel_A
