"""Stands in for ``napari-mep train``: fills a run directory as it does, but learns nothing.

Without torch it starts in a moment. What it is given decides how it ends: with ``--seed 13`` it
fails as the command line fails, with ``--seed 14`` as a program does that has a fault.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from napari_mep.training.run_directory import (
    CHECKPOINT_NAME,
    SETTINGS_NAME,
    append_metrics,
    claim,
    stop_requested,
    write_sample,
)
from napari_mep.training.schedules import run_progress
from napari_mep.training.settings import TrainingSettings

BATCH = 100
PAUSE_SECONDS = 0.02


def main() -> int:
    """Fill the directory until the budget is used up or somebody asks to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("library")
    parser.add_argument("-o", type=Path)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--volumes", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--resume", action="store_true")
    given, _ = parser.parse_known_args()
    settings = TrainingSettings(minutes=given.minutes, volumes=given.volumes, seed=given.seed)
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
    with claim(given.o):
        (given.o / SETTINGS_NAME).write_text(json.dumps(settings.to_dict()))
        if given.seed == 13:
            sys.stderr.write("napari-mep: training: loss is not finite\n")
            return 2
        if given.seed == 14:
            raise RuntimeError("a fault of the program")
        fill(given.o, settings, reached(given.o) if given.resume else (0, 0.0), stopping)
    (given.o / "prior.json").write_text("{}")
    return 0


def fill(run: Path, settings: TrainingSettings, start: tuple[int, float], stopping: list) -> None:
    """Metrics, samples and a checkpoint after every batch."""
    seen, seconds = start
    while (progress := run_progress(seen, seconds, settings)) < 1:
        seen, seconds = seen + BATCH, seconds + 1.0
        append_metrics(
            run,
            {
                "volumes": seen,
                "seconds": seconds,
                "progress": progress,
                "eta_s": 90.0,
                "volumes_per_second": float(BATCH),
                "loss": 100 / seen,
                "band_edges": [-12.0, -3.0, 6.0],
                "band_loss": [None, 50 / seen],
            },
        )
        write_sample(run, seen, np.full((4, 2, 6, 8), float(seen)), settings.voxel_size_A)
        state = {"volumes": seen, "seconds": seconds}
        partial = run / "checkpoint.partial"
        save_file({"none": np.zeros(1)}, partial, {"state": json.dumps(state)})
        partial.replace(run / CHECKPOINT_NAME)
        time.sleep(PAUSE_SECONDS)
        if stopping or stop_requested(run):
            return


def reached(run: Path) -> tuple[int, float]:
    """How far the checkpoint is."""
    text = (run / "metrics.jsonl").read_text().splitlines()[-1]
    record = json.loads(text)
    return record["volumes"], record["seconds"]


if __name__ == "__main__":
    sys.exit(main())
