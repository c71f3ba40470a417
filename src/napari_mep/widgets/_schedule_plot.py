"""The guidance schedule as a picture: weight of the data term against the sampling step."""

from __future__ import annotations

import math

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_mep.widgets._theme import accent, muted

__all__ = ["SchedulePlot"]


class SchedulePlot(QWidget):
    """Curve of g(logSNR) with the step below and logSNR above.

    While a run goes on, dots show the weights that it really used (the shift is measured on the
    data, the curve can only assume one), and a marker stands at the current step.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._logsnr = np.empty(0)
        self._weights = np.empty(0)
        self._message = ""
        self._used: list[tuple[float, float]] = []
        self._marked = False
        self.setToolTip(
            "How strongly the data pull on each x-prediction, g(logSNR). Left: noise, where the "
            "lattice is born; right: nearly clean, where the prior finishes the atoms."
        )
        self.setAccessibleName("Guidance schedule")

    def sizeHint(self) -> QSize:
        """Nine lines of text high, so that it grows with the font."""
        return QSize(280, 9 * self.fontMetrics().height())

    def minimumSizeHint(self) -> QSize:
        """Wide enough for the axis labels."""
        return QSize(180, self.sizeHint().height())

    @property
    def marker(self) -> tuple[float, float] | None:
        """(logSNR, weight) of the current step, None outside a run."""
        return self._used[-1] if self._marked and self._used else None

    @property
    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """The (logSNR, weight) that is shown."""
        return self._logsnr, self._weights

    def set_curve(self, logsnr: np.ndarray, weights: np.ndarray) -> None:
        """Show a schedule.

        Parameters
        ----------
        logsnr, weights : (n,) float ndarray
            Log signal-to-noise ratio and guidance weight of each sampling step.
        """
        self._logsnr = np.asarray(logsnr, dtype=float)
        self._weights = np.asarray(weights, dtype=float)
        self._message = "" if self._weights.size else "no schedule"
        self.clear_marks()

    def set_message(self, message: str) -> None:
        """Show a line of text instead of a curve."""
        self._logsnr = self._weights = np.empty(0)
        self._message = message
        self.clear_marks()

    def mark(self, logsnr: float, weight: float) -> None:
        """Add the weight that a step has used, and move the marker there.

        Parameters
        ----------
        logsnr, weight : float
            Nothing happens if either is not finite: a solver without a prior has neither.
        """
        if math.isfinite(logsnr) and math.isfinite(weight):
            self._used.append((logsnr, weight))
            self._marked = True
            self.update()

    def end_run(self) -> None:
        """Take the marker away; the dots stay until the curve changes."""
        self._marked = False
        self.update()

    def clear_marks(self) -> None:
        """Take marker and dots away."""
        self._used.clear()
        self._marked = False
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw axes, curve and marker."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = painter.font()
        font.setPointSizeF(max(6.0, 0.85 * font.pointSizeF()))
        painter.setFont(font)
        if self._weights.size:
            self._draw(painter)
        else:
            painter.setPen(muted(self))
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, self._message)
        painter.end()

    def _draw(self, painter: QPainter) -> None:
        line = painter.fontMetrics().height()
        used = [weight for _, weight in self._used]
        top = _ceiling(max([float(np.nanmax(self._weights)), *used]))
        left = max(painter.fontMetrics().horizontalAdvance(t) for t in (_short(top), "0.0")) + 8
        area = QRectF(left, 2.2 * line, self.width() - left - 12, self.height() - 4.6 * line)
        count = len(self._weights)
        steps = np.arange(count)
        x = area.left() + area.width() * steps / max(1, count - 1)
        y = area.bottom() - area.height() * np.clip(self._weights / top, 0, 1)

        self._draw_axes(painter, area, line, top)
        colour = accent(self)
        points = [QPointF(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(b)]
        floor = [QPointF(points[-1].x(), area.bottom()), QPointF(points[0].x(), area.bottom())]
        fill = QColor(colour)
        fill.setAlphaF(0.18)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(fill)
        painter.drawPolygon(QPolygonF(points + floor))
        painter.setPen(QPen(colour, 1.8))
        painter.drawPolyline(QPolygonF(points))

        at = [
            QPointF(
                float(np.interp(logsnr, self._logsnr, x)),
                area.bottom() - area.height() * min(max(weight / top, 0.0), 1.0),
            )
            for logsnr, weight in self._used
        ]
        painter.setPen(Qt.PenStyle.NoPen)
        text = self.palette().windowText().color()
        painter.setBrush(text)
        for point in at:
            painter.drawEllipse(point, 1.8, 1.8)
        if self._marked and at:
            painter.setPen(QPen(text, 1, Qt.PenStyle.DashLine))
            painter.drawLine(QPointF(at[-1].x(), area.top()), QPointF(at[-1].x(), area.bottom()))
            painter.setPen(QPen(text, 1.2))
            painter.setBrush(colour)
            painter.drawEllipse(at[-1], 4.0, 4.0)

    def _draw_axes(self, painter: QPainter, area: QRectF, line: int, top: float) -> None:
        count = len(self._weights)
        painter.setPen(QPen(muted(self, 0.3), 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for fraction in (0.0, 0.5, 1.0):
            level = area.bottom() - fraction * area.height()
            painter.drawLine(QPointF(area.left(), level), QPointF(area.right(), level))

        painter.setPen(muted(self, 0.85))
        flags = Qt.AlignmentFlag
        for fraction in (0.0, 0.5, 1.0):
            level = area.bottom() - fraction * area.height()
            box = QRectF(0, level - line, area.left() - 5, 2 * line)
            painter.drawText(box, flags.AlignRight | flags.AlignVCenter, _short(top * fraction))
        for index in sorted({0, (count - 1) // 2, count - 1}):
            centre = area.left() + area.width() * index / max(1, count - 1)
            align, start = flags.AlignHCenter, -40.0
            if index == 0:
                align, start = flags.AlignLeft, 0.0
            elif index == count - 1:
                align, start = flags.AlignRight, -80.0
            below = QRectF(centre + start, area.bottom() + 2, 80, line)
            above = QRectF(centre + start, area.top() - line - 2, 80, line)
            painter.drawText(below, align, str(index + 1))
            painter.drawText(
                above, align, f"{self._logsnr[index]:.1f}".replace("-", "\N{MINUS SIGN}")
            )
        wide = QRectF(area.left(), 0, area.width(), line)
        painter.setPen(muted(self, 0.65))
        painter.drawText(wide, flags.AlignHCenter, "logSNR \N{GREEK SMALL LETTER LAMDA}")
        painter.drawText(QRectF(4, 0, area.left() + 60, line), flags.AlignLeft, "weight g")
        wide.moveTop(area.bottom() + line + 2)
        painter.drawText(wide, flags.AlignHCenter, "sampling step")


def _ceiling(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten: a round end of the axis."""
    if not math.isfinite(value) or value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if value <= m * power * (1 + 1e-9))


def _short(value: float) -> str:
    return f"{value:.3g}" if value else "0"
