"""Layers of one scan: images in their place in the world, and patterns beside them.

Two slots for images over the scan, one above the other, and to the right of each a pattern:

    image        mean pattern
    second image pattern at the cursor

The upper image lies where the scan lies in the world, so a reconstruction is in register with it.
A viewer has one unit of length, so patterns are drawn as large as the scan and say their own unit:
a bar in mrad, and the radii of the detector, drawn in a layer of lines.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject

from napari_mep._scan_layers import GAP, contrast, scan_steps
from napari_mep.widgets._scan_look import IMAGES, Images, Ring, Sample
from napari_mep.widgets._scan_marks import Marks, marks_of
from napari_mep.widgets._scan_places import SCALES, Place, mrad_per_px, scaled
from napari_mep.widgets._scan_state import KEY, ScanState

__all__ = ["ScanBoard"]

_MEAN, _CURSOR, _MARKS = "mean pattern", "pattern at the cursor", "detector and cursor"
_COLORMAPS = {"centre of mass x": "PiYG", "centre of mass y": "PiYG"}


class ScanBoard(QObject):
    """Makes, updates and removes the layers of one scan.

    A layer that the user removes stays away until another scan is shown.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
        The viewer.
    """

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layers: dict[str, Any] = {}
        self._removed: set[str] = set()
        self._state: ScanState | None = None
        self._mean: NDArray[np.float32] | None = None
        self._pattern: NDArray[np.float32] | None = None
        self._images: Images | None = None
        self._unfitted = False
        self._scale = SCALES[2]
        self._chosen = (IMAGES[0], IMAGES[7])
        self.ring = Ring((0.0, 0.0), 0.0, 1.0)
        self.cursor = (0, 0)

    @property
    def state(self) -> ScanState | None:
        """The scan that is shown."""
        return self._state

    @property
    def layers(self) -> dict[str, Any]:
        """Layers that are there, by role."""
        return {role: layer for role, layer in self._layers.items() if layer in self._viewer.layers}

    @property
    def images(self) -> Images | None:
        """What the images over the scan show."""
        return self._images

    @property
    def chosen(self) -> tuple[str, str]:
        """Names of the upper and the lower image."""
        return self._chosen

    def show(self, state: ScanState, sample: Sample) -> None:
        """Show another scan, in place of the one before."""
        self.remove()
        self._state, self._mean = state, sample.mean
        self._images = self._pattern = None
        for layer in self._viewer.layers:  # what the reader made of the same scan
            own = layer.metadata.get("napari_mep")
            if isinstance(own, dict) and own.get("dataset_path") == state.path and layer.ndim == 2:
                layer.visible = False
        self.cursor = tuple(int(n) // 2 for n in state.original.patterns.shape[:2])  # type: ignore[assignment]
        self._draw_pattern(_MEAN)
        self._draw_marks()
        self._unfitted = True

    def show_images(self, images: Images) -> None:
        """New images over the scan."""
        if self._state is None:
            return
        self._images = images
        for role in IMAGES:
            if role in images.images:
                self._draw_image(role)
        self._order()
        self._fit()

    def show_pattern(self, pattern: NDArray[np.float32]) -> None:
        """The pattern at the cursor."""
        if self._state is not None:
            self._pattern = pattern
            self._draw_pattern(_CURSOR)
            self._order()
            self._fit()

    def set_scale(self, scale: str) -> None:
        """Grey scale of patterns: one of `SCALES`."""
        self._scale = scale
        for role in (_MEAN, _CURSOR):
            self._draw_pattern(role, fit=True)

    def choose(self, upper: str, lower: str) -> None:
        """Which two images are seen."""
        self._chosen = (upper, lower)
        if self._images is not None:
            self.show_images(self._images)

    def set_ring(self, ring: Ring) -> None:
        """Draw the detector elsewhere."""
        self.ring = ring
        self._draw_marks()

    def set_cursor(self, row: int, column: int) -> None:
        """Draw the scan cursor elsewhere."""
        self.cursor = (row, column)
        self._draw_marks()

    def refresh(self) -> None:
        """Steps or units have changed: put everything in its place again."""
        if self._state is None:
            return
        for role in (_MEAN, _CURSOR):
            self._draw_pattern(role)
        if self._images is not None:
            self.show_images(self._images)
        self._draw_marks()

    def remove(self) -> None:
        """Take all layers away."""
        for layer in list(self.layers.values()):
            self._viewer.layers.remove(layer)
        self._layers.clear()
        self._removed.clear()
        self._state = None

    # --- places ----------------------------------------------------------------------------------

    @property
    def step(self) -> tuple[float, float]:
        """World units (y, x) per scan step: A, or 1 where the step is not known."""
        assert self._state is not None
        return scan_steps(self._state.opened())[1] or (1.0, 1.0)

    @property
    def unit(self) -> str:
        """Of the world."""
        assert self._state is not None
        return "angstrom" if scan_steps(self._state.opened())[1] else "pixel"

    def _extent(self) -> tuple[float, float]:
        """Width of the scan, and side of a pattern, in world units."""
        assert self._state is not None
        rows, columns = (int(n) for n in self._state.original.patterns.shape[:2])
        height, width = rows * self.step[0], columns * self.step[1]
        return width, max(height, width)

    def scan_place(self, slot: int = 0) -> Place:
        """Of an image with one pixel per scan position, in the upper (0) or lower slot."""
        assert self._state is not None
        rows, columns = (int(n) for n in self._state.original.patterns.shape[:2])
        _, side = self._extent()
        return Place((slot * side * (1 + GAP), 0.0), self.step, (rows, columns))

    def pattern_place(self, slot: int = 0) -> Place:
        """Of the mean pattern (0) and the one at the cursor (1)."""
        assert self._state is not None
        ky, kx = (int(n) for n in self._state.original.patterns.shape[2:])
        width, side = self._extent()
        pixel = side / max(ky, kx)
        top = -self.step[0] / 2 + slot * side * (1 + GAP)
        left = width - self.step[1] / 2 + GAP * side
        return Place((top + pixel / 2, left + pixel / 2), (pixel, pixel), (ky, kx))

    def _fit(self) -> None:
        """Show everything, once, when everything is there."""
        if self._unfitted and self._images is not None and self._pattern is not None:
            self._unfitted = False
            seen = [layer for layer in self.layers.values() if layer.visible]
            self._viewer.dims.ndisplay = 2
            if seen:
                self._viewer.fit_to_view(layers=seen)

    # --- layers ----------------------------------------------------------------------------------

    def _draw_image(self, role: str) -> None:
        assert self._images is not None
        slot = self._chosen.index(role) if role in self._chosen else 0
        place, every = self.scan_place(slot), self._images.every
        unit = self._images.units[role]
        self._put(
            role,
            self._images.images[role],
            f"{role} ({unit})",
            Place(place.origin, (place.pixel[0] * every[0], place.pixel[1] * every[1]), (0, 0)),
            colormap=_COLORMAPS.get(role, "gray"),
            fit=True,
        )
        self._layers[role].visible = role in self._chosen

    def _draw_pattern(self, role: str, *, fit: bool = False) -> None:
        raw = self._mean if role == _MEAN else self._pattern
        if self._state is None or raw is None:
            return
        step_invA, _ = scan_steps(self._state.opened())
        mrad = self.mrad_per_px
        steps = [f"{mrad:.4g} mrad"] if mrad else []
        steps += [f"{step_invA:.3g} 1/Å"] if step_invA else []
        words = f" ({' = '.join(steps)} per px)" if steps else ""
        place = self.pattern_place(0 if role == _MEAN else 1)
        data = scaled(raw, self._scale)
        self._put(role, data, f"{role}{words}", place, fit=fit or role != _MEAN)

    def _put(
        self,
        role: str,
        data: NDArray[np.float32],
        title: str,
        place: Place,
        *,
        colormap: str = "gray",
        fit: bool = False,
    ) -> None:
        assert self._state is not None
        name = title
        layer = self._layers.get(role)
        limits = contrast(data)
        if limits is not None and colormap == "PiYG":
            most = max(abs(v) for v in limits)
            limits = (-most, most)
        if layer is None:
            self._layers[role] = self._viewer.add_image(
                data,
                name=name,
                scale=place.pixel,
                translate=place.origin,
                units=(self.unit,) * 2,
                axis_labels=("y", "x"),
                colormap=colormap,
                contrast_limits=limits,
                metadata={"napari_mep": {"dataset_path": self._state.path, KEY: self._state}},
            )
            return
        if layer not in self._viewer.layers:
            return
        if layer.units != (self.unit,) * 2:
            layer.units = (self.unit,) * 2
        layer.data = data
        if not layer.visible:
            layer.set_view_slice()  # else the thumbnail would be of the old data, on a new scale
        if fit and limits is not None:
            low, high = layer.contrast_limits_range
            layer.contrast_limits_range = (min(low, limits[0]), max(high, limits[1]))
            layer.contrast_limits = limits
        layer.scale, layer.translate, layer.name = place.pixel, place.origin, name

    def _draw_marks(self) -> None:
        if self._state is None:
            return
        _, side = self._extent()
        marks = marks_of(
            ring=self.ring,
            pattern=self.pattern_place(),
            scans=[self.scan_place(0), self.scan_place(1)],
            cursor=self.cursor,
            mrad_per_px=self.mrad_per_px,
            unit="Å" if self.unit == "angstrom" else "px",
            side=side,
        )
        layer = self._layers.get(_MARKS)
        if layer is None:
            self._layers[_MARKS] = _new_marks(self._viewer, marks, self.unit, side, self._state)
        elif layer in self._viewer.layers:
            layer.data = marks.shapes
            layer.features = {"label": marks.labels}

    def _order(self) -> None:
        """Lines on top of what came later."""
        layer = self._layers.get(_MARKS)
        layers = self._viewer.layers
        if layer is not None and layer in layers and layers[-1] is not layer:
            layers.move(layers.index(layer), -1)

    @property
    def mrad_per_px(self) -> float | None:
        """Width of a detector pixel, None where nobody knows it."""
        assert self._state is not None
        return mrad_per_px(self._state)


def _new_marks(viewer: Any, marks: Marks, unit: str, side: float, state: ScanState) -> Any:
    return viewer.add_shapes(
        marks.shapes,
        shape_type=marks.kinds,
        edge_color=marks.colours,
        face_color="transparent",
        edge_width=side / 160,
        name=_MARKS,
        features={"label": marks.labels},
        text={
            "string": "{label}",
            "color": "white",
            "size": 10,
            "anchor": "upper_right",  # so that no word runs over the edge of a small canvas
        },
        units=(unit,) * 2,
        axis_labels=("y", "x"),
        metadata={"napari_mep": {"dataset_path": state.path, KEY: state}},
    )
