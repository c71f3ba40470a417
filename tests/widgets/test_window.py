"""Real napari windows: docking through the manifest, streaming, closing while busy."""

from __future__ import annotations

import numpy as np
import pytest

from napari_mep.reconstruction.schedules import preview_weights
from napari_mep.widgets import ReconstructWidget
from napari_mep.widgets._job import JobState
from napari_mep.widgets._theme import error_text, is_dark
from tests.widgets.conftest import opened_scan, volume

pytestmark = [
    pytest.mark.usefixtures("display"),
    # vispy 0.17 and PyOpenGL on Mesa's software renderer.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:vispy"),
]


def docked(viewer, gated):
    widget = ReconstructWidget(
        viewer,
        engine=gated,
        opener=lambda path, calibration: opened_scan(),
        checker=lambda dataset, plan: None,
        curve=preview_weights,
    )
    dock = viewer.window.add_dock_widget(widget, name="Reconstruct", area="right")
    widget.data.set_source("srtio3.zarr")
    return widget, dock


def test_a_volume_streams_into_a_window(make_napari_viewer_proxy, qtbot, gated):
    """The proxy raises if the widget touches napari's private parts or another thread does."""
    viewer = make_napari_viewer_proxy(show=True)
    widget, _ = docked(viewer, gated)
    qtbot.waitUntil(lambda: widget.data.scan is not None)
    angles, ndisplay = viewer.scene.camera.angles, viewer.dims.ndisplay
    widget.controls.run_button.click()
    gated.step(2)
    qtbot.waitUntil(lambda: widget.layer is not None and widget.layer.data[0, 0, 0] == 2)
    viewer.dims.set_point(0, 0.8)
    before = viewer.screenshot(canvas_only=True, flash=False)
    widget.layer.contrast_limits = (0, 10)
    gated.step(3)
    qtbot.waitUntil(lambda: widget.state is JobState.DONE)
    after = viewer.screenshot(canvas_only=True, flash=False)
    np.testing.assert_array_equal(widget.layer.data, volume(5).data)
    assert (before != after).any()
    assert tuple(viewer.scene.camera.angles) == tuple(angles)
    assert viewer.dims.ndisplay == ndisplay
    assert tuple(viewer.dims.axis_labels) == ("z", "y", "x")


def test_the_run_row_stays_visible_in_a_low_window(make_napari_viewer_proxy, qtbot, gated):
    viewer = make_napari_viewer_proxy(show=True)
    viewer.window.resize(1000, 600)
    widget, _ = docked(viewer, gated)
    qtbot.waitUntil(lambda: widget.data.scan is not None)
    qtbot.wait(50)
    buttons = (
        widget.controls.run_button,
        widget.controls.stop_button,
        widget.controls.export_button,
    )
    for button in buttons:
        bottom = button.mapTo(widget, button.rect().bottomRight())
        assert widget.rect().contains(bottom)
    # No row is cut off on the right, not even by long names or by the scroll bar.
    known = {"napari_mep": {"dataset_path": "srtio3.zarr"}}
    viewer.add_image(np.zeros((4, 4)), name="a very long name " * 8, metadata=known)
    widget.form.advanced.expand()
    qtbot.wait(50)
    assert widget.scroll.verticalScrollBar().isVisible()
    viewport = widget.scroll.viewport()
    rows = [*widget.form._editors.items(), ("layers", widget.data.layers)]
    # The rows of outside baselines show once such a method is chosen.
    rows = [(name, editor) for name, editor in rows if not name.startswith("baseline.")]
    for name, editor in rows:
        assert editor.isVisible(), name
        right = editor.mapTo(viewport.parentWidget(), editor.rect().topRight()).x()
        assert right < viewport.width(), name


def test_closing_the_dock_stops_the_engine(make_napari_viewer_proxy, qtbot, gated):
    viewer = make_napari_viewer_proxy()
    widget, dock = docked(viewer, gated)
    qtbot.waitUntil(lambda: widget.data.scan is not None)
    widget.run()
    gated.step()
    qtbot.waitUntil(lambda: widget.layer is not None)
    viewer.window.remove_dock_widget(dock)
    qtbot.waitUntil(gated.closed.is_set)
    assert len(viewer.layers) == 1  # what was reconstructed stays
    widget.deleteLater()


def test_closing_napari_stops_the_engine(make_napari_viewer, qtbot, gated):
    viewer = make_napari_viewer()
    widget, _ = docked(viewer, gated)
    qtbot.waitUntil(lambda: widget.data.scan is not None)
    widget.run()
    gated.step()
    qtbot.waitUntil(lambda: widget.layer is not None)
    viewer.close()
    qtbot.waitUntil(gated.closed.is_set)


def test_the_manifest_docks_the_widget(make_napari_viewer, qtbot):
    """Proves manifest, entry point and imports at once."""
    viewer = make_napari_viewer()
    _dock, widget = viewer.window.add_plugin_dock_widget("napari-mep", "Reconstruct")
    assert isinstance(widget, ReconstructWidget)
    assert widget.plan() is not None
    assert "choose a 4D-STEM scan" in widget.problem()


def test_messages_follow_the_theme(make_napari_viewer, qtbot):
    """The first message is said before the window has given the widget its style."""
    viewer = make_napari_viewer()
    _dock, widget = viewer.window.add_plugin_dock_widget("napari-mep", "Reconstruct")
    message = widget.controls.message
    for theme, dark in (("dark", True), ("light", False), ("dark", True)):
        viewer.theme = theme
        qtbot.waitUntil(lambda dark=dark: is_dark(message) is dark)
        assert message.text() == error_text(message, widget.problem())
