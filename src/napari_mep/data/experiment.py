"""The settings of a simulated experiment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_mep.crystals.cut import parse_zone_axis
from napari_mep.data.calibration import Calibration
from napari_mep.errors import CrystalError, DataError

__all__ = ["Experiment"]


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is simulated.

    The defaults are the conditions of the MEP-Diffusion paper (Belardi et al. 2025, arXiv
    2507.17800): 300 kV, 21.4 mrad, 200 A overfocus, Cs 500 nm, 26 x 26 positions.

    Parameters
    ----------
    zone_axis : str or three ints
        Crystal direction along the beam: ``"a"``, ``"b"``, ``"c"`` or [u v w].
    thickness_A : float
        Specimen thickness, angstrom.
    slice_thickness_A : float
        Slice thickness, angstrom; adjusted so that a whole number of slices fills the specimen.
    scan_shape : tuple of 2 ints
        Scan positions (y, x).
    scan_step_A : float
        Distance of neighbouring positions, angstrom.
    scan_rotation_deg : float
        Turn of the scan against the detector and the specimen; sign: `physics.scan`.
    energy_keV : float
        Beam energy, keV.
    semiangle_mrad : float
        Convergence semi-angle, mrad.
    defocus_A : float
        Positive is underfocus, angstrom.
    spherical_aberration_A : float
        Cs, angstrom.
    detector_pixels : int
        Detector pixels along each axis.
    detector_step_invA : float
        Width of a detector pixel, 1/A.

    Raises
    ------
    CalibrationError, CrystalError, DataError
        A value is impossible; the message names it.
    """

    zone_axis: str | Sequence[int] = "c"
    thickness_A: float = 12.8
    slice_thickness_A: float = 1.6
    scan_shape: tuple[int, int] = (26, 26)
    scan_step_A: float = 0.512
    scan_rotation_deg: float = 0.0
    energy_keV: float = 300.0
    semiangle_mrad: float = 21.4
    defocus_A: float = -200.0
    spherical_aberration_A: float = 5000.0
    detector_pixels: int = 64
    detector_step_invA: float = 0.078125

    def __post_init__(self) -> None:
        object.__setattr__(self, "zone_axis", parse_zone_axis(self.zone_axis))
        for name in ("thickness_A", "slice_thickness_A"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise CrystalError(f"{name} = {value} A: must be a positive length")
        shape = tuple(int(n) for n in self.scan_shape)
        if len(shape) != 2 or min(shape) < 1:
            raise DataError(f"scan_shape = {self.scan_shape}: expected two positive numbers (y, x)")
        object.__setattr__(self, "scan_shape", shape)
        if self.detector_pixels < 2:
            raise DataError(f"detector_pixels = {self.detector_pixels}: at least 2 are needed")
        self.calibration().check_detector((self.detector_pixels, self.detector_pixels))

    def positions_A(self) -> NDArray[np.float64]:
        """Scan positions (n, 2) (y, x) in angstrom, row by row, the first at (0, 0)."""
        from napari_mep.physics.scan import raster_positions_A

        return np.asarray(
            raster_positions_A(self.scan_shape, self.scan_step_A, self.scan_rotation_deg)
        )

    @property
    def n_slices(self) -> int:
        """Number of slices."""
        return max(1, round(self.thickness_A / self.slice_thickness_A))

    @property
    def probe_radius_A(self) -> float:
        """Geometric radius of the probe where it is widest within the specimen, angstrom."""
        alpha = self.semiangle_mrad * 1e-3
        spread = max(abs(self.defocus_A), abs(self.defocus_A + self.thickness_A))
        return alpha * spread + abs(self.spherical_aberration_A) * alpha**3

    def calibration(self) -> Calibration:
        """The calibration that patterns in electrons from this experiment carry."""
        values: dict[str, Any] = {
            "beam_energy_keV": self.energy_keV,
            "convergence_semiangle_mrad": self.semiangle_mrad,
            "defocus_A": self.defocus_A,
            "spherical_aberration_A": self.spherical_aberration_A,
            "scan_step_A": self.scan_step_A,
            "scan_rotation_deg": self.scan_rotation_deg,
            "detector_step_invA": self.detector_step_invA,
            "specimen_thickness_A": self.thickness_A,
        }
        return Calibration(**values, sources=dict.fromkeys(values, "file"))
