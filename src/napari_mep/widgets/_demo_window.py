"""The window of the demo: a real viewer, the docked widget, and someone who presses its buttons."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
from qtpy.QtCore import QEventLoop, QTimer

from napari_mep.errors import ExportError, SolverError
from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.volume import PhaseVolume

if TYPE_CHECKING:
    from napari_mep.widgets.reconstruct import ReconstructWidget

__all__ = ["DemoWindow"]

_SIZE_PX = (1500, 950)
_OPENING_S = 120.0
_RUN_S = 3600.0
_EXPORT_S = 120.0
_DRAWING_S = 1.0
_POLL_MS = 20
# From the side and a little from above, so that the depth is seen: (z, y, x), the beam downwards.
_VIEW = (0.35, 1.0, 0.25)
_UP = (-1.0, 0.0, 0.0)


class DemoWindow:
    """A napari window with the Reconstruct widget docked through the manifest.

    Parameters
    ----------
    title : str
        Of the window.
    """

    def __init__(self, title: str) -> None:
        self._viewer = napari.Viewer(title=title)
        self._viewer.theme = "dark"
        self._viewer.window.resize(*_SIZE_PX)
        _dock, widget = self._viewer.window.add_plugin_dock_widget("napari-mep", "Reconstruct")
        self._widget: ReconstructWidget = widget
        self._gone = False
        widget.destroyed.connect(self._on_destroyed)

    def add(self, name: str, volume: PhaseVolume) -> None:
        """Show a volume beside the others."""
        self._viewer.add_image(
            volume.data,
            name=name,
            scale=volume.voxel_size_A,
            translate=volume.origin_A,
            units=("angstrom",) * 3,
            axis_labels=("z", "y", "x"),
        )

    def arrange(self, brightest_rad: float) -> None:
        """Side by side in 3D, each with its name, its outline and a scale bar; equal colours.

        Parameters
        ----------
        brightest_rad : float
            Phase at the end of the colour scale, which starts at zero.
        """
        viewer = self._viewer
        viewer.dims.ndisplay = 3
        viewer.canvas.grid.shape = (2, 2)
        viewer.canvas.grid.spacing = 6  # pixels
        viewer.canvas.grid.enabled = True
        viewer.canvas.overlays.scale_bar.gridded = True
        viewer.canvas.overlays.scale_bar.visible = True
        for layer in viewer.layers:
            layer.contrast_limits = (0.0, brightest_rad)
            layer.colormap = "magma"
            layer.name_overlay.visible = True
            layer.bounding_box.visible = True
            layer.bounding_box.points = False
            layer.bounding_box.line_color = "gray"
        viewer.scene.camera.set_view_direction(_VIEW, _UP)
        viewer.reset_view(reset_camera_angle=False)

    def save_picture(self, path: Path) -> None:
        """The whole window as PNG.

        Raises
        ------
        ExportError
            It cannot be written.
        """
        # By name: what the widget holds is a proxy, which the layer list would not know again.
        layer = self._widget.layer
        if layer is not None:
            self._viewer.layers.selection.active = self._viewer.layers[layer.name]
        self._wait(_after(_DRAWING_S), 2 * _DRAWING_S + 10, "drawing")
        try:
            self._viewer.window.screenshot(str(path), flash=False, canvas_only=False)
        except OSError as err:
            raise ExportError(f"picture {path}: cannot be written ({err.strerror})") from None

    def reconstruct(
        self, scan: Path, plan: ReconstructionPlan
    ) -> tuple[PhaseVolume, dict[str, Any]]:
        """Choose a scan and a plan, press Run, and wait in a window that stays alive.

        Returns
        -------
        PhaseVolume, dict
            Result and provenance, as the widget keeps them.

        Raises
        ------
        MepError
            The scan does not open, Run stays disabled, or the reconstruction fails.
        """
        widget = self._widget
        widget.set_plan(plan)
        widget.data.set_source(str(scan))
        self._wait(lambda: not widget.data.is_opening, _OPENING_S, "opening the scan")
        if not widget.controls.run_button.isEnabled():
            raise SolverError(f"demo: Run is disabled: {widget.problem()}")
        widget.controls.run_button.click()
        self._wait(lambda: not widget.state.busy, _RUN_S, "the reconstruction")
        if widget.failure or widget.result is None or widget.layer is None:
            raise SolverError(f"demo: {widget.failure or 'the reconstruction left no result'}")
        return widget.result

    def export(self, path: Path) -> None:
        """Write the result through the widget, replacing an older one.

        Raises
        ------
        ExportError
            It cannot be written.
        """
        answers: list[str] = []
        self._widget.export_finished.connect(answers.append)
        self._widget.export(path, overwrite=True)
        self._wait(lambda: bool(answers), _EXPORT_S, "the export")
        if answers[0]:
            raise ExportError(f"demo: {answers[0]}")

    def close(self) -> None:
        """Close the window."""
        self._viewer.close()

    def _wait(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        """Let Qt work until something has happened."""
        deadline = time.monotonic() + seconds
        loop = QEventLoop()
        timer = QTimer()
        timer.setInterval(_POLL_MS)

        def look() -> None:
            if self._gone or done() or time.monotonic() > deadline:
                loop.quit()

        timer.timeout.connect(look)
        timer.start()
        loop.exec()
        timer.stop()
        if self._gone:
            raise SolverError(f"demo: the window was closed during {what}")
        if not done():
            raise SolverError(f"demo: {what} took more than {seconds:.0f} s")

    def _on_destroyed(self) -> None:
        self._gone = True


def _after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end
