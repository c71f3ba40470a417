"""The preprocessing of a scan as a form, with the mean pattern before and after."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_mep.data.opened import OpenedPatterns
from napari_mep.data.preprocessing import PreprocessingPlan, pixels_for
from napari_mep.errors import DataError
from napari_mep.widgets._calibration_form import parse, shown
from napari_mep.widgets._compare_tiles import Box, Tile, TileGallery, to_grey
from napari_mep.widgets._scan_state import ScanState
from napari_mep.widgets._theme import error_text
from napari_mep.widgets._value_rows import ValueRow, ValueRows
from napari_mep.widgets._watched import Watch, WatchedCall

__all__ = ["PREPROCESSING_TITLES", "PreprocessingForm", "Preview", "before_and_after"]

_REST_MS = 250
_LOOK = 64  # patterns of the preview
# title, unit, kind: "n" a number, "i" a whole number, 2 and 4 that many numbers, "?" a switch,
# "f" a file.
_ROWS: dict[str, tuple[str, str, str]] = {
    "scan_rows": ("Scan rows", "first, after", "2i"),
    "scan_columns": ("Scan columns", "first, after", "2i"),
    "scan_every": ("Every n-th", "rows, columns", "i"),
    "background": ("Background", "counts", "n"),
    "background_file": ("Dark image", "", "f"),
    "gain_file": ("Gain image", "", "f"),
    "clip_negative": ("Clip below zero", "", "?"),
    "bad_pixels_file": ("Bad pixels", "", "f"),
    "centre_px": ("Centre", "ky, kx px", "2"),
    "descan_px": ("Descan drift", "px per step", "4"),
    "subpixel": ("Sub-pixel shifts", "", "?"),
    "bin_detector": ("Binning", "px", "i"),
    "detector_pixels": ("Crop or pad to", "px", "i"),
    "positions_file": ("Positions", "", "f"),
}
PREPROCESSING_TITLES = {name: title for name, (title, _, _) in _ROWS.items()}

Preview = tuple[NDArray[np.float32], NDArray[np.float32], str]
"""Mean pattern before and after, and what came of it in words."""


def before_and_after(opened: OpenedPatterns, watch: Watch) -> Preview:
    """Mean of a few patterns as they are and as they will be; runs in a thread.

    Raises
    ------
    MepError
        The preprocessing does not fit the patterns, or a file is missing.
    """
    from napari_mep.data._preprocessed import PreprocessedPatterns

    plan = opened.calibration.preprocessing or PreprocessingPlan()
    view = PreprocessedPatterns(opened.patterns, plan, opened.name)
    if 0 in view.shape:
        raise DataError("scan_rows: nothing of the scan is left")
    measured = float(view.measured.mean())
    before = _mean(opened.patterns, watch)
    after = _mean(view, watch)
    rows, columns, ky, kx = view.shape
    words = f"{rows} × {columns} patterns of {ky} × {kx} pixels"
    if measured < 1:
        words += f", {100 * (1 - measured):.2g} % of them not measured"
    if not opened.calibration.missing():
        opened.calibrated()  # says what does not fit: mask, positions, reach of the detector
    return before, after, words


def _mean(patterns: Any, watch: Watch) -> NDArray[np.float32]:
    from napari_mep.data.virtual import scan_images

    return scan_images(patterns, max_patterns=_LOOK, stop=watch.stop).mean_pattern


class PreprocessingForm(QWidget):
    """Edits the plan of a `ScanState`; every row can be reset, the raw file is never written.

    Attributes
    ----------
    previewed : Signal
        Before and after are shown, or the reason why not.
    """

    previewed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state: ScanState | None = None
        self._asked: object = None
        self.table = ValueRows()
        for name, (title, unit, kind) in _ROWS.items():
            row = ValueRow(
                name,
                title,
                unit,
                flag=kind == "?",
                browse=partial(self._browse, title) if kind == "f" else None,
                help_text=str(PreprocessingPlan.model_fields[name].description or ""),
            )
            row.edited.connect(self._on_edited)
            row.reset.connect(self._on_reset)
            self.table.add(row)
        self.pixel = QDoubleSpinBox()
        self.pixel.setDecimals(3)
        self.pixel.setRange(0.02, 5.0)
        self.pixel.setSingleStep(0.05)
        self.pixel.setValue(0.2)
        self.pixel.setSuffix(" Å")
        self.pixel.setToolTip("Pixel of the reconstruction, for example that of a prior")
        self.pad_button = QPushButton("Pad or crop for a pixel of")
        self.pad_button.setToolTip("Pixels that are added count as not measured")
        self.pad_button.clicked.connect(self.pad)
        self.gallery = TileGallery()
        self.gallery.setFixedHeight(12 * self.fontMetrics().height())
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.call = WatchedCall(self)
        self.call.succeeded.connect(self._on_preview)
        self.call.failed.connect(self._on_failed)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self._preview)
        pad = QHBoxLayout()
        pad.addWidget(self.pad_button)
        pad.addWidget(self.pixel, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 6, 4, 4)
        layout.addWidget(self.gallery)
        layout.addWidget(self.words)
        layout.addWidget(self.table)
        layout.addLayout(pad)
        layout.addStretch(1)
        self.refresh()

    @property
    def busy(self) -> bool:
        """Whether a preview is still to come."""
        return self.call.busy or self._rest.isActive()

    def set_state(self, state: ScanState | None) -> None:
        """Edit another scan, or none."""
        if self._state is not None:
            self._state.changed.disconnect(self.refresh)
        self._state, self._asked = state, None
        self.call.cancel()
        if state is not None:
            state.changed.connect(self.refresh)
        self.refresh()

    def close_down(self) -> None:
        """Stop what is computed."""
        self._rest.stop()
        self.call.close_down()
        self.set_state(None)

    def refresh(self) -> None:
        """Show the plan as it is now."""
        state = self._state
        self.setEnabled(state is not None)
        if state is None:
            self.gallery.set_message("no scan")
            self.words.setText("")
            return
        _, first = state.first
        for name, row in self.table.rows.items():
            value = getattr(state.plan, name)
            text, problem = state.errors.get(name, ("", ""))
            changed = bool(problem) or value != getattr(first, name)
            if isinstance(value, bool):
                row.show_value(value, changed=changed)
                continue
            row.editor.setToolTip(
                str(value) if _ROWS[name][2] == "f" and value else row.label.toolTip()
            )
            row.show_value(
                text if problem else "" if value in (None, _default(name)) else _text(name, value),
                changed=changed,
                problem=problem,
                placeholder=_placeholder(name),
            )
        self.pad_button.setEnabled(bool(_step_invA(state)))
        asked = (state.plan, dict(state.calibration.values))
        if asked != self._asked:
            self._asked = asked
            self._rest.start()

    def pad(self) -> None:
        """Make the detector as large as the pixel beside the button needs."""
        step = None if self._state is None else _step_invA(self._state)
        if self._state is not None and step:
            pixels = pixels_for(self.pixel.value(), step, self._state.plan.bin_detector)
            self._state.set_preprocessing("detector_pixels", pixels)

    def _on_edited(self, name: str, given: object) -> None:
        if self._state is None:
            return
        kind = _ROWS[name][2]
        if isinstance(given, bool) or kind == "f":
            self._state.set_preprocessing(name, given if given != "" else None, str(given))
            return
        text = str(given)
        try:
            value = _number(text, kind)
        except ValueError as err:
            self._state.set_error(name, text, str(err))
            return
        self._state.set_preprocessing(name, _default(name) if value is None else value, text)

    def _on_reset(self, name: str) -> None:
        if self._state is not None:
            self._state.reset_preprocessing(name)

    def _browse(self, title: str) -> str:
        return str(QFileDialog.getOpenFileName(self, title)[0])

    def _preview(self) -> None:
        if self._state is not None:
            self.call.submit(partial(before_and_after, self._state.opened()))

    def _on_preview(self, preview: Preview) -> None:
        before, after, words = preview
        self.gallery.set_tiles([_tile("before", before), _tile("after", after)])
        self.words.setText(words)
        if self._state is not None:
            self._state.object_to("")
        self.previewed.emit()

    def _on_failed(self, reason: str) -> None:
        self.words.setText(error_text(self, reason))
        if self._state is not None:
            self._state.object_to(reason)
        self.previewed.emit()


def _default(name: str) -> Any:
    return PreprocessingPlan.model_fields[name].default


def _placeholder(name: str) -> str:
    default = _default(name)
    if default is None:
        return {"centre_px": "K // 2", "detector_pixels": "as it is"}.get(
            name, "none" if _ROWS[name][2] == "f" else "all"
        )
    return shown(default)


def _text(name: str, value: Any) -> str:
    return Path(value).name if _ROWS[name][2] == "f" else shown(value)


def _number(text: str, kind: str) -> Any:
    """What a text means for a row.

    Raises
    ------
    ValueError
        It means nothing; says what is needed.
    """
    try:
        value = parse(text)
    except ValueError:
        raise ValueError(f"'{text}' is no number") from None
    if value is None:
        return None
    parts = value if isinstance(value, tuple) else (value,)
    wanted = int(kind[0]) if kind[0].isdigit() else 1
    if len(parts) != wanted:
        raise ValueError(f"'{text}': {wanted} number{'s' * (wanted > 1)} needed")
    if kind.endswith("i"):
        if any(part != int(part) for part in parts):
            raise ValueError(f"'{text}': whole numbers are needed")
        parts = tuple(int(part) for part in parts)
    return parts if wanted > 1 else parts[0]


def _step_invA(state: ScanState) -> float | None:
    from napari_mep._scan_layers import scan_steps

    return scan_steps(state.opened())[0]


def _tile(title: str, pattern: NDArray[np.float32]) -> Tile:
    ky, kx = pattern.shape
    shown_counts = np.log1p(np.maximum(np.nan_to_num(pattern), 0))
    grey = to_grey(shown_counts, 0.0, max(float(np.quantile(shown_counts, 0.999)), 1e-9))
    box = Box(-(ky // 2) - 0.5, -(kx // 2) - 0.5, ky - ky // 2 - 0.5, kx - kx // 2 - 0.5)
    return Tile(f"{title}, {ky} × {kx}", grey, box, cross=(0.0, 0.0), unit="px")
