"""A scroll area that only ever scrolls up and down."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QPoint, Qt, QTimer
from qtpy.QtWidgets import QScrollArea, QWidget

__all__ = ["VerticalScrollArea"]


class VerticalScrollArea(QScrollArea):
    """Never narrower than its content and the scroll bar beside it.

    Qt's own would cut off the right of the content instead. The content's width is not known once
    and for all: it changes with theme, font and what the user makes visible.

    Parameters
    ----------
    content : QWidget
        What is scrolled.
    """

    def __init__(self, content: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWidgetResizable(True)
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(content)
        self._part: QWidget | None = None
        self._placed = QTimer(self)  # a part gets its place when control returns to Qt
        self._placed.setSingleShot(True)
        self._placed.timeout.connect(self._scroll)
        content.installEventFilter(self)
        self._fit()

    def reveal(self, part: QWidget) -> None:
        """Scroll until a part that has just been shown is seen, from its top if it is high."""
        self._part = part
        self._placed.start()

    def _scroll(self) -> None:
        assert self._part is not None
        top = self._part.mapTo(self.widget(), QPoint(0, 0)).y()
        self.ensureVisible(0, top + self._part.height(), 0, 0)
        self.ensureVisible(0, top, 0, 0)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Follow the content's layout."""
        if event is not None and event.type() in (
            QEvent.Type.LayoutRequest,
            QEvent.Type.StyleChange,
            QEvent.Type.Show,
        ):
            self._fit()
        return bool(super().eventFilter(watched, event))

    def _fit(self) -> None:
        bar = self.verticalScrollBar().sizeHint().width()
        self.setMinimumWidth(self.widget().minimumSizeHint().width() + bar)
