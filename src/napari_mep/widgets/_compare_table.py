"""The page with the scores of all results."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_mep.widgets._background import BackgroundCall
from napari_mep.widgets._compare_figure import COLUMNS, cell, write_csv, write_figure
from napari_mep.widgets._compare_layers import ScanSource
from napari_mep.widgets._compare_prepare import Prepared, Row, score, short_names
from napari_mep.widgets._compare_scan import plan_of, residuals
from napari_mep.widgets._compare_scene import Scene
from napari_mep.widgets._theme import error_text

__all__ = ["TablePanel"]

_HELP = {
    "psnr_dB": "Peak signal-to-noise ratio of the volume, each scaled to [0, 1]",
    "ssim": "Structural similarity of the volume",
    "psnr_sum_dB": "The same of the sum over depth",
    "ssim_sum": "The same of the sum over depth",
    "frc_invA": "Where the Fourier ring correlation of the depth sums falls below 0.5",
    "fsc_invA": "Where the Fourier shell correlation of the volumes falls below 0.5",
    "common_residual": (
        "Relative amplitude residual of the volume as it is compared, over the same patterns in "
        "the middle of the scan for all: lower explains the data better"
    ),
    "residual": "Relative amplitude residual that the run itself reports; packages differ in it",
    "residual_floor": "What counting noise leaves of it; a residual below fits noise",
    "seconds": "Duration of the run",
}
_SCORES = tuple(name for name in COLUMNS if name != "name")


class TablePanel(QWidget):
    """Scores against the reference, computed in a thread.

    Attributes
    ----------
    computed : Signal
        New scores are shown, or a file was written, or the reason why not.
    """

    tool = ""
    computed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Scene | None = None
        self._scored: Prepared | None = None
        self._pending: Prepared | None = None
        self._rows: tuple[Row, ...] = ()
        self._source: ScanSource | None = None
        self._measured: tuple[ScanSource | None, Prepared | None] = (None, None)
        self._measuring = BackgroundCall(self)
        self._measuring.succeeded.connect(self._on_residuals)
        self._measuring.failed.connect(self._on_unmeasured)
        self._call = BackgroundCall(self)
        self._call.succeeded.connect(self._on_rows)
        self._call.failed.connect(self._on_failed)
        self._saving = BackgroundCall(self)
        self._saving.succeeded.connect(self._on_saved)
        self._saving.failed.connect(self._on_save_failed)

        # A column for each volume: more scores than volumes fit beside each other.
        self.table = QTableWidget(len(_SCORES), 0)
        self.table.setVerticalHeaderLabels([COLUMNS[name][0] for name in _SCORES])
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        for number, name in enumerate(_SCORES):
            self.table.verticalHeaderItem(number).setToolTip(_HELP[name])
        lines = self.table.verticalHeader()
        lines.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        lines.setDefaultSectionSize(round(1.5 * self.fontMetrics().height()))
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        header.setMinimumSectionSize(self.fontMetrics().horizontalAdvance("0") * 9)
        header.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.table.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.csv_button = QPushButton("Save table…")
        self.csv_button.setToolTip("As CSV, in full precision")
        self.figure_button = QPushButton("Save figure…")
        self.figure_button.setToolTip("Slices of all volumes and this table, as PDF, SVG or PNG")
        row = QHBoxLayout()
        row.addWidget(self.csv_button)
        row.addWidget(self.figure_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.addWidget(self.words)
        layout.addWidget(self.table, 1)
        layout.addLayout(row)
        self.csv_button.clicked.connect(self._on_csv)
        self.figure_button.clicked.connect(self._on_figure)
        self._refresh()

    @property
    def rows(self) -> tuple[Row, ...]:
        """What is shown."""
        return self._rows

    @property
    def busy(self) -> bool:
        """Whether scores are being computed or a file is being written."""
        return self._call.busy or self._measuring.busy or self._saving.busy

    def set_source(self, source: ScanSource | None) -> None:
        """Whose patterns the volumes shall explain."""
        self._source = source
        if self.isVisible():
            self._measure()

    def cancel(self) -> None:
        """Forget what is being computed."""
        self._call.cancel()
        self._measuring.cancel()
        self._saving.cancel()

    def show_scene(self, scene: Scene) -> None:
        """Score the volumes of a scene, unless that has been done."""
        self._scene = scene
        if not scene.prepared.results and not self._rows:
            self.words.setText("scores need a reference and a result")
            return
        if scene.prepared is self._scored:
            self._measure()  # the scan may be another
            return
        if scene.prepared is self._pending:
            return
        if self._call.busy:  # a running reconstruction must not keep the table from ending
            return
        self._pending = scene.prepared
        self.words.setText("computing…")
        self._call.submit(partial(score, scene.prepared))

    def save_csv(self, path: str | Path) -> None:
        """Write the table in a thread."""
        self._saving.submit(partial(write_csv, path, self._rows))

    def save_figure(self, path: str | Path) -> None:
        """Write the figure in a thread."""
        if self._scene is not None:
            self._saving.submit(partial(write_figure, path, self._scene, self._rows))

    def _on_rows(self, rows: tuple[Row, ...]) -> None:
        self._scored, self._pending = self._pending, None
        self._rows = rows
        self._measured = (None, None)
        self._show_rows()
        reference = self._scored.reference.name if self._scored and self._scored.volumes else ""
        problems = [f"{row.name}: {row.problem}" for row in rows if row.problem]
        text = f"against {reference}" if reference else ""
        self.words.setText(error_text(self, "; ".join(problems)) if problems else text)
        self._refresh()
        self.computed.emit()
        self._measure()
        if self._scene is not None and self.isVisible():
            self.show_scene(self._scene)

    def _show_rows(self) -> None:
        self.table.setColumnCount(len(self._rows))
        for column, (row, label) in enumerate(zip(self._rows, self._labels(), strict=True)):
            title = QTableWidgetItem(label)
            title.setToolTip(row.name)
            self.table.setHorizontalHeaderItem(column, title)
            for number, name in enumerate(_SCORES):
                item = QTableWidgetItem(cell(row, name))
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                item.setToolTip(row.problem)
                self.table.setItem(number, column, item)

    def _labels(self) -> list[str]:
        return short_names([row.name for row in self._rows])

    def _measure(self) -> None:
        """Hold the volumes against the patterns, which takes longer than the scores."""
        source, scored = self._source, self._scored
        if source is None or scored is None or not self._rows or source.problem:
            return
        if self._measured == (source, scored) or self._measuring.busy:
            return  # of a running volume not every state: the newest when this one is done
        self._measured = (source, scored)
        chosen = (scored.reference, *scored.comparable)  # a stranger shares no position with them
        volumes = [(v.key, v.volume, plan_of(v.candidate.record)) for v in chosen]
        self._measuring.submit(partial(residuals, source, volumes))

    def _on_residuals(self, found: dict[str, float]) -> None:
        source, scored = self._measured
        if source is None or scored is None:
            return
        if source == self._source and scored is self._scored:
            self._rows = tuple(
                replace(row, common_residual=found.get(v.key, math.nan), scan=source.path)
                for row, v in zip(self._rows, scored.results, strict=True)
            )
            self._show_rows()
            self.computed.emit()
        elif self.isVisible():
            self._measure()

    def _on_unmeasured(self, _reason: str) -> None:
        """The Diffraction page, which is all about the scan, tells why."""
        self.computed.emit()

    def _on_failed(self, reason: str) -> None:
        self._scored, self._pending = self._pending, None  # not again before something changes
        self._rows = ()
        self.table.setColumnCount(0)
        self._refresh()
        self._on_save_failed(reason)

    def _on_save_failed(self, reason: str) -> None:
        self.words.setText(error_text(self, reason))
        self.computed.emit()

    def _on_saved(self, path: Path) -> None:
        self.words.setText(f"written: {path.name}")
        self.words.setToolTip(str(path))
        self.computed.emit()

    def _refresh(self) -> None:
        for button in (self.csv_button, self.figure_button):
            button.setEnabled(bool(self._rows))

    def _on_csv(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "Save table", str(Path.home() / "comparison.csv"), "CSV (*.csv)"
        )
        if path:
            self.save_csv(path)

    def _on_figure(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self,
            "Save figure",
            str(Path.home() / "comparison.pdf"),
            "PDF (*.pdf);;SVG (*.svg);;PNG (*.png)",
        )
        if path:
            self.save_figure(path)
