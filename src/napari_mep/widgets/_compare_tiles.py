"""Pictures with physical axes, side by side: cuts, spectra, patterns, and the map to point on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QMouseEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_mep.widgets._theme import accent, muted

__all__ = ["Box", "Tile", "TileGallery", "to_grey"]

_GAP = 8


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in the units of a picture: y downwards, x to the right."""

    top: float
    left: float
    bottom: float
    right: float

    @property
    def height(self) -> float:
        """Along y."""
        return self.bottom - self.top

    @property
    def width(self) -> float:
        """Along x."""
        return self.right - self.left


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One picture.

    Parameters
    ----------
    title : str
        Above it, perhaps in several lines.
    grey : (rows, columns) or (rows, columns, 3) uint8 ndarray
        Brightness, or red, green and blue.
    box : Box
        Outer edges of the picture in its own units.
    rings : tuple of float
        Radii of circles about the origin, labelled with their value.
    cross : tuple of 2 floats or None
        (y, x) of a crosshair.
    line : ((y, x), (y, x)) or None
        A line, and with `line_width` the strip around it.
    line_width : float
        In the units of the picture.
    frame : Box or None
        A region of interest.
    unit : str
        Of the axes, for the read-out.
    mark : tuple of 2 floats or None
        (y, x) of a dot.
    """

    title: str
    grey: np.ndarray
    box: Box
    rings: tuple[float, ...] = ()
    cross: tuple[float, float] | None = None
    line: tuple[tuple[float, float], tuple[float, float]] | None = None
    line_width: float = 0.0
    frame: Box | None = None
    unit: str = "Å"
    mark: tuple[float, float] | None = None


class TileGallery(QWidget):
    """Tiles on equal scales, in as many columns as make them largest.

    Attributes
    ----------
    dragged : Signal(tuple, tuple)
        (y, x) where the mouse was pressed and where it is, in the units of the tile it was
        pressed on; with a single click both are the same.
    """

    dragged = Signal(tuple, tuple)

    def __init__(self, *, columns: int = 0, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMouseTracking(True)
        self._columns = columns
        self._tiles: tuple[Tile, ...] = ()
        self._message = ""
        self._pressed: tuple[int, tuple[float, float]] | None = None
        self._mouse: QPointF | None = None

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """What is shown."""
        return self._tiles

    @property
    def pressed_index(self) -> int | None:
        """The tile on which the mouse is being dragged."""
        return None if self._pressed is None else self._pressed[0]

    def sizeHint(self) -> QSize:
        """Sixteen lines of text high, so that it grows with the font."""
        return QSize(320, 16 * self.fontMetrics().height())

    def minimumSizeHint(self) -> QSize:
        """Small, but not invisible."""
        return QSize(160, 7 * self.fontMetrics().height())

    def set_tiles(self, tiles: Sequence[Tile], *, columns: int = 0) -> None:
        """Show these; `columns` 0 finds the best number."""
        self._tiles, self._columns, self._message = tuple(tiles), columns, ""
        self.update()

    def set_message(self, text: str) -> None:
        """Show a line of text instead of pictures."""
        self._tiles, self._message = (), text
        self.update()

    def place(self, index: int) -> QRectF:
        """Where a tile's picture is drawn, in pixels of this widget."""
        title = self._title_height()
        columns = self._columns or self._best_columns(title)
        rows = math.ceil(len(self._tiles) / columns)
        cell_w = (self.width() - _GAP * (columns - 1)) / columns
        cell_h = (self.height() - _GAP * (rows - 1)) / rows
        row, column = divmod(index, columns)
        box = self._tiles[index].box
        scale = min(cell_w / box.width, (cell_h - title) / box.height)
        width, height = scale * box.width, scale * box.height
        left = column * (cell_w + _GAP) + (cell_w - width) / 2
        return QRectF(left, row * (cell_h + _GAP) + title, width, max(height, 1.0))

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Begin to point or to draw."""
        if event is None or event.button() != Qt.MouseButton.LeftButton:
            return
        for index in range(len(self._tiles)):
            if self.place(index).contains(event.position()):
                here = self._units(index, event.position())
                self._pressed = (index, here)
                self.dragged.emit(here, here)
                return

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Go on drawing; read the coordinates."""
        if event is None:
            return
        self._mouse = event.position()
        if self._pressed is not None and event.buttons() & Qt.MouseButton.LeftButton:
            index, start = self._pressed
            self.dragged.emit(start, self._units(index, event.position()))
        self.update()

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        """The drawing is done."""
        self._pressed = None

    def leaveEvent(self, event: object) -> None:
        """No read-out without a mouse."""
        self._mouse = None
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw all tiles."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if not self._tiles:
            painter.setPen(muted(self))
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(self.rect(), flags, self._message or "nothing to show")
        for index, tile in enumerate(self._tiles):
            self._draw(painter, tile, self.place(index))
        painter.end()

    def _title_height(self) -> float:
        lines = max((tile.title.count("\n") + 1 for tile in self._tiles), default=1)
        return (lines + 0.2) * self.fontMetrics().height()

    def _best_columns(self, title: float) -> int:
        """The number of columns that makes the smallest tile largest."""
        best, largest = 1, 0.0
        widest = max((tile.box.width for tile in self._tiles), default=1.0)
        highest = max((tile.box.height for tile in self._tiles), default=1.0)
        for columns in range(1, max(1, len(self._tiles)) + 1):
            rows = math.ceil(len(self._tiles) / columns)
            scale = min(
                (self.width() - _GAP * (columns - 1)) / columns / widest,
                ((self.height() - _GAP * (rows - 1)) / rows - title) / highest,
            )
            if scale > largest * 1.0001:
                best, largest = columns, scale
        return best

    def _units(self, index: int, where: QPointF) -> tuple[float, float]:
        place, box = self.place(index), self._tiles[index].box
        y = box.top + (where.y() - place.top()) / place.height() * box.height
        x = box.left + (where.x() - place.left()) / place.width() * box.width
        return min(max(y, box.top), box.bottom), min(max(x, box.left), box.right)

    def _draw(self, painter: QPainter, tile: Tile, place: QRectF) -> None:
        metrics = painter.fontMetrics()
        grey = np.ascontiguousarray(tile.grey)
        rows, columns = grey.shape[:2]
        kind = QImage.Format.Format_Grayscale8 if grey.ndim == 2 else QImage.Format.Format_RGB888
        image = QImage(grey.data, columns, rows, grey.strides[0], kind)
        painter.drawImage(place, image)
        scale = place.width() / tile.box.width

        def at(y: float, x: float) -> QPointF:
            return QPointF(
                place.left() + (x - tile.box.left) * scale,
                place.top() + (y - tile.box.top) * place.height() / tile.box.height,
            )

        painter.setPen(self.palette().windowText().color())
        baseline = place.top() - metrics.descent() - 1
        for number, line in enumerate(reversed(tile.title.split("\n"))):
            room = max(60, int(place.width()) + _GAP)
            words = metrics.elidedText(line, Qt.TextElideMode.ElideMiddle, room)
            painter.drawText(QPointF(place.left(), baseline - number * metrics.height()), words)
        painter.setClipRect(place)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for radius in tile.rings:
            painter.setPen(QPen(QColor(255, 255, 255, 130), 1, Qt.PenStyle.DashLine))
            painter.drawEllipse(at(0, 0), radius * scale, radius * scale)
            painter.setPen(QColor(255, 255, 255, 220))
            diagonal = radius / math.sqrt(2)
            painter.drawText(at(-diagonal, diagonal) + QPointF(2, -2), f"{radius:g}")
        mark = accent(self)
        if tile.frame is not None:
            painter.setPen(QPen(mark, 1.5))
            painter.drawRect(
                QRectF(at(tile.frame.top, tile.frame.left), at(tile.frame.bottom, tile.frame.right))
            )
        if tile.line is not None:
            start, end = (at(*point) for point in tile.line)
            if tile.line_width > 0:
                band = QColor(mark)
                band.setAlphaF(0.3)
                pen = QPen(band, tile.line_width * scale)
                pen.setCapStyle(Qt.PenCapStyle.FlatCap)
                painter.setPen(pen)
                painter.drawLine(start, end)
            painter.setPen(QPen(mark, 1.8))
            painter.drawLine(start, end)
            painter.setBrush(mark)
            painter.drawEllipse(start, 3.0, 3.0)
            painter.setBrush(Qt.BrushStyle.NoBrush)
        if tile.cross is not None:
            thin = QColor(mark)
            thin.setAlphaF(0.6)  # what lies under it is what is looked at
            painter.setPen(QPen(thin, 1))
            centre = at(*tile.cross)
            painter.drawLine(QPointF(place.left(), centre.y()), QPointF(place.right(), centre.y()))
            painter.drawLine(QPointF(centre.x(), place.top()), QPointF(centre.x(), place.bottom()))
        if tile.mark is not None:
            painter.setPen(QPen(mark, 1.5))
            painter.drawEllipse(at(*tile.mark), 4.0, 4.0)
        if self._mouse is not None and place.contains(self._mouse):
            self._draw_readout(painter, tile, place)
        painter.setClipping(False)

    def _draw_readout(self, painter: QPainter, tile: Tile, place: QRectF) -> None:
        assert self._mouse is not None
        y = tile.box.top + (self._mouse.y() - place.top()) / place.height() * tile.box.height
        x = tile.box.left + (self._mouse.x() - place.left()) / place.width() * tile.box.width
        text = f"{y:.2f}, {x:.2f} {tile.unit}"
        if tile.unit == "1/Å":
            k = math.hypot(y, x)
            text = f"{k:.3f} 1/Å" + (f", d = {1 / k:.2f} Å" if k > 1e-3 else "")
        height = painter.fontMetrics().height()
        width = painter.fontMetrics().horizontalAdvance(text) + 8
        box = QRectF(place.left(), place.bottom() - height - 2, width, height + 2)
        painter.fillRect(box, QColor(0, 0, 0, 170))
        painter.setPen(QColor(255, 255, 255))
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, text)


def to_grey(data: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values between two limits as uint8; NaN is black."""
    scaled = (data.astype(np.float32) - low) / max(high - low, 1e-12)
    return (255 * np.clip(np.nan_to_num(scaled, nan=0.0), 0, 1)).astype(np.uint8)
