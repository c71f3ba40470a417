"""What a finished volume predicts that the detector should have seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike

from napari_mep.data.preprocessing import in_whole_pixels
from napari_mep.physics.detector import bin_intensities, centred_resize
from napari_mep.physics.multislice import MultisliceModel
from napari_mep.physics.optics import fresnel_propagator
from napari_mep.physics.probe import probe_radius_A
from napari_mep.reconstruction.geometry import model_voxels
from napari_mep.reconstruction.waves import PRECISE_OVERSAMPLING, precise_waves, wave_probe

if TYPE_CHECKING:
    from napari_mep.data.dataset import DiffractionDataset
    from napari_mep.reconstruction.plan import ReconstructionPlan
    from napari_mep.volume import PhaseVolume

__all__ = ["predicted_patterns", "volume_residual"]

_PROBE_SHARE = 0.98  # of the probe's intensity must fall on the volume for a pattern to count
_MIDDLE = 0.4  # at most this share of the volume is left out on each side


def predicted_patterns(
    dataset: DiffractionDataset,
    plan: ReconstructionPlan,
    volume: PhaseVolume,
    indices: ArrayLike,
    shifts_px: np.ndarray | None = None,
) -> np.ndarray:
    """Diffraction patterns of a volume at some scan positions.

    The volume is taken as it is, on its own voxels. A result ends at the edge of the scanned area,
    the beam does not: beyond the edge each slice goes on with its mean phase, so that the edge
    itself scatters nothing. Patterns within a probe radius of the edge are therefore less
    trustworthy than those in the middle of the scan.

    Parameters
    ----------
    dataset : DiffractionDataset
        Beam, probe, positions and detector.
    plan : ReconstructionPlan
        Its ``object.wave_oversampling`` and ``object.waves`` count; thickness and voxel
        are the volume's.
    volume : PhaseVolume
        (z, y, x) radians, square pixels.
    indices : (n,) array of int
        Flat raster indices, scan_y * columns + scan_x.
    shifts_px : (n, 2) ndarray, optional
        How far each pattern lies from the middle of the detector, detector pixels; not at all by
        default.

    Returns
    -------
    (n, ky, kx) float32 ndarray
        Expected electrons on the dataset's detector, zero frequency at ``K // 2``; beyond the
        pixels that the volume can explain NaN.

    Raises
    ------
    PlanError
        The detector cannot reach the pixels of the volume.
    DataError
        The patterns, from which the electrons are counted, cannot be read.
    """
    dz, dy, dx = volume.voxel_size_A
    settings = plan.replace(
        object={
            **plan.object.model_dump(),
            "thickness_A": volume.thickness_A,
            "slice_thickness_A": dz,
            "pixel_size_A": dx,
        }
    )
    voxels = model_voxels(dataset, settings)
    pixel, detector, s = (
        voxels.pixel_size_A,
        voxels.detector_pixels,
        plan.object.wave_oversampling,
    )
    probe = wave_probe(dataset, s, detector, pixel).to(torch.complex64)
    model = MultisliceModel(
        probe,
        pixel_size_A=pixel,
        slice_thickness_A=dz,
        energy_keV=dataset.calibration.beam_energy_keV,
        detector_shape=(detector, detector),
        oversampling=s,
        electrons=_electrons(dataset, probe, detector, s),
    )
    chosen = np.atleast_1d(indices).astype(np.int64)
    precisely = plan.object.waves == "precise"
    windows = max(s, PRECISE_OVERSAMPLING) if precisely else s
    margin = windows * detector // 2 + 1  # half of them: no wave looks beyond the canvas
    mean = volume.data.mean(axis=(1, 2))
    canvas = np.pad(volume.data - mean[:, None, None], ((0, 0), (margin,) * 2, (margin,) * 2))
    phase = torch.from_numpy(canvas + mean[:, None, None])
    origin = np.array(volume.origin_A[1:])
    positions = (dataset.positions_A()[chosen] - origin) / np.array([dy, dx]) + margin
    if precisely:
        precise = precise_waves(model, (phase.shape[1], phase.shape[2]), dataset, phase.device)
        model = precise.model
        phase, positions = precise.finer(phase, positions)
    patterns = model.intensities(phase, positions, shifts_px=shifts_px)
    patterns = torch.fft.fftshift(patterns, dim=(-2, -1))
    return _on_detector(patterns, dataset.detector_shape).numpy()


def volume_residual(
    dataset: DiffractionDataset, plan: ReconstructionPlan, volume: PhaseVolume
) -> float:
    """How badly a volume explains measured patterns: ||sqrt(I_model) - sqrt(I)|| / ||sqrt(I)||.

    Over the patterns whose probe falls on the volume, or, where the volume is narrower than the
    probe, those in its middle. The residual that a solver reports for the same volume is a little
    lower: it also has what surrounds the scanned area.

    Parameters
    ----------
    dataset, plan, volume
        As for `predicted_patterns`.

    Returns
    -------
    float
        NaN if no scan position lies on the volume.

    Raises
    ------
    PlanError, DataError
        As `predicted_patterns`.
    """
    _, dy, dx = volume.voxel_size_A
    first = np.array(volume.origin_A[1:])
    last = first + (np.array(volume.data.shape[1:]) - 1) * np.array([dy, dx])
    reach = np.minimum(_probe_reach_A(dataset, plan, volume), _MIDDLE * (last - first))
    positions = dataset.positions_A()
    inside = ((positions >= first + reach) & (positions <= last - reach)).all(axis=1)
    indices = np.flatnonzero(inside)
    if len(indices) == 0:
        return float("nan")
    dataset, left_px = in_whole_pixels(dataset)
    shifts_px = None if left_px is None else left_px[indices]
    expected = predicted_patterns(dataset, plan, volume, indices, shifts_px)
    known = np.isfinite(expected)
    if dataset.mask is not None:
        known &= dataset.mask
    measured = np.sqrt(dataset.counts(indices)[known], dtype=np.float64)
    misfit = np.sqrt(expected[known], dtype=np.float64) - measured
    return float(np.linalg.norm(misfit) / np.linalg.norm(measured))


def _probe_reach_A(
    dataset: DiffractionDataset, plan: ReconstructionPlan, volume: PhaseVolume
) -> float:
    """Radius of the probe in the specimen, at its entrance or exit face."""
    pixel = volume.voxel_size_A[2]
    s = plan.object.wave_oversampling
    window = round(s / (pixel * dataset.calibration.detector_step_invA))
    probe = wave_probe(dataset, 1, window, pixel)
    exit_probe = probe * fresnel_propagator(
        (window, window), pixel, volume.thickness_A, dataset.calibration.beam_energy_keV
    )
    return max(probe_radius_A(wave, pixel, _PROBE_SHARE) for wave in (probe, exit_probe))


def _electrons(
    dataset: DiffractionDataset, probe: torch.Tensor, detector: int, oversampling: int
) -> float:
    """Electrons in a pattern of vacuum, as the solvers take them, from the mean pattern."""
    counted = dataset.electrons_per_pattern
    if dataset.mask is None:
        return counted
    measured = centred_resize(torch.from_numpy(np.ascontiguousarray(dataset.mask)), detector)
    measured = torch.fft.ifftshift(measured, dim=(-2, -1))
    vacuum = bin_intensities(probe.abs().square(), oversampling)
    return counted * float(vacuum.sum() / vacuum[measured].sum())


def _on_detector(patterns: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Cut or padded with NaN to the measured detector, index K // 2 staying at K // 2."""
    out = torch.full((len(patterns), *shape), torch.nan, dtype=torch.float32)
    here, there = [], []
    for axis, size in enumerate(shape, start=1):
        had = patterns.shape[axis]
        shift = size // 2 - had // 2
        first, last = max(0, shift), min(size, had + shift)
        here.append(slice(first, last))
        there.append(slice(first - shift, last - shift))
    out[:, here[0], here[1]] = patterns[:, there[0], there[1]]
    return out
