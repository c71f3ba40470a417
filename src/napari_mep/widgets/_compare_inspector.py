"""A map to point on, and the pages that show what is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_mep.widgets._compare_panels import DepthPanel, Panel, ProfilePanel, SpectrumPanel
from napari_mep.widgets._compare_pattern import PatternPanel
from napari_mep.widgets._compare_prepare import Prepared
from napari_mep.widgets._compare_scene import Scene, box_of, density_limits, image_of, marks_of
from napari_mep.widgets._compare_table import TablePanel
from napari_mep.widgets._compare_tiles import Box, Tile, TileGallery, to_grey

__all__ = ["Inspector"]

_HINTS = {
    "line": "Drag a line on the map.",
    "cross": "Click on the map, or hold Shift and move the mouse in napari's canvas.",
    "region": "Drag a region on the map; click for the whole field.",
    "": "",
}
_SMALLEST_REGION = 0.05  # of the map's width; less is a click


class Inspector(QWidget):
    """Profiles, spectra, patterns and scores of the compared volumes.

    Only the page in front is computed.

    Parameters
    ----------
    first, last : mapping
        Further pages by title, before and after its own: widgets with `tool` and `show_scene`.

    Attributes
    ----------
    depth_wanted : Signal(float)
        A cut was clicked at this depth in angstrom.
    marked : Signal(ndarray)
        Other marks are on the map, as lines; see `marks_of`.
    """

    depth_wanted = Signal(float)
    marked = Signal(object)

    def __init__(
        self, first: Mapping[str, Any], last: Mapping[str, Any], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._scene = Scene(Prepared())
        self._placed: Box | None = None
        self.map = TileGallery()
        self.map.dragged.connect(self._on_dragged)
        self.map.setMaximumHeight(9 * self.fontMetrics().height())
        self.profile, self.depth = ProfilePanel(), DepthPanel()
        self.spectrum, self.pattern, self.table = SpectrumPanel(), PatternPanel(), TablePanel()
        self.tabs = QTabWidget()
        own = {
            "Profile": self.profile,
            "Depth": self.depth,
            "FFT": self.spectrum,
            "Diffraction": self.pattern,
            "Table": self.table,
        }
        for title, page in {**first, **own, **last}.items():
            self.tabs.addTab(page, title)
        self.depth.pointed.connect(self._on_pointed)
        self.pattern.computed.connect(self._show_map)
        self.tabs.currentChanged.connect(self._on_tab)

        self._build_controls()
        self._on_tab()

    def _build_controls(self) -> None:
        self.width_box = QDoubleSpinBox()
        self.width_box.setRange(0, 1000)
        self.width_box.setDecimals(1)
        self.width_box.setSingleStep(0.2)
        self.width_box.setSuffix(" Å")
        self.width_box.setToolTip(
            "Width over which a line profile is averaged; diameter of a depth profile"
        )
        self.summed = QCheckBox("mean over depth")
        self.summed.setToolTip("Look at all slices together instead of one")
        self.whole = QPushButton("whole field")
        self.whole.setToolTip("Transform the whole slice instead of a region")
        self.words = QLabel()
        self.hint = QLabel()
        for label in (self.words, self.hint):
            label.setWordWrap(True)
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.width_row = QWidget()
        form = QFormLayout(self.width_row)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Width", self.width_box)
        side = QVBoxLayout()
        side.addWidget(self.words)
        side.addWidget(self.summed)
        side.addWidget(self.width_row)
        side.addWidget(self.whole)
        side.addWidget(self.hint)
        side.addStretch(1)
        self.pointing = QWidget()
        top = QHBoxLayout(self.pointing)
        top.setContentsMargins(0, 0, 0, 0)
        top.addWidget(self.map, 3)
        top.addLayout(side, 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.pointing)
        layout.addWidget(self.tabs, 1)
        self.width_box.valueChanged.connect(self._on_settings)
        self.summed.toggled.connect(self._on_settings)
        self.whole.clicked.connect(lambda: self.set_region(None))

    @property
    def scene(self) -> Scene:
        """Where the pages look."""
        return self._scene

    def set_prepared(self, prepared: Prepared) -> None:
        """Show other volumes, or new values of the same."""
        scene = replace(self._scene, prepared=prepared)
        if prepared.volumes:
            box = box_of(prepared.reference.volume)
            if box != self._placed:  # another field: begin in its middle
                self._placed = box
                y, x = (box.top + box.bottom) / 2, (box.left + box.right) / 2
                reach = 0.4 * box.width
                scene = replace(
                    scene, point_A=(y, x), line_A=((y, x - reach), (y, x + reach)), region=None
                )
        self._scene = scene
        self._show()

    def set_depth(self, depth_A: float) -> None:
        """Follow the slider."""
        self._update(depth_A=depth_A)

    def set_percentiles(self, percentiles: tuple[float, float]) -> None:
        """Contrast of pictures."""
        self._update(percentiles=percentiles)

    def set_point(self, y_A: float, x_A: float) -> None:
        """Move the crosshair."""
        self._update(point_A=(y_A, x_A))

    def set_line(self, start_A: tuple[float, float], end_A: tuple[float, float]) -> None:
        """Lay the line of the profile."""
        self._update(line_A=(start_A, end_A))

    def set_region(self, region: Box | None) -> None:
        """Choose what is transformed; None: everything."""
        self._update(region=region)

    def cancel(self) -> None:
        """Forget what is being computed."""
        self.pattern.cancel()
        self.table.cancel()

    def _page(self) -> Panel:
        page: Any = self.tabs.currentWidget()
        return page

    def _update(self, **changes: Any) -> None:
        scene = replace(self._scene, **changes)
        self._scene = scene
        self._show()

    def _show(self) -> None:
        self._show_map()
        self._page().show_scene(self._scene)

    def _show_map(self) -> None:
        scene = self._scene
        patterns = self.pattern.patterns if self._page() is self.pattern else None
        position = patterns.position_A if patterns is not None else None
        self.words.setText(scene.words)
        if not scene.prepared.volumes:
            self.map.set_message("no volume")
        else:
            reference = scene.prepared.reference
            low, high = density_limits([reference], scene.percentiles)
            tool = self._page().tool
            tile = Tile(
                reference.name,
                to_grey(image_of(reference.volume, scene), low, high),
                box_of(reference.volume),
                line=scene.line_A if tool == "line" else None,
                line_width=scene.width_A if tool == "line" else 0.0,
                cross=scene.point_A if tool == "cross" else None,
                frame=scene.region if tool == "region" else None,
                mark=position,
            )
            self.map.set_tiles([tile])
        self.marked.emit(marks_of(scene, self._page().tool, position))

    def _on_tab(self) -> None:
        tool = self._page().tool
        self.hint.setText(_HINTS[tool])
        self.whole.setVisible(tool == "region")
        self.width_row.setVisible(self._page() in (self.profile, self.depth))
        self.pointing.setVisible(bool(tool))  # a page on which nothing is pointed at needs the room
        self._show()

    def _on_settings(self) -> None:
        self._update(width_A=self.width_box.value(), summed=self.summed.isChecked())

    def _on_pointed(self, depth: float, y: float | None, x: float | None) -> None:
        old_y, old_x = self._scene.point_A
        self._update(point_A=(old_y if y is None else y, old_x if x is None else x))
        self.depth_wanted.emit(depth)

    def _on_dragged(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        tool = self._page().tool
        if tool == "cross":
            self.set_point(*end)
        elif tool == "line" and start != end:
            self.set_line(start, end)
        elif tool == "region":
            (y0, y1), (x0, x1) = (sorted(pair) for pair in zip(start, end, strict=True))
            region = Box(y0, x0, y1, x1)
            least = _SMALLEST_REGION * (self._placed.width if self._placed else 1.0)
            self.set_region(region if min(region.height, region.width) > least else None)
