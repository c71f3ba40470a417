"""Patterns of our own forward model: far cheaper than abTEM's, and never for judging.

Whoever reconstructs with the very equations the data came from sees no error of the model. For
pairs that a prior learns from this hardly matters: precise waves leave little of that error.
"""

from __future__ import annotations

import numpy as np
import torch

from napari_mep.crystals.render import SliceRenderer
from napari_mep.crystals.structure import AtomBox
from napari_mep.data.experiment import Experiment
from napari_mep.data.simulate import ExpectedPatterns, simulation_grid
from napari_mep.physics.multislice import MultisliceModel
from napari_mep.physics.probe import Aberrations, probe_fourier
from napari_mep.volume import PhaseVolume

__all__ = ["model_patterns", "model_windows"]

# A probe of a smaller radius, A, keeps nearly all of its intensity on a window of 12.8 A.
_NARROW_A = 5.0


def model_windows(experiment: Experiment) -> int:
    """Detector windows across the wave window, on which the probe shall hardly wrap: 1 or 2."""
    return 1 if experiment.probe_radius_A < _NARROW_A else 2


def model_patterns(atoms: AtomBox, experiment: Experiment, windows: int) -> ExpectedPatterns:
    """Expected patterns of atoms, by the model that reconstructs.

    Parameters
    ----------
    atoms, experiment
        As for `napari_mep.data.simulate.simulate_atoms`.
    windows : int
        Wave window, in detector windows (1 / detector step).

    Returns
    -------
    ExpectedPatterns
        As from there; the specimen is what the renderer of training volumes makes of the atoms.
    """
    grid = simulation_grid(experiment)
    slice_A = experiment.thickness_A / experiment.n_slices
    voxel_A = (slice_A, grid.pixel_A, grid.pixel_A)
    renderer = SliceRenderer(
        (experiment.n_slices, *grid.coarse_px), voxel_A, energy_keV=experiment.energy_keV, margin=0
    )
    phase = renderer([atoms])[0]
    detector = experiment.detector_pixels
    probe = probe_fourier(
        (windows * detector, windows * detector),
        grid.pixel_A,
        experiment.energy_keV,
        experiment.semiangle_mrad,
        Aberrations.from_defocus(experiment.defocus_A, experiment.spherical_aberration_A),
    )
    model = MultisliceModel(
        probe.to(torch.complex64),
        pixel_size_A=grid.pixel_A,
        slice_thickness_A=slice_A,
        energy_keV=experiment.energy_keV,
        detector_shape=(detector, detector),
        oversampling=windows,
    )
    first_y, first_x = grid.first_A
    positions_px = experiment.positions_A() / grid.pixel_A + np.array(grid.first_A) / grid.pixel_A
    patterns = torch.fft.fftshift(model.intensities(phase, positions_px), dim=(-2, -1)).numpy()
    return ExpectedPatterns(
        patterns.reshape(*experiment.scan_shape, detector, detector),
        PhaseVolume(phase.numpy(), voxel_A, (slice_A / 2, -first_y, -first_x)),
        experiment.calibration(),
        "atoms",
        {"simulated_with": "napari-mep"},
    )
