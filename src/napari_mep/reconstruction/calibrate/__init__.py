"""Calibration helpers that reconstruct: orientation, rotation, defocus, thickness; the chain."""

from napari_mep.reconstruction.calibrate._result import Fix, Skipped, mask_beside
from napari_mep.reconstruction.calibrate._trials import Trials
from napari_mep.reconstruction.calibrate.fix import fix
from napari_mep.reconstruction.calibrate.focus import (
    FocusEstimate,
    ThicknessEstimate,
    find_defocus,
    find_thickness,
)
from napari_mep.reconstruction.calibrate.orientation import (
    OrientationEstimate,
    TurnEstimate,
    find_orientation,
    find_turn,
    refine_rotation,
)

__all__ = [
    "Fix",
    "FocusEstimate",
    "OrientationEstimate",
    "Skipped",
    "ThicknessEstimate",
    "Trials",
    "TurnEstimate",
    "find_defocus",
    "find_orientation",
    "find_thickness",
    "find_turn",
    "fix",
    "mask_beside",
    "refine_rotation",
]
