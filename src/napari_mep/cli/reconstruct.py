"""The command ``napari-mep reconstruct``."""

from __future__ import annotations

import argparse
import math
import sys
import threading
import typing
from pathlib import Path
from typing import TYPE_CHECKING

from napari_mep.cli._shared import (
    Commands,
    beside,
    ctrl_c_sets,
    data_files,
    data_options,
    new_command,
    open_data,
    output_options,
    positive,
    progress,
    refuse_inputs,
    to_json,
)
from napari_mep.errors import ExportError, PlanError
from napari_mep.reconstruction.baselines import BASELINES
from napari_mep.reconstruction.plan import BaselinePlan, ReconstructionPlan

if TYPE_CHECKING:
    from napari_mep.data.dataset import DiffractionDataset
    from napari_mep.reconstruction.snapshot import Snapshot

__all__ = ["add_command"]

# The settings behind those options that not every method uses.
_SETTINGS = {
    "prior": "prior",
    "steps": "steps",
    "samples": "samples",
    "start": "start",
    "guidance": "guidance",
    "iterations": "gradient.iterations",
    "preset": "baseline",
}


def add_command(commands: Commands) -> None:
    """Describe the command and its options."""
    sub = new_command(
        commands, "reconstruct", _reconstruct, "Reconstruct the specimen's phase in 3D."
    )
    sub.add_argument("data", metavar="DATA")
    output_options(sub, "OUT.ome.zarr")
    data_options(sub)
    sub.add_argument("--plan", type=Path, metavar="PLAN.toml", help="settings; options override it")
    sub.add_argument(
        "--method",
        choices=typing.get_args(ReconstructionPlan.model_fields["method"].annotation),
        help="with the prior, without it, or a baseline by another package",
    )
    sub.add_argument("--prior", metavar="NAME|PATH", help="shipped prior or .safetensors file")
    sub.add_argument("--steps", type=int, help="sampling steps")
    sub.add_argument("--start", choices=("noise", "gradient"), help="where sampling starts")
    sub.add_argument(
        "--guidance",
        choices=("shifted-sigmoid", "alpha", "constant"),
        help="schedule of the data's weight",
    )
    sub.add_argument("--iterations", type=int, help="of the gradient solver or of a baseline")
    sub.add_argument(
        "--preset",
        choices=typing.get_args(BaselinePlan.model_fields["preset"].annotation),
        help="settings of a baseline: the paper's, or the best we found",
    )
    sub.add_argument("--thickness", type=float, metavar="A", help="specimen thickness, A")
    sub.add_argument("--samples", type=positive, metavar="K", help="mean of K samples")
    sub.add_argument("--device", metavar="auto|cpu|cuda[:N]|mps", help="where to compute")
    sub.add_argument("--seed", type=int, help="of all random numbers")
    sub.add_argument("--json", action="store_true", help="machine-readable summary")


def _reconstruct(a: argparse.Namespace) -> None:
    from napari_mep.export.ome_zarr import check_image_target, write_reconstruction
    from napari_mep.reconstruction.provenance import provenance

    target = beside(a.output, "-spread")
    weights = a.prior if a.prior and Path(a.prior).is_file() else None  # or a shipped one
    refuse_inputs((a.output, target), (*data_files(a.data), a.calibration, a.plan, weights))
    plan = _plan(a)
    check_image_target(a.output, overwrite=a.overwrite)
    if plan.method == "mep" and plan.samples > 1:
        check_image_target(target, overwrite=a.overwrite)
    dataset = open_data(a, plan.preprocessing)
    last = _run_to_end(dataset, plan)
    assert last.volume is not None  # a run without one has raised
    record = provenance(dataset, plan, last)
    write_reconstruction(a.output, last.volume, record, name=dataset.name, overwrite=a.overwrite)
    written = [str(a.output)]
    if last.spread is not None:
        write_reconstruction(
            target, last.spread, record, name=f"{dataset.name} spread", overwrite=a.overwrite
        )
        written.append(str(target))
    summary = {
        "path": written[0],
        "spread": written[1] if last.spread is not None else None,
        "method": plan.method,
        "residual": last.residual,
        "residual_floor": last.residual_floor,
        "samples": last.samples,
        "seconds": last.seconds,
        "steps": last.step,
        "total": last.total,
    }
    if a.json:
        print(to_json(summary))
    else:
        print(
            f"wrote {' and '.join(written)} ({last.step} of {last.total} steps, residual "
            f"{last.residual:.4f}, noise floor {last.residual_floor:.4f}, "
            f"{last.seconds:.0f} s)"
        )


def _plan(a: argparse.Namespace) -> ReconstructionPlan:
    """The plan file, if any, overridden by what the command line gives."""
    given = _given_plan(a)
    values = given.model_dump()
    for name in ("method", "prior", "steps", "samples", "start", "device", "seed"):
        if getattr(a, name) is not None:
            values[name] = getattr(a, name)
    if a.guidance is not None:
        values["guidance"]["schedule"] = a.guidance
    if a.thickness is not None:
        values["object"]["thickness_A"] = a.thickness
    if a.iterations is not None:
        solver = "baseline" if values["method"] in BASELINES else "gradient"
        values[solver]["iterations"] = a.iterations
    if a.preset is not None:
        values["baseline"]["preset"] = a.preset
    plan = ReconstructionPlan.parse(values, source="settings")
    _tell_unused(a, given, plan)
    return plan


def _tell_unused(
    a: argparse.Namespace, given: ReconstructionPlan, plan: ReconstructionPlan
) -> None:
    """Refuse options that the method does not use; of a plan file's settings only say so."""
    for option, setting in _SETTINGS.items():
        if getattr(a, option) is not None and setting in plan.unused:
            how = "mep from noise" if setting == "gradient.iterations" else plan.method
            raise PlanError(
                f"--{option} {getattr(a, option)}: method {how} does not use it; leave it out or "
                "choose another method"
            )
    idle = sorted(setting for setting in plan.unused if given.states(setting))
    if a.plan and idle:
        print(
            f"plan file {a.plan}: method {plan.method} does not use {', '.join(idle)}",
            file=sys.stderr,
        )


def _given_plan(a: argparse.Namespace) -> ReconstructionPlan:
    """From the plan file, else from a parameter file of PtyRAD in place of the data."""
    from napari_mep.reconstruction.ptyrad_plan import is_ptyrad_file, open_plan

    if a.plan:
        return ReconstructionPlan.from_toml(a.plan)
    if not is_ptyrad_file(a.data):
        return ReconstructionPlan()
    return open_plan(a.data, a.calibration).plan


def _run_to_end(dataset: DiffractionDataset, plan: ReconstructionPlan) -> Snapshot:
    """Reconstruct with a progress bar; Ctrl-C gives up the current step and keeps the result."""
    from napari_mep.reconstruction import reconstruct

    stop = threading.Event()
    last: Snapshot | None = None
    with ctrl_c_sets(stop), progress(plan.method, "steps") as bar:
        for snapshot in reconstruct(dataset, plan, stop, preview_seconds=math.inf):
            last = snapshot
            bar(
                snapshot.step,
                snapshot.total,
                f"{snapshot.stage}, residual {snapshot.residual:.4f}"
                f" (noise floor {snapshot.residual_floor:.4f})",
            )
    if last is None or last.volume is None:
        raise ExportError("reconstruction stopped before its first step; nothing to write")
    return last
