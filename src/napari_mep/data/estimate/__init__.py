"""Calibration helpers that need nothing but patterns; each gives a value and what proves it."""

from napari_mep.data.estimate._estimate import Curve, Estimate, Picture
from napari_mep.data.estimate.disk import DiskEstimate, find_disk
from napari_mep.data.estimate.dose import DoseEstimate, measure_dose
from napari_mep.data.estimate.drift import DriftEstimate, find_drift
from napari_mep.data.estimate.orientation import (
    Orientation,
    canonical_orientation,
    describe_orientation,
)
from napari_mep.data.estimate.pixels import BadPixels, find_bad_pixels
from napari_mep.data.estimate.rotation import RotationEstimate, find_rotation
from napari_mep.data.estimate.step import StepEstimate, check_scan_step

__all__ = [
    "BadPixels",
    "Curve",
    "DiskEstimate",
    "DoseEstimate",
    "DriftEstimate",
    "Estimate",
    "Orientation",
    "Picture",
    "RotationEstimate",
    "StepEstimate",
    "canonical_orientation",
    "check_scan_step",
    "describe_orientation",
    "find_bad_pixels",
    "find_disk",
    "find_drift",
    "find_rotation",
    "measure_dose",
]
