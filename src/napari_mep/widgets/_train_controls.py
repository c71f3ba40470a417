"""Below the tabs: the buttons of a training run, how far it is, and what there is to say."""

from __future__ import annotations

from qtpy.QtWidgets import (
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_mep.widgets._message import MessageLine, wrapping_label
from napari_mep.widgets._train_state import Phase

__all__ = ["TrainControls"]

_FINE = 1000  # steps of the progress bar


class TrainControls(QWidget):
    """Start or Resume, Stop and checkpoint, Export, Copy command; a bar, progress, a message.

    It only shows; what a click does is connected by the owner.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.start_button = QPushButton("Start")
        self.start_button.setDefault(True)
        self.stop_button = QPushButton("Stop and checkpoint")
        self.stop_button.setToolTip(
            "End after the current step, with a checkpoint and the prior as it is then"
        )
        self.export_button = QPushButton("Export prior…")
        self.export_button.setToolTip(
            "Write the averaged weights of the last checkpoint, and their card, as a prior that "
            "Reconstruct can use; also while training"
        )
        self.copy_button = QPushButton("Copy command")
        self.copy_button.setToolTip(
            "The same run as a command, to paste into a terminal or to run on another machine"
        )
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setMaximumHeight(8)
        self.bar.setMaximum(_FINE)
        self.status, self.message = wrapping_label(), MessageLine()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addLayout(_row(self.start_button, self.stop_button))
        layout.addWidget(self.bar)
        layout.addWidget(self.status)
        layout.addWidget(self.message)
        layout.addLayout(_row(self.export_button, self.copy_button))

    def show_phase(
        self, phase: Phase, *, problem: str, resumable: bool, exportable: bool, command: str
    ) -> None:
        """Enable what can be done.

        Parameters
        ----------
        phase : Phase
            Of the run.
        problem : str
            Why nothing can be started, one line; empty if it can.
        resumable : bool
            Whether Start goes on from a checkpoint.
        exportable : bool
            Whether there is a checkpoint to export, and none is being exported.
        command : str
            What Start would run; empty if nothing could be run.
        """
        self.start_button.setText("Resume" if resumable else "Start")
        self.start_button.setEnabled(not phase.busy and not problem)
        doing = "Go on from the checkpoint" if resumable else "Train with these settings"
        self.start_button.setToolTip(
            problem or f"{doing}, as a process of its own that outlives napari"
        )
        self.stop_button.setEnabled(phase.busy)
        self.export_button.setEnabled(exportable)
        self.copy_button.setEnabled(bool(command))

    def show_progress(self, share: float, line: str) -> None:
        """Bar and line."""
        self.bar.setValue(round(_FINE * share))
        self.status.setText(line)
        self.status.setVisible(bool(line))


def _row(*buttons: QPushButton) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(4)
    for button in buttons:
        button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        row.addWidget(button, 1)
    return row
