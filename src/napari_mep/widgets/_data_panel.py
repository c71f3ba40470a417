"""Choosing a scan: a path or a layer that knows its scan, and a calibration file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from html import escape
from typing import Any

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_mep.widgets._background import BackgroundCall
from napari_mep.widgets._opening import OpenedScan, check_scan, open_scan
from napari_mep.widgets._scan_state import ScanState, state_of_layer
from napari_mep.widgets._theme import error_text, warning_text

__all__ = ["DataPanel", "Opener", "beside", "browse_button", "scan_of_layer"]

Opener = Callable[[str, str | None], OpenedScan]
"""Opens (path, calibration file or None); called in a thread."""

_NO_LAYER = "choose a layer…"
_SHAPE = re.compile(r"(\d+)\s*[x×,]\s*(\d+)", re.IGNORECASE)
_REST_MS = 300  # after the last change of a calibration that is shared


def scan_of_layer(layer: Any) -> str | None:
    """Path of the scan that a layer was made from, None if it says nothing about one."""
    own = layer.metadata.get("napari_mep")
    path = own.get("dataset_path") if isinstance(own, dict) else None
    return str(path) if path else None


class DataPanel(QGroupBox):
    """Where the patterns come from.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
        Its layers are offered if they carry a scan in ``metadata["napari_mep"]["dataset_path"]``.
    opener : callable
        Opens a scan; see `Opener`.
    shares : bool
        Whether a scan that the 4D-STEM data widget has open is taken with the calibration and the
        preprocessing as they stand there, and followed.

    Attributes
    ----------
    changed : Signal
        The scan, or the reason why there is none, has changed.
    """

    changed = Signal()

    def __init__(
        self,
        viewer: Any,
        *,
        opener: Opener = open_scan,
        shares: bool = True,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__("Data", parent)
        self._viewer = viewer
        self._opener = opener
        self._scan: OpenedScan | None = None
        self._problem = "choose a 4D-STEM scan"
        self._asked: tuple[object, ...] = ("", "")
        self._shares = shares
        self._shared: ScanState | None = None
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self._open)
        self._call = BackgroundCall(self)
        self._call.succeeded.connect(self._on_opened)
        self._call.failed.connect(self._on_failed)

        self.path = QLineEdit()
        self.path.setPlaceholderText("scan.mib, .dm4, .raw, .h5, .zarr, ...")
        self.path.setToolTip(
            "<p>4D-STEM patterns (scan_y, scan_x, ky, kx): Merlin .mib, EMPAD .raw or .xml, Gatan "
            ".dm3/.dm4, HyperSpy .hspy, EMD, py4DSTEM, ARINA _master.h5, ASTAR .blo, TVIPS, MRC, "
            "abTEM and other Zarr folders, HDF5, .npy, .npz; PtyRAD parameters (.yml, .toml, "
            ".json), which bring their plan along.</p>"
            "<p>Name an array inside a file as file.h5::/path/in/file.</p>"
        )
        self.scan_shape = QLineEdit()
        self.scan_shape.setPlaceholderText("as in the file")
        self.scan_shape.setToolTip(
            "Rows x columns of a scan whose file does not say them, for example 64 x 48; written "
            "behind the path as ::64x48"
        )
        self.layers = QComboBox()
        self.layers.setToolTip("Layers that know the scan they were made from")
        # Long layer names must not widen the dock.
        self.layers.setMinimumContentsLength(8)
        self.layers.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.calibration = QLineEdit()
        self.calibration.setPlaceholderText("as in the file")
        self.calibration.setToolTip(
            "TOML file with beam energy (keV), semi-angle (mrad), scan step (Å), detector step "
            "(1/Å), ...; its values win over those of the data file"
        )
        self.summary = QLabel()
        self.summary.setWordWrap(True)
        self.summary.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.summary.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.unsupported = QCollapsible()
        self.unsupported.setDuration(0)
        self._unsupported = QLabel()
        self._unsupported.setWordWrap(True)
        self._unsupported.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.unsupported.addWidget(self._unsupported)

        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setHorizontalSpacing(8)
        form.setVerticalSpacing(4)
        self._labels = [
            QLabel(title) for title in ("Scan", "Scan shape", "from layer", "Calibration")
        ]
        browse = browse_button({"File…": self._browse_file, "Zarr folder…": self._browse_folder})
        rows = (
            beside(self.path, browse),
            self.scan_shape,
            self.layers,
            beside(self.calibration, browse_button({"TOML file…": self._browse_calibration})),
        )
        for label, row in zip(self._labels, rows, strict=True):
            form.addRow(label, row)
        buddies = (self.path, self.scan_shape, self.layers, self.calibration)
        for label, buddy in zip(self._labels, buddies, strict=True):
            label.setBuddy(buddy)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.summary)
        layout.addWidget(self.unsupported)

        self.path.editingFinished.connect(self._open)
        self.scan_shape.editingFinished.connect(self._on_shape)
        self.calibration.editingFinished.connect(self._open)
        self.layers.activated.connect(self._on_layer_chosen)
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
            event.connect(self._on_layers_changed)
        self._on_layers_changed()
        self._show()

    @property
    def scan(self) -> OpenedScan | None:
        """The opened scan, None while there is none that could be reconstructed."""
        return self._scan if self._scan is not None and self._scan.dataset is not None else None

    @property
    def answer(self) -> OpenedScan | None:
        """What the opener said, whether a reconstruction could start or not."""
        return self._scan

    @property
    def problem(self) -> str:
        """Why `scan` is None, one line."""
        return self._problem

    @property
    def is_opening(self) -> bool:
        """Whether a file is being opened."""
        return self._call.busy or self._rest.isActive()

    def set_source(self, path: str, calibration: str = "") -> None:
        """Open a scan, as if the paths had been typed."""
        self.path.setText(path)
        self.calibration.setText(calibration)
        self._open()

    def set_label_width(self, width: int) -> None:
        """Line up with the labels of other groups."""
        for label in self._labels:
            label.setMinimumWidth(width)

    def set_locked(self, locked: bool) -> None:
        """Keep the choice while a run uses it."""
        unlocking = not locked and not self.calibration.isEnabled()
        for part in (self.path, self.scan_shape, self.calibration, self.layers):
            part.setEnabled(not locked)
        if unlocking and self._shared is not None:
            self._rest.start()  # it may have changed during the run

    def disconnect_viewer(self) -> None:
        """Stop listening to the viewer; called when the widget goes."""
        for event in (self._viewer.layers.events.inserted, self._viewer.layers.events.removed):
            event.disconnect(self._on_layers_changed)
        self._rest.stop()
        self._share(None)
        self._call.cancel()

    def _on_shape(self) -> None:
        """Name the scan shape where the path says it, or there no longer."""
        text, (bare, _) = self.scan_shape.text().strip(), _named_shape(self.path.text().strip())
        given = _SHAPE.fullmatch(text)
        if given and bare:
            self.path.setText(f"{bare}::{given[1]}x{given[2]}")
        elif not text:
            self.path.setText(bare)
        elif bare:
            self._refuse(f"scan shape '{text}': give rows x columns, for example 64 x 48")
            return
        self._open()

    def _refuse(self, problem: str) -> None:
        """No scan, because of what was typed."""
        self._call.cancel()
        self._share(None)
        self._scan = None
        self._on_failed(problem)

    def _open(self) -> None:
        path, calibration = self.path.text().strip(), self.calibration.text().strip()
        self.scan_shape.setText(_named_shape(path)[1])
        self._share(None if calibration else self._state_of(path))
        shared = self._shared
        asked = (path, calibration, *((shared, shared.revision) if shared else ()))
        if asked == self._asked:  # leaving a field is no reason to read the file again
            return
        self._asked = asked
        self._scan = None
        if shared is not None and shared.problem():
            self._call.cancel()
            self._problem = f"4D-STEM data: {shared.problem()}"
        elif shared is not None:
            self._problem = "opening…"
            self._call.submit(partial(check_scan, shared.opened()))
        elif path:
            self._problem = "opening…"
            self._call.submit(partial(self._opener, path, calibration or None))
        else:
            self._call.cancel()
            self._problem = "choose a 4D-STEM scan"
        self._show()

    def _state_of(self, path: str) -> ScanState | None:
        """What the 4D-STEM data widget knows of a scan that it has open."""
        if not self._shares or not path:
            return None
        states = (state_of_layer(layer) for layer in self._viewer.layers)
        return next((state for state in states if state is not None and state.path == path), None)

    def _share(self, state: ScanState | None) -> None:
        """Follow a calibration that is being edited elsewhere, or none."""
        if state is self._shared:
            return
        if self._shared is not None:
            self._shared.changed.disconnect(self._on_shared)
        self._shared = state
        if state is not None:
            state.changed.connect(self._on_shared)
        self.calibration.setPlaceholderText(
            "as in the file" if state is None else "as in 4D-STEM data"
        )

    def _on_shared(self) -> None:
        """No run with values that are not up to date, or make no sense."""
        if self.calibration.isEnabled():  # else a run has its own copy
            self._asked = ("", "")
            self._scan = None
            problem = "" if self._shared is None else self._shared.problem()
            self._problem = f"4D-STEM data: {problem}" if problem else "opening…"
            self._rest.start()
            self._show()

    def _on_opened(self, scan: OpenedScan) -> None:
        self._scan = scan
        self._problem = scan.problem
        self._show()

    def _on_failed(self, reason: str) -> None:
        self._problem = reason
        self._asked = ("", "")  # the user may mend the file and try again
        self._show()

    def _show(self) -> None:
        lines = [escape(line) for line in (self._scan.summary if self._scan else ())]
        if self._scan is not None and self._scan.caution:
            lines.append(warning_text(self, self._scan.caution))
        if self._problem and self.path.text().strip():
            bad = not self.is_opening or self._problem != "opening…"
            lines.append(error_text(self, self._problem) if bad else escape(self._problem))
        self.summary.setText("<br>".join(lines))
        self.summary.setVisible(bool(lines))
        # The details are columns of text, which only a fixed-width font keeps in line.
        details = self._scan.details if self._scan else ""
        self.summary.setToolTip(f"<pre>{escape(details)}</pre>" if details else "")
        unsupported = self._scan.unsupported if self._scan else ()
        self.unsupported.setText(f"Settings that are not supported here ({len(unsupported)})")
        self._unsupported.setText("\n".join(unsupported))
        self.unsupported.setVisible(bool(unsupported))
        self.changed.emit()

    def _on_layers_changed(self, _event: object = None) -> None:
        known: dict[str, str] = {}  # each scan once, by its first layer
        for layer in self._viewer.layers:
            path = scan_of_layer(layer)
            if path:
                state = state_of_layer(layer)
                known.setdefault(path, layer.name if state is None else state.original.name)
        self.layers.clear()
        self.layers.addItem(_NO_LAYER)
        for path, name in known.items():
            self.layers.addItem(name, path)
        for part in (self.layers, self._labels[2]):
            part.setVisible(bool(known))
        path = self.path.text().strip()
        index = self.layers.findData(path)
        if index > 0:
            self.layers.setCurrentIndex(index)
            if self._state_of(path) is not self._shared and not self.calibration.text().strip():
                self._rest.start()  # the other widget has opened it, or closed it
        elif known and not self.path.text().strip():
            # A sample that was just opened is what the user wants to see reconstructed.
            self.layers.setCurrentIndex(1)
            self.set_source(next(iter(known)))

    def _on_layer_chosen(self, index: int) -> None:
        path = self.layers.itemData(index)
        if path:
            self.set_source(path)

    def _browse_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "4D-STEM scan")
        if path:
            self.set_source(path, self.calibration.text())

    def _browse_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "4D-STEM scan (Zarr folder)")
        if path:
            self.set_source(path, self.calibration.text())

    def _browse_calibration(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Calibration", filter="TOML (*.toml)")
        if path:
            self.set_source(self.path.text(), path)


def _named_shape(source: str) -> tuple[str, str]:
    """A path without the scan shape behind it, and that shape for people."""
    bare, _, last = source.rpartition("::")
    named = _SHAPE.fullmatch(last) if bare else None
    return (bare, f"{named[1]} x {named[2]}") if named else (source, "")


def browse_button(actions: Mapping[str, Callable[[], object]]) -> QToolButton:
    """A button that offers several ways to choose something, or takes the only one."""
    button = QToolButton()
    button.setText("…")
    button.setToolTip("Browse")
    if len(actions) == 1:
        button.clicked.connect(next(iter(actions.values())))
        return button
    menu = QMenu(button)
    for text, slot in actions.items():
        menu.addAction(text, slot)
    # Not setMenu: the arrow that it draws would cover the dots.
    button.clicked.connect(lambda: menu.exec(button.mapToGlobal(button.rect().bottomLeft())))
    return button


def beside(field: QWidget, button: QWidget) -> QWidget:
    """A field and its button as one row."""
    box = QWidget()
    layout = QHBoxLayout(box)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    layout.addWidget(field, 1)
    layout.addWidget(button)
    return box
