"""The waves of a reconstruction: their probe, and a model that follows them more precisely."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from napari_mep.physics.cores import Cores
from napari_mep.physics.detector import add_beyond, centred_resize
from napari_mep.physics.interpolation import FinerPixels, finer_pixels
from napari_mep.physics.probe import Aberrations, probe_fourier, probe_from_array

if TYPE_CHECKING:
    from napari_mep.data.dataset import DiffractionDataset
    from napari_mep.physics.multislice import MultisliceModel

__all__ = [
    "PRECISE_COST",
    "PRECISE_OVERSAMPLING",
    "PreciseWaves",
    "precise_waves",
    "wave_probe",
]

PRECISE_OVERSAMPLING = 3
"""Detector windows (1 / detector step) on which the tail of the probe hardly wraps."""
PRECISE_COST = 4
"""What an evaluation takes at most, in those of the fast model."""
# Waves that are followed this much farther than the detector hardly fold back onto it.
_REACH = Fraction(5, 4)


@dataclass(frozen=True, slots=True, eq=False)
class PreciseWaves:
    """A forward model with less error of its own, three to four times as slow.

    Parameters
    ----------
    model : MultisliceModel
        Waves on a wider window and on finer pixels, and what atom cores do between pixels.
    pixels : FinerPixels
        From the canvas to its pixels.
    ratio : Fraction
        Pixel of the canvas over pixel of the waves.
    """

    model: MultisliceModel
    pixels: FinerPixels
    ratio: Fraction

    def finer(self, phase: Tensor, positions_px: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Canvas (nz, Y, X) and probe centres (B, 2) on it, on the pixels of the waves."""
        return self.pixels.finer(phase), positions_px * float(self.ratio)


def precise_waves(
    model: MultisliceModel,
    canvas_shape: tuple[int, int],
    dataset: DiffractionDataset,
    device: torch.device,
) -> PreciseWaves:
    """A model with less error than another one, for the same canvas and patterns.

    Parameters
    ----------
    model : MultisliceModel
        The other one; its pixel is that of the canvas.
    canvas_shape : (Y, X)
        Canvas in pixels.
    dataset : DiffractionDataset
        Its probe counts.
    device : torch.device
        Where canvases lie.
    """
    detector = model.detector_shape[0]
    s = max(PRECISE_OVERSAMPLING, model.oversampling)
    beyond = math.ceil(detector * (_REACH - 1) / 2)
    ratio = Fraction(detector + 2 * beyond, detector)
    probe = wave_probe(dataset, s, detector, model.pixel_size_A)
    precise = replace(
        model,
        probe_k=add_beyond(probe, s * beyond).to(torch.complex64),
        pixel_size_A=model.pixel_size_A / float(ratio),
        oversampling=s,
        beyond_px=beyond,
        cores=Cores.hidden_by(model.pixel_size_A),
    )
    return PreciseWaves(precise, finer_pixels(canvas_shape, ratio, device=device), ratio)


def wave_probe(dataset: DiffractionDataset, s: int, detector: int, pixel_A: float) -> Tensor:
    """Fourier probe on the wave window: the dataset's own array, else from the aberrations."""
    calibration = dataset.calibration
    window = s * detector
    if dataset.probe is not None:
        wave = torch.from_numpy(np.ascontiguousarray(dataset.probe))
        return probe_from_array(centred_resize(wave, window))
    return probe_fourier(
        (window, window),
        pixel_A,
        calibration.beam_energy_keV,
        calibration.convergence_semiangle_mrad,
        Aberrations.from_defocus(calibration.defocus_A, calibration.spherical_aberration_A),
    )
