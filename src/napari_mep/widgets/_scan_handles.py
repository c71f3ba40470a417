"""Dragging the virtual detector and the scan cursor in napari's canvas."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_mep.widgets._scan_board import ScanBoard

__all__ = ["ScanHandles"]

_REACH_PX = 8.0  # of the screen: as near as one can point
_LEAST = 0.5  # detector pixels between the circles

Point = tuple[float, float]


class ScanHandles(QObject):
    """Turns mouse movements into another detector or another scan position.

    Circles are dragged to another radius, the cross in their middle to another place; with Shift
    the cross opens the inner circle. In the images the marker is dragged, or follows the mouse
    while Shift is held. Anywhere else the mouse pans as ever. Callbacks of the viewer do that,
    whichever layer is selected.

    Attributes
    ----------
    ring_dragged : Signal(Ring)
        The detector, at every movement.
    cursor_moved : Signal(int, int)
        Scan row and column, when they change.
    """

    ring_dragged = Signal(object)
    cursor_moved = Signal(int, int)

    def __init__(self, viewer: Any, board: ScanBoard, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer, self._board = viewer, board
        viewer.mouse_drag_callbacks.append(self._on_drag)
        viewer.mouse_move_callbacks.append(self._on_move)

    def close_down(self) -> None:
        """Let go of the viewer."""
        for callbacks, own in (
            (self._viewer.mouse_drag_callbacks, self._on_drag),
            (self._viewer.mouse_move_callbacks, self._on_move),
        ):
            if own in callbacks:
                callbacks.remove(own)

    def _on_drag(self, _viewer: Any, event: Any) -> Iterator[None]:
        move = self._grab(event)
        if move is None:
            return
        event.handled = True  # else the canvas pans
        yield
        while event.type == "mouse_move":
            move(_point(event))
            event.handled = True
            yield

    def _on_move(self, _viewer: Any, event: Any) -> None:
        if "Shift" in event.modifiers and self._ready(event):
            self._point_at(_point(event))

    def _ready(self, event: Any) -> bool:
        return (
            self._board.state is not None
            and len(event.dims_displayed) == 2
            and len(event.position) >= 2
        )

    def _grab(self, event: Any) -> Callable[[Point], None] | None:
        """What to do with further movements, None if nothing was pressed."""
        if not self._ready(event) or "Alt" in event.modifiers:
            return None
        world = _point(event)
        shift = "Shift" in event.modifiers
        reach = _REACH_PX / max(float(event.camera_zoom), 1e-9)
        pattern = self._board.pattern_place()
        ring = self._board.ring
        if pattern.holds(world):
            y, x = pattern.index(world)
            away = math.hypot(y - ring.centre[0], x - ring.centre[1])
            near = reach / pattern.pixel[0]
            distances: dict[str, float] = {"outer": abs(away - ring.outer), "centre": away}
            if ring.inner > 0:
                distances["inner"] = abs(away - ring.inner)
            what = min(distances, key=lambda name: distances[name])
            if distances[what] > near:
                return None
            if what == "centre" and shift:
                what = "inner"
            return lambda point: self._drag_ring(what, point)
        for slot in (0, 1):
            place = self._board.scan_place(slot)
            if place.holds(world):
                y, x = place.world((float(self._board.cursor[0]), float(self._board.cursor[1])))
                half = max(*place.pixel) / 2
                if shift or math.hypot(world[0] - y, world[1] - x) <= reach + half:
                    self._point_at(world)
                    return self._point_at
        return None

    def _drag_ring(self, what: str, world: Point) -> None:
        ring = self._board.ring
        y, x = self._board.pattern_place().index(world)
        away = math.hypot(y - ring.centre[0], x - ring.centre[1])
        if what == "centre":
            ky, kx = self._board.pattern_place().shape
            ring = replace(ring, centre=(min(max(y, 0.0), ky - 1.0), min(max(x, 0.0), kx - 1.0)))
        elif what == "inner":
            inner = min(away, ring.outer - _LEAST)
            ring = replace(ring, inner=inner if inner > _LEAST else 0.0)
        else:
            ring = replace(ring, outer=max(away, ring.inner + _LEAST))
        self.ring_dragged.emit(ring)

    def _point_at(self, world: Point) -> None:
        for slot in (0, 1):
            place = self._board.scan_place(slot)
            if place.holds(world):
                row, column = (
                    min(max(round(i), 0), n - 1)
                    for i, n in zip(place.index(world), place.shape, strict=True)
                )
                if (row, column) != self._board.cursor:
                    self.cursor_moved.emit(row, column)
                return


def _point(event: Any) -> Point:
    y, x = event.position[-2:]
    return float(y), float(x)
