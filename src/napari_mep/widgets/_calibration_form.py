"""The calibration of a scan as a form: every value with unit, source and what is wrong with it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_mep.data._quantities import FLAGS, QUANTITIES, REQUIRED
from napari_mep.widgets._scan_state import ScanState
from napari_mep.widgets._theme import error_text
from napari_mep.widgets._value_rows import ValueRow, ValueRows

__all__ = ["CalibrationForm", "parse", "shown", "titled"]

_TITLES = {
    "beam_energy_keV": "Beam energy",
    "convergence_semiangle_mrad": "Semi-angle",
    "defocus_A": "Defocus",
    "spherical_aberration_A": "Spherical aberration",
    "scan_step_A": "Scan step",
    "detector_step_mrad": "Detector pixel",
    "detector_step_invA": "Detector pixel",
    "scan_rotation_deg": "Scan rotation",
    "detector_transpose": "Transposed",
    "detector_flip_y": "Flipped in y",
    "detector_flip_x": "Flipped in x",
    "dose_e_per_A2": "Dose",
    "specimen_thickness_A": "Thickness",
}
_DEFAULTS = {
    "defocus_A": "0",
    "spherical_aberration_A": "0",
    "scan_rotation_deg": "0",
    "dose_e_per_A2": "as counted",
    "specimen_thickness_A": "not known",
}
_HELP = {
    "defocus_A": "Positive is underfocus",
    "scan_step_A": "Distance of neighbouring positions: one number, or y, x",
    "scan_rotation_deg": "Turn of the scan against the detector",
    "dose_e_per_A2": "Only where the patterns are not in electrons; empty: every count is one",
}


def titled(name: str) -> tuple[str, str]:
    """Title and unit of a calibration value, as people write them."""
    unit = QUANTITIES[name].unit if name in QUANTITIES else ""
    return _TITLES[name], unit.replace("A2", "Å²").replace("A", "Å").replace("deg", "°")


def shown(value: Any) -> str:
    """A number, or a pair, as text that `parse` reads; a switch in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return ", ".join(shown(part) for part in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def parse(text: str) -> Any:
    """A number, a tuple of numbers, or None for an empty text.

    Raises
    ------
    ValueError
        Something is no finite number.
    """
    parts = [part for part in text.replace("−", "-").replace(";", ",").split(",") if part.strip()]
    numbers = tuple(float(part) for part in parts)
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"'{text}' is not finite")
    return None if not numbers else numbers[0] if len(numbers) == 1 else numbers


class CalibrationForm(QWidget):
    """Edits a `ScanState`; a view, nothing is kept here.

    Attributes
    ----------
    save_wanted : Signal(str)
        Path of the calibration file to be written; the user has agreed to replace one.
    """

    save_wanted = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state: ScanState | None = None
        self.table = ValueRows()
        for name in _TITLES:
            row = ValueRow(
                name,
                *titled(name),
                flag=name in FLAGS,
                help_text=_HELP.get(name, f"{name} in the calibration file"),
            )
            row.edited.connect(self._on_edited)
            row.reset.connect(self._on_reset)
            self.table.add(row)
        self.problem = QLabel()
        self.problem.setWordWrap(True)
        self.problem.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.undo_button = QPushButton("Undo")
        self.undo_button.clicked.connect(self._on_undo)
        self.save_button = QPushButton("Save calibration…")
        self.save_button.clicked.connect(self._on_save)
        buttons = QHBoxLayout()
        buttons.addWidget(self.undo_button)
        buttons.addWidget(self.save_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 6, 4, 4)
        layout.addWidget(self.table)
        layout.addWidget(self.problem)
        layout.addLayout(buttons)
        layout.addStretch(1)
        self.refresh()

    def set_state(self, state: ScanState | None) -> None:
        """Edit another scan, or none."""
        if self._state is not None:
            self._state.changed.disconnect(self.refresh)
        self._state = state
        if state is not None:
            state.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show what is known now."""
        state = self._state
        self.setEnabled(state is not None)
        if state is None:
            self.problem.setText("")
            return
        problem = state.problem()
        field = problem.partition(" = ")[0].partition(":")[0]
        missing = state.calibration.missing()
        for name, row in self.table.rows.items():
            self._show_row(state, row, missing, problem if field == name else "")
        beside = field in self.table.rows or missing or field in state.errors
        self.problem.setText(error_text(self, problem) if problem and not beside else "")
        self.problem.setVisible(bool(problem and not beside))
        label = state.undo_label
        self.undo_button.setEnabled(bool(label))
        self.undo_button.setToolTip(f"Take back: {label}" if label else "Nothing to take back")
        self.save_button.setEnabled(not state.errors)

    def _show_row(
        self, state: ScanState, row: ValueRow, missing: tuple[str, ...], problem: str
    ) -> None:
        name, known = row.name, state.calibration
        first, _ = state.first
        value = known.values.get(name)
        changed = value != first.values.get(name) or name in state.errors
        source = str(known.sources.get(name, "")) if value is not None else ""
        if source == "fitted" and name in state.uncertainty:
            source = f"fitted ± {state.uncertainty[name]:.2g}"
        if name in FLAGS:
            row.show_value(bool(value), source=source or "default", changed=changed)
            return
        if name in state.errors:
            text, reason = state.errors[name]
            row.show_value(text, changed=True, problem=reason)
            return
        placeholder = _DEFAULTS.get(name, "")
        other = _other_step(state, name)
        if value is None and other:
            placeholder, source = other, "derived"
        elif value is None and name in _DEFAULTS:
            source = "default"
        if name in missing and not problem:
            either = " or in mrad" if name == "detector_step_invA" else ""
            problem = f"required: give it in {row.unit.text()}{either}"
        row.show_value(
            "" if value is None else shown(value),
            source=source,
            changed=changed,
            problem=problem.partition(": ")[2] if problem.startswith(name) else problem,
            placeholder=placeholder,
        )

    def _on_edited(self, name: str, given: object) -> None:
        if self._state is None:
            return
        if isinstance(given, bool):
            self._state.set_value(name, given)
            return
        text = str(given)
        try:
            value = parse(text)
        except ValueError:
            unit = self.table.rows[name].unit.text()
            self._state.set_error(name, text, f"'{text}' is no number: give it in {unit}")
            return
        if isinstance(value, tuple) and name != "scan_step_A":
            self._state.set_error(name, text, f"'{text}': one number is needed")
            return
        if value is None and name in REQUIRED and name not in self._state.calibration.values:
            self._state.set_value(name, None)
            return
        self._state.set_value(name, value, text)

    def _on_reset(self, name: str) -> None:
        if self._state is not None:
            self._state.reset_value(name)

    def _on_undo(self) -> None:
        if self._state is not None:
            self._state.undo()

    def _on_save(self) -> None:
        if self._state is None:
            return
        source = self._state.original.path
        start = Path.home() if source is None else Path(source).parent
        path, _ = QFileDialog.getSaveFileName(
            self, "Save calibration", str(start / "calibration.toml"), "TOML (*.toml)"
        )
        if path:
            self.save_wanted.emit(path if path.endswith(".toml") else f"{path}.toml")


def _other_step(state: ScanState, name: str) -> str:
    """The detector step in the unit that was not given."""
    values = state.calibration.values
    energy = values.get("beam_energy_keV")
    if not name.startswith("detector_step") or energy is None:
        return ""
    from napari_mep.physics.optics import wavelength_A

    per_invA = float(wavelength_A(energy)) * 1e3
    if name == "detector_step_mrad" and "detector_step_invA" in values:
        return f"{values['detector_step_invA'] * per_invA:.4g}"
    if name == "detector_step_invA" and "detector_step_mrad" in values:
        return f"{values['detector_step_mrad'] / per_invA:.4g}"
    return ""
