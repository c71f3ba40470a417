"""The command ``napari-mep info``."""

from __future__ import annotations

import argparse
import math
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_mep.cli._shared import (
    Commands,
    ctrl_c_sets,
    data_files,
    data_options,
    new_command,
    progress,
    refuse_existing,
    refuse_inputs,
    tell_unsupported,
    to_json,
)
from napari_mep.errors import CalibrationError, ExportError, PlanError

if TYPE_CHECKING:
    from napari_mep.data.calibration import PartialCalibration
    from napari_mep.data.opened import OpenedPatterns
    from napari_mep.reconstruction.calibrate import Fix

__all__ = ["add_command"]


def add_command(commands: Commands) -> None:
    """Describe the command and its options."""
    sub = new_command(
        commands,
        "info",
        _info,
        "What a file holds, what is calibrated and what is missing; with --fix, measure it.",
    )
    sub.add_argument("data", metavar="DATA")
    data_options(sub)
    sub.add_argument(
        "--plan", type=Path, metavar="PLAN.toml", help="tell what its preprocessing will do"
    )
    sub.add_argument("--json", action="store_true", help="machine-readable")
    sub.add_argument(
        "--fix",
        action="store_true",
        help="measure bad pixels, disk, drift, orientation, rotation, defocus; needs energy, "
        "semi-angle, scan step and a rough defocus",
    )
    sub.add_argument(
        "-o", "--output", type=Path, metavar="CAL.toml", help="calibration file that --fix writes"
    )
    sub.add_argument("--picture", type=Path, metavar="PROOF.png", help="what proves each value")
    sub.add_argument(
        "--lattice", type=_lengths, metavar="A,A", help="lattice spacings to check the scan step"
    )
    sub.add_argument(
        "--vacuum", type=Path, metavar="FILE.npy", help="a pattern (ky, kx) without specimen"
    )
    sub.add_argument(
        "--counts-per-electron",
        type=_positive_number,
        metavar="N",
        help="what one electron counts, for the dose; patterns of whole counts need it only if "
        "they do not count electrons",
    )
    sub.add_argument("--device", default="cpu", metavar="auto|cpu|cuda[:N]|mps")
    sub.add_argument("--overwrite", action="store_true", help="replace existing outputs")


def _info(a: argparse.Namespace) -> None:
    from napari_mep.data.calibration import as_partial
    from napari_mep.data.info import describe, format_lines
    from napari_mep.data.readers import open_patterns
    from napari_mep.reconstruction.plan import ReconstructionPlan

    if not a.fix:
        for name in ("output", "picture", "lattice", "vacuum", "counts_per_electron"):
            if getattr(a, name) is not None:
                raise CalibrationError(f"--{name.replace('_', '-')} goes with --fix; add it")
    if a.fix and a.plan is not None:
        raise PlanError("--plan does not go with --fix, which finds the preprocessing itself")
    preprocessing = None if a.plan is None else ReconstructionPlan.from_toml(a.plan).preprocessing
    known = as_partial(a.calibration)
    if a.fix:
        _check_outputs(a, known)
    opened = open_patterns(a.data, known, scan_shape=a.scan_shape)
    tell_unsupported(opened.provenance)
    if a.fix:
        _fix(a, opened)
        return
    description = describe(opened, preprocessing)
    print(to_json(description) if a.json else "\n".join(format_lines(description)))


def _check_outputs(a: argparse.Namespace, known: PartialCalibration) -> None:
    """Refuse what must not or cannot be written; to rewrite the calibration file is fine."""
    from napari_mep.data.estimate.figure import check_picture
    from napari_mep.reconstruction.calibrate import mask_beside

    plan = known.preprocessing
    # The mask that a calibration file names is read whole before the new one, which holds it too.
    images = () if plan is None else (plan.background_file, plan.gain_file, plan.positions_file)
    measured = (*data_files(a.data), a.vacuum, *images)
    if a.output is not None:
        refuse_inputs([a.output], measured)  # the first thing to say, whatever the name
        if a.output.suffix.lower() != ".toml":
            raise ExportError(f"output {a.output}: a calibration file must be named .toml")
        for path in (a.output, mask_beside(a.output)):
            refuse_inputs([path], measured)
            refuse_existing(path, a.overwrite)
    if a.picture is not None:
        refuse_inputs([a.picture], (*measured, a.calibration))
        check_picture(a.picture)
        refuse_existing(a.picture, a.overwrite)


def _fix(a: argparse.Namespace, opened: OpenedPatterns) -> None:
    from napari_mep.data._pattern_operations import read_image
    from napari_mep.data.estimate.figure import write_figure
    from napari_mep.data.virtual import Stopped
    from napari_mep.reconstruction.calibrate import fix

    ky, kx = (int(n) for n in opened.patterns.shape[2:])
    vacuum = None if a.vacuum is None else read_image(a.vacuum, (ky, kx), "vacuum pattern")
    stop = threading.Event()
    try:
        with ctrl_c_sets(stop), progress("calibrating", "steps") as bar:
            found = fix(
                opened,
                lattice_A=a.lattice or (),
                vacuum=vacuum,
                counts_per_electron=a.counts_per_electron,
                device=a.device,
                stop=stop,
                progress=bar,
            )
    except Stopped:
        raise KeyboardInterrupt from None
    written = [] if a.output is None else found.write(a.output, overwrite=a.overwrite)
    if a.picture is not None:
        written.append(write_figure(a.picture, found.estimates, opened.name))
    names = [str(path) for path in written]
    if a.json:
        print(to_json({**_as_json(found), "written": names}))
        return
    print("\n".join(_lines(opened, found)))
    if names:
        print(f"wrote {', '.join(names)}")


def _lines(opened: OpenedPatterns, found: Fix) -> list[str]:
    """Estimates, what was skipped, and the calibration that results."""
    from napari_mep.data.calibration import describe_values

    lines = [opened.name, "measured"]
    lines += [f"  {estimate.title:<31}{estimate.summary}" for estimate in found.estimates]
    if found.skipped:
        lines.append("skipped")
    lines += [f"  {skipped.title:<31}{skipped.reason}" for skipped in found.skipped]
    lines.append("calibration")
    before = opened.calibration.values
    for name, value, unit, source in describe_values(found.calibration):
        error = found.uncertainty.get(name) if source == "fitted" else None
        spread = "" if error is None else f" ± {error:.2g}"
        old = before.get(name)
        was = f", was {old:g}" if source == "fitted" and isinstance(old, float) else ""
        lines.append(f"  {name:<28}{value}{spread} {unit}".rstrip() + f"  ({source}{was})")
    steps = found.preprocessing.summary()
    if found.bad is not None:
        steps.insert(0, f"{int(found.bad.sum())} bad pixels masked")
    if steps:
        lines += ["preprocessing", *(f"  {step}" for step in steps)]
    return lines


def _as_json(found: Fix) -> dict[str, Any]:
    return {
        "calibration": dict(found.calibration.values),
        "sources": dict(found.calibration.sources),
        "uncertainty": found.uncertainty,
        "estimates": [
            {"title": estimate.title, "summary": estimate.summary} for estimate in found.estimates
        ],
        "skipped": [{"title": skip.title, "reason": skip.reason} for skip in found.skipped],
        "preprocessing": found.preprocessing.model_dump(mode="json", exclude_defaults=True),
        "bad_pixels": 0 if found.bad is None else int(found.bad.sum()),
    }


def _lengths(text: str) -> tuple[float, ...]:
    try:
        lengths = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected lengths in A: 3.9,2.8") from None
    if not all(0 < length < math.inf for length in lengths):
        raise argparse.ArgumentTypeError(f"{text!r}: lengths must be positive and finite, in A")
    return lengths


def _positive_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a positive number")
    return number
