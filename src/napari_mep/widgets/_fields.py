"""Editors for single settings, made from the fields of the plan: range, choices and help.

Nothing is written twice: what a field allows and what it means stands in
`napari_mep.reconstruction.plan`; here is only how it is edited.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, Protocol

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QSizePolicy,
    QSpinBox,
    QToolButton,
    QWidget,
)
from superqt import QLargeIntSpinBox

__all__ = ["Editor", "Look", "editor_for", "field_at"]


@dataclass(frozen=True, slots=True)
class Look:
    """How a field is shown, beyond what the plan says about it.

    Parameters
    ----------
    label : str
        Text beside the editor.
    unit : str
        Shown behind the number.
    decimals : int
        Of a floating-point number.
    step : float
        Of the arrow keys and the wheel.
    none : str
        What stands for None, for example "auto".
    start : float
        Number offered when None is switched off.
    choices : sequence of str
        Offered for free text.
    """

    label: str
    unit: str = ""
    decimals: int = 2
    step: float = 1.0
    none: str = "auto"
    start: float = 1.0
    choices: Sequence[str] = ()


class Editor(Protocol):
    """What all editors, which are widgets, have in common."""

    changed: Any

    def value(self) -> Any:
        """Current value of the field."""

    def set_value(self, value: Any) -> None:
        """Show a value."""


def field_at(model: type[BaseModel], path: str) -> FieldInfo:
    """Field of a plan by its dotted path, for example ``"guidance.strength"``."""
    *parents, name = path.split(".")
    for parent in parents:
        annotation = model.model_fields[parent].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        model = annotation
    return model.model_fields[name]


def editor_for(field: FieldInfo, look: Look) -> QWidget:
    """Editor that fits the type and the limits of a field; it has the methods of `Editor`."""
    options = typing.get_args(field.annotation)
    if typing.get_origin(field.annotation) is Literal:
        editor: QWidget = ChoiceEditor(options)
    elif NoneType in options:
        (inner,) = (option for option in options if option is not NoneType)
        editor = OptionalEditor(_number_editor(inner, field, look), look)
    elif field.annotation is str:
        editor = TextEditor(look.choices)
    else:
        editor = _number_editor(field.annotation, field, look)
    editor.setToolTip(field.description or "")
    editor.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return editor


def _number_editor(kind: Any, field: FieldInfo, look: Look) -> QWidget:
    low, high = _limits(field, look)
    if kind is int and high > 2**31 - 1:
        return LargeIntEditor(int(low), int(high))
    if kind is int:
        return IntEditor(int(low), int(high), look)
    return FloatEditor(low, high, look)


def _limits(field: FieldInfo, look: Look) -> tuple[float, float]:
    """Smallest and largest value that the editor shows and the plan accepts."""
    bounds: dict[str, Any] = {}
    for rule in field.metadata:
        bounds |= {k: getattr(rule, k) for k in ("ge", "gt", "le", "lt") if hasattr(rule, k)}
    # The editor has no open intervals: stay one shown digit away from an excluded bound.
    nudge = 1 if field.annotation is int else 10.0**-look.decimals
    low = bounds.get("ge", bounds["gt"] + nudge if "gt" in bounds else -1e6)
    high = bounds.get("le", bounds["lt"] - nudge if "lt" in bounds else 1e6)
    return low, high


class ChoiceEditor(QComboBox):
    """One of a few words."""

    changed = Signal()

    def __init__(self, options: Sequence[str]) -> None:
        super().__init__()
        self.addItems(list(options))
        self.currentIndexChanged.connect(lambda _index: self.changed.emit())

    def value(self) -> str:
        """The chosen word."""
        return str(self.currentText())

    def set_value(self, value: str) -> None:
        """Choose a word."""
        self.setCurrentText(value)


class TextEditor(QComboBox):
    """Free text with suggestions; reports when editing ends, not at each key."""

    changed = Signal()

    def __init__(self, choices: Sequence[str]) -> None:
        super().__init__()
        self.setEditable(True)
        self.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.setMinimumContentsLength(8)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.addItems(list(choices))
        self.currentTextChanged.connect(lambda _text: self.changed.emit())

    def value(self) -> str:
        """The text, without surrounding blanks."""
        return str(self.currentText()).strip()

    def set_value(self, value: str) -> None:
        """Show a text, whether suggested or not."""
        self.setEditText(value)


class FolderEditor(QWidget):
    """Path of a folder, typed or chosen; reports when editing ends, not at each key."""

    changed = Signal()

    def __init__(self, title: str, placeholder: str) -> None:
        super().__init__()
        self._title = title
        self.edit = QLineEdit()
        self.edit.setPlaceholderText(placeholder)
        self.browse = QToolButton()
        self.browse.setText("…")
        self.browse.setToolTip("Browse")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.edit, 1)
        layout.addWidget(self.browse)
        self.setFocusProxy(self.edit)
        self._shown = ""
        self.edit.editingFinished.connect(self._on_edited)
        self.browse.clicked.connect(self._browse)

    def value(self) -> str:
        """The path, empty while none is chosen; ~ is the user's home."""
        text = str(self.edit.text()).strip()
        return str(Path(text).expanduser()) if text else ""

    def set_value(self, value: str) -> None:
        """Choose a folder, as if its path had been typed."""
        self.edit.setText(value)
        self._on_edited()

    def _on_edited(self) -> None:
        text = self.edit.text().strip()
        if text != self._shown:
            self._shown = text
            self.changed.emit()

    def _browse(self) -> None:
        start = Path(self.value() or Path.home()).absolute()
        while not start.exists():
            start = start.parent
        chosen = QFileDialog.getExistingDirectory(self, self._title, str(start))
        if chosen:
            self.set_value(chosen)


class IntEditor(QSpinBox):
    """A whole number."""

    changed = Signal()

    def __init__(self, low: int, high: int, look: Look) -> None:
        super().__init__()
        self.setRange(low, min(high, 2**31 - 1))
        self.setSingleStep(max(1, int(look.step)))
        _dress(self, look)
        self.valueChanged.connect(lambda _value: self.changed.emit())

    def set_value(self, value: int) -> None:
        """Show a number."""
        self.setValue(value)


class LargeIntEditor(QLargeIntSpinBox):
    """A whole number beyond 32 bits: a seed."""

    changed = Signal()

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        self.setRange(low, high)
        self.valueChanged.connect(lambda _value: self.changed.emit())

    def value(self) -> int:
        """The number as a Python int."""
        return int(super().value())

    def set_value(self, value: int) -> None:
        """Show a number."""
        self.setValue(value)


class FloatEditor(QDoubleSpinBox):
    """A number with a unit."""

    changed = Signal()

    def __init__(self, low: float, high: float, look: Look) -> None:
        super().__init__()
        self.setDecimals(look.decimals)
        self.setRange(low, high)
        self.setSingleStep(look.step)
        _dress(self, look)
        self._exact = float(super().value())
        self.valueChanged.connect(self._on_changed)

    def value(self) -> float:
        """The number; one that was set keeps the digits that are not shown."""
        return self._exact

    def set_value(self, value: float) -> None:
        """Show a number."""
        self.setValue(value)
        self._exact = float(value)

    def _on_changed(self, shown: float) -> None:
        self._exact = float(shown)
        self.changed.emit()


class OptionalEditor(QWidget):
    """A number or None, which has a name of its own: auto, all, ..."""

    changed = Signal()

    def __init__(self, number: QWidget, look: Look) -> None:
        super().__init__()
        self._number: Any = number
        self._start = look.start
        self._box = QCheckBox(look.none)
        self._box.setChecked(True)
        self._number.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._number.set_value(type(self._number.value())(look.start))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(number, 1)
        layout.addWidget(self._box)
        self.setFocusProxy(number)
        self._number.setEnabled(False)
        self._number.changed.connect(self.changed)
        self._box.toggled.connect(self._on_toggled)

    def value(self) -> Any:
        """The number, or None while the box is checked."""
        return None if self._box.isChecked() else self._number.value()

    def set_value(self, value: Any) -> None:
        """Show a number or None."""
        if value is not None:
            self._number.set_value(value)
        self._box.setChecked(value is None)

    def _on_toggled(self, none: bool) -> None:
        self._number.setEnabled(not none)
        self.changed.emit()


def _dress(box: QAbstractSpinBox, look: Look) -> None:
    if look.unit:
        box.setSuffix(f" {look.unit}")
    # Scrolling through the form must not change settings in passing.
    box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    box.setKeyboardTracking(False)
