"""A PtyRAD parameter file as a dataset and a plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from napari_mep.data.calibration import PartialCalibration
from napari_mep.data.formats.ptyrad_settings import PtyradSettings, read_settings
from napari_mep.data.opened import OpenedPatterns
from napari_mep.data.readers import open_patterns
from napari_mep.errors import PlanError
from napari_mep.reconstruction.plan import ReconstructionPlan

__all__ = ["ForeignPlan", "is_ptyrad_file", "open_plan"]

_SUFFIXES = (".yml", ".yaml", ".toml", ".json")
_ITERATIONS = 200  # PtyRAD's, where the file says nothing


@dataclass(frozen=True, slots=True)
class ForeignPlan:
    """What another program's settings ask for, in our terms.

    Parameters
    ----------
    plan : ReconstructionPlan
        Settings of the reconstruction.
    open : callable
        ``open(calibration=None)`` opens the patterns; a calibration wins over the file's.
    unsupported : tuple of str
        One line for each setting that has no counterpart here.
    """

    plan: ReconstructionPlan
    open: Callable[..., OpenedPatterns]
    unsupported: tuple[str, ...]


def is_ptyrad_file(path: str | Path) -> bool:
    """Whether the name of a file is that of a parameter file; its content is not looked at."""
    return Path(path).suffix.lower() in _SUFFIXES


def open_plan(
    path: str | Path, calibration: str | Path | PartialCalibration | None = None
) -> ForeignPlan:
    """Read a PtyRAD parameter file (YAML, TOML or JSON); the patterns are opened when asked for.

    The plan's method is ``gradient``, our solver without a prior, with as many passes over the
    data as the file asks for. Its section ``baseline`` takes PtyRAD's own learning rate and batch,
    so that the methods ``ptyrad-adam`` and ``ptyrad-lbfgs`` run what the file says.

    Parameters
    ----------
    path : str or Path
        The parameter file.
    calibration : path of a TOML file or PartialCalibration, optional
        Wins over what the file says.

    Raises
    ------
    DataError
        No parameter file of PtyRAD.
    PlanError
        A setting is out of the range that is possible here.
    """
    path = Path(path).expanduser()
    settings = read_settings(path)
    return ForeignPlan(
        plan=ReconstructionPlan.parse(_values(settings), source=str(path)),
        open=partial(open_patterns, path, calibration),
        unsupported=tuple(settings.unsupported()),
    )


def _values(settings: PtyradSettings) -> dict[str, Any]:
    layers = settings.whole("init_params", "obj_Nlayer")
    slice_A = settings.number("init_params", "obj_slice_thickness")
    iterations = settings.whole("recon_params", "NITER") or _ITERATIONS
    batch = settings.whole("recon_params", "BATCH_SIZE", "size")
    rate = settings.number("model_params", "update_params", "objp", "lr")
    if rate is not None and rate <= 0:
        raise PlanError(
            f"{settings.path}: model_params.update_params.objp.lr = {rate:g}: the phase is not "
            "reconstructed; give a positive learning rate"
        )
    return {
        "method": "gradient",
        "likelihood": "poisson" if _poisson(settings) else "amplitude",
        "gradient": {"iterations": iterations},
        "baseline": {"iterations": iterations, "batch": batch, "learning_rate": rate},
        "object": {
            "thickness_A": layers * slice_A if layers and slice_A else None,
            "slice_thickness_A": slice_A,
        },
        # PtyRAD does so by default, and without it an EMPAD's dark noise cannot be counted.
        "preprocessing": {"clip_negative": True},
        "seed": settings.whole("init_params", "random_seed") or 0,
    }


def _poisson(settings: PtyradSettings) -> bool:
    """Whether the Poisson loss is on and the amplitude loss is off."""
    return bool(settings.get("loss_params", "loss_poissn", "state", default=False)) and not bool(
        settings.get("loss_params", "loss_single", "state", default=True)
    )
