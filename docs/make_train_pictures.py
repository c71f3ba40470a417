"""Makes the pictures of docs/training.md: a real training run, watched in a real window.

    scripts/with-display.sh .venv/bin/python docs/make_train_pictures.py

The run, a small network on the crystals that ship as samples, takes MINUTES of one core the first
time and is kept under runs/train.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
from PIL import Image
from qtpy.QtWidgets import QApplication

from napari_mep.crystals.library import CrystalLibrary
from napari_mep.crystals.samples import list_samples, sample
from napari_mep.training.run_directory import read_metrics
from napari_mep.training.settings import TrainingSettings
from napari_mep.widgets._train_state import Phase

ROOT = Path(__file__).parents[1]
WORK = ROOT / "runs" / "train"
RUN = WORK / "samples-tiny"
IMAGES = ROOT / "docs" / "images"
MINUTES = 8.0
SIZE_PX = (1500, 940)
DOCK_PX = 430
COLOURS = 160


def main() -> None:
    """Train, then make all pictures."""
    library = WORK / "library.npz"
    if not library.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        crystals = [sample(name).crystal for name in list_samples() if "-" not in name]
        CrystalLibrary.from_crystals(crystals, {"samples": "structures of this package"}).save(
            library
        )
    if not finished():
        train(library)

    viewer = napari.Viewer(title="napari-mep")
    viewer.theme = "dark"
    viewer.window.resize(*SIZE_PX)
    dock, widget = viewer.window.add_plugin_dock_widget("napari-mep", "Train prior")
    dock.setMinimumWidth(DOCK_PX)
    widget.attach(WORK / "another-prior")
    widget.crystals.set_source(str(library))
    wait(lambda: not widget.problem() and not widget.crystals.busy)
    widget.crystals.preview()
    wait(lambda: not widget.crystals.busy)
    widget.tabs.setCurrentIndex(0)
    show_row(viewer, widget.crystals.row)
    widget.folder.edit.setText("prior-1")
    save(viewer, "train-set-up")

    widget.attach(RUN)
    wait(lambda: widget.history.last is not None and len(widget.samples.row.layers) == 4)
    widget.form.minutes.setValue(MINUTES + 60)
    wait(lambda: not widget.problem())
    records = len(widget.history.records)
    widget.start()
    wait(lambda: widget.phase is Phase.RUNNING and len(widget.history.records) > records)
    show_row(viewer, widget.samples.row)
    widget.folder.edit.setText(RUN.name)
    save(viewer, "train-watch")
    widget.stop()
    wait(lambda: not widget.phase.busy)
    viewer.close()


def finished() -> bool:
    """Whether the run has had its time."""
    records, _ = read_metrics(RUN)
    return bool(records) and records[-1]["seconds"] > 57 * MINUTES


def train(library: Path) -> None:
    """Run it, or what is left of it, from the command line."""
    settings = TrainingSettings(minutes=MINUTES, batch=4, warmup_volumes=300)
    path = WORK / "settings.json"
    path.write_text(json.dumps(settings.to_dict()), encoding="utf-8")
    command = [sys.executable, "-m", "napari_mep.cli", "train", str(library), "-o", str(RUN)]
    command += ["--settings", str(path), "--sample-minutes", "0.8", "--checkpoint-minutes", "1"]
    if (RUN / "checkpoint.safetensors").exists():
        command.append("--resume")
    subprocess.run(command, check=True)


def show_row(viewer: Any, row: Any) -> None:
    """Only these layers, in the middle of the depth."""
    shown = {layer.name for layer in row.layers}
    for layer in viewer.layers:
        layer.visible = layer.name in shown
    viewer.canvas.overlays.scale_bar.visible = True
    viewer.reset_view()
    first = row.layers[0]
    viewer.dims.set_point(0, first.translate[0] + first.scale[0] * (first.data.shape[0] // 2))


def wait(done: Callable[[], bool], seconds: float = 300) -> None:
    """Let Qt work until something has happened."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError("the widget did not come to rest")
        QApplication.processEvents()
        time.sleep(0.01)


def save(viewer: Any, name: str) -> None:
    """The whole window, in few colours."""
    end = time.monotonic() + 1.0
    wait(lambda: time.monotonic() > end)
    pixels = viewer.window.screenshot(flash=False, canvas_only=False)
    picture = Image.fromarray(pixels).convert("RGB").quantize(COLOURS, kmeans=4)
    picture.save(IMAGES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
