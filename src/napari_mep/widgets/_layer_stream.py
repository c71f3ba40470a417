"""A volume that grows in the viewer while it is reconstructed: one layer, updated in place."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image
from qtpy.QtCore import QObject, QTimer

from napari_mep.volume import PhaseVolume

__all__ = ["LayerStream", "contrast_of"]

_PERCENTILES = (0.5, 99.8)
_TOLERANCE = 0.05  # smaller changes of the contrast would only flicker


class LayerStream(QObject):
    """Shows the newest of many volumes in one image layer.

    Whatever the user does to the layer (name, colormap, visibility, opacity, contrast) survives.
    The contrast follows running percentiles until the user touches it. A hidden layer is updated
    when it is shown again; a deleted one ends the preview and is not brought back.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
        Where the layer is added.
    interval_ms : int
        Shortest time between two updates in milliseconds; what comes in between is dropped, but
        never the newest.
    newest : float
        Share of the newest volume's percentiles in the running ones; the rest is what was shown.
    """

    def __init__(
        self,
        viewer: Any,
        *,
        interval_ms: int = 100,
        newest: float = 0.5,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._newest = newest
        self._viewer = viewer
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(interval_ms)
        self._timer.timeout.connect(self._flush)
        self._layer: Image | None = None
        self._pending: PhaseVolume | None = None
        self._name = "reconstruction"
        self._metadata: dict[str, Any] = {}
        self._ended = True
        self._reset_contrast()

    @property
    def layer(self) -> Image | None:
        """The layer of the current or last run, None if there is none or the user deleted it."""
        if self._layer is not None:
            # By id: napari hands plugins proxies of viewer and layers, which are never identical.
            known = {layer.unique_id for layer in self._viewer.layers}
            if self._layer.unique_id not in known:
                self._forget()
        return self._layer

    def begin(self, name: str, metadata: dict[str, Any]) -> None:
        """Prepare for a new run; its layer is made when the first volume comes.

        Parameters
        ----------
        name : str
            Name of the layer.
        metadata : dict
            Becomes ``layer.metadata["napari_mep"]``.
        """
        self._forget()
        self._name, self._metadata = name, metadata
        self._ended = False
        self._reset_contrast()

    def push(self, volume: PhaseVolume) -> None:
        """Show a volume, now or within the interval."""
        if self._ended:
            return
        self._pending = volume
        if not self._timer.isActive():
            self._flush()
            self._timer.start()

    def finish(self, metadata: dict[str, Any]) -> None:
        """Show the last volume now, with thumbnail, and complete the metadata."""
        self._timer.stop()
        self._flush(even_hidden=True)
        self._metadata = metadata
        layer = self.layer
        if layer is not None:
            layer.metadata["napari_mep"] = metadata
            layer.refresh()
        self._ended = True

    def discard(self) -> None:
        """Remove the layer and ignore what still comes."""
        layer = self.layer
        self._forget()
        self._ended = True
        if layer is not None:
            self._viewer.layers.remove(layer)

    def _forget(self) -> None:
        if self._layer is not None:
            self._layer.events.contrast_limits.disconnect(self._on_contrast)
            self._layer.events.visible.disconnect(self._on_visible)
        self._layer = None
        self._pending = None
        self._timer.stop()

    def _flush(self, *, even_hidden: bool = False) -> None:
        volume = self._pending
        if volume is None:
            return
        known = self._layer
        layer = self.layer
        if known is not None and layer is None:  # deleted by the user: the preview is over
            self._ended = True
            return
        if layer is None:
            self._pending = None
            self._add(volume)
        elif layer.visible or even_hidden:
            self._pending = None
            self._write(layer, volume)

    def _add(self, volume: PhaseVolume) -> None:
        low, high = contrast_of(volume.data)
        self._running = (low, high)
        layer = self._viewer.add_image(
            volume.data.copy(),  # ours to write to
            name=self._name,
            scale=volume.voxel_size_A,
            translate=volume.origin_A,
            units=("angstrom",) * 3,
            axis_labels=("z", "y", "x"),
            contrast_limits=(low, high),
            colormap="gray",
            metadata={"napari_mep": self._metadata},
        )
        layer.contrast_limits_range = _widened((low, high), volume.data)
        layer.events.contrast_limits.connect(self._on_contrast)
        layer.events.visible.connect(self._on_visible)
        self._layer = layer

    def _write(self, layer: Image, volume: PhaseVolume) -> None:
        if layer.data.shape == volume.data.shape:
            # Assigning to layer.data would also compute extent and thumbnail, each time.
            np.copyto(layer.data, volume.data)
            self._follow_contrast(layer, volume.data)
            layer.refresh(thumbnail=False, extent=False, highlight=False)
        else:
            layer.data = volume.data.copy()
            self._follow_contrast(layer, volume.data)
        if not np.allclose(layer.scale, volume.voxel_size_A):
            layer.scale = volume.voxel_size_A
        if not np.allclose(layer.translate, volume.origin_A):
            layer.translate = volume.origin_A

    def _reset_contrast(self) -> None:
        self._running = (0.0, 1.0)
        self._user_contrast = False
        self._setting_contrast = False

    def _follow_contrast(self, layer: Image, data: np.ndarray) -> None:
        if self._user_contrast:
            return
        old, new = np.array(self._running), np.array(contrast_of(data))
        low, high = old + self._newest * (new - old)
        self._running = (float(low), float(high))
        shown = np.array(layer.contrast_limits)
        if np.abs(shown - self._running).max() < _TOLERANCE * (shown[1] - shown[0]):
            return
        self._setting_contrast = True
        try:
            layer.contrast_limits_range = _widened(self._running, data)
            layer.contrast_limits = self._running
        finally:
            self._setting_contrast = False

    def _on_contrast(self, _event: object = None) -> None:
        if not self._setting_contrast:
            self._user_contrast = True

    def _on_visible(self, _event: object = None) -> None:
        if self._layer is not None and self._layer.visible:
            self._flush()


def contrast_of(data: np.ndarray) -> tuple[float, float]:
    """Contrast limits from percentiles 0.5 and 99.8 of at most about 10^5 voxels."""
    some = data.reshape(-1)[:: max(1, data.size // 100_000)]
    some = some[np.isfinite(some)]
    if not some.size:
        return 0.0, 1.0
    low, high = np.percentile(some, _PERCENTILES)
    # An empty volume has no range, but napari's slider needs one.
    return float(low), float(max(high, low + 1e-3))


def _widened(limits: tuple[float, float], data: np.ndarray) -> tuple[float, float]:
    """Range of the contrast slider: the data with some room, and the limits in any case."""
    low, high = limits
    room = 0.25 * (high - low)
    smallest, largest = float(data.min()), float(data.max())
    # Comparisons with NaN are false, so that a broken volume leaves the limits alone.
    return (
        smallest if smallest < low - room else low - room,
        largest if largest > high + room else high + room,
    )
