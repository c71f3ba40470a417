"""Options of the commands that simulate: beam, probe, scan, detector, thickness."""

from __future__ import annotations

import argparse
from typing import Any

from napari_mep.cli._shared import pair

__all__ = ["experiment_options", "experiment_settings"]

_NAMES = {
    "thickness": "thickness_A",
    "scan": "scan_shape",
    "scan_step": "scan_step_A",
    "energy": "energy_keV",
    "semiangle": "semiangle_mrad",
    "defocus": "defocus_A",
    "spherical_aberration": "spherical_aberration_A",
    "detector_pixels": "detector_pixels",
    "detector_step": "detector_step_invA",
}


def experiment_options(command: argparse.ArgumentParser) -> None:
    """Add them; the defaults are the conditions of the paper."""
    add = command.add_argument
    add("--thickness", type=float, default=12.8, metavar="A", help="thickness, A")
    add("--scan", type=pair, default=(26, 26), metavar="YxX", help="positions")
    add("--scan-step", type=float, default=0.512, metavar="A", help="step, A")
    add("--energy", type=float, default=300.0, metavar="keV", help="beam energy, keV")
    add(
        "--semiangle", type=float, default=21.4, metavar="mrad", help="convergence semi-angle, mrad"
    )
    add("--defocus", type=float, default=-200.0, metavar="A", help="A, positive is underfocus")
    add("--spherical-aberration", type=float, default=5000.0, metavar="A", help="Cs, A")
    add("--detector-pixels", type=int, default=64, metavar="N", help="along each axis")
    add("--detector-step", type=float, default=0.078125, metavar="1/A", help="pixel, 1/A")


def experiment_settings(a: argparse.Namespace) -> dict[str, Any]:
    """What the user gave, as fields of `Experiment`."""
    return {field: getattr(a, name) for name, field in _NAMES.items()}
