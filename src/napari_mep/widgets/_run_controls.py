"""Below the settings: the buttons of a run, how far it has come, and what there is to say."""

from __future__ import annotations

import math

from qtpy.QtWidgets import (
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_mep.reconstruction.snapshot import Snapshot
from napari_mep.widgets._job import JobState
from napari_mep.widgets._message import MessageLine, wrapping_label
from napari_mep.widgets._progress import progress_line

__all__ = ["RunControls"]

_HELD = (JobState.RUNNING, JobState.PAUSED)


class RunControls(QWidget):
    """Run, Pause, Stop, Discard, Export; a bar, a line of progress and a line of message.

    It only shows; what a click does is connected by the owner.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._before: Snapshot | None = None
        self._pace = math.nan
        self.run_button = QPushButton("Run")
        self.run_button.setDefault(True)
        self.pause_button = QPushButton("Pause")
        self.pause_button.setToolTip("Hold after the current step; the layer stays")
        self.stop_button = QPushButton("Stop")
        self.stop_button.setToolTip("End now and keep the result of the last whole step (Esc)")
        self.discard_button = QPushButton("Discard")
        self.discard_button.setToolTip("End and remove the layer of this run")
        self.export_button = QPushButton("Export OME-Zarr…")
        buttons = QHBoxLayout()
        buttons.setSpacing(4)
        for button in (self.run_button, self.pause_button, self.stop_button, self.discard_button):
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            buttons.addWidget(button, 1)

        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setMaximumHeight(8)
        self.status = wrapping_label()
        self.message = MessageLine()

        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addLayout(buttons)
        layout.addWidget(self.bar)
        layout.addWidget(self.status)
        layout.addWidget(self.message)
        layout.addWidget(self.export_button)

    def show_state(self, state: JobState, *, problem: str, kept: bool, exportable: bool) -> None:
        """Enable what can be done.

        Parameters
        ----------
        state : JobState
            Of the run.
        problem : str
            Why no run can start, one line; empty if it can.
        kept : bool
            Whether there is a layer or a result to discard.
        exportable : bool
            Whether there is a result to write, and nothing is being written.
        """
        self.run_button.setEnabled(not state.busy and not problem)
        self.run_button.setToolTip(problem or "Reconstruct with these settings")
        self.pause_button.setEnabled(state in _HELD)
        self.pause_button.setText("Resume" if state is JobState.PAUSED else "Pause")
        self.stop_button.setEnabled(state in _HELD)
        self.discard_button.setEnabled(state in _HELD or (kept and not state.busy))
        self.export_button.setEnabled(exportable and not state.busy)

    def clear_progress(self, text: str = "") -> None:
        """Before the first step: an empty bar, and a word beside it."""
        self._before, self._pace = None, math.nan
        self.bar.setValue(0)
        self.status.setText(text)

    def show_progress(self, snapshot: Snapshot) -> None:
        """Bar and line of a running reconstruction."""
        before = self._before
        if before is not None and snapshot.step > before.step:
            newest = (snapshot.seconds - before.seconds) / (snapshot.step - before.step)
            # Smoothed over some steps.
            self._pace = newest if math.isnan(self._pace) else 0.7 * self._pace + 0.3 * newest
        self._before = snapshot
        self.bar.setMaximum(max(1, snapshot.total))
        self.bar.setValue(snapshot.step)
        self.status.setText(progress_line(snapshot, self._pace))

    def show_end(self, snapshot: Snapshot) -> None:
        """The line of a run that is over, be it early."""
        self.status.setText(progress_line(snapshot, ended=True))

    def say(self, text: str = "", *, tooltip: str = "") -> None:
        """Show a plain message, or none."""
        self.message.say(text, tooltip=tooltip)

    def say_warning(self, text: str) -> None:
        """Show something to know."""
        self.message.say_warning(text)

    def say_error(self, text: str) -> None:
        """Show what went wrong or stands in the way."""
        self.message.say_error(text)
