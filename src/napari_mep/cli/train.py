"""The command ``napari-mep train``."""

from __future__ import annotations

import argparse
import os
import threading
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
    whole_number,
)
from napari_mep.errors import ExportError, PlanError

if TYPE_CHECKING:
    import torch

    from napari_mep.training.settings import TrainingSettings

__all__ = ["add_command"]

_SETTINGS = (
    "preset",
    "volumes",
    "minutes",
    "batch",
    "precision",
    "schedule",
    "learning_rate",
    "estimate_share",
    "solved_share",
)


def add_command(commands: Commands) -> None:
    """Describe the command and its options."""
    sub = new_command(commands, "train", _train, "Train a prior on a crystal library.")
    sub.add_argument("library", type=Path, metavar="LIBRARY.npz")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="RUN_DIR")
    sub.add_argument(
        "--preset", choices=("tiny", "small", "base", "paper"), help="size of the network"
    )
    sub.add_argument("--volumes", type=positive, help="length of the run, rendered volumes")
    sub.add_argument(
        "--minutes", type=float, help="length of the run, minutes of all its pieces together"
    )
    sub.add_argument(
        "--piece-minutes",
        type=float,
        metavar="M",
        help="end this piece after M minutes, with a checkpoint",
    )
    sub.add_argument("--batch", type=positive, help="volumes per step, of all processes together")
    sub.add_argument(
        "--precision", choices=("auto", "float32", "bfloat16"), help="arithmetic of the network"
    )
    sub.add_argument(
        "--schedule",
        choices=("linear", "cosine", "inverse-sqrt"),
        help="how the learning rate falls",
    )
    sub.add_argument("--learning-rate", type=float, metavar="LR", help="its peak")
    sub.add_argument(
        "--settings",
        type=Path,
        metavar="FILE.json",
        help="all settings, as a run directory has them",
    )
    sub.add_argument(
        "--estimate-share",
        type=float,
        metavar="SHARE",
        help="volumes shown with what a solver without a prior makes of them, 0 to 1; 0 if not "
        "given: the prior sees no gradient solution",
    )
    sub.add_argument(
        "--solved-views",
        type=Path,
        metavar="DIR",
        help="folder of `napari-mep solve`, or of several such: half of the volumes come from "
        "there, with what the solver itself made of simulated patterns",
    )
    sub.add_argument(
        "--solved-share", type=float, metavar="SHARE", help="another share than half, 0 to 1"
    )
    sub.add_argument(
        "--initial",
        metavar="PRIOR",
        help="prior to start from, a shipped one's name or the path of weights; random weights if "
        "not given",
    )
    sub.add_argument(
        "--workers",
        type=lambda text: whole_number(text, 0),
        metavar="N",
        help="processes that prepare crystals; if not given, none beside a CPU and all cores "
        "but one (at most 15) beside a GPU",
    )
    sub.add_argument("--compile", action="store_true", help="torch.compile the network")
    sub.add_argument(
        "--checkpoint-minutes", type=float, default=5.0, metavar="M", help="5 if not given"
    )
    sub.add_argument(
        "--sample-minutes",
        type=float,
        metavar="M",
        help="draw unconditional samples every M minutes",
    )
    sub.add_argument(
        "--resume",
        action="store_true",
        help="continue, with the run's settings where none is given",
    )
    sub.add_argument("--device", default="auto", metavar="auto|cpu|cuda[:N]|mps")
    sub.add_argument("--seed", type=seed, help="of all random numbers")


def _train(a: argparse.Namespace) -> None:
    import torch

    from napari_mep.crystals.library import CrystalLibrary
    from napari_mep.prior.device import resolve_device
    from napari_mep.prior.files import load_prior
    from napari_mep.training.export import export_prior
    from napari_mep.training.loop import train
    from napari_mep.training.ranks import join_ranks, local_rank
    from napari_mep.training.run_directory import CHECKPOINT_NAME
    from napari_mep.training.solved import SolvedViews

    if a.initial and a.resume:
        raise PlanError(
            f"initial = {a.initial}: a resumed run goes on with its own weights; leave out "
            "--initial, or start another run"
        )
    settings = _settings(a)
    solved = SolvedViews(a.solved_views, settings) if a.solved_views else None
    device = resolve_device(a.device)
    if device.type == "cuda" and device.index is None:
        device = resolve_device(f"cuda:{local_rank()}")
        torch.cuda.set_device(device)
    library = CrystalLibrary.load(a.library)
    if (a.output / CHECKPOINT_NAME).exists() and not a.resume:
        raise ExportError(f"output {a.output}: holds a run; give --resume or another directory")
    stop = threading.Event()
    timer = threading.Timer(60 * a.piece_minutes, stop.set) if a.piece_minutes else None
    with ctrl_c_sets(stop), join_ranks(device) as ranks:
        if timer:
            timer.daemon = True
            timer.start()
        records = train(
            library,
            settings,
            a.output,
            resume=a.resume,
            device=device,
            ranks=ranks,
            initial=load_prior(a.initial, device) if a.initial else None,
            solved=solved,
            compiled=a.compile,
            workers=_workers(device) if a.workers is None else a.workers,
            checkpoint_seconds=60 * a.checkpoint_minutes,
            sample_seconds=None if a.sample_minutes is None else 60 * a.sample_minutes,
            stop=stop,
        )
        if ranks.leads:
            _show(records)
        else:
            for _ in records:
                pass
        if timer:
            timer.cancel()
        if ranks.leads:
            target = a.output / "prior.safetensors"
            card = export_prior(a.output, target)
            print(f"wrote {target} after {card.trained_volumes} volumes")


def _settings(a: argparse.Namespace) -> TrainingSettings:
    """What the command line gives, over the file of settings or the run to resume."""
    from napari_mep.training.run_directory import SETTINGS_NAME
    from napari_mep.training.settings import TrainingSettings

    values: dict[str, Any] = {}
    path = a.settings
    if path is None and a.resume and (a.output / SETTINGS_NAME).exists():
        path = a.output / SETTINGS_NAME
    if path is not None:
        values = training_settings(path)
    if a.solved_views and not values.get("solved_share"):
        values["solved_share"] = 0.5
    given = {name: getattr(a, name) for name in (*_SETTINGS, "seed")}
    return TrainingSettings.from_dict(values | {k: v for k, v in given.items() if v is not None})


def _workers(device: torch.device) -> int:
    """Beside a CPU that trains, other processes would only be in its way."""
    return min(15, (os.cpu_count() or 2) - 1) if device.type == "cuda" else 0


def _show(records: Any) -> None:
    with progress("training", "volumes") as bar:
        for record in records:
            done = record["progress"]
            bar(
                record["volumes"],
                round(record["volumes"] / done) if done else record["volumes"],
                f"loss {record['loss']:.3f}, {record['volumes_per_second']:.1f} volumes/s",
            )
