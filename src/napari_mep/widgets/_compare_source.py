"""Where the patterns of the compared results are: typed, browsed for, or open in the viewer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QLineEdit, QMenu, QPushButton, QWidget

from napari_mep.widgets._compare_layers import ScanSource, scans_known

__all__ = ["SourceField"]


class SourceField(QWidget):
    """A line for the path of a scan, and a menu of what it could be.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
        The scans that its layers were made from are offered.

    Attributes
    ----------
    changed : Signal
        Another scan was named.
    """

    changed = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.path = QLineEdit()
        self.path.setToolTip(
            "The 4D-STEM scan of these results, for diffraction patterns and baselines; empty: the "
            "one that the layers remember"
        )
        self.menu = QMenu(self)
        self.menu.aboutToShow.connect(self._fill_menu)
        self.browse = QPushButton("Browse")
        self.browse.setMenu(self.menu)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(QLabel("Scan"))
        layout.addWidget(self.path, 1)
        layout.addWidget(self.browse)
        self.path.editingFinished.connect(self.changed)

    @property
    def typed(self) -> ScanSource | None:
        """The scan that was named, None if the layers shall tell."""
        text = self.path.text().strip()
        return ScanSource(text) if text else None

    def set_path(self, path: str) -> None:
        """Name a scan, as if it had been typed; empty: let the layers tell."""
        self.path.setText(path)
        self.changed.emit()

    def show_known(self, source: ScanSource | None) -> None:
        """Say what counts while nothing is typed."""
        self.path.setPlaceholderText(source.path if source else "none of the layers knows one")

    def _fill_menu(self) -> None:
        self.menu.clear()
        for path in scans_known(self._viewer.layers):
            action = self.menu.addAction(f"{Path(path).name} (open)")
            action.setToolTip(path)
            action.triggered.connect(lambda _on=False, path=path: self.set_path(path))
        self.menu.setToolTipsVisible(True)
        self.menu.addSeparator()
        self.menu.addAction("File…", self._browse_file)
        self.menu.addAction("Zarr folder…", self._browse_folder)
        if self.path.text():
            self.menu.addAction("As the layers remember", lambda: self.set_path(""))

    def _browse_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "4D-STEM scan", self._start())
        if path:
            self.set_path(path)

    def _browse_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(
            self, "4D-STEM scan as a Zarr folder", self._start()
        )
        if path:
            self.set_path(path)

    def _start(self) -> str:
        source = self.typed
        return str(source.file.parent if source is not None else Path.home())
