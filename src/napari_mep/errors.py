"""The exceptions this package raises on purpose.

Each message names the field, the value, its unit and the remedy in one line, because it is shown
as it stands: by the command line (exit code 2) and inline in the widget. None derives from
``RuntimeError``: napari's generator workers swallow those without emitting ``errored``.
"""

from __future__ import annotations

__all__ = [
    "CalibrationError",
    "CrystalError",
    "DataError",
    "DeviceError",
    "ExportError",
    "MepError",
    "PlanError",
    "SolverError",
    "WeightsError",
]


class MepError(Exception):
    """Base of all errors that a user can cause or mend."""


class DataError(MepError):
    """A diffraction data file is missing, broken or has the wrong shape or content."""


class CalibrationError(MepError):
    """A calibration value is missing or physically impossible."""


class CrystalError(MepError):
    """A crystal structure cannot be read or rendered."""


class PlanError(MepError):
    """A setting of the reconstruction plan is unknown, out of range or contradicts another."""


class WeightsError(MepError):
    """Weights of a prior are missing, corrupted or made for another voxel size."""


class DeviceError(MepError):
    """The requested compute device is not there or out of memory."""


class SolverError(MepError):
    """A reconstruction diverged or failed while running."""


class ExportError(MepError):
    """A result cannot be written or read back."""
