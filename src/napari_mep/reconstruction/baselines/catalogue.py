"""Which baselines there are, whether their packages are installed, and what their presets say.

Nothing heavy is imported: preflight, the command line and the widget ask here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from napari_mep.errors import DeviceError, PlanError

if TYPE_CHECKING:
    import torch

    from napari_mep.reconstruction.plan import ReconstructionPlan

__all__ = [
    "BASELINES",
    "Baseline",
    "BaselineSettings",
    "baseline_record",
    "baseline_settings",
    "check_baseline",
]


@dataclass(frozen=True, slots=True)
class BaselineSettings:
    """What a package is told, once preset and plan are put together.

    Parameters
    ----------
    iterations : int
        Passes over all patterns.
    learning_rate : float
        Of the object's phase, radians (Adam, L-BFGS), or the dimensionless object step (LSQ-ML).
    batch : int or None
        Patterns in a mini-batch; None: a twentieth of the scan.
    window : int
        Width of the wave window in detector windows, 1 or 2.
    options : mapping
        What else the adapter passes on, in the package's own words.
    """

    iterations: int
    learning_rate: float
    batch: int | None
    window: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    def patterns_per_batch(self, patterns: int) -> int:
        """Mini-batch for a scan of so many patterns, at least 1."""
        wanted = patterns // _L_BFGS_BATCHES if self.batch is None else self.batch
        return max(1, min(wanted, patterns))


@dataclass(frozen=True, slots=True)
class Baseline:
    """A solver of another package.

    Parameters
    ----------
    name : str
        What plans call it.
    title : str
        What people read.
    package : str
        Distribution and module that it needs.
    module : str
        Of the child process.
    devices : tuple of str
        Device types that the package runs on.
    presets : mapping of str to BaselineSettings
        ``"paper"`` and ``"tuned"``.
    """

    name: str
    title: str
    package: str
    module: str
    devices: tuple[str, ...]
    presets: Mapping[str, BaselineSettings]


_L_BFGS_BATCHES = 20  # of Belardi et al., Table 1: 5 iterations of 20 mini-batches

_PTYCHI = "napari_mep.reconstruction.baselines._ptychi_child"
_PTYRAD = "napari_mep.reconstruction.baselines._ptyrad_child"

# PtyRAD blurs the object after each iteration unless told otherwise.
_POSITIVE_AND_SHARP = {
    "objp_postiv": {"start_iter": 1},
    "obj_zblur": {"start_iter": None},
    "obj_rblur": {"start_iter": None},
}


def _falling(factor: float) -> Mapping[str, Any]:
    """A step that falls by a factor with each iteration: mini-batch noise goes, the rest stays."""
    return {"name": "ExponentialLR", "configs": {"gamma": factor}}


BASELINES: Mapping[str, Baseline] = MappingProxyType(
    {
        baseline.name: baseline
        for baseline in (
            Baseline(
                "lsq-ml",
                "LSQ-ML (Pty-Chi)",
                "ptychi",
                _PTYCHI,
                ("cpu", "cuda"),
                {
                    # The paper names no settings: Pty-Chi's defaults, batch and passes of Adam.
                    "paper": BaselineSettings(200, 1.0, 32),
                    # Heavy columns may need thirty passes to leave a first, wrong turn of phase.
                    "tuned": BaselineSettings(
                        40,
                        1.0,
                        32,
                        options={
                            "hard_limits": {"abs_lim": [1.0, 1.0], "phase_lim": [0.0, math.pi]},
                            "multislice_regularization": 0.3,
                        },
                    ),
                },
            ),
            Baseline(
                "ptyrad-adam",
                "Adam (PtyRAD)",
                "ptyrad",
                _PTYRAD,
                ("cpu", "cuda", "mps"),
                {
                    "paper": BaselineSettings(200, 5e-4, 32),
                    "tuned": BaselineSettings(
                        15,
                        1e-2,
                        32,
                        window=2,
                        options={"constraints": _POSITIVE_AND_SHARP, "scheduler": _falling(0.8)},
                    ),
                },
            ),
            Baseline(
                "ptyrad-lbfgs",
                "L-BFGS (PtyRAD)",
                "ptyrad",
                _PTYRAD,
                ("cpu", "cuda", "mps"),
                {
                    # Of the paper's 1, 0.1 and 0.01 the last is the best here, too.
                    "paper": BaselineSettings(5, 0.01, None),
                    "tuned": BaselineSettings(
                        15,
                        1.0,
                        676,
                        options={
                            "constraints": _POSITIVE_AND_SHARP,
                            # A line search needs one function: all mini-batches, however many.
                            "grad_accumulation": "all",
                            # Constraints move the object behind the optimizer's back: what it
                            # remembers of earlier gradients is wrong after each of them.
                            "optimizer": {
                                "history_size": 1,
                                "max_iter": 3,
                                "line_search_fn": "strong_wolfe",
                            },
                        },
                    ),
                },
            ),
        )
    }
)


def check_baseline(plan: ReconstructionPlan, device: torch.device) -> None:
    """Say what stands against a baseline before anything is started.

    Parameters
    ----------
    plan : ReconstructionPlan
        Its method must be one of `BASELINES`.
    device : torch.device
        Where it is to run.

    Raises
    ------
    PlanError
        The package is not installed.
    DeviceError
        The package does not run on such a device.
    """
    baseline = BASELINES[plan.method]
    # Found, not imported: these packages change the state of torch.
    if find_spec(baseline.package) is None:
        raise PlanError(
            f"method {plan.method!r}: needs the package {baseline.package}, which is not "
            "installed; run: pip install 'napari-mep[baselines]'"
        )
    if device.type not in baseline.devices:
        raise DeviceError(
            f"device {plan.device!r}: {baseline.package} does not run on it; "
            f"use {' or '.join(baseline.devices)}"
        )


def baseline_settings(plan: ReconstructionPlan) -> BaselineSettings:
    """The preset that a plan names, with what the plan itself says instead."""
    wanted = plan.baseline
    preset = BASELINES[plan.method].presets[wanted.preset]
    given = {
        name: value
        for name in ("iterations", "learning_rate", "batch")
        if (value := getattr(wanted, name)) is not None
    }
    return replace(preset, **given)


def baseline_record(plan: ReconstructionPlan) -> dict[str, Any]:
    """What a result has to carry, besides the plan, to be made again; for `provenance`.

    Parameters
    ----------
    plan : ReconstructionPlan
        Any; empty where its method is no baseline.

    Returns
    -------
    dict
        Package, its version, and the settings that preset and plan come to; JSON can hold it.
    """
    if plan.method not in BASELINES:
        return {}
    package = BASELINES[plan.method].package
    try:
        installed: str | None = version(package)
    except PackageNotFoundError:
        installed = None
    settings = baseline_settings(plan)
    return {
        "baseline": {
            "package": package,
            "version": installed,
            "iterations": settings.iterations,
            "learning_rate": settings.learning_rate,
            "batch": settings.batch,
            "window": settings.window,
            "options": dict(settings.options),
        }
    }
