"""Calibration helpers: one button each; what one finds is a proposal until it is applied."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_mep.data._quantities import FLAGS
from napari_mep.errors import MepError
from napari_mep.reconstruction.calibration_helpers import HELPERS
from napari_mep.widgets._calibration_form import parse, shown, titled
from napari_mep.widgets._data_panel import beside, browse_button
from napari_mep.widgets._preprocessing_form import PREPROCESSING_TITLES
from napari_mep.widgets._scan_found import Found, fix_everything, run_helper
from napari_mep.widgets._scan_proof import ProofView
from napari_mep.widgets._scan_state import ScanState
from napari_mep.widgets._theme import error_text
from napari_mep.widgets._watched import WatchedCall

__all__ = ["ScanHelpers"]

_COLUMNS = 3


class ScanHelpers(QWidget):
    """Buttons, and what the last one found, beside what was known.

    Attributes
    ----------
    failed : Signal(str)
        Why a helper failed, one line; empty when one starts.
    """

    failed = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state: ScanState | None = None
        self._found: Found | None = None
        self.call = WatchedCall(self)
        self.call.succeeded.connect(self.show_found)
        self.call.failed.connect(self._on_failed)
        self.buttons: dict[str, QPushButton] = {}
        for name, helper in HELPERS.items():
            button = QPushButton(helper.title)
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            button.clicked.connect(lambda _checked=False, name=name: self.run(name))
            self.buttons[name] = button
        self.fix_button = QPushButton("Fix everything")
        self.fix_button.setToolTip(
            "All helpers in the order in which they build on each other, as napari-mep info --fix "
            "does; a minute or more"
        )
        self.fix_button.clicked.connect(self.fix)
        self.lattice, self.per_electron, self.vacuum = QLineEdit(), QLineEdit(), QLineEdit()
        self.lattice.setPlaceholderText("d spacings for Scan step, e.g. 3.905, 2.761")
        self.per_electron.setPlaceholderText("for Dose; empty: whole counts are electrons")
        self.vacuum.setPlaceholderText("none: the disk of the scan itself")
        self.vacuum.setToolTip(
            "A pattern without specimen, or a whole scan, whose mean counts: .npy or any file that "
            "can be opened as a scan; for Vacuum probe and Fix everything"
        )
        self.chooser = QComboBox()
        self.chooser.currentIndexChanged.connect(self._on_chosen)
        self.summary, self.changes, self.skipped = QLabel(), QLabel(), QLabel()
        for label in (self.summary, self.changes, self.skipped):
            label.setWordWrap(True)
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.proof, self.result = ProofView(), QWidget()
        self.apply_button, self.dismiss_button = QPushButton("Apply"), QPushButton("Dismiss")
        self.apply_button.clicked.connect(self.apply)
        self.dismiss_button.clicked.connect(lambda: self.show_found(None))
        self._build()
        self.show_found(None)

    @property
    def found(self) -> Found | None:
        """The proposal that is shown."""
        return self._found

    def set_state(self, state: ScanState | None) -> None:
        """Help with another scan, or none."""
        if self._state is not None:
            self._state.changed.disconnect(self.refresh)
        self._state = state
        self.call.cancel()
        self.vacuum.clear()  # its pixels are those of another scan
        self.show_found(None)
        if state is not None:
            state.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Which helpers can work with what is known now."""
        self.setEnabled(self._state is not None)
        if self._state is None:
            return
        opened = self._state.opened()
        for name, helper in HELPERS.items():
            lacks = helper.lacks(opened)
            self.buttons[name].setEnabled(not lacks)
            self.buttons[name].setToolTip(f"{helper.help} ({lacks})" if lacks else helper.help)
        self._show_changes()

    def run(self, name: str, vacuum: str = "") -> None:
        """Start a helper; the vacuum helper asks for its file if there is none yet."""
        if self._state is None:
            return
        if vacuum:
            self.vacuum.setText(vacuum)
        elif name == "vacuum" and not self.vacuum.text().strip() and not self._browse_vacuum():
            return
        self._start(partial(run_helper, name))

    def fix(self) -> None:
        """Start the whole chain."""
        self._start(fix_everything)

    def _start(self, work: Callable[..., Found]) -> None:
        settings = self._settings()
        if self._state is not None and settings is not None:
            self.show_found(None)
            self.failed.emit("")
            vacuum = self.vacuum.text().strip()
            self.call.submit(partial(work, self._state.opened(), vacuum, settings))

    def _browse_vacuum(self) -> bool:
        path, _ = QFileDialog.getOpenFileName(self, "Pattern or scan without specimen")
        if path:
            self.vacuum.setText(path)
        return bool(path)

    def apply(self) -> None:
        """Take over what was found; `ScanState.undo` takes it back."""
        found = self._found
        if self._state is None or found is None:
            return
        try:
            self._state.apply(
                found.title,
                found.calibration,
                uncertainty=found.uncertainty,
                preprocessing=found.preprocessing,
                bad=found.bad,
            )
        except (MepError, OSError) as err:
            self.failed.emit(str(err))
            return
        self.show_found(None)

    def show_found(self, found: Found | None) -> None:
        """Show a proposal, or none."""
        self._found = found
        was = self.chooser.blockSignals(True)
        self.chooser.clear()
        if found is not None:
            self.chooser.addItems([estimate.title for estimate in found.estimates])
        self.chooser.blockSignals(was)
        several = found is not None and len(found.estimates) > 1
        self.chooser.setVisible(several)
        for button in (self.apply_button, self.dismiss_button):
            button.setVisible(found is not None)
        self.apply_button.setEnabled(found is not None and not found.empty)
        self._on_chosen(0)
        self._show_changes()
        self.skipped.setText(
            "\n".join(f"skipped: {line}" for line in found.skipped) if found else ""
        )
        self.skipped.setVisible(bool(found and found.skipped))

    def _build(self) -> None:
        grid = QGridLayout()
        grid.setSpacing(4)
        for i, button in enumerate(self.buttons.values()):
            grid.addWidget(button, i // _COLUMNS, i % _COLUMNS)
        grid.addWidget(self.fix_button, *divmod(len(self.buttons), _COLUMNS))
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Lattice (Å)", self.lattice)
        form.addRow("Counts per e", self.per_electron)
        form.addRow("Vacuum", beside(self.vacuum, browse_button({"File…": self._browse_vacuum})))
        end = QHBoxLayout()
        end.addWidget(self.apply_button)
        end.addWidget(self.dismiss_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 6, 4, 4)
        layout.addLayout(grid)
        layout.addLayout(form)
        column = QVBoxLayout(self.result)
        column.setContentsMargins(0, 0, 0, 0)
        for part in (self.chooser, self.summary, self.proof, self.changes, self.skipped):
            column.addWidget(part)
        column.addLayout(end)
        layout.addWidget(self.result)
        layout.addStretch(1)

    def _settings(self) -> dict[str, Any] | None:
        """What was entered for the helpers; None, with a message, if it is nonsense."""
        settings: dict[str, Any] = {}
        for name, box in (("lattice_A", self.lattice), ("counts_per_electron", self.per_electron)):
            try:
                value = parse(box.text())
            except ValueError:
                self.failed.emit(f"'{box.text()}' is no number: give {box.placeholderText()}")
                return None
            if value is not None:
                several = value if isinstance(value, tuple) else (value,)
                settings[name] = several if name == "lattice_A" else several[0]
        return settings

    def _on_failed(self, reason: str) -> None:
        self.summary.setText(error_text(self, reason))
        self.summary.setVisible(True)
        self.failed.emit(reason)

    def _on_chosen(self, index: int) -> None:
        found = self._found
        estimate = None if found is None or index < 0 else found.estimates[index]
        self.summary.setText(
            ""
            if estimate is None
            else f"<b>{escape(estimate.title)}</b>: {escape(estimate.summary)}"
        )
        self.summary.setVisible(estimate is not None)
        self.proof.show_proof(() if estimate is None else estimate.proof)

    def _show_changes(self) -> None:
        lines = (
            [] if self._found is None or self._state is None else _lines(self._found, self._state)
        )
        if self._found is not None and self._found.empty:
            lines = ["nothing to apply"]
        self.changes.setText("<br>".join(lines))
        self.changes.setVisible(bool(lines))


def _lines(found: Found, state: ScanState) -> list[str]:
    """Old and new value of everything that would change, in the words of the forms."""
    lines = []
    for name, value in found.calibration.items():
        title, unit = titled(name)
        error = found.uncertainty.get(name)
        spread = f" ± {error:.2g}" if error is not None else ""
        was = _short(state.calibration.values.get(name, False if name in FLAGS else "not known"))
        if was != _short(value):
            lines.append(f"{title}: {was} → {_short(value)}{spread} {unit}".rstrip())
    plan = state.plan.model_dump()
    for name, value in found.preprocessing.items():
        old = plan.get(name)
        was = "none" if old is None else _short(old)
        lines.append(f"{PREPROCESSING_TITLES[name]}: {was} → {_short(value)}")
    if found.bad is not None:
        path = state.plan.bad_pixels_file
        was = "none" if path is None else Path(path).name
        lines.append(f"{PREPROCESSING_TITLES['bad_pixels_file']}: {was} → {found.bad.sum()} pixels")
    return [escape(line) for line in lines]


def _short(value: Any) -> str:
    """No more digits than one reads."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(_short(part) for part in value) if isinstance(value, tuple) else shown(value)
