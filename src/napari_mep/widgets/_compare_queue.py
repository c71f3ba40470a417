"""The page that queues the baselines and shows how far each is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_mep.errors import MepError
from napari_mep.widgets._compare_baselines import BaselineQueue, baseline_methods
from napari_mep.widgets._compare_layers import ScanSource
from napari_mep.widgets._compare_scan import plan_of
from napari_mep.widgets._compare_scene import Scene
from napari_mep.widgets._theme import error_text

__all__ = ["QueuePanel"]

# Tuned first: what a new method is measured against should be the best that the others can do.
_PRESETS = {"tuned": "tuned: the best that we found", "paper": "as in the paper"}


class QueuePanel(QWidget):
    """Which methods to run, the button, and a line for each.

    Parameters
    ----------
    queue : BaselineQueue
        Does the work.
    record : callable
        Gives the record of a compared layer, whose plan tells device, thickness and slices.
    """

    tool = ""

    def __init__(
        self,
        queue: BaselineQueue,
        record: Callable[[], Mapping[str, Any]],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._queue, self._record = queue, record
        self._source: ScanSource | None = None
        self.boxes: dict[str, QCheckBox] = {}
        self.lines: dict[str, QLabel] = {}
        self.scan = QLabel()
        self.scan.setWordWrap(True)
        self.scan.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        grid = QGridLayout()
        for row, method in enumerate(baseline_methods()):
            box, line = QCheckBox(method), QLabel()
            box.setChecked(True)
            box.toggled.connect(self.refresh)
            line.setWordWrap(True)
            line.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
            grid.addWidget(box, row, 0)
            grid.addWidget(line, row, 1)
            self.boxes[method], self.lines[method] = box, line
        grid.setColumnStretch(1, 1)
        self.preset = QComboBox()
        for preset, words in _PRESETS.items():
            self.preset.addItem(words, preset)
        self.preset.setToolTip("Iterations, steps and constraints of LSQ-ML and PtyRAD")
        self.preset.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        form = QFormLayout()
        form.addRow("Other packages", self.preset)
        self.run_button = QPushButton("Run the baselines on this data")
        self.run_button.setToolTip(
            "One after another, each into a layer of its own, with device, thickness and voxels of "
            "the plan that the first result remembers"
        )
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop the run under way, keep what it has, start no other")
        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button, 1)
        buttons.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.addWidget(self.scan)
        layout.addLayout(grid)
        layout.addLayout(form)
        layout.addLayout(buttons)
        layout.addStretch(1)
        self.run_button.clicked.connect(self.run)
        self.cancel_button.clicked.connect(queue.cancel)
        queue.changed.connect(self.refresh)
        queue.finished.connect(self.refresh)
        self.refresh()

    def set_source(self, source: ScanSource | None) -> None:
        """The scan that is reconstructed."""
        self._source = source
        self.refresh()

    def show_scene(self, scene: Scene) -> None:
        """Nothing here depends on where one looks."""

    def run(self) -> None:
        """Queue what is ticked, if there is something to read."""
        for line in self.lines.values():  # of an earlier queue
            line.clear()
        if self._source is None:
            return
        if self._source.problem:
            self.scan.setText(error_text(self, self._source.problem))
            return
        base = plan_of(self._record())
        baseline = {"preset": self.preset.currentData()}
        plans = []
        for method, box in self.boxes.items():
            if box.isChecked():
                try:
                    plans.append(base.replace(method=method, baseline=baseline))
                except MepError as error:
                    self.lines[method].setText(error_text(self, str(error)))
        self._queue.start(self._source, plans)

    def refresh(self) -> None:
        """Show how far each run is."""
        busy = self._queue.busy
        ticked = any(box.isChecked() for box in self.boxes.values())
        self.run_button.setEnabled(not busy and ticked and self._source is not None)
        self.cancel_button.setEnabled(busy)
        self.scan.setText(
            f"on {self._source.path}"
            if self._source is not None
            else "none of these layers knows its scan: name it on the page Volumes"
        )
        for part in (self.preset, *self.boxes.values()):
            part.setEnabled(not busy)
        for run in self._queue.runs:
            line = self.lines[run.plan.method]
            if run.state == "failed":
                line.setText(error_text(self, run.line))
            else:
                line.setText(f"{run.state}: {run.line}" if run.line else run.state)
