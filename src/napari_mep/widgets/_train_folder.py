"""Choosing the folder of a run: a new one, or that of a run to watch or to resume."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget

from napari_mep.widgets._fields import FolderEditor

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
        self._folder = FolderEditor("Run folder", "a new folder, or that of a run")
        self._folder.set_value(str(unused_folder()))
        self.edit, self.browse = self._folder.edit, self._folder.browse
        self.edit.setToolTip(
            "Folder that receives the run: a new one, or that of a run to watch, stop or resume"
        )
        self.browse.setToolTip("Browse, for instance to a run that is going on")
        label = QLabel("Run folder")
        label.setBuddy(self.edit)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(label)
        layout.addWidget(self._folder, 1)
        self._folder.changed.connect(self.changed)

    @property
    def path(self) -> Path | None:
        """The folder, None while none is chosen."""
        value = self._folder.value()
        return Path(value).absolute() if value else None

    def set_path(self, path: str) -> None:
        """Choose a folder, as if its path had been typed."""
        self._folder.set_value(path)


def unused_folder() -> Path:
    """A folder below the user's home that is not there yet."""
    base = Path.home() / "napari-mep"
    number = 1
    while (base / f"prior-{number}").exists():
        number += 1
    return base / f"prior-{number}"
