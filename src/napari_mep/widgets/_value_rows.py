"""Rows of a form in which each value shows its unit, where it comes from, and what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSizePolicy,
    QToolButton,
    QWidget,
)

from napari_mep.widgets._theme import error_text, muted

__all__ = ["ValueRow", "ValueRows"]

_THEME_EVENTS = (QEvent.Type.StyleChange, QEvent.Type.PaletteChange)


class ValueRow(QObject):
    """One value: name, editor, unit, source, a button that resets it; below it the reason.

    Parameters
    ----------
    name : str
        Identifies it.
    title : str
        Shown to people.
    unit : str
        Behind the editor.
    flag : bool
        A switch instead of a text.
    browse : callable, optional
        Gives a path, or an empty text; called when the button beside the editor is pressed.

    Attributes
    ----------
    edited : Signal(str, object)
        Name, and the text or the state of the switch.
    reset : Signal(str)
        Name.
    """

    edited = Signal(str, object)
    reset = Signal(str)

    def __init__(
        self,
        name: str,
        title: str,
        unit: str = "",
        *,
        flag: bool = False,
        browse: Callable[[], str] | None = None,
        help_text: str = "",
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.name = name
        self.label = QLabel(title)
        self.editor: Any = QCheckBox() if flag else QLineEdit()
        self.editor.setAccessibleName(title)
        for part in (self.label, self.editor):
            part.setToolTip(help_text)
        self.label.setBuddy(self.editor)
        self.unit, self.source, self.reason = QLabel(unit), QLabel(), QLabel()
        self.reason.setWordWrap(True)
        self.reason.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.reason.setVisible(False)
        self.back = QToolButton()
        self.back.setText("↺")
        self.back.setAutoRaise(True)
        self.back.setToolTip("As it was opened")
        policy = self.back.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.back.setSizePolicy(policy)
        self.back.setVisible(False)
        self.back.clicked.connect(lambda: self.reset.emit(self.name))
        self.field: QWidget = self.editor
        self._shown: object = None
        self._problem = ""
        if flag:
            self.editor.toggled.connect(self._on_edited)
        else:
            self.editor.setMinimumWidth(60)
            self.editor.editingFinished.connect(lambda: self._on_edited(self.editor.text().strip()))
        if browse is not None:
            self.field = self._with_button(browse)

    def show_value(
        self,
        shown: str | bool,
        *,
        source: str = "",
        changed: bool = False,
        problem: str = "",
        placeholder: str = "",
    ) -> None:
        """Bring the row in line with what is known.

        Parameters
        ----------
        shown : str or bool
            Text or state of the switch.
        source : str
            Where it comes from.
        changed : bool
            Whether it differs from what was opened, so that it can be reset.
        problem : str
            Why it is impossible, one line.
        placeholder : str
            Shown where there is no text.
        """
        self._shown = shown
        was = self.editor.blockSignals(True)
        if isinstance(shown, bool):
            self.editor.setChecked(shown)
        else:
            if shown != self.editor.text():  # keeps the place of the text cursor
                self.editor.setText(shown)
            self.editor.setCursorPosition(0)
            self.editor.setPlaceholderText(placeholder)
        self.editor.blockSignals(was)
        self.source.setText(source)
        self.back.setVisible(changed)
        self._problem = problem
        self.paint()

    def paint(self) -> None:
        """Colours of the theme."""
        self.reason.setText(error_text(self.reason, self._problem) if self._problem else "")
        self.reason.setVisible(bool(self._problem))
        self.editor.setStyleSheet("border: 1px solid #d9534f;" if self._problem else "")
        # Of another label: the palette of this one follows its style sheet.
        colour = muted(self.label, 0.75).name()
        self.source.setStyleSheet(f"color: {colour};")

    @property
    def problem(self) -> str:
        """What is shown below the editor; empty if nothing."""
        return self._problem

    def _on_edited(self, value: object) -> None:
        if value != self._shown:  # leaving a field changes nothing
            self.edited.emit(self.name, value)

    def _with_button(self, browse: Callable[[], str]) -> QWidget:
        button = QToolButton()
        button.setText("…")
        button.setToolTip("Browse")

        def choose() -> None:
            path = browse()
            if path:
                self._on_edited(path)

        button.clicked.connect(choose)
        box = QWidget()
        layout = QHBoxLayout(box)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.editor, 1)
        layout.addWidget(button)
        return box


class ValueRows(QWidget):
    """Rows one below the other, columns in line."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rows: dict[str, ValueRow] = {}
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(6)
        self._grid.setVerticalSpacing(3)
        self._grid.setColumnStretch(1, 1)

    def add(self, row: ValueRow) -> None:
        """Append a row."""
        row.setParent(self)
        line = 2 * len(self.rows)
        self.rows[row.name] = row
        for column, part in enumerate((row.label, row.field, row.unit, row.source, row.back)):
            self._grid.addWidget(part, line, column)
        self._grid.addWidget(row.reason, line + 1, 0, 1, 5)
        self._grid.setAlignment(row.unit, Qt.AlignmentFlag.AlignLeft)

    def changeEvent(self, event: QEvent | None) -> None:
        """Colours belong to a theme, which may come later."""
        super().changeEvent(event)
        if event is not None and event.type() in _THEME_EVENTS:
            for row in self.rows.values():
                row.paint()
