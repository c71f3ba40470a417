"""Makes the pictures of docs/compare.md: real reconstructions in a real window.

    scripts/with-display.sh .venv/bin/python docs/make_compare_pictures.py

The scan is simulated and reconstructed on the first run (14 minutes of one busy core) and kept
under runs/compare.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
from PIL import Image
from qtpy.QtWidgets import QApplication

from napari_mep._reader import read_layers
from napari_mep.evaluation import load_volume
from napari_mep.widgets._compare_looks import View
from napari_mep.widgets._compare_scene import box_of
from napari_mep.widgets._compare_tiles import Box

ROOT = Path(__file__).parents[1]
CACHE = ROOT / "runs" / "compare"
IMAGES = ROOT / "docs" / "images"
SIZE_PX = (1680, 1060)
DOCK_PX = 580
COLOURS = 192
DEPTH_A = 7.2
SCAN = "40x40"
FILL = 0.99  # of a panel that the field takes
RESULTS = {
    "LSQ-ML": ("lsq-ml", "--preset", "tuned"),
    "PtyRAD Adam": ("ptyrad-adam", "--preset", "tuned"),
    "mep": ("mep", "--prior", "crystals"),
}
"""Name of the layer, and how it is made."""


def main() -> None:
    """Make all pictures."""
    scan = CACHE / "srtio3.zarr"
    run("simulate", "srtio3", "-o", scan, "--dose", "1e5", "--scan", SCAN, unless=scan)
    results = {}
    for name, (method, *options) in RESULTS.items():
        result = CACHE / f"{method}-{options[-1]}.ome.zarr"
        run("reconstruct", scan, "-o", result, "--method", method, *options, unless=result)
        results[name] = result

    viewer = napari.Viewer(title="napari-mep")
    viewer.theme = "dark"
    viewer.window.resize(*SIZE_PX)
    truth = load_volume(scan)
    place = {"units": ("angstrom",) * 3, "axis_labels": ("z", "y", "x")}
    look = {"interpolation2d": "bicubic", **place}
    viewer.add_image(
        truth.data, name="truth", scale=truth.voxel_size_A, translate=truth.origin_A, **look
    )
    for name, result in results.items():
        ((data, settings, _),) = read_layers(str(result))
        viewer.add_image(data, **(settings | {"name": name, "interpolation2d": "bicubic"}))
    dock, widget = viewer.window.add_plugin_dock_widget("napari-mep", "Compare")
    dock.setMinimumWidth(DOCK_PX)
    wait(lambda: len(widget.prepared.volumes) == 1 + len(results) and not widget.busy)
    viewer.dims.set_point(0, DEPTH_A)
    inspector = widget.inspector
    shared = box_of(widget.prepared.results[0].on_grid)  # where a scan position was

    widget.show_view(View.SIDE)
    fill(viewer, shared, panels=2)
    inspector.tabs.setCurrentWidget(inspector.depth)
    inspector.width_box.setValue(0.6)
    column = brightest(truth)
    inspector.set_point(*column)
    save(viewer, "compare-side-by-side")

    widget.show_view(View.CURTAIN)
    fill(viewer, shared)
    inspector.tabs.setCurrentWidget(inspector.profile)
    inspector.set_line((column[0], shared.left + 0.5), (column[0], shared.right - 0.5))
    save(viewer, "compare-profile")

    widget.show_view(View.SIDE)
    fill(viewer, shared, panels=2)
    inspector.tabs.setCurrentWidget(inspector.spectrum)
    save(viewer, "compare-fft")

    widget.show_view(View.DIFFERENCE)
    fill(viewer, shared, panels=2)
    inspector.tabs.setCurrentWidget(inspector.table)
    wait(lambda: len(inspector.table.rows) == len(results) and not inspector.table.busy)
    save(viewer, "compare-difference")

    widget.show_view(View.FLICKER)
    widget.views.set_flicker_interval(0)
    fill(viewer, shared)
    inspector.tabs.setCurrentWidget(inspector.pattern)
    inspector.pattern.minus.setChecked(True)
    wait(lambda: inspector.pattern.patterns is not None and not inspector.pattern.busy)
    save(viewer, "compare-diffraction")
    inspector.table.save_figure(CACHE / "figure.png")
    wait(lambda: not inspector.table.busy)
    viewer.close()


def fill(viewer: Any, field: Box, *, panels: int = 1) -> None:
    """Zoom until a field fills the canvas, or each of its panels, along the longer side."""
    wait(lambda: True)
    height, width = viewer.canvas.size
    viewer.scene.camera.center = (
        0,
        (field.top + field.bottom) / 2,
        (field.left + field.right) / 2,
    )
    viewer.scene.camera.zoom = max(height / field.height, width / field.width) / panels / FILL


def run(*arguments: object, unless: Path) -> None:
    """A command of napari-mep, if its result is not there."""
    if not unless.exists():
        unless.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "napari_mep.cli", *(str(a) for a in arguments)]
        subprocess.run(command, check=True)


def brightest(volume: Any) -> tuple[float, float]:
    """World coordinates of the heaviest column near the middle of the field."""
    total = volume.depth_sum()
    ny, nx = total.shape
    rows, columns = slice(ny // 4, 3 * ny // 4), slice(nx // 4, 3 * nx // 4)
    inner = total[rows, columns]
    y, x = divmod(int(inner.argmax()), inner.shape[1])
    _, dy, dx = volume.voxel_size_A
    _, oy, ox = volume.origin_A
    return oy + dy * (y + rows.start), ox + dx * (x + columns.start)


def wait(done: Callable[[], bool], seconds: float = 120) -> None:
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
