"""What a viewer looked like, to give it back when the comparison is over."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from napari_mep.widgets._compare_layers import MARK, is_running
from napari_mep.widgets._layer_stream import contrast_of

__all__ = ["ViewState"]

_GRID = ("shape", "stride", "spacing", "enabled")
_CAMERA = ("center", "zoom", "angles", "perspective")
_SCALE_BAR = ("visible", "gridded")
_TEXT = ("text", "visible", "position", "font_size")
# In this order: limits beyond the range would widen it.
_LAYER = ("visible", "contrast_limits_range", "contrast_limits", "affine", "opacity", "blending")


@dataclass(frozen=True, slots=True)
class ViewState:
    """Grid, camera, dims, overlays, selection, and the looks of each layer.

    Parameters
    ----------
    viewer : dict
        Values by part and attribute.
    layers : dict
        Values by unique id of the layer and attribute.
    selected : tuple of str
        Unique ids.
    grown : set of str
        Unique ids of layers that joined while they were being reconstructed.
    """

    viewer: dict[str, dict[str, Any]]
    layers: dict[str, dict[str, Any]]
    selected: tuple[str, ...]
    grown: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, viewer: Any) -> ViewState:
        """Remember a viewer as it is."""
        parts = _parts(viewer)
        values = {
            name: {attribute: _copy(getattr(part, attribute)) for attribute in attributes}
            for name, (part, attributes) in parts.items()
        }
        layers = {str(layer.unique_id): _looks(layer) for layer in viewer.layers}
        selected = tuple(str(layer.unique_id) for layer in viewer.layers.selection)
        return cls(values, layers, selected)

    def join(self, viewer: Any) -> None:
        """Remember the layers that have come since, before anything is done to them."""
        for layer in viewer.layers:
            key = str(layer.unique_id)
            if key not in self.layers and MARK not in layer.metadata:
                self.layers[key] = _looks(layer)
                if is_running(layer):
                    self.grown.add(key)

    def restore(self, viewer: Any) -> None:
        """Bring back what is still there."""
        self.restore_layers(viewer)
        for layer in viewer.layers:
            # The limits of a first preview mean nothing for what it has become.
            if str(layer.unique_id) in self.grown:
                layer.contrast_limits = contrast_of(layer.data)
        for name, (part, attributes) in _parts(viewer).items():
            for attribute in attributes:
                wanted = self.viewer[name][attribute]
                if _differs(getattr(part, attribute), wanted):
                    setattr(part, attribute, wanted)
        viewer.layers.selection.clear()
        for layer in viewer.layers:
            if str(layer.unique_id) in self.selected:
                viewer.layers.selection.add(layer)

    def restore_layers(self, viewer: Any) -> None:
        """Bring back the looks of the layers only."""
        present = {str(layer.unique_id): layer for layer in viewer.layers}
        for key, looks in self.layers.items():
            layer = present.get(key)
            if layer is None:
                continue
            layer.name_overlay.visible = looks["name_overlay"]
            for name in _LAYER:
                if name in looks and _differs(getattr(layer, name), looks[name]):
                    setattr(layer, name, looks[name])


def _looks(layer: Any) -> dict[str, Any]:
    looks = {name: _copy(getattr(layer, name)) for name in _LAYER if hasattr(layer, name)}
    return looks | {"name_overlay": layer.name_overlay.visible}


def _parts(viewer: Any) -> dict[str, tuple[Any, tuple[str, ...]]]:
    """In the order of restoring: turning the grid off moves the camera, dims come before it."""
    overlays = viewer.canvas.overlays
    return {
        "grid": (viewer.canvas.grid, _GRID),
        "scale_bar": (overlays.scale_bar, _SCALE_BAR),
        "text": (overlays.text, _TEXT),
        "dims": (viewer.dims, ("ndisplay", "order", "point")),
        "camera": (viewer.scene.camera, _CAMERA),
    }


def _copy(value: Any) -> Any:
    if hasattr(value, "affine_matrix"):  # napari's Affine: a plain matrix can be set as well
        return value.affine_matrix.copy()
    return list(value) if isinstance(value, list) else value


def _differs(now: Any, wanted: Any) -> bool:
    now = _copy(now)
    with suppress(ValueError, TypeError):
        return bool(now != wanted)
    return True  # arrays: simply set them
