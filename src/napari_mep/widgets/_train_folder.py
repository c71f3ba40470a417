"""Choosing the folder of a run: a new one, or that of a run to watch or to resume."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QLineEdit, QToolButton, QWidget

__all__ = ["RunFolder", "unused_folder"]


class RunFolder(QWidget):
    """A path, and a button to browse.

    Attributes
    ----------
    changed : Signal
        Another folder.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.edit = QLineEdit(str(unused_folder()))
        self.edit.setToolTip(
            "Folder that receives the run: a new one, or that of a run to watch, stop or resume"
        )
        self.edit.setPlaceholderText("a new folder, or that of a run")
        self.browse = QToolButton()
        self.browse.setText("…")
        self.browse.setToolTip("Browse, for instance to a run that is going on")
        label = QLabel("Run folder")
        label.setBuddy(self.edit)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for part, stretch in ((label, 0), (self.edit, 1), (self.browse, 0)):
            layout.addWidget(part, stretch)
        self._shown = self.edit.text()
        self.edit.editingFinished.connect(self._on_edited)
        self.browse.clicked.connect(self._browse)

    @property
    def path(self) -> Path | None:
        """The folder, None while none is chosen."""
        text = self.edit.text().strip()
        return Path(text).expanduser().absolute() if text else None

    def set_path(self, path: str) -> None:
        """Choose a folder, as if its path had been typed."""
        self.edit.setText(path)
        self._on_edited()

    def _on_edited(self) -> None:
        text = self.edit.text().strip()
        if text != self._shown:
            self._shown = text
            self.changed.emit()

    def _browse(self) -> None:
        start = self.path
        while start is not None and not start.exists():
            start = start.parent
        chosen = QFileDialog.getExistingDirectory(self, "Run folder", str(start or Path.home()))
        if chosen:
            self.set_path(chosen)


def unused_folder() -> Path:
    """A folder below the user's home that is not there yet."""
    base = Path.home() / "napari-mep"
    number = 1
    while (base / f"prior-{number}").exists():
        number += 1
    return base / f"prior-{number}"
