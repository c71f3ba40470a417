"""The preprocessing of a plan as one line; it is edited where patterns can be seen, not here."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QWidget

from napari_mep.data.preprocessing import PreprocessingPlan

__all__ = ["PreprocessingSummary"]


class PreprocessingSummary(QLabel):
    """Shows what is done to the patterns first.

    Attributes
    ----------
    changed : Signal
        When another preprocessing is shown.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._value: dict[str, Any] | None = None
        self.setWordWrap(True)
        self.set_value(None)

    def value(self) -> dict[str, Any] | None:
        """Settings of a `PreprocessingPlan`, or None."""
        return self._value

    def set_value(self, value: dict[str, Any] | None) -> None:
        """Show settings; several operations are listed in the tool tip."""
        self._value = value
        lines = [] if value is None else PreprocessingPlan.parse(value).summary()
        self.setText(lines[0] if len(lines) == 1 else f"{len(lines)} steps" if lines else "none")
        if lines:
            self.setToolTip("\n".join(lines))
        self.changed.emit()
