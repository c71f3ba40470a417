"""What the compared layers share: contrast, depth and camera, each of which can be let go.

napari has one camera and one depth for all layers of a window. A link that is let go therefore
moves the *other* layers against the camera or the slider, by an affine transform before their own,
which is given back when the link is made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from qtpy.QtCore import QObject

__all__ = ["Linked", "Links"]


@dataclass(frozen=True, slots=True)
class Linked:
    """Which links are closed."""

    camera: bool = True
    depth: bool = True
    contrast: bool = True


class Links(QObject):
    """Keeps the layers of a comparison together, or apart.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
        Whose camera and depth are followed.
    """

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._linked = Linked()
        self._layers: tuple[Any, ...] = ()
        self._thickness: tuple[float, ...] = ()
        self._own: dict[str, np.ndarray] = {}  # affine of each layer that has been moved
        self._setting = False
        self._seen = self._look()
        viewer.scene.camera.events.connect(self._on_moved)
        viewer.dims.events.point.connect(self._on_moved)

    @property
    def linked(self) -> Linked:
        """Which links are closed."""
        return self._linked

    def own_affine(self, layer: Any) -> np.ndarray | None:
        """What a layer that is held apart will get back, None if it has not been moved."""
        return self._own.get(str(layer.unique_id))

    def close_down(self) -> None:
        """Let go of the viewer."""
        self.release()
        self._viewer.scene.camera.events.disconnect(self._on_moved)
        self._viewer.dims.events.point.disconnect(self._on_moved)

    def hold(self, layers: Sequence[Any], thickness_A: Sequence[float]) -> None:
        """Take over some layers; those held before are released.

        Parameters
        ----------
        layers : sequence of napari.layers.Image
            That are compared.
        thickness_A : sequence of float
            Of a slice of each in angstrom: equal contrast means equal phase per thickness, since a
            slice twice as thick holds twice the phase.
        """
        self.release()
        self._layers, self._thickness = tuple(layers), tuple(thickness_A)
        for layer in self._layers:
            layer.events.contrast_limits.connect(self._on_contrast)
        self._seen = self._look()

    def release(self) -> None:
        """Hold nothing any more; what has been moved apart comes back."""
        for layer in self._layers:
            layer.events.contrast_limits.disconnect(self._on_contrast)
        self._together()
        self._layers = self._thickness = ()

    def set_linked(self, linked: Linked) -> None:
        """Close and open links."""
        closed_again = (linked.camera and not self._linked.camera) or (
            linked.depth and not self._linked.depth
        )
        contrast_again = linked.contrast and not self._linked.contrast
        self._linked = linked
        if closed_again:
            self._together()
        if contrast_again:
            self._spread_contrast(self._active())
        self._seen = self._look()

    def set_contrast(self, low: float, high: float) -> None:
        """Give all layers the same limits in rad/A."""
        self._setting = True
        try:
            for layer, thickness in zip(self._layers, self._thickness, strict=True):
                layer.contrast_limits = (low * thickness, max(high, low + 1e-6) * thickness)
        finally:
            self._setting = False

    def _active(self) -> int:
        """Index of the layer that follows camera and slider: the selected one, else the first."""
        active = self._viewer.layers.selection.active
        for index, layer in enumerate(self._layers):
            if active is not None and layer.unique_id == active.unique_id:
                return index
        return 0

    def _on_contrast(self, event: Any) -> None:
        if self._setting or not self._linked.contrast:
            return
        for index, layer in enumerate(self._layers):
            # A layer of a plugin's viewer is a proxy, the source of an event is not.
            if layer.unique_id == event.source.unique_id:
                self._spread_contrast(index)
                return

    def _spread_contrast(self, source: int) -> None:
        if self._layers:
            low, high = self._layers[source].contrast_limits
            thickness = self._thickness[source]
            self.set_contrast(low / thickness, high / thickness)

    def _together(self) -> None:
        for layer in self._layers:
            own = self._own.pop(str(layer.unique_id), None)
            if own is not None:
                layer.affine = own

    def _look(self) -> tuple[np.ndarray, float, float]:
        """Camera centre (y, x), zoom and depth, in world units."""
        camera, point = self._viewer.scene.camera, self._viewer.dims.point
        depth = float(point[-3]) if len(point) >= 3 else 0.0
        return np.array(camera.center[-2:], float), float(camera.zoom), depth

    def _on_moved(self, _event: object = None) -> None:
        before, self._seen = self._seen, self._look()
        if self._setting or not self._layers or (self._linked.camera and self._linked.depth):
            return
        if self._viewer.dims.ndisplay != 2:  # a turned camera is no shift and zoom
            return
        move = np.eye(4)
        if not self._linked.camera:
            # Where a layer has to be now to be seen where it was: c' + z / z' (w - c).
            zoom = before[1] / self._seen[1] if self._seen[1] else 1.0
            move[1, 1] = move[2, 2] = zoom
            move[1:3, 3] = self._seen[0] - zoom * before[0]
        if not self._linked.depth:
            move[0, 3] = self._seen[2] - before[2]
        if np.allclose(move, np.eye(4)):
            return
        active = self._active()
        self._setting = True  # moving layers changes the range of the slider
        try:
            for index, layer in enumerate(self._layers):
                if index != active:
                    now = np.array(layer.affine.affine_matrix)
                    self._own.setdefault(str(layer.unique_id), now)
                    layer.affine = move @ now
        finally:
            self._setting = False
            self._seen = self._look()
