"""Colours that read on napari's dark and light themes alike."""

from __future__ import annotations

from html import escape

from qtpy.QtGui import QColor, QPalette
from qtpy.QtWidgets import QWidget

__all__ = ["accent", "error_text", "is_dark", "muted", "warning_text"]

# Contrast of at least 4.5:1 against the backgrounds of napari's themes; the accents are from the
# Okabe-Ito palette, which colour-blind people can tell apart.
_ERROR = {True: "#ff7b72", False: "#b3261e"}
_WARNING = {True: "#e69f00", False: "#8a5a00"}
_ACCENT = {True: "#56b4e9", False: "#0072b2"}


def is_dark(widget: QWidget) -> bool:
    """Whether text on this widget is lighter than its background."""
    palette = widget.palette()
    text = palette.color(QPalette.ColorRole.WindowText).lightness()
    return bool(text > palette.color(QPalette.ColorRole.Window).lightness())


def accent(widget: QWidget) -> QColor:
    """Colour of a curve."""
    return QColor(_ACCENT[is_dark(widget)])


def muted(widget: QWidget, strength: float = 0.6) -> QColor:
    """Colour of secondary text, grid lines and axes: text faded into the background."""
    palette = widget.palette()
    text = palette.color(QPalette.ColorRole.WindowText)
    back = palette.color(QPalette.ColorRole.Window)
    mixed = (
        strength * t + (1 - strength) * b
        for t, b in zip(text.getRgbF()[:3], back.getRgbF()[:3], strict=True)
    )
    return QColor.fromRgbF(*mixed)


def error_text(widget: QWidget, text: str) -> str:
    """Rich text for something that prevents the run."""
    return f'<span style="color:{_ERROR[is_dark(widget)]}">{escape(text)}</span>'


def warning_text(widget: QWidget, text: str) -> str:
    """Rich text for something to know."""
    return f'<span style="color:{_WARNING[is_dark(widget)]}">{escape(text)}</span>'
