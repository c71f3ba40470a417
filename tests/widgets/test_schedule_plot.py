"""The picture of the guidance schedule: what is drawn where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qtpy.QtGui import QColor, QImage, QPalette

from napari_mep.widgets._schedule_plot import SchedulePlot, _ceiling
from napari_mep.widgets._theme import accent, is_dark


@pytest.fixture
def plot(qtbot: Any) -> SchedulePlot:
    plot = SchedulePlot()
    qtbot.addWidget(plot)
    plot.resize(320, 160)
    return plot


def pixels(plot: SchedulePlot) -> np.ndarray:
    """(height, width, 3) of the painted widget."""
    image = plot.grab().toImage().convertToFormat(QImage.Format.Format_RGB32)
    data = image.constBits().asarray(image.sizeInBytes())
    array = np.frombuffer(data, np.uint8).reshape(image.height(), image.bytesPerLine() // 4, 4)
    return array[:, : image.width(), 2::-1].astype(int)


def curve_rows(plot: SchedulePlot) -> np.ndarray:
    """Row of the curve in each column, NaN where there is none."""
    colour = accent(plot)
    wanted = np.array([colour.red(), colour.green(), colour.blue()])
    near = np.abs(pixels(plot) - wanted).max(axis=2) < 40
    rows = np.full(near.shape[1], np.nan)
    columns = near.any(axis=0)
    rows[columns] = near.argmax(axis=0)[columns]
    return rows


def test_the_curve_falls_where_the_weight_falls(plot):
    plot.set_curve(np.linspace(-3, 4, 30), np.linspace(1, 0, 30))
    rows = curve_rows(plot)
    shown = rows[~np.isnan(rows)]
    assert len(shown) > 200
    assert shown[-5] - shown[5] > 50
    assert (np.diff(shown) >= -1).all()


def test_marks_show_what_was_used_until_the_curve_changes(plot):
    plot.set_curve(np.linspace(-3, 4, 30), np.ones(30))
    empty = pixels(plot)
    plot.mark(float("nan"), 1.0)  # a step without a prior
    assert plot.marker is None
    plot.mark(0.5, 0.7)
    assert plot.marker == (0.5, 0.7)
    marked = pixels(plot)
    columns = np.flatnonzero((marked != empty).any(axis=(0, 2)))
    # At half of the logSNR range stands the marker, and nothing else has changed.
    assert abs(columns.mean() - 0.53 * marked.shape[1]) < 15
    assert np.ptp(columns) < 20
    plot.end_run()
    assert plot.marker is None
    assert (pixels(plot) != empty).any()  # the dots stay
    plot.set_curve(np.linspace(-3, 4, 30), np.ones(30))
    assert (pixels(plot) == empty).all()


@pytest.mark.parametrize("dark", [True, False])
def test_colours_follow_the_palette(plot, dark):
    palette = QPalette(plot.palette())
    palette.setColor(QPalette.ColorRole.Window, QColor("#23242b" if dark else "#ebe7e6"))
    palette.setColor(QPalette.ColorRole.WindowText, QColor("#f0f1f2" if dark else "#1e1e21"))
    plot.setPalette(palette)
    assert is_dark(plot) is dark
    plot.set_curve(np.linspace(-3, 4, 30), np.linspace(1, 0.2, 30))
    assert np.isfinite(curve_rows(plot)).sum() > 200


@pytest.mark.parametrize(
    "weights", [np.zeros(2), np.full(5, 1e-9), np.full(5, 1e4), np.array([1.0, np.nan, 0.5])]
)
def test_odd_weights_can_be_drawn(plot, weights):
    plot.set_curve(np.linspace(-3, 4, len(weights)), weights)
    plot.mark(0.0, 2.0)
    assert np.isfinite(curve_rows(plot)).any()


def test_a_message_takes_the_place_of_the_curve(plot):
    plot.set_curve(np.linspace(-3, 4, 30), np.ones(30))
    plot.set_message("no prior")
    assert np.isnan(curve_rows(plot)).all()
    assert np.ptp(pixels(plot)) > 0


@pytest.mark.parametrize(("value", "end"), [(0, 1), (1, 1), (1.01, 2), (2.2, 2.5), (0.03, 0.05)])
def test_the_axis_ends_at_a_round_number(value, end):
    assert _ceiling(value) == pytest.approx(end)
