"""The pictures and curves that prove an estimate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QHBoxLayout, QSizePolicy, QWidget

from napari_mep.data.estimate import Curve, Picture
from napari_mep.widgets._compare_curves import Curve as Line
from napari_mep.widgets._compare_curves import CurvePlot
from napari_mep.widgets._compare_tiles import to_grey
from napari_mep.widgets._theme import muted

__all__ = ["PictureView", "ProofView"]

_MARK = QColor("#e69f00")
_LINES = 19  # of text: how high a proof is; less cuts off what stands beside the axis


class PictureView(QWidget):
    """An image with its title, circles and marked places.

    Parameters
    ----------
    picture : Picture
        What to show.
    """

    def __init__(self, picture: Picture, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setToolTip(picture.title)
        self.setAccessibleName(picture.title)
        self.picture = picture
        image = np.nan_to_num(np.asarray(picture.image, dtype=np.float64))
        if picture.logarithmic:
            positive = image[image > 0]
            image = np.log10(np.maximum(image, positive.min() if positive.size else 1.0))
        low, high = (float(v) for v in np.percentile(image, (0.5, 99.8)))
        grey = np.ascontiguousarray(to_grey(image, low, max(high, low + 1e-12)))
        rows, columns = grey.shape
        # Copied: Qt would keep pointing at the array.
        self._image = QImage(
            grey.data, columns, rows, columns, QImage.Format.Format_Grayscale8
        ).copy()

    def minimumSizeHint(self) -> QSize:
        """Room for image and title."""
        return QSize(120, _LINES * self.fontMetrics().height())

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the image, as large as it fits, and what belongs upon it."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        line = painter.fontMetrics().height()
        rows, columns = self._image.height(), self._image.width()
        room = QRectF(0, 0, self.width(), max(1, self.height() - 2.2 * line))
        scale = min(room.width() / columns, room.height() / rows)
        left = (self.width() - scale * columns) / 2
        area = QRectF(left, 0, scale * columns, scale * rows)
        painter.drawImage(area, self._image)
        painter.setPen(QPen(_MARK, 1.5))
        painter.setBrush(Qt.BrushStyle.NoBrush)

        def at(y: float, x: float) -> QPointF:
            return QPointF(area.left() + (x + 0.5) * scale, area.top() + (y + 0.5) * scale)

        for y, x, radius in self.picture.circles:
            centre = at(y, x)
            painter.drawEllipse(centre, radius * scale, radius * scale)
            painter.drawLine(centre - QPointF(5, 0), centre + QPointF(5, 0))
            painter.drawLine(centre - QPointF(0, 5), centre + QPointF(0, 5))
        points = self.picture.points
        for y, x in () if points is None else points:
            painter.drawEllipse(at(float(y), float(x)), 3.5, 3.5)
        painter.setPen(muted(self, 0.85))
        below = QRectF(0, area.bottom() + 2, self.width(), 2.2 * line)
        flags = Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop
        painter.drawText(below, flags | Qt.TextFlag.TextWordWrap, self.picture.title)
        painter.end()


class ProofView(QWidget):
    """All proofs of an estimate, side by side."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setMinimumHeight(_LINES * self.fontMetrics().height())
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self.views: list[QWidget] = []

    def show_proof(self, proof: Sequence[Picture | Curve]) -> None:
        """Show these, in place of what was there."""
        for view in self.views:
            self._row.removeWidget(view)
            view.deleteLater()
        self.views = [
            PictureView(part) if isinstance(part, Picture) else _plot(part) for part in proof
        ]
        for view in self.views:
            self._row.addWidget(view, 1)
        self.setVisible(bool(self.views))


def _plot(curve: Curve) -> CurvePlot:
    label = curve.x_label
    if curve.ticks:
        label = ", ".join(f"{i}: {word}" for i, word in enumerate(curve.ticks))
    plot = CurvePlot(label, curve.y_label)
    lines = [Line(curve.name or curve.title, np.asarray(curve.x), np.asarray(curve.y), index=1)]
    lines += [
        Line(name, np.asarray(curve.x), np.asarray(y), index=2 + i)
        for i, (name, y) in enumerate(curve.others.items())
    ]
    plot.set_curves(lines, mark=curve.best)
    return plot
