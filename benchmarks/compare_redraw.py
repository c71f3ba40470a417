"""From the slider to the picture: how long Compare takes to redraw ten volumes.

    scripts/with-display.sh .venv/bin/python benchmarks/compare_redraw.py

Opens ten volumes of 32 x 256 x 256 voxels side by side in a real window, moves the depth slider
by one slice at a time, and measures until the canvas has been painted. The pages of the widget
are drawn when the slider rests; that time is measured apart.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QApplication, QOpenGLWidget

from napari_mep.widgets._compare_looks import View

VOLUMES = 10
SHAPE = (32, 256, 256)
SIZE_PX = (1600, 1000)


class Painted(QObject):
    """Counts how often the canvas has been painted."""

    def __init__(self, canvas: Any) -> None:
        super().__init__()
        self.count = 0
        canvas.installEventFilter(self)

    def eventFilter(self, watched: Any, event: QEvent) -> bool:
        """Count, and let the event pass."""
        if event.type() == QEvent.Type.Paint:
            self.count += 1
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60, help="slider steps")
    parser.add_argument("--json", action="store_true", help="only numbers")
    arguments = parser.parse_args()

    viewer = napari.Viewer()
    viewer.window.resize(*SIZE_PX)
    rng = np.random.default_rng(0)
    for number in range(VOLUMES):
        viewer.add_image(
            rng.random(SHAPE, dtype=np.float32),
            name=f"result {number}",
            scale=(1.6, 0.2, 0.2),
            translate=(0.8, 0, 0),
            units=("angstrom",) * 3,
            axis_labels=("z", "y", "x"),
        )
    canvas = viewer.window._qt_window.findChild(QOpenGLWidget)
    painted = Painted(canvas)
    viewer.canvas.grid.enabled = True
    rest(1.0)
    alone = slide(viewer, painted, arguments.steps)
    viewer.canvas.grid.enabled = False
    _, widget = viewer.window.add_plugin_dock_widget("napari-mep", "Compare")
    settle(lambda: len(widget.prepared.volumes) == VOLUMES)
    began = time.perf_counter()
    before = painted.count
    widget.show_view(View.SIDE)
    wait_for(lambda: painted.count > before)
    opening = time.perf_counter() - began
    rest(0.5)

    compared = slide(viewer, painted, arguments.steps)
    rest(0.5)
    pages = {}
    for name in ("profile", "depth", "spectrum"):
        page = getattr(widget.inspector, name)
        widget.inspector.tabs.setCurrentWidget(page)
        rest(0.2)
        times = []
        for depth in (10.0, 20.0, 30.0, 40.0):
            began = time.perf_counter()
            widget.inspector.set_depth(depth)
            QApplication.processEvents()
            times.append(1e3 * (time.perf_counter() - began))
        pages[name] = round(float(np.median(times)), 1)
    result = {
        "volumes": VOLUMES,
        "shape": SHAPE,
        "side_by_side_ms": round(1e3 * opening, 1),
        "redraw": compared,
        "redraw_of_napari_grid_alone": alone,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "cores": os.cpu_count(),
        "page_ms": pages,
        "renderer": renderer(canvas),
        "machine": platform.processor() or platform.machine(),
    }
    viewer.close()
    if arguments.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:>18}  {value}")


def slide(viewer: Any, painted: Painted, steps: int) -> dict[str, float]:
    """Milliseconds from a step of the slider to the painted canvas; and the work of all threads.

    On a machine that others use, too, the fastest redraws and the processor time say more.
    """
    redraws, work = [], []
    for step in range(steps):
        before = painted.count
        began, cpu = time.perf_counter(), time.process_time()
        viewer.dims.set_current_step(0, (7 * step + 3) % SHAPE[0])
        wait_for(lambda before=before: painted.count > before)
        redraws.append(1e3 * (time.perf_counter() - began))
        work.append(1e3 * (time.process_time() - cpu))
    return {
        "median_ms": round(float(np.median(redraws)), 1),
        "fastest_ms": round(min(redraws), 1),
        "cpu_median_ms": round(float(np.median(work)), 1),
    }


def renderer(canvas: Any) -> str:
    """What draws: the graphics card, or Mesa's llvmpipe in software."""
    from vispy.gloo import gl

    canvas.makeCurrent()
    return str(gl.glGetParameter(gl.GL_RENDERER)) if hasattr(gl, "GL_RENDERER") else "unknown"


def wait_for(done: Any) -> None:
    """Let Qt work, and nothing else, until something has happened."""
    deadline = time.monotonic() + 30
    while not done() and time.monotonic() < deadline:
        QApplication.processEvents()


def settle(done: Any) -> None:
    deadline = time.monotonic() + 60
    while not done() and time.monotonic() < deadline:
        QApplication.processEvents()
        time.sleep(0.01)


def rest(seconds: float) -> None:
    end = time.monotonic() + seconds
    settle(lambda: time.monotonic() > end)


if __name__ == "__main__":
    main()
