"""The dock widget "4D-STEM data": open a scan, see it, calibrate it, prepare it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_mep.widgets._background import BackgroundCall
from napari_mep.widgets._calibration_form import CalibrationForm
from napari_mep.widgets._data_panel import DataPanel, Opener
from napari_mep.widgets._message import MessageLine
from napari_mep.widgets._opening import peek
from napari_mep.widgets._preprocessing_form import PreprocessingForm
from napari_mep.widgets._scan_helpers import ScanHelpers
from napari_mep.widgets._scan_look import Sample
from napari_mep.widgets._scan_state import ScanState
from napari_mep.widgets._scan_view import ScanView
from napari_mep.widgets._scroll import VerticalScrollArea
from napari_mep.widgets._theme import error_text

if TYPE_CHECKING:
    import napari.components

__all__ = ["DataWidget"]


class DataWidget(QWidget):
    """Look at a 4D-STEM scan and make its calibration right, before anything is reconstructed.

    What is known is one `ScanState`, which the layers carry in their metadata; so the Reconstruct
    widget works with the same values. The raw file is only read.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
        Where the layers appear; napari passes its own.
    opener : callable, optional
        Opens a scan; see `napari_mep.widgets._data_panel.Opener`.
    """

    def __init__(
        self,
        viewer: napari.components.ViewerModel,  # napari passes its viewer by this very name
        *,
        opener: Opener = peek,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._state: ScanState | None = None
        self._docked = False
        self._closed = False
        self._saving = BackgroundCall(self)
        self.data = DataPanel(viewer, opener=opener, shares=False)
        self.data.setTitle("Scan")
        self.view = ScanView(viewer, self)
        self.form, self.helpers = CalibrationForm(), ScanHelpers()
        self.preprocessing = PreprocessingForm()
        self.bar, self.doing, self.message = QProgressBar(), QLabel(), QLabel()
        self.trouble = MessageLine()
        self._failing: object = None  # whose error is shown
        self.cancel_button = QPushButton("Cancel")
        self._build()
        self._connect()
        self._on_data()

    @property
    def state(self) -> ScanState | None:
        """The scan that is open, with all that is known of it."""
        return self._state

    @property
    def busy(self) -> bool:
        """Whether something is being read, computed or written."""
        return (
            self.data.is_opening
            or self.view.busy
            or self.helpers.call.busy
            or self.preprocessing.busy
            or self._saving.busy
        )

    def open(self, path: str, calibration: str = "") -> None:
        """Open a scan, as if the paths had been typed."""
        self.data.set_source(path, calibration)

    def save(self, path: str | Path) -> None:
        """Write the calibration file in the background; replaces one that is there."""
        if self._state is not None:
            self._saving.submit(partial(self._state.save, path, overwrite=True))

    def cancel(self) -> None:
        """Stop what takes long."""
        self.view.cancel()
        self.helpers.call.cancel()

    def close_down(self) -> None:
        """Stop safely, because the dock or the window closes; called more than once at times."""
        if not self._closed:
            self._closed = True
            self.data.disconnect_viewer()
            self.view.close_down()
            self._saving.cancel()
            self.helpers.call.close_down()
            self.preprocessing.close_down()
            self.form.set_state(None)
            self.helpers.set_state(None)

    def event(self, event: QEvent) -> bool:
        """Notice being taken out of the dock: napari sends no close event then."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._docked = True
            elif self._docked:
                self.close_down()
        return bool(super().event(event))

    def closeEvent(self, event: Any) -> None:
        """Stop safely."""
        self.close_down()
        super().closeEvent(event)

    def _build(self) -> None:
        self.bar.setTextVisible(False)
        self.bar.setMaximumHeight(8)
        for label in (self.doing, self.message):
            label.setWordWrap(True)
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.tabs = QTabWidget()
        self.tabs.addTab(self.form, "Calibration")
        self.tabs.addTab(self.helpers, "Helpers")
        self.tabs.addTab(self.preprocessing, "Preprocessing")
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(4, 4, 4, 4)
        for part in (self.data, self.trouble, self.view.bar, self.tabs):
            column.addWidget(part)
        column.addStretch(1)
        row = QHBoxLayout()
        row.addWidget(self.bar, 1)
        row.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(6)
        self.scroll = VerticalScrollArea(inner)
        layout.addWidget(self.scroll, 1)
        layout.addLayout(row)
        layout.addWidget(self.doing)
        layout.addWidget(self.message)
        self._show_progress(False)

    def _connect(self) -> None:
        self.data.changed.connect(self._on_data)
        self.view.sampled.connect(self._on_sample)
        self.view.computed.connect(lambda _images: self._show_progress(False))
        self.view.failed.connect(partial(self._on_failed, self.view))
        self.helpers.failed.connect(partial(self._on_failed, self.helpers))
        self.helpers.call.succeeded.connect(self._on_found)
        for call in self._calls():
            call.progressed.connect(self._on_progress)
            call.stopped.connect(self._on_stopped)
        self.form.save_wanted.connect(self.save)
        self._saving.succeeded.connect(self._on_saved)
        self._saving.failed.connect(partial(self._on_failed, self._saving))
        self.cancel_button.clicked.connect(self.cancel)
        shortcut = QShortcut(QKeySequence(Qt.Key.Key_Escape), self)
        shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        shortcut.activated.connect(self.cancel)

    def _calls(self) -> tuple[Any, ...]:
        return (self.view.reading, self.view.imaging, self.helpers.call)

    def _on_data(self) -> None:
        """Another file, or none."""
        answer = self.data.answer
        opened = None if answer is None else answer.opened
        if opened is (None if self._state is None else self._state.original):
            return
        path = self.data.path.text().strip()
        if self._state is not None:
            self._state.changed.disconnect(self._show_trouble)
        self._state = None if opened is None else ScanState(opened, path)
        if self._state is not None:
            self._state.changed.connect(self._show_trouble)
        self.say("")
        self.view.show_scan(self._state)
        for part in (self.form, self.helpers, self.preprocessing):
            part.set_state(self._state)
        self._show_trouble()
        self._show_progress(self._state is not None)

    def _on_sample(self, sample: Sample) -> None:
        every = (
            "" if sample.whole else f"every {sample.every[0]}. row and {sample.every[1]}. column"
        )
        self.say(f"a look at {every}" if every else "")
        self._show_trouble()

    def _show_trouble(self) -> None:
        """What is wrong with the counts themselves, until the preprocessing mends it."""
        sample, state = self.view.sample, self._state
        self.trouble.say_warning(
            "" if sample is None or state is None else sample.trouble(state.plan)
        )

    def say(self, text: str) -> None:
        """Show a plain message, or none."""
        self._failing = None
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def _on_failed(self, who: object, reason: str) -> None:
        """Show an error, or take that of the same origin away."""
        if reason:
            self._failing = who
            self.message.setText(error_text(self, reason))
            self.message.setVisible(True)
            self._show_progress(False)
        elif self._failing is who:
            self.say("")

    def _on_found(self, _found: object) -> None:
        """A result below the fold looks like a button that does nothing."""
        self._show_progress(False)
        self.scroll.reveal(self.helpers.result)

    def _on_progress(self, done: int, total: int, what: str) -> None:
        self._show_progress(True)
        self.bar.setMaximum(total)
        self.bar.setValue(done)
        self.doing.setText(what)
        self.doing.setVisible(bool(what))

    def _on_stopped(self) -> None:
        self._show_progress(False)
        self.say("stopped")

    def _show_progress(self, shown: bool) -> None:
        for part in (self.bar, self.cancel_button):
            part.setVisible(shown)
        if not shown:
            self.bar.reset()
            self.doing.setVisible(False)

    def _on_saved(self, files: list[Path]) -> None:
        self.say(f"written: {', '.join(file.name for file in files)}")
        self.message.setToolTip("\n".join(str(file) for file in files))
