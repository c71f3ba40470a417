"""Curves and tiles: what is drawn where, and where a click lands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPointF, Qt
from qtpy.QtGui import QImage

from napari_mep.widgets._compare_curves import Curve, CurvePlot, curve_colour, ticks
from napari_mep.widgets._compare_tiles import Box, Tile, TileGallery, to_grey


def pixels(widget: Any) -> np.ndarray:
    """(height, width, 3) of the painted widget."""
    image = widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB32)
    data = image.constBits().asarray(image.sizeInBytes())
    array = np.frombuffer(data, np.uint8).reshape(image.height(), image.bytesPerLine() // 4, 4)
    return array[:, : image.width(), 2::-1].astype(int)


@pytest.fixture
def plot(qtbot: Any) -> CurvePlot:
    plot = CurvePlot("distance (Å)", "phase (rad/Å)")
    qtbot.addWidget(plot)
    plot.resize(420, 260)
    return plot


@pytest.fixture
def gallery(qtbot: Any) -> TileGallery:
    gallery = TileGallery()
    qtbot.addWidget(gallery)
    gallery.resize(400, 220)
    return gallery


def rows_of(plot: CurvePlot, index: int) -> np.ndarray:
    """Row of a curve in each column of the axes, NaN where it is not."""
    colour = curve_colour(plot, index)
    wanted = np.array([colour.red(), colour.green(), colour.blue()])
    near = np.abs(pixels(plot) - wanted).max(axis=2) < 30
    near[:22] = False  # the legend
    rows = np.full(near.shape[1], np.nan)
    columns = near.any(axis=0)
    rows[columns] = near.argmax(axis=0)[columns]
    return rows


def test_curves_rise_where_values_rise_and_break_at_nan(plot):
    x = np.linspace(0, 10, 200)
    broken = np.where((x > 4) & (x < 6), np.nan, 10 - x)
    plot.set_curves([Curve("up", x, x, 1), Curve("down", x, broken, 2)])
    up, down = rows_of(plot, 1), rows_of(plot, 2)
    shown = up[~np.isnan(up)]
    assert shown[5] - shown[-5] > 60
    known = np.flatnonzero(~np.isnan(down))
    assert np.diff(known).max() > 0.15 * np.ptp(known)


def test_steps_are_flat_over_a_slice(plot):
    x = np.array([1.0, 3.0])
    plot.set_curves([Curve("v", x, np.array([0.0, 1.0]), 1, steps=True)], mark=2.0)
    rows = rows_of(plot, 1)
    known = rows[~np.isnan(rows)]
    levels, counts = np.unique(np.round(known / 4), return_counts=True)
    assert np.sort(counts)[-2:].min() > 0.35 * len(known)
    assert len(levels) < 20


@pytest.mark.parametrize("y", [np.full(3, np.nan), np.empty(0)])
def test_nothing_to_draw_is_said(plot, y):
    plot.set_curves([Curve("v", np.arange(len(y), dtype=float), y, 1)])
    assert np.isnan(rows_of(plot, 1)).all()
    assert np.ptp(pixels(plot)) > 0
    plot.set_message("no line")
    assert plot.curves == ()


def test_a_constant_and_a_single_point_can_be_drawn(plot):
    plot.set_curves([Curve("c", np.arange(5.0), np.zeros(5), 1)])
    assert np.isfinite(rows_of(plot, 1)).sum() > 200
    plot.set_curves([Curve("p", np.array([2.0]), np.array([1.0]), 1, steps=True)])
    assert np.isfinite(rows_of(plot, 1)).sum() > 200


def test_the_mouse_reads_the_curves(plot, qtbot):
    plot.set_curves([Curve("c", np.arange(5.0), np.arange(5.0), 1)])
    before = pixels(plot)
    qtbot.mouseMove(plot, QPointF(200, 120).toPoint())
    plot._mouse = QPointF(200, 120)  # offscreen windows get no move events
    assert (pixels(plot) != before).any()


@pytest.mark.parametrize(
    ("ends", "expected"),
    [((0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]), ((-3, 12), [0, 5, 10]), ((0.31, 0.33), None)],
)
def test_ticks_are_round(ends, expected):
    found = ticks(*ends, 5 if expected is None or len(expected) > 3 else 3)
    assert all(ends[0] - 1e-9 <= t <= ends[1] + 1e-9 for t in found)
    assert 2 <= len(found) <= 6
    if expected is not None:
        assert found == pytest.approx(expected)


def test_tiles_keep_their_shape_and_do_not_overlap(gallery):
    wide = Tile("wide", np.zeros((2, 8), np.uint8), Box(0, 0, 2, 8))
    gallery.set_tiles([wide] * 3)
    places = [gallery.place(i) for i in range(3)]
    for place in places:
        assert place.width() / place.height() == pytest.approx(4)
        assert gallery.rect().contains(place.toAlignedRect())
    assert not places[0].intersects(places[1])
    assert not places[1].intersects(places[2])


def test_a_title_of_two_lines_leaves_room_for_both(gallery):
    box = Box(0, 0, 2, 2)
    gallery.set_tiles([Tile("name", np.zeros((2, 2), np.uint8), box)])
    one = gallery.place(0).top()
    gallery.set_tiles([Tile("name\nmisfit 0.107", np.zeros((2, 2), np.uint8), box)])
    assert gallery.place(0).top() - one == pytest.approx(gallery.fontMetrics().height())


def test_brightness_lands_on_the_screen(gallery):
    grey = np.zeros((2, 2), np.uint8)
    grey[1, 0] = 255
    gallery.set_tiles([Tile("t", grey, Box(0, 0, 2, 2))])
    place, shown = gallery.place(0), pixels(gallery)

    def at(fy, fx):
        row, column = place.top() + fy * place.height(), place.left() + fx * place.width()
        return shown[int(row), int(column)].mean()

    assert at(0.8, 0.2) > 250
    assert at(0.2, 0.2) < 5
    assert at(0.8, 0.8) < 5


def test_a_drag_speaks_the_units_of_the_tile(gallery, qtbot):
    tile = Tile("t", np.zeros((10, 20), np.uint8), Box(-5, 100, 5, 120))
    gallery.set_tiles([tile])
    place = gallery.place(0)
    said = []
    gallery.dragged.connect(lambda start, end: said.append((start, end, gallery.pressed_index)))
    quarter = QPointF(place.left() + place.width() / 4, place.top() + place.height() / 4)
    qtbot.mousePress(gallery, Qt.MouseButton.LeftButton, pos=quarter.toPoint())
    ((start, end, index),) = said
    assert start == end == pytest.approx((-2.5, 105), abs=0.2)
    assert index == 0
    qtbot.mouseRelease(gallery, Qt.MouseButton.LeftButton, pos=quarter.toPoint())
    assert gallery.pressed_index is None
    qtbot.mousePress(gallery, Qt.MouseButton.LeftButton, pos=QPointF(3, 3).toPoint())
    assert len(said) == 1


def test_overlays_are_drawn_within_the_picture(gallery):
    plain = Tile("t", np.zeros((20, 20), np.uint8), Box(-1, -1, 1, 1))
    gallery.set_tiles([plain])
    before = pixels(gallery)
    for extra in (
        {"rings": (0.5,)},
        {"cross": (0.2, 0.3)},
        {"line": ((-0.5, -0.5), (0.5, 0.5)), "line_width": 0.2},
        {"frame": Box(-0.5, -0.5, 0.5, 0.5)},
    ):
        gallery.set_tiles([Tile("t", plain.grey, plain.box, **extra)])
        changed = (pixels(gallery) != before).any(axis=2)
        place = gallery.place(0).toAlignedRect()
        assert changed.sum() > 20
        rows, columns = np.nonzero(changed)
        assert place.left() <= columns.min()
        assert columns.max() <= place.right()
        assert place.top() <= rows.min()


def test_limits_become_black_and_white():
    data = np.array([[-1, 0, 0.5, 1, 2, np.nan]])
    assert to_grey(data, 0, 1).tolist() == [[0, 0, 127, 255, 255, 0]]
    assert to_grey(np.zeros((1, 1)), 0, 0).tolist() == [[0]]
