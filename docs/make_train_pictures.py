"""Makes the pictures of docs/training.md: a real training run, watched in a real window.

    scripts/with-display.sh .venv/bin/python docs/make_train_pictures.py

Run it from the root of the checkout. It trains a small network on the crystals that ship as
samples, which takes MINUTES of one core; the run stays under runs/train.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import napari
from PIL import Image
from qtpy.QtWidgets import QApplication

from napari_mep.crystals.library import CrystalLibrary
from napari_mep.crystals.samples import list_samples, sample
from napari_mep.training.settings import TrainingSettings

IMAGES = Path("docs/images")
WORK = Path("runs/train")  # relative, because the pictures show these paths
LIBRARY, RUN = WORK / "library.npz", WORK / "prior-1"
MINUTES = 6.0
SHOWN = 0.96  # share of the run after which its picture is taken
SIZE_PX = (1500, 940)
DOCK_PX = 430
COLOURS = 160


def main() -> None:
    """Choose crystals, train, and take a picture of both."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    crystals = [sample(name).crystal for name in list_samples() if "-" not in name]
    sources = {"samples": "structures of this package"}
    CrystalLibrary.from_crystals(crystals, sources).save(LIBRARY)

    viewer = napari.Viewer(title="napari-mep")
    viewer.theme = "dark"
    viewer.window.resize(*SIZE_PX)
    dock, widget = viewer.window.add_plugin_dock_widget("napari-mep", "Train prior")
    dock.setMinimumWidth(DOCK_PX)
    widget.attach(RUN)
    widget.crystals.set_source(str(LIBRARY))
    wait(lambda: not widget.problem() and not widget.crystals.busy)
    widget.crystals.preview()
    wait(lambda: not widget.crystals.busy)
    show(viewer, widget.crystals.block)
    save(viewer, "train-set-up")

    with training():
        wait(lambda: widget.history.last is not None, 120)
        wait(lambda: widget.history.last["progress"] > SHOWN, 120 * MINUTES)
        wait(lambda: not widget.samples.busy)
        show(viewer, widget.crystals.block, widget.samples.block)
        save(viewer, "train-watch")
        wait(lambda: not widget.phase.busy, 60 * MINUTES)
    viewer.close()


@contextmanager
def training() -> Iterator[None]:
    """The run, started as from a terminal; the window finds it by itself."""
    settings = TrainingSettings(minutes=MINUTES, batch=4, warmup_volumes=300)
    path = WORK / "settings.json"
    path.write_text(json.dumps(settings.to_dict()), encoding="utf-8")
    command = [sys.executable, "-m", "napari_mep.cli", "train", str(LIBRARY), "-o", str(RUN)]
    command += ["--settings", str(path), "--sample-minutes", "0.6", "--checkpoint-minutes", "1"]
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def show(viewer: Any, *blocks: Any) -> None:
    """Only these layers, in the middle of the depth."""
    shown = {layer.name for block in blocks for layer in block.layers}
    for layer in viewer.layers:
        layer.visible = layer.name in shown
    viewer.canvas.overlays.scale_bar.visible = True
    viewer.reset_view()
    first = blocks[0].layers[0]
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
