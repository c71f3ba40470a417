"""Lines of text that wrap, and take the colours of the theme."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QLabel, QSizePolicy, QWidget

from napari_mep.widgets._theme import error_text, warning_text

__all__ = ["MessageLine", "wrapping_label"]

_THEME_EVENTS = (QEvent.Type.StyleChange, QEvent.Type.PaletteChange)


class MessageLine(QLabel):
    """What there is to say: nothing, plainly, as a warning or as an error; hidden while empty."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        _make_wrapping(self)
        self._said: tuple[str, Callable[[str], str]] = ("", escape)
        self.setVisible(False)

    @property
    def said(self) -> str:
        """The text, without colours."""
        return self._said[0]

    def say(self, text: str = "", *, tooltip: str = "") -> None:
        """Show a plain message, or none."""
        self._show(text, escape, tooltip)

    def say_warning(self, text: str, *, tooltip: str = "") -> None:
        """Show something to know."""
        self._show(text, partial(warning_text, self), tooltip)

    def say_error(self, text: str, *, tooltip: str = "") -> None:
        """Show what went wrong or stands in the way."""
        self._show(text, partial(error_text, self), tooltip)

    def changeEvent(self, event: QEvent | None) -> None:
        """Colours belong to a theme, which may come after the message."""
        super().changeEvent(event)
        # The first event comes while the base class is being made.
        if event is not None and event.type() in _THEME_EVENTS and hasattr(self, "_said"):
            self._paint()

    def _show(self, text: str, rich: Callable[[str], str], tooltip: str) -> None:
        self._said = (text, rich)
        self._paint()
        self.setToolTip(tooltip)
        self.setVisible(bool(text))

    def _paint(self) -> None:
        text, rich = self._said
        shown = rich(text) if text else ""
        if shown != self.text():
            self.setText(shown)


def wrapping_label() -> QLabel:
    """A label that takes the width it gets, and can be copied from."""
    label = QLabel()
    _make_wrapping(label)
    return label


def _make_wrapping(label: QLabel) -> None:
    label.setWordWrap(True)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
