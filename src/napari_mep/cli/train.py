"""The command ``napari-mep train``."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path

from napari_mep.cli._shared import Commands, ctrl_c_sets, new_command, positive, progress, seed
from napari_mep.errors import ExportError

__all__ = ["add_command"]


def add_command(commands: Commands) -> None:
    """Describe the command and its options."""
    sub = new_command(commands, "train", _train, "Train a prior on a crystal library.")
    sub.add_argument("library", type=Path, metavar="LIBRARY.npz")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="RUN_DIR")
    sub.add_argument(
        "--preset", choices=("tiny", "small", "base", "paper"), help="size of the network"
    )
    sub.add_argument("--volumes", type=positive, help="length of the run, rendered volumes")
    sub.add_argument("--batch", type=positive, help="volumes per step")
    sub.add_argument(
        "--precision", choices=("auto", "float32", "bfloat16"), help="arithmetic of the network"
    )
    sub.add_argument("--resume", action="store_true", help="continue from the last checkpoint")
    sub.add_argument("--device", default="auto", metavar="auto|cpu|cuda[:N]|mps")
    sub.add_argument("--seed", type=seed, help="of all random numbers")


def _train(a: argparse.Namespace) -> None:
    from napari_mep.crystals.library import CrystalLibrary
    from napari_mep.reconstruction.engine import resolve_device
    from napari_mep.training.checkpoint import CHECKPOINT_NAME
    from napari_mep.training.export import export_prior
    from napari_mep.training.loop import train
    from napari_mep.training.settings import TrainingSettings

    names = ("preset", "volumes", "batch", "precision", "seed")
    given = {name: getattr(a, name) for name in names}
    settings = TrainingSettings(**{k: v for k, v in given.items() if v is not None})
    device = resolve_device(a.device)
    library = CrystalLibrary.load(a.library)
    if (a.output / CHECKPOINT_NAME).exists() and not a.resume:
        raise ExportError(f"output {a.output}: holds a run; give --resume or another directory")
    try:
        a.output.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise ExportError(f"output {a.output}: cannot be written ({err.strerror})") from None
    stop = threading.Event()
    with ctrl_c_sets(stop), progress("training", "volumes") as bar:
        records = train(library, settings, a.output, resume=a.resume, device=device, stop=stop)
        for record in records:
            bar(
                int(record["volumes"]),
                settings.volumes,
                f"v-loss {record['loss']:.3f}, {record['volumes_per_second']:.1f} volumes/s",
            )
    target = a.output / "prior.safetensors"
    card = export_prior(a.output, target)
    print(f"wrote {target} after {card.trained_volumes} volumes")
