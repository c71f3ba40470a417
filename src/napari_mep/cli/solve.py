"""The command ``napari-mep solve``."""

from __future__ import annotations

import argparse
import math
import threading
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_mep.cli._shared import (
    Commands,
    ctrl_c_sets,
    new_command,
    positive,
    progress,
    seed,
    training_settings,
)
from napari_mep.errors import ExportError, SolverError

if TYPE_CHECKING:
    from napari_mep.crystals.library import CrystalLibrary
    from napari_mep.reconstruction.plan import GradientPlan
    from napari_mep.reconstruction.solve_views import Simulator
    from napari_mep.training.settings import TrainingSettings
    from napari_mep.training.solved import SolvedView

__all__ = ["add_command"]

_LOOK_SECONDS = 0.2


def add_command(commands: Commands) -> None:
    """Describe the command and its options."""
    sub = new_command(
        commands,
        "solve",
        _solve,
        "Simulate views of a crystal library and solve them without a prior: pairs to train on.",
    )
    sub.add_argument("library", type=Path, metavar="LIBRARY.npz")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    sub.add_argument(
        "--views",
        type=positive,
        default=300,
        metavar="N",
        help="300 if not given; those that the folder holds already are not made again",
    )
    sub.add_argument(
        "--settings",
        type=Path,
        metavar="FILE.json",
        help="of the training that will learn from them: voxels, defects, orientations",
    )
    sub.add_argument(
        "--simulator",
        choices=("abtem", "model"),
        default="abtem",
        help="whose patterns: abTEM's, independent of the solver's model as real ones are, or "
        "those of that model, ten times as fast",
    )
    sub.add_argument(
        "--doses",
        type=_doses,
        metavar="LOW,HIGH",
        help="between which doses are drawn, e/A^2; 5e3,5e6 if not given",
    )
    sub.add_argument(
        "--iterations",
        type=positive,
        metavar="N",
        help="of the solver; those of a reconstruction if not given",
    )
    sub.add_argument("--workers", type=positive, default=1, metavar="N", help="processes")
    sub.add_argument(
        "--device", default="auto", metavar="auto|cpu|cuda[:N]|mps", help="of the solver"
    )
    sub.add_argument("--seed", type=seed, help="of everything drawn")


def _solve(a: argparse.Namespace) -> None:
    from napari_mep.benchmark.schedulers import open_backend
    from napari_mep.crystals.library import CrystalLibrary
    from napari_mep.prior.device import resolve_device
    from napari_mep.reconstruction.plan import ReconstructionPlan
    from napari_mep.reconstruction.problem import Interrupted
    from napari_mep.reconstruction.solve_views import DOSES
    from napari_mep.training.settings import TrainingSettings
    from napari_mep.training.solved import save_view, view_path

    values = {} if a.settings is None else training_settings(a.settings)
    if a.seed is not None:
        values["seed"] = a.seed
    settings = TrainingSettings.from_dict(values)
    given = {} if a.iterations is None else {"iterations": a.iterations}
    plan = ReconstructionPlan.parse({"gradient": given}, source="settings").gradient
    device = str(resolve_device(a.device))
    library = CrystalLibrary.load(a.library)
    if a.output.exists() and not a.output.is_dir():
        raise ExportError(f"output {a.output}: is a file; name a folder")
    a.output.mkdir(parents=True, exist_ok=True)
    missing = [n for n in range(a.views) if not view_path(a.output, n).exists()]
    left = iter(missing)
    doses = a.doses or DOSES
    stop = threading.Event()
    under_way: dict[Future[Any], int] = {}
    done = 0
    with (
        ctrl_c_sets(stop),
        open_backend(min(a.workers, max(1, len(missing))), stop=stop) as backend,
        progress("solving", "views") as tell,
    ):
        shared = backend.share(library)
        while not stop.is_set():
            while len(under_way) < backend.slots and (number := next(left, None)) is not None:
                work = backend.submit(
                    _view, shared, settings, number, a.simulator, doses, plan, device
                )
                under_way[work] = number
            if not under_way:
                break
            finished, _ = wait(under_way, _LOOK_SECONDS, FIRST_COMPLETED)
            for future in finished:
                number = under_way.pop(future)
                try:
                    save_view(view_path(a.output, number), future.result())
                except Interrupted:
                    continue
                except BrokenExecutor:
                    raise SolverError(
                        f"view {number}: its worker process died (out of memory?); lower "
                        "--workers and run again, which goes on"
                    ) from None
                done += 1
                tell(done, len(missing), f"view {number}")
    kept = a.views - len(missing)
    stopped = "; stopped, the same command goes on" if stop.is_set() else ""
    print(f"{a.output}: {done} views solved, {kept} were there of {a.views}{stopped}")


def _view(
    library: CrystalLibrary,
    settings: TrainingSettings,
    number: int,
    simulator: Simulator,
    doses: tuple[float, float],
    plan: GradientPlan,
    device: str,
    *,
    stop: threading.Event,
) -> SolvedView:
    """The work of one process."""
    from napari_mep.reconstruction.solve_views import solve_view

    return solve_view(
        library,
        settings,
        number,
        simulator=simulator,
        doses=doses,
        plan=plan,
        device=device,
        stop=stop,
    )


def _doses(text: str) -> tuple[float, float]:
    try:
        low, high = (float(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: use LOW,HIGH in e/A^2") from None
    if not 0 < low <= high < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: LOW must be positive and not above HIGH")
    return low, high
