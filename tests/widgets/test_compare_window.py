"""Compare in a real napari window: opening through the manifest, side by side, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_mep.widgets import CompareWidget
from napari_mep.widgets._compare_looks import View
from tests.widgets.test_compare_views import looks

pytestmark = [
    pytest.mark.usefixtures("display"),
    # vispy 0.17 and PyOpenGL on Mesa's software renderer.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:vispy"),
]


def fill(viewer: Any) -> None:
    rng = np.random.default_rng(0)
    for name, slices in (("truth", 8), ("thin", 8), ("thick", 4)):
        dz = 12.8 / slices
        viewer.add_image(
            rng.random((slices, 20, 22)).astype(np.float32),
            name=name,
            scale=(dz, 0.2, 0.2),
            translate=(dz / 2, 0, 0),
            units=("angstrom",) * 3,
            axis_labels=("z", "y", "x"),
        )
    viewer.layers["thin"].visible = False
    viewer.layers["truth"].contrast_limits = (0.1, 0.6)
    viewer.dims.set_point(0, 5.6)
    viewer.scene.camera.zoom = 31.0
    viewer.scene.camera.center = (0, 1.5, 2.5)


def test_side_by_side_and_back(make_napari_viewer_proxy, qtbot):
    """The proxy raises if the widget touches napari's private parts or another thread does."""
    viewer = make_napari_viewer_proxy(show=True)
    fill(viewer)
    before = looks(viewer)
    widget = CompareWidget(viewer)
    dock = viewer.window.add_dock_widget(widget, name="Compare", area="right")
    qtbot.waitUntil(lambda: len(widget.prepared.volumes) == 3)
    assert looks(viewer) == before
    tree = widget.choice.tree
    last = tree.visualItemRect(tree.topLevelItem(2))
    assert last.height() > 0
    assert tree.viewport().rect().contains(last)  # nothing to scroll for
    for view in (View.DIFFERENCE, View.CURTAIN, View.FLICKER, View.SIDE):
        widget.bar.buttons[view].click()
        assert widget.views.view is view
    shown = viewer.screenshot(canvas_only=True, flash=False)[..., 0]
    height, width = (n // 2 for n in shown.shape)
    # Three panels hold noise, in whichever order they are laid out.
    quarters = [shown[:height, :width], shown[:height, width:], shown[height:, :width]]
    assert viewer.canvas.grid.actual_shape(viewer.layers) in [(2, 2), (3, 1), (1, 3)]
    assert all(quarter.std() > 5 for quarter in quarters)
    assert len(viewer.layers) == 3
    viewer.dims.set_point(0, 8.8)
    widget.bar.leave_button.click()
    assert looks(viewer) == before
    widget.bar.buttons[View.DIFFERENCE].click()
    viewer.window.remove_dock_widget(dock)  # closing leaves, too
    assert looks(viewer) == before
    widget.deleteLater()


def test_esc_in_the_canvas_leaves(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    fill(viewer)
    _dock, widget = viewer.window.add_plugin_dock_widget("napari-mep", "Compare")
    qtbot.waitUntil(lambda: len(widget.prepared.volumes) == 3)
    canvas = viewer.window._qt_viewer.canvas.native
    canvas.window().activateWindow()
    qtbot.waitUntil(canvas.isActiveWindow)
    canvas.setFocus()
    widget.bar.buttons[View.SIDE].click()
    qtbot.keyClick(canvas, Qt.Key.Key_Escape)
    assert widget.views.view is View.NONE
    assert not viewer.canvas.grid.enabled
    assert not widget._escape.isEnabled()  # and leaves Esc to others


def test_the_manifest_docks_compare(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    fill(viewer)
    _dock, widget = viewer.window.add_plugin_dock_widget("napari-mep", "Compare")
    assert isinstance(widget, CompareWidget)
    qtbot.waitUntil(lambda: len(widget.prepared.volumes) == 3)
    widget.bar.buttons[View.SIDE].click()
    for name, box in widget.bar.links.items():
        box.setChecked(False)
        assert not getattr(widget.views.links.linked, name)
    widget.leave()
    assert not viewer.canvas.grid.enabled
