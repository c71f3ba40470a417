"""A small scan in a file, and a data widget that has it open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

ROWS, COLUMNS, PIXELS = 12, 10, 32
CENTRE, RADIUS = (16.6, 15.2), 8.0
SEMIANGLE_MRAD = 20.0
DEAD = ((16, 12), (20, 17), (14, 18))
KNOWN = """beam_energy_keV = 300.0
convergence_semiangle_mrad = 20.0
scan_step_A = 0.5
defocus_A = 100.0
"""


def write_scan(folder: Path) -> tuple[Path, Path, np.ndarray]:
    """HDF5 file, calibration file without the detector step, and the patterns."""
    k = np.arange(PIXELS)
    away = np.hypot(k[:, None] - CENTRE[0], k[None, :] - CENTRE[1])
    disk = 1 / (1 + np.exp(3 * (away - RADIUS)))
    rng = np.random.default_rng(0)
    brightness = 40 + 20 * rng.random((ROWS, COLUMNS))
    patterns = rng.poisson(brightness[..., None, None] * (disk + 0.02)).astype(np.uint16)
    for y, x in DEAD:
        patterns[..., y, x] = 0
    scan, known = folder / "scan.h5", folder / "known.toml"
    with h5py.File(scan, "w") as file:
        file["patterns"] = patterns
    known.write_text(KNOWN)
    return scan, known, patterns


def event(kind: str, world: tuple[float, float], *modifiers: str, zoom: float = 100.0) -> Any:
    """A mouse event as napari hands it to callbacks of the viewer."""
    from types import SimpleNamespace

    return SimpleNamespace(
        type=kind,
        position=world,
        modifiers=modifiers,
        dims_displayed=[0, 1],
        camera_zoom=zoom,
        handled=False,
    )


def drag(viewer: Any, *places: tuple[float, float], modifiers: tuple[str, ...] = ()) -> bool:
    """Press, move and release; whether the press was taken by a callback of the widget."""
    taken = False
    for callback in list(viewer.mouse_drag_callbacks):
        mouse = event("mouse_press", places[0], *modifiers)
        steps = callback(viewer, mouse)
        if steps is None or next(steps, "end") == "end":
            continue
        taken = taken or mouse.handled
        for place in places[1:]:
            mouse.type, mouse.position = "mouse_move", place
            next(steps, None)
        mouse.type = "mouse_release"
        next(steps, None)
    return taken
