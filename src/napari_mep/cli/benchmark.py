"""The command ``napari-mep benchmark``."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from napari_mep.cli._experiment import experiment_options, experiment_settings
from napari_mep.cli._shared import (
    Commands,
    ctrl_c_sets,
    new_command,
    positive,
    progress,
    seed,
    to_json,
)
from napari_mep.errors import CrystalError, ExportError

if TYPE_CHECKING:
    from napari_mep.benchmark.cases import Task
    from napari_mep.benchmark.records import Failure, Records
    from napari_mep.benchmark.report import Report

__all__ = ["add_command"]


def add_command(commands: Commands) -> None:
    """Describe the command and its options."""
    sub = new_command(
        commands,
        "benchmark",
        _benchmark,
        "Compare methods on simulated crystals; the same command continues where it stopped.",
    )
    add = sub.add_argument
    add("-o", "--output", type=Path, default=Path("benchmark"), metavar="DIR", help="results")
    add(
        "--crystals",
        nargs="+",
        default=(),
        metavar="DIR|CIF|NAME",
        help="folders of CIF files, CIF files or names; default: the held-out set",
    )
    add("--zone-axes", type=_zone_axes, default=(), metavar="c|a,b,c|u,v,w", help="beam directions")
    add("--limit", type=positive, metavar="N", help="take the first N crystals")
    add(
        "--methods",
        type=_words,
        metavar="M,...",
        help="NAME, NAME:PRESET or LABEL=PLAN.toml; default: every method, those of other packages "
        "as in the paper and tuned",
    )
    add("--plan", type=Path, metavar="PLAN.toml", help="settings that all methods share")
    add("--prior", type=_words, default=(), metavar="P,...", help="run mep with each of these")
    add("--steps", type=_numbers, default=(), metavar="N,...", help="mep with each number of steps")
    add("--device", metavar="auto|cpu|cuda[:N]|mps", help="where to reconstruct")
    add("--doses", type=_doses, default=(1e5, 1e6), metavar="D,...", help="e/A^2")
    add("--seed", type=seed, default=1, help="of the counting noise")
    add("--workers", type=positive, default=1, metavar="N", help="processes, one thread each")
    add("--scheduler", metavar="ADDRESS", help="Dask cluster instead, such as tcp://host:8786")
    add(
        "--merge",
        nargs="+",
        type=Path,
        default=(),
        metavar="FILE",
        help="take the results in other runs' benchmark.json or results.jsonl as done",
    )
    add("--reprint", action="store_true", help="report what is there, compute nothing")
    add("--json", action="store_true", help="machine-readable")
    experiment_options(sub)


def _benchmark(a: argparse.Namespace) -> None:
    from napari_mep.benchmark.cases import make_tasks, read_views
    from napari_mep.benchmark.methods import DEFAULT, parse_methods
    from napari_mep.benchmark.records import Records
    from napari_mep.benchmark.report import make_report, read_results, report_values
    from napari_mep.benchmark.specimens import find_specimens
    from napari_mep.benchmark.table import summary_markdown
    from napari_mep.data.experiment import Experiment
    from napari_mep.reconstruction.plan import ReconstructionPlan

    plan = ReconstructionPlan.from_toml(a.plan) if a.plan else ReconstructionPlan()
    if a.device is not None:
        plan = plan.replace(device=a.device)
    methods = parse_methods(a.methods or DEFAULT, plan, priors=a.prior, steps=a.steps)
    experiment = Experiment(**experiment_settings(a))
    specimens = find_specimens(a.crystals, a.zone_axes, a.limit)
    _check_folder(a.output)
    others = [result for path in a.merge for result in read_results(path)]
    records = Records(a.output / "results.jsonl")
    records.merge(others)
    views, failures = read_views(specimens, experiment)
    for failure in failures:
        _say(str(failure))
    if not views:
        raise CrystalError("crystals: none could be read; name others with --crystals")
    tasks = make_tasks(views, a.doses, methods, a.seed)
    asked = {task.key for task in tasks}
    if strange := sum(result.key not in asked for result in others):
        _say(
            f"--merge: {strange} of {len(others)} results are kept but not reported; they are of "
            "other crystals, conditions, settings or weights than asked for"
        )
    stop = threading.Event()
    if not a.reprint:
        failures += _compute(a, tasks, records, stop)
    report = make_report(tasks, records, methods, failures)
    if not report.results and not stop.is_set():
        raise ExportError(
            f"benchmark in {a.output}: no result; "
            + ("run without --reprint" if a.reprint else "see the lines above")
        )
    written = _write(report, a.output)
    if a.json:
        print(to_json(report_values(report)))
    else:
        print(summary_markdown(report))
        if written:
            print(f"\nwrote {', '.join(str(path) for path in written)}")
    if stop.is_set():
        raise KeyboardInterrupt


def _check_folder(path: Path) -> None:
    """Refuse a place where no folder can be, and a Zarr store, which may be a scan."""
    from napari_mep.data._store import is_store

    if path.exists() and not path.is_dir():
        raise ExportError(f"output {path}: is a file; name a folder")
    for folder in (path.absolute(), *path.absolute().parents):
        if is_store(folder):
            raise ExportError(
                f"output {path}: {folder} is a Zarr store, a scan or an image; name another folder"
            )


def _compute(
    a: argparse.Namespace, tasks: list[Task], records: Records, stop: threading.Event
) -> list[Failure]:
    from napari_mep.benchmark.cases import SimulationCache
    from napari_mep.benchmark.run import check_methods, missing, run_tasks
    from napari_mep.benchmark.schedulers import open_backend

    undone = missing(tasks, records)
    if not undone:
        return []
    if a.scheduler is None:  # a cluster has devices and packages of its own
        check_methods(undone)
    cache = SimulationCache(a.output / "simulations")
    workers = min(a.workers, len(undone))
    with (
        ctrl_c_sets(stop),
        open_backend(workers, a.scheduler, stop) as backend,
        progress("benchmark", "pieces") as bar,
    ):
        failures = run_tasks(tasks, records, cache, backend, stop=stop, progress=bar)
    for failure in failures:
        _say(str(failure))
    return failures


def _write(report: Report, folder: Path) -> list[Path]:
    """The report beside its results: Markdown, JSON, pictures."""
    from napari_mep.benchmark.figure import write_figures
    from napari_mep.benchmark.report import report_values
    from napari_mep.benchmark.table import markdown

    if not report.results:
        return []
    texts = {
        folder / "benchmark.md": markdown(report, _command()),
        folder / "benchmark.json": to_json(report_values(report)) + "\n",
    }
    for path, text in texts.items():
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)
        except OSError as err:
            raise ExportError(f"{path}: not written ({err.strerror or err})") from None
    return [*texts, *write_figures(report, folder / "benchmark")]


def _command() -> str:
    """What computes the page from nothing: without what only says where results lie already."""
    kept: list[str] = []
    of_merge = False
    for word in sys.argv[1:]:
        of_merge = word == "--merge" or (of_merge and not word.startswith("-"))
        if not of_merge and word not in ("--reprint", "--json"):
            kept.append(word)
    return shlex.join(["napari-mep", *kept])


def _say(line: str) -> None:
    """One line on standard error, whatever the progress bar does there."""
    print(f"napari-mep: {line}", file=sys.stderr)


# --- argument types -------------------------------------------------------------------------------


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise argparse.ArgumentTypeError(f"{text!r}: expected names with commas between them")
    return words


def _numbers(text: str) -> list[int]:
    return [positive(word) for word in _words(text)]


def _doses(text: str) -> list[float]:
    try:
        doses = [float(word) for word in _words(text)]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected e/A^2, such as 1e5,1e6") from None
    if not all(math.isfinite(dose) and dose > 0 for dose in doses):
        raise argparse.ArgumentTypeError(f"{text!r}: doses must be positive, e/A^2")
    return list(dict.fromkeys(doses))


def _zone_axes(text: str) -> list[str]:
    """``a,b,c`` are three axes, ``1,1,0`` is one; ``;`` stands between others."""
    axes: list[str] = []
    for part in text.split(";"):
        axes += _words(part) if any(c.isalpha() for c in part) else [part]
    return axes
