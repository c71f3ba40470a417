"""A plot of a few curves with axes, a legend and a read-out under the mouse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_mep.widgets._theme import is_dark, muted

__all__ = ["Curve", "CurvePlot", "curve_colour", "ticks"]

# Okabe-Ito, without its yellow, which is too faint on a light theme.
_COLOURS = {
    True: ("#56b4e9", "#e69f00", "#00c795", "#e88cc0", "#ff8c4b", "#8ea8ff", "#b9b9b9"),
    False: ("#0072b2", "#b87a00", "#007f5c", "#a8497f", "#c04a00", "#3a56c8", "#666666"),
}

_MANY = 2000  # points from which on lines are thin


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A named line; NaN interrupts it.

    Parameters
    ----------
    name : str
        In the legend.
    x, y : (n,) float ndarray
        Values.
    index : int
        Chooses the colour; 0 is the reference, drawn in the colour of text and dashed.
    steps : bool
        Draw a constant around each x, as befits a slice, instead of a line from point to point.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    index: int = 0
    steps: bool = False


class CurvePlot(QWidget):
    """Curves over one axis.

    Parameters
    ----------
    x_label, y_label : str
        With units.
    log_y : bool
        A logarithmic vertical axis; values that are not positive are left out.
    """

    def __init__(
        self, x_label: str, y_label: str, parent: QWidget | None = None, *, log_y: bool = False
    ) -> None:
        super().__init__(parent)
        self._log_y = log_y
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMouseTracking(True)
        self._x_label, self._y_label = x_label, y_label
        self._curves: tuple[Curve, ...] = ()
        self._message = ""
        self._mark: float | None = None
        self._mouse: QPointF | None = None
        self.setAccessibleName(f"{y_label} against {x_label}")

    @property
    def curves(self) -> tuple[Curve, ...]:
        """What is drawn."""
        return self._curves

    def sizeHint(self) -> QSize:
        """Fifteen lines of text high, so that it grows with the font."""
        return QSize(320, 15 * self.fontMetrics().height())

    def minimumSizeHint(self) -> QSize:
        """Room for axes and legend."""
        return QSize(220, 9 * self.fontMetrics().height())

    def set_curves(self, curves: Sequence[Curve], *, mark: float | None = None) -> None:
        """Draw these, and a vertical line at `mark`."""
        self._curves, self._mark, self._message = tuple(curves), mark, ""
        self.update()

    def set_message(self, text: str) -> None:
        """Show a line of text instead of curves."""
        self._curves, self._message = (), text
        self.update()

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Read the curves at the mouse."""
        if event is not None:
            self._mouse = event.position()
            self.update()

    def leaveEvent(self, event: object) -> None:
        """No read-out without a mouse."""
        self._mouse = None
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw axes, curves, legend and read-out."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        spans = self._spans()
        if spans is None:
            painter.setPen(muted(self))
            text = self._message or "nothing to show"
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(self.rect(), flags, text)
        else:
            self._draw(painter, *spans)
        painter.end()

    def _spans(self) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """Ranges of both axes, None if there is no point to draw."""
        levels = [(c.x, self._level(c.y)) for c in self._curves]
        parts = [(x[ok], y[ok]) for x, y in levels if (ok := np.isfinite(y)).any()]
        if not parts:
            return None
        xs, ys = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        low, high = float(ys.min()), float(ys.max())
        room = 0.06 * (high - low) or max(abs(high), 1e-6) * 0.1
        left, right = float(xs.min()), float(xs.max())
        if any(c.steps and len(c.x) for c in self._curves):
            halves = [_half(c.x) for c in self._curves if len(c.x)]
            left, right = left - max(halves), right + max(halves)
        return (left, max(right, left + 1e-9)), (low - room, high + room)

    def _draw(self, painter: QPainter, xs: tuple[float, float], ys: tuple[float, float]) -> None:
        line = painter.fontMetrics().height()
        x_ticks = ticks(*xs, 6)
        marks = _log_marks(*ys) if self._log_y else _marks(*ys)
        widest = max(painter.fontMetrics().horizontalAdvance(text) for _, text in marks)
        top = self._draw_legend(painter, line)
        area = QRectF(
            line + widest + 8,
            top,
            self.width() - line - widest - 18,
            self.height() - top - 2.6 * line,
        )

        def at(x: float, y: float) -> QPointF:
            return QPointF(
                area.left() + area.width() * (x - xs[0]) / (xs[1] - xs[0]),
                area.bottom() - area.height() * (y - ys[0]) / (ys[1] - ys[0]),
            )

        flags = Qt.AlignmentFlag
        for height, text in marks:
            level = at(xs[0], height).y()
            painter.setPen(QPen(muted(self, 0.2), 1))
            painter.drawLine(QPointF(area.left(), level), QPointF(area.right(), level))
            painter.setPen(muted(self, 0.85))
            box = QRectF(0, level - line, area.left() - 5, 2 * line)
            painter.drawText(box, flags.AlignRight | flags.AlignVCenter, text)
        for tick in x_ticks:
            column = at(tick, ys[0]).x()
            painter.setPen(QPen(muted(self, 0.2), 1))
            painter.drawLine(QPointF(column, area.top()), QPointF(column, area.bottom()))
            painter.setPen(muted(self, 0.85))
            box = QRectF(column - 50, area.bottom() + 3, 100, line)
            painter.drawText(box, flags.AlignHCenter, _text(tick, x_ticks))
        painter.setPen(muted(self, 0.85))
        below = QRectF(area.left(), area.bottom() + 1.3 * line, area.width(), 1.2 * line)
        painter.drawText(below, flags.AlignHCenter, self._x_label)
        painter.save()
        painter.translate(0, area.center().y())
        painter.rotate(-90)
        painter.drawText(QRectF(-200, 0, 400, line), flags.AlignHCenter, self._y_label)
        painter.restore()
        if self._mark is not None and xs[0] <= self._mark <= xs[1]:
            painter.setPen(QPen(muted(self, 0.7), 1, Qt.PenStyle.DashLine))
            column = at(self._mark, ys[0]).x()
            painter.drawLine(QPointF(column, area.top()), QPointF(column, area.bottom()))
        painter.setClipRect(area)
        # The reference last: it must not be hidden.
        for curve in sorted(self._curves, key=lambda c: -c.index):
            painter.setPen(self._pen(curve))
            x, y = _stepped(curve) if curve.steps else (curve.x, curve.y)
            y = self._level(y)
            # At once, not point by point: ten volumes have thousands of them.
            columns = area.left() + area.width() * (x - xs[0]) / (xs[1] - xs[0])
            rows = area.bottom() - area.height() * (y - ys[0]) / (ys[1] - ys[0])
            for first, last in _runs(y):
                ends = zip(columns[first:last].tolist(), rows[first:last].tolist(), strict=True)
                points = [QPointF(column, row) for column, row in ends]
                painter.drawPolyline(QPolygonF(points))
        painter.setClipping(False)
        if self._mouse is not None and area.contains(self._mouse):
            position = xs[0] + (self._mouse.x() - area.left()) / area.width() * (xs[1] - xs[0])
            self._draw_readout(painter, area, position)

    def _level(self, y: np.ndarray) -> np.ndarray:
        """Values as they are drawn: as they are, or their decades."""
        if not self._log_y:
            return y
        return np.log10(y, out=np.full(len(y), np.nan), where=np.nan_to_num(y) > 0)

    def _pen(self, curve: Curve) -> QPen:
        # Qt draws thin lines far faster, and many noisy ones are seen better.
        many = sum(len(c.x) for c in self._curves) > _MANY
        pen = QPen(curve_colour(self, curve.index), 1.0 if many else 1.8)
        if curve.index == 0:
            pen.setStyle(Qt.PenStyle.DashLine)
        return pen

    def _draw_legend(self, painter: QPainter, line: int) -> float:
        """Names in rows above the axes; returns where they end."""
        metrics = painter.fontMetrics()
        x, y = 8.0, 2.0
        for curve in self._curves:
            name = metrics.elidedText(curve.name, Qt.TextElideMode.ElideMiddle, self.width() - 60)
            width = 26 + metrics.horizontalAdvance(name) + 12
            if x > 8 and x + width > self.width():
                x, y = 8.0, y + line
            painter.setPen(self._pen(curve))
            painter.drawLine(QPointF(x, y + line / 2), QPointF(x + 20, y + line / 2))
            painter.setPen(self.palette().windowText().color())
            painter.drawText(QPointF(x + 26, y + metrics.ascent()), name)
            x += width
        return y + 1.4 * line

    def _draw_readout(self, painter: QPainter, area: QRectF, position: float) -> None:
        """The values of all curves at the mouse, beside it."""
        column = area.left() + (self._mouse.x() - area.left() if self._mouse else 0)
        painter.setPen(QPen(muted(self, 0.5), 1))
        painter.drawLine(QPointF(column, area.top()), QPointF(column, area.bottom()))
        lines = [(f"{position:.3g}", self.palette().windowText().color())]
        for curve in self._curves:
            if len(curve.x):
                nearest = int(np.argmin(np.abs(curve.x - position)))
                value = float(curve.y[nearest])
                if math.isfinite(value):
                    lines.append((f"{value:.4g}", curve_colour(self, curve.index)))
        height = painter.fontMetrics().height()
        width = max(painter.fontMetrics().horizontalAdvance(text) for text, _ in lines) + 10
        left = column + 6 if column + 6 + width < area.right() else column - 6 - width
        box = QRectF(left, area.top() + 4, width, height * len(lines) + 4)
        back = QColor(self.palette().window().color())
        back.setAlphaF(0.85)
        painter.fillRect(box, back)
        for number, (text, colour) in enumerate(lines):
            painter.setPen(colour)
            painter.drawText(QPointF(left + 5, box.top() + height * (number + 0.8) + 2), text)


def curve_colour(widget: QWidget, index: int) -> QColor:
    """Colour of the nth volume; the reference, 0, has that of text."""
    if index == 0:
        return widget.palette().windowText().color()
    colours = _COLOURS[is_dark(widget)]
    return QColor(colours[(index - 1) % len(colours)])


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two ends, at most `most` + 1 of them."""
    rough = (high - low) / max(1, most)
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if rough <= m * power * (1 + 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _marks(low: float, high: float) -> list[tuple[float, str]]:
    heights = ticks(low, high, 5)
    return [(height, _text(height, heights)) for height in heights]


def _log_marks(low: float, high: float) -> list[tuple[float, str]]:
    """(decades, text) of 1, 2 and 5 in each decade; of round numbers within less than one."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    values = [m * 10.0**n for n in decades for m in (1, 2, 5)]
    inside = [value for value in values if low <= math.log10(value) <= high]
    if len(inside) < 2:
        inside = [value for value in ticks(10**low, 10**high, 4) if value > 0]
    return [(math.log10(value), f"{value:g}") for value in inside]


def _text(value: float, all_ticks: Sequence[float]) -> str:
    step = all_ticks[1] - all_ticks[0] if len(all_ticks) > 1 else abs(value) or 1.0
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    if round(step * 10**decimals, 6) % 1:  # 0.25 needs one more than 0.5
        decimals += 1
    return f"{value + 0.0:.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def _half(x: np.ndarray) -> float:
    return float(x[1] - x[0]) / 2 if len(x) > 1 else 0.5


def _stepped(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    half = _half(curve.x)
    x = np.stack([curve.x - half, curve.x + half], axis=1).ravel()
    return x, np.repeat(curve.y, 2)


def _runs(y: np.ndarray) -> list[tuple[int, int]]:
    """(first, end) of the stretches without NaN."""
    edges = np.diff(np.concatenate([[0], np.isfinite(y).astype(int), [0]]))
    return list(zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True))
