"""Which volumes are compared, and what is done to them before: each correction a visible switch."""

from __future__ import annotations

from html import escape
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QSizePolicy,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_mep.widgets._compare_advice import not_offered
from napari_mep.widgets._compare_layers import is_running, is_volume, unit_problem
from napari_mep.widgets._compare_prepare import Prepared, Settings
from napari_mep.widgets._theme import warning_text

__all__ = ["Choice"]

_KEY = Qt.ItemDataRole.UserRole
_FLIPS = ("z", "y", "x")
_NAME = 1  # column
_TICKS = (0, 2, 3, 4)  # columns
_MOST_ROWS = 6  # more are scrolled


class Choice(QWidget):
    """The list of volumes with their flips, the reference, and the corrections.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
        Whose layers are offered.

    Attributes
    ----------
    changed : Signal
        Other volumes, another reference or other corrections.

    Notes
    -----
    `report` is not part of the layout: what has been corrected must be seen on every page.
    """

    changed = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._known: tuple[tuple[str, str], ...] = ()
        self.reference = QComboBox()
        self.reference.setToolTip("What the others are compared with; it keeps its voxels")
        self.reference.setMinimumContentsLength(8)
        self.reference.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.tree = QTreeWidget()
        self.tree.setHeaderLabels(["", "Volume", *(f"flip {axis}" for axis in _FLIPS)])
        self.tree.setRootIsDecorated(False)
        self.tree.setSelectionMode(QTreeWidget.SelectionMode.NoSelection)
        self.tree.setToolTip("Tick what is compared; flip what another program wrote mirrored")
        header = self.tree.header()
        header.setStretchLastSection(False)
        for column in range(5):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        self.crop = QCheckBox("crop")
        self.crop.setChecked(True)
        self.crop.setToolTip(
            "Compare over the field that all volumes share; off: each over what it shares with the "
            "reference"
        )
        self.register = QCheckBox("register")
        self.register.setToolTip("Move each result laterally onto the reference")
        self.offset = QCheckBox("offset")
        self.offset.setToolTip("Take away the constant phase by which a result differs")
        self.ramp = QCheckBox("ramp")
        self.ramp.setToolTip("Take away the linear phase ramp by which a result differs")
        self.report = QLabel()
        self.report.setWordWrap(True)
        self.report.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.left = QLabel()
        self.left.setWordWrap(True)
        self.left.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        for box in (self.crop, self.register, self.offset, self.ramp):
            row.addWidget(box)
            box.toggled.connect(self.changed)
        row.addStretch(1)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Reference", self.reference)
        form.addRow("Correct", row)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.tree)
        layout.addLayout(form)
        layout.addWidget(self.left)
        self.reference.activated.connect(self.changed)
        self.refresh()

    def refresh(self) -> None:
        """Follow the viewer's list of layers, keeping what was chosen."""
        layers = [layer for layer in self._viewer.layers if is_volume(layer)]
        present = tuple((str(layer.unique_id), layer.name) for layer in layers)
        if present == self._known:
            return
        known = {key for key, _ in self._known}
        chosen, flips = set(self.chosen()), dict(self.settings().flips)
        kept = str(self.reference.currentData() or "")
        with signals_blocked(self.reference):
            self.tree.clear()
            self.reference.clear()
            for layer in layers:
                key = str(layer.unique_id)
                new = key not in known  # what comes later is compared as well
                item = QTreeWidgetItem(["", layer.name])
                item.setData(0, _KEY, key)
                item.setToolTip(_NAME, layer.name + (" (running)" if is_running(layer) else ""))
                self.tree.addTopLevelItem(item)
                ticks = (new or key in chosen, *flips.get(key, (False,) * 3))
                for column, on in zip(_TICKS, ticks, strict=True):
                    # Boxes of the tree itself are all but invisible on napari's dark theme.
                    box = QCheckBox()
                    box.setChecked(on)
                    box.setAccessibleName(f"{layer.name}: {self.tree.headerItem().text(column)}")
                    box.toggled.connect(self.changed)
                    self.tree.setItemWidget(item, column, box)
                self.reference.addItem(layer.name, key)
            index = self.reference.findData(kept)
            self.reference.setCurrentIndex(index if index >= 0 else 0)
        self._fit_tree(len(layers))
        self._known = present
        self.changed.emit()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Fit the list once more: only now its font and style are those of the window."""
        super().showEvent(event)
        self._fit_tree(self.tree.topLevelItemCount())

    def _fit_tree(self, rows: int) -> None:
        """As high as its rows, within reason: the pages below need the room."""
        self.tree.doItemsLayout()
        line = max(self.tree.sizeHintForRow(0), self.fontMetrics().height())
        shown = min(max(rows, 2), _MOST_ROWS)
        frame = 2 * self.tree.frameWidth()
        self.tree.setFixedHeight(self.tree.header().sizeHint().height() + shown * line + frame)

    def reference_key(self) -> str:
        """Key of the reference, empty if there are no volumes."""
        return str(self.reference.currentData() or "")

    def set_reference(self, key: str) -> None:
        """Choose the reference, as if it had been picked from the list."""
        index = self.reference.findData(key)
        if index >= 0:
            self.reference.setCurrentIndex(index)
            self.changed.emit()

    def chosen(self) -> tuple[str, ...]:
        """Keys of the compared volumes, the reference first; empty without one."""
        reference = self.reference_key()
        ticked = [
            str(item.data(0, _KEY)) for item in self._items() if self.box(item, 0).isChecked()
        ]
        return (reference, *(key for key in ticked if key != reference)) if reference else ()

    def settings(self) -> Settings:
        """The corrections as they stand."""
        flips = {}
        for item in self._items():
            z, y, x = (self.box(item, column).isChecked() for column in _TICKS[1:])
            if z or y or x:
                flips[str(item.data(0, _KEY))] = (z, y, x)
        return Settings(
            crop=self.crop.isChecked(),
            register=self.register.isChecked(),
            offset=self.offset.isChecked(),
            ramp=self.ramp.isChecked(),
            flips=flips,
        )

    def show_report(self, prepared: Prepared) -> None:
        """Say what was done to each volume, and what could not be done."""
        lines = []
        for volume in prepared.volumes:
            if volume.problem:
                lines.append(warning_text(self, f"{volume.name}: {volume.problem}"))
            elif volume.corrections:
                lines.append(escape(f"{volume.name}: {volume.corrections}"))
        for layer in self._viewer.layers:
            if is_volume(layer) and str(layer.unique_id) in self.chosen():
                problem = unit_problem(layer)
                if problem:
                    lines.append(warning_text(self, problem))
        left = not_offered(self._viewer.layers)
        self.left.setText(escape(left))
        self.left.setVisible(bool(left))
        self.report.setText("<br>".join(lines))
        self.report.setVisible(bool(lines))

    def _items(self) -> list[QTreeWidgetItem]:
        return [self.tree.topLevelItem(row) for row in range(self.tree.topLevelItemCount())]

    def box(self, item: QTreeWidgetItem, column: int) -> QCheckBox:
        """The tick box of a row: column 0 compares, 2 to 4 flip z, y and x."""
        box: QCheckBox = self.tree.itemWidget(item, column)
        return box
