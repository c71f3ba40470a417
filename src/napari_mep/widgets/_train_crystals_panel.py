"""Choosing the crystals to train on, and seeing what the network will see of them."""

from __future__ import annotations

import time
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QPlainTextEdit,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_mep.training.settings import TrainingSettings
from napari_mep.widgets._fields import ChoiceEditor
from napari_mep.widgets._message import MessageLine, wrapping_label
from napari_mep.widgets._train_crystals import BUILTIN, Library, build, find, is_library, render
from napari_mep.widgets._train_volumes import Batch, VolumeBlock
from napari_mep.widgets._watched import Watch, WatchedCall

__all__ = ["CrystalsPanel"]

_FILES, _BUILTIN = "my own crystals", "built-in library"
_PREVIEWED = 4
_NAME = "training volume"


class CrystalsPanel(QGroupBox):
    """A library file, something to build one from, or the built-in library.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
        Where previews appear.

    Attributes
    ----------
    changed : Signal
        The library, or the reason why there is none, has changed.
    """

    changed = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__("Crystals", parent)
        self._library: Library | None = None
        self._failure = ""  # why reading or building did not work
        self._asked = ""
        self._previewed = 0
        self._settings = TrainingSettings()
        self.block = VolumeBlock(viewer, -1, self)
        self._finding, self._building = WatchedCall(self), WatchedCall(self)
        self._rendering = WatchedCall(self)
        self._build_form()
        self._connect()
        self._show()

    @property
    def library(self) -> Library | None:
        """The library, None while there is none that could be trained on."""
        return self._library

    @property
    def problem(self) -> str:
        """Why there is none, one line."""
        if self._library is not None:
            return ""
        if self._failure:
            return self._failure
        if self._building.busy:
            return "the library is being built"
        if self._finding.busy:
            return "the library is being read"
        if self._buildable:
            return "build the library of these crystals first"
        return "choose crystals to train on"

    @property
    def source(self) -> str:
        """What is chosen: a path, ``builtin``, or nothing."""
        return BUILTIN if self.kind.value() == _BUILTIN else self.path.text().strip()

    @property
    def busy(self) -> bool:
        """Whether something is being read, built or rendered."""
        return self._finding.busy or self._building.busy or self._rendering.busy

    def set_source(self, source: str) -> None:
        """Choose crystals, as if the path had been typed."""
        was = self.kind.blockSignals(True)
        self.kind.set_value(_BUILTIN if source == BUILTIN else _FILES)
        self.kind.blockSignals(was)
        if source != BUILTIN:
            self.path.setText(source)
        self._choose()

    def set_settings(self, settings: TrainingSettings) -> None:
        """Voxels, tile and seed of the previews."""
        self._settings = settings

    def set_locked(self, locked: bool) -> None:
        """Keep the choice while a run uses it."""
        for part in (self.kind, self.path, self.browse, self.build_button):
            part.setEnabled(not locked)

    def build(self) -> None:
        """Build the library of what is chosen, in the background; or stop building it."""
        if self._building.busy:
            self._building.cancel()
            return
        self._library, self._failure = None, ""
        self._building.submit(partial(build, self.source))
        self._show()

    def preview(self) -> None:
        """Show the next few volumes of what the network will see."""
        library = self._library
        if library is not None and not self._rendering.busy:
            function = partial(_render, library, self._settings, self._previewed)
            self._rendering.submit(function)
            self._show()

    def close_down(self) -> None:
        """Stop what is under way."""
        for call in (self._finding, self._building, self._rendering):
            call.close_down()

    def _build_form(self) -> None:
        self.kind = ChoiceEditor((_FILES, _BUILTIN))
        self.path = QLineEdit()
        self.path.setPlaceholderText("library.npz, table.csv, folder")
        self.path.setToolTip(
            "A library of napari-mep crystals build (.npz), or what it builds one from: crystal "
            "files in a folder, or a table with a column 'cif'"
        )
        self.browse = QToolButton()
        self.browse.setText("…")
        self.browse.setToolTip("Browse")
        menu = QMenu(self.browse)
        menu.addAction("Library or table…", self._browse_file)
        menu.addAction("Folder…", self._browse_folder)
        # Not setMenu: the arrow that it draws would cover the dots.
        corner = self.browse.rect().bottomLeft
        self.browse.clicked.connect(lambda: menu.exec(self.browse.mapToGlobal(corner())))
        self.build_button = QPushButton()
        self.summary, self.message = wrapping_label(), MessageLine()
        self.refusals = QPlainTextEdit()
        self.refusals.setReadOnly(True)
        self.refusals.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.refusals.setMaximumHeight(6 * self.fontMetrics().height())
        self.refusals.setAccessibleName("Crystals that were left out")
        self.preview_button = QPushButton()
        self.preview_button.setToolTip(
            f"Render the next {_PREVIEWED} volumes, as the network will see them, into layers"
        )
        self._path_row = QWidget()
        line = QHBoxLayout(self._path_row)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(4)
        line.addWidget(self.path, 1)
        line.addWidget(self.browse)
        self._form = QFormLayout()
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._form.setHorizontalSpacing(8)
        self._form.setVerticalSpacing(4)
        self._labels = [QLabel("From"), QLabel("Path")]
        self._labels[0].setBuddy(self.kind)
        self._labels[1].setBuddy(self.path)
        self._form.addRow(self._labels[0], self.kind)
        self._form.addRow(self._labels[1], self._path_row)
        layout = QVBoxLayout(self)
        layout.addLayout(self._form)
        for part in (self.summary, self.message, self.refusals):
            layout.addWidget(part)
        buttons = QHBoxLayout()
        buttons.addWidget(self.build_button, 1)
        buttons.addWidget(self.preview_button, 1)
        layout.addLayout(buttons)

    def _connect(self) -> None:
        self.path.editingFinished.connect(self._choose)
        self.kind.changed.connect(self._choose)
        self.build_button.clicked.connect(lambda: self.build())
        self.preview_button.clicked.connect(lambda: self.preview())
        self._finding.succeeded.connect(self._on_library)
        self._building.succeeded.connect(self._on_library)
        self._building.progressed.connect(lambda _done, _total, what: self.message.say(what))
        self._building.stopped.connect(self._show)
        self._rendering.succeeded.connect(self._on_rendered)
        self._rendering.failed.connect(self._on_render_failed)
        for call in (self._finding, self._building):
            call.failed.connect(self._on_failed)

    @property
    def _buildable(self) -> bool:
        return bool(self.source) and not is_library(self.source)

    def _choose(self) -> None:
        source = self.source
        if source != self._asked:  # leaving a field is no reason to read the file again
            self._asked = source
            self._library, self._failure = None, ""
            self._previewed = 0
            self._building.cancel()
            if source:
                self._finding.submit(partial(find, source))
            else:
                self._finding.cancel()
        self._show()

    def _on_library(self, library: Library | None) -> None:
        self._library = library
        self._show()

    def _on_failed(self, reason: str) -> None:
        self._failure = reason
        self._asked = ""  # the user may mend the file and try again
        self._show()

    def _on_rendered(self, answer: tuple[Batch, Library]) -> None:
        batch, library = answer
        self.block.begin(_NAME, keep=True)
        about = {"kind": "training volumes", "library": str(library.path), "first": self._previewed}
        self.block.show(batch, about)
        self._previewed += _PREVIEWED
        self._show()

    def _on_render_failed(self, reason: str) -> None:
        self._show()
        self.message.say_error(reason)

    def _show(self) -> None:
        library, building = self._library, self._building.busy
        self._path_row.setVisible(self.source != BUILTIN)
        self._labels[1].setVisible(self.source != BUILTIN)
        self.build_button.setVisible(self._buildable)
        again = "Build again" if library is not None else "Build library"
        self.build_button.setText("Cancel" if building else again)
        self.preview_button.setEnabled(library is not None and not self._rendering.busy)
        rendering = "Rendering…" if self._rendering.busy else f"Preview {_PREVIEWED} volumes"
        self.preview_button.setText(rendering)
        self.summary.setText("<br>".join(_described(library)) if library else "")
        self.summary.setVisible(library is not None)
        self._show_refusals(library)
        if self._failure and library is None:
            self.message.say_error(self._failure)
        else:
            self.message.say(self.problem if self.source else "")
        self.changed.emit()

    def _show_refusals(self, library: Library | None) -> None:
        refusals = library.refusals if library else ()
        self.refusals.setPlainText("\n".join(f"{Path(r.file).name}: {r.reason}" for r in refusals))
        self.refusals.setVisible(bool(refusals))

    def _browse_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Crystals", filter="Library or table (*.npz *.csv *.csv.gz *.cif);;All files (*)"
        )
        if path:
            self.set_source(path)

    def _browse_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Folder of crystals")
        if path:
            self.set_source(path)


def _described(library: Library) -> list[str]:
    lines = [f"{library.crystals:,} crystals, {library.atoms:,} atoms"]
    if library.built is not None:
        when = time.strftime("%d %b %Y, %H:%M", time.localtime(library.built))
        lines.append(f"built {when}")
    if library.refusals:
        lines.append(f"{len(library.refusals):,} left out, with these reasons:")
    return [escape(line) for line in lines]


def _render(
    library: Library, settings: TrainingSettings, first: int, _watch: Watch
) -> tuple[Batch, Library]:
    return Batch(*render(library, settings, first, _PREVIEWED)), library
