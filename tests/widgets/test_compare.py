"""The Compare widget on a viewer without a window: choosing, preparing, pages, running layers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_mep.widgets import CompareWidget
from napari_mep.widgets._compare_layers import ScanSource
from napari_mep.widgets._compare_looks import View
from napari_mep.widgets._compare_prepare import Settings
from napari_mep.widgets._compare_tiles import Box
from napari_mep.widgets._layer_stream import LayerStream
from tests.widgets.conftest import volume

TRUTH = np.zeros((8, 24, 24), np.float32)
TRUTH[:, 6::12, 6::12] = 1
TRUTH[::2] *= 0.25


@pytest.fixture
def viewer(viewer_model: ViewerModel) -> ViewerModel:
    rng = np.random.default_rng(0)
    for name, data in (
        ("truth", TRUTH),
        ("good", TRUTH + rng.normal(0, 0.02, TRUTH.shape).astype(np.float32)),
        ("bad", TRUTH + rng.normal(0, 0.4, TRUTH.shape).astype(np.float32)),
    ):
        viewer_model.add_image(
            data,
            name=name,
            scale=(1.6, 0.2, 0.2),
            translate=(0.8, 0, 0),
            units=("angstrom",) * 3,
            axis_labels=("z", "y", "x"),
        )
    return viewer_model


@pytest.fixture
def widget(qtbot: Any, viewer: ViewerModel) -> Iterator[CompareWidget]:
    widget = CompareWidget(viewer)
    qtbot.addWidget(widget)
    qtbot.waitUntil(lambda: len(widget.prepared.volumes) == 3)
    yield widget
    widget.close_down()


def names(widget: CompareWidget) -> list[str]:
    return [v.name for v in widget.prepared.volumes]


def row(widget: CompareWidget, name: str) -> Any:
    tree = widget.choice.tree
    items = [tree.topLevelItem(i) for i in range(tree.topLevelItemCount())]
    return next(item for item in items if item.text(1) == name)


def test_it_begins_with_all_volumes_and_touches_nothing(viewer, widget):
    assert names(widget) == ["truth", "good", "bad"]
    assert [layer.name for layer in viewer.layers] == ["truth", "good", "bad"]
    assert all(layer.visible for layer in viewer.layers)
    assert widget.views.view is View.NONE
    assert widget.choice.settings().crop
    assert widget.source() is None


def test_one_click_and_back(viewer, widget):
    widget.bar.buttons[View.SIDE].click()
    assert viewer.canvas.grid.enabled
    assert widget.views.view is View.SIDE
    widget.bar.buttons[View.DIFFERENCE].click()
    assert len(viewer.layers) == 5
    assert not widget.bar.buttons[View.SIDE].isChecked()
    widget.bar.leave_button.click()
    assert not viewer.canvas.grid.enabled
    assert len(viewer.layers) == 3
    widget.bar.buttons[View.CURTAIN].click()
    assert widget.bar.split.isVisibleTo(widget)
    widget.bar.buttons[View.CURTAIN].click()  # its own button leaves, too
    assert widget.views.view is View.NONE


def test_reference_ticks_and_flips(qtbot, widget):
    with qtbot.waitSignal(widget.prepared_changed):
        widget.choice.box(row(widget, "bad"), 0).setChecked(False)
    assert names(widget) == ["truth", "good"]
    with qtbot.waitSignal(widget.prepared_changed):
        widget.choice.set_reference(widget.choice.reference.itemData(1))
    assert names(widget) == ["good", "truth"]
    with qtbot.waitSignal(widget.prepared_changed):
        widget.choice.box(row(widget, "truth"), 2).setChecked(True)
    np.testing.assert_array_equal(widget.prepared.results[0].volume.data, TRUTH[::-1])


def test_corrections_are_reported(qtbot, widget):
    assert not widget.choice.report.isVisibleTo(widget)
    with qtbot.waitSignal(widget.prepared_changed):
        widget.choice.offset.setChecked(True)
    assert "good: offset" in widget.choice.report.text()
    widget.bar.buttons[View.SIDE].click()
    assert [layer.name for layer in widget.views.shown] == [
        "truth", "good (corrected)", "bad (corrected)",
    ]  # fmt: skip
    with qtbot.waitSignal(widget.prepared_changed):
        widget.choice.offset.setChecked(False)
    assert [layer.name for layer in widget.views.shown] == ["truth", "good", "bad"]


def test_every_correction_is_a_switch_of_its_own(qtbot, widget):
    assert widget.choice.settings() == Settings(crop=True)
    for name in ("crop", "register", "offset", "ramp"):
        switch = getattr(widget.choice, name)
        assert switch.isVisibleTo(widget)
        with qtbot.waitSignal(widget.prepared_changed):
            switch.click()
        assert getattr(widget.choice.settings(), name) is switch.isChecked()
        assert widget.prepared.results[0].changed is (name != "crop")
        with qtbot.waitSignal(widget.prepared_changed):
            switch.click()
        assert widget.choice.settings() == Settings(crop=True)
        assert not widget.prepared.results[0].changed


def test_flicker_goes_on_by_itself_until_it_is_left(qtbot, viewer, widget):
    widget.bar.buttons[View.FLICKER].click()
    widget.views.set_flicker_interval(5)
    for name in ("truth", "good", "truth"):
        qtbot.waitUntil(lambda name=name: viewer.layers[name].visible)
    widget.leave()
    assert all(layer.visible for layer in viewer.layers)
    qtbot.wait(20)
    assert all(layer.visible for layer in viewer.layers)


def test_new_layers_join_and_deleted_ones_leave(qtbot, viewer, widget):
    widget.bar.buttons[View.DIFFERENCE].click()
    with qtbot.waitSignal(widget.prepared_changed):
        viewer.add_image(TRUTH, name="fourth", scale=(1.6, 0.2, 0.2), units=("angstrom",) * 3)
    assert names(widget)[-1] == "fourth"
    assert "fourth − truth" in viewer.layers
    with qtbot.waitSignal(widget.prepared_changed):
        viewer.layers.remove(viewer.layers["truth"])
    assert names(widget)[0] == "good"
    assert "bad − good" in viewer.layers
    widget.leave()
    assert sorted(layer.name for layer in viewer.layers) == ["bad", "fourth", "good"]


@pytest.mark.parametrize("view", [View.SIDE, View.DIFFERENCE, View.CURTAIN])
def test_leaving_gives_late_layers_back_too(qtbot, viewer, widget, view):
    """As the layers of queued baselines do, one joins during a view."""
    widget.show_view(view)
    with qtbot.waitSignal(widget.prepared_changed):
        late = viewer.add_image(
            5 * TRUTH, name="late", scale=(1.6, 0.2, 0.2), units=("angstrom",) * 3,
            contrast_limits=(0, 5),
        )  # fmt: skip
    widget.leave()
    assert late.visible
    assert not late.name_overlay.visible
    assert tuple(late.contrast_limits) == (0, 5)


def test_a_late_layer_that_has_grown_gets_the_contrast_of_what_it_is(qtbot, viewer, widget):
    widget.show_view(View.SIDE)
    stream = LayerStream(viewer, interval_ms=1)
    stream.begin("run", {"plan": {}})
    with qtbot.waitSignal(widget.prepared_changed):
        stream.push(volume(0.0, TRUTH.shape))
    qtbot.wait(5)
    with qtbot.waitSignal(widget.prepared_changed):
        stream.push(volume(7.0, TRUTH.shape))
    stream.finish({"plan": {}, "step": 2})
    widget.leave()
    assert tuple(viewer.layers["run"].contrast_limits) == pytest.approx((7, 8), abs=0.02)


def test_a_running_volume_is_followed(qtbot, viewer, widget):
    stream = LayerStream(viewer, interval_ms=1)
    stream.begin("run", {"plan": {}})
    with qtbot.waitSignal(widget.prepared_changed):
        stream.push(volume(0.0, TRUTH.shape))
    widget.bar.buttons[View.DIFFERENCE].click()
    difference = viewer.layers["run − truth"]
    before = float(difference.data.mean())
    assert viewer.layers["run"].visible  # or its run would not write to it
    for view, value in ((View.DIFFERENCE, 2.0), (View.CURTAIN, 3.0), (View.DIFFERENCE, 4.0)):
        widget.show_view(view)
        qtbot.wait(5)  # longer than the interval of the stream
        with qtbot.waitSignal(widget.prepared_changed):
            stream.push(volume(value, TRUTH.shape))
        assert widget.prepared.results[-1].volume.data.mean() == pytest.approx(value + 0.5)
    difference = viewer.layers["run − truth"]
    assert float(difference.data.mean()) == pytest.approx(before + 4 / 1.6, abs=1e-4)


def test_the_slider_moves_the_pages(qtbot, viewer, widget):
    inspector = widget.inspector
    inspector.tabs.setCurrentWidget(inspector.profile)
    viewer.dims.set_point(0, 2.4)
    qtbot.waitUntil(lambda: inspector.scene.depth_A == pytest.approx(2.4))
    inspector.set_line((1.2, 0.2), (1.2, 4.4))
    curves = inspector.profile.plot.curves
    assert [c.name for c in curves] == ["truth", "good", "bad"]
    peaks = curves[0].x[curves[0].y > 0.9 / 1.6]
    assert peaks.min() == pytest.approx(1.0, abs=0.11)
    assert peaks.max() == pytest.approx(3.4, abs=0.11)
    viewer.dims.set_point(0, 0.8)
    qtbot.waitUntil(lambda: inspector.scene.depth_A == pytest.approx(0.8))
    assert inspector.profile.plot.curves[0].y.max() == pytest.approx(0.25 / 1.6, rel=1e-3)
    inspector.summed.setChecked(True)
    assert inspector.profile.plot.curves[0].y.max() == pytest.approx(0.625 / 1.6, rel=1e-3)
    assert inspector.words.text() == "mean over depth"


def test_depth_profile_and_cuts_under_the_cursor(qtbot, viewer, widget):
    inspector = widget.inspector
    inspector.tabs.setCurrentWidget(inspector.depth)
    event = type("Move", (), {"modifiers": ("Shift",), "position": (0.8, 1.2, 1.2)})()
    for callback in viewer.mouse_move_callbacks:
        callback(viewer, event)
    assert inspector.scene.point_A == pytest.approx((1.2, 1.2))
    truth = inspector.depth.plot.curves[0]
    np.testing.assert_allclose(truth.y * 1.6, [0.25, 1] * 4, rtol=1e-5)
    np.testing.assert_allclose(truth.x, 0.8 + 1.6 * np.arange(8))
    titles = [tile.title for tile in inspector.depth.cuts.tiles]
    assert titles == [f"{cut}  {name}" for cut in ("XZ", "YZ") for name in names(widget)]
    cut = inspector.depth.cuts.tiles[0]
    assert cut.box.height == pytest.approx(12.8)
    assert cut.grey[1, 6] > cut.grey[1, 0]
    inspector.depth.pointed.emit(5.6, 3.0, None)
    assert inspector.scene.point_A == pytest.approx((3.0, 1.2))
    assert viewer.dims.point[0] == pytest.approx(5.6)
    # The crosshair of each cut: the slice, and where the other kind of cut runs.
    qtbot.waitUntil(lambda: inspector.scene.depth_A == pytest.approx(5.6))
    crosses = [tile.cross for tile in inspector.depth.cuts.tiles]
    assert crosses == [pytest.approx((5.6, 1.2))] * 3 + [pytest.approx((5.6, 3.0))] * 3


def test_the_spectrum_of_a_region(widget):
    inspector = widget.inspector
    inspector.tabs.setCurrentWidget(inspector.spectrum)
    tile = inspector.spectrum.gallery.tiles[0]
    assert tile.rings == (0.5, 1.0)
    assert tile.unit == "1/Å"
    assert tile.box.right == pytest.approx(1.5, abs=0.05)
    # The lattice of 2.4 A: a spot at 0.417 1/A, and none half-way.
    columns = tile.box.left + (np.arange(tile.grey.shape[1]) + 0.5) * (
        tile.box.width / tile.grey.shape[1]
    )
    middle = tile.grey[tile.grey.shape[0] // 2].astype(int)
    spot = middle[np.argmin(np.abs(columns - 1 / 2.4))]
    assert spot > middle[np.argmin(np.abs(columns - 1.5 / 2.4))] + 40
    inspector.set_region(Box(0, 0, 0.4, 0.4))
    assert inspector.spectrum.gallery.tiles == ()
    inspector.whole.click()
    assert len(inspector.spectrum.gallery.tiles) == 3
    inspector.spectrum.rings.setText("0.4; x, -1, 0.8")
    assert inspector.spectrum.ring_radii() == (0.4, 0.8)


def test_the_table_is_computed_in_the_background(qtbot, widget, tmp_path):
    inspector = widget.inspector
    with qtbot.waitSignal(inspector.table.computed, timeout=20_000):
        inspector.tabs.setCurrentWidget(inspector.table)
    good, bad = inspector.table.rows
    assert good.psnr_dB > bad.psnr_dB
    assert good.ssim > bad.ssim
    assert good.frc_invA > bad.frc_invA
    assert inspector.table.table.horizontalHeaderItem(0).text() == "good"
    assert inspector.table.table.item(0, 0).text() == f"{good.psnr_dB:.2f}"
    with qtbot.waitSignal(inspector.table.computed):
        inspector.table.save_csv(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().startswith("name,psnr_dB")
    with qtbot.waitSignal(inspector.table.computed):
        inspector.table.save_csv(tmp_path / "no" / "t.csv")
    assert "cannot be written" in inspector.table.words.text()


def test_without_a_scan_the_pages_say_so(qtbot, widget, tmp_path):
    inspector = widget.inspector
    inspector.tabs.setCurrentWidget(inspector.pattern)
    assert "none of these layers knows its scan" in inspector.pattern.gallery._message
    assert not widget.runs.run_button.isEnabled()
    with qtbot.waitSignal(inspector.pattern.computed, timeout=20_000):
        widget.scan.set_path(str(tmp_path / "gone.zarr"))
    assert "no such file" in inspector.pattern.words.text()
    assert widget.runs.run_button.isEnabled()


def test_scans_that_are_open_are_offered(viewer, widget):
    assert widget.source() is None
    known = {"napari_mep": {"dataset_path": "/data/a/srtio3.zarr"}}
    for name in ("mean pattern", "dark field"):
        viewer.add_image(TRUTH[0], name=name, metadata=known, units=("angstrom",) * 2)
    widget.scan.menu.aboutToShow.emit()
    titles = [action.text() for action in widget.scan.menu.actions() if action.text()]
    assert titles == ["srtio3.zarr (open)", "File…", "Zarr folder…"]
    widget.scan.menu.actions()[0].trigger()
    assert widget.source() == ScanSource("/data/a/srtio3.zarr")
    assert "/data/a/srtio3.zarr" in widget.runs.scan.text()
    widget.scan.menu.aboutToShow.emit()
    widget.scan.menu.actions()[-1].trigger()
    assert widget.source() is None


def test_drags_on_the_map_mean_what_the_page_needs(widget):
    inspector = widget.inspector
    inspector.tabs.setCurrentWidget(inspector.profile)
    inspector._on_dragged((1.0, 1.0), (1.0, 1.0))  # a click is no line
    before = inspector.scene.line_A
    inspector._on_dragged((1.0, 1.0), (2.0, 3.0))
    assert before != inspector.scene.line_A == ((1.0, 1.0), (2.0, 3.0))
    inspector.tabs.setCurrentWidget(inspector.spectrum)
    inspector._on_dragged((3.0, 4.0), (1.0, 1.0))
    assert inspector.scene.region == Box(1.0, 1.0, 3.0, 4.0)
    inspector._on_dragged((3.0, 4.0), (3.0, 4.0))
    assert inspector.scene.region is None
    inspector.tabs.setCurrentWidget(inspector.depth)
    inspector._on_dragged((3.0, 4.0), (2.0, 2.5))
    assert inspector.scene.point_A == (2.0, 2.5)


def test_what_is_on_the_map_is_in_the_canvas_too(viewer, widget):
    inspector = widget.inspector
    widget.show_view(View.FLICKER)
    inspector.tabs.setCurrentWidget(inspector.profile)
    inspector.set_line((1.0, 0.5), (1.0, 4.0))
    inspector.width_box.setValue(0.4)
    marks = viewer.layers["marks"]
    starts, ends = marks.data[:, 0], marks.data[:, 0] + marks.data[:, 1]
    np.testing.assert_allclose(sorted(starts[:, 0]), [0.8, 1.0, 1.2])
    np.testing.assert_allclose(ends[:, 1], 4.0)
    inspector.tabs.setCurrentWidget(inspector.depth)
    inspector.set_point(2.0, 3.0)
    assert len(marks.data) == 2
    np.testing.assert_allclose(marks.data[0], [[2.0, -0.1], [0, 4.8]], atol=1e-6)
    inspector.tabs.setCurrentWidget(inspector.spectrum)
    assert len(marks.data) == 0
    inspector.set_region(Box(1.0, 1.0, 3.0, 2.0))
    assert len(marks.data) == 4
    assert names(widget) == ["truth", "good", "bad"]
    widget.leave()
    assert "marks" not in viewer.layers


def test_closing_leaves_the_view_and_the_viewer_alone(qtbot, viewer):
    widget = CompareWidget(viewer)
    qtbot.addWidget(widget)
    qtbot.waitUntil(lambda: len(widget.prepared.volumes) == 3)
    widget.bar.buttons[View.DIFFERENCE].click()
    widget.close()
    assert len(viewer.layers) == 3
    assert not viewer.canvas.grid.enabled
    assert widget._on_mouse not in viewer.mouse_move_callbacks
    viewer.add_image(TRUTH)  # nobody listens any more
    assert len(widget.prepared.volumes) == 3


def test_an_empty_viewer_says_what_to_do(qtbot, viewer_model):
    widget = CompareWidget(viewer_model)
    qtbot.addWidget(widget)
    assert widget.prepared.volumes == ()
    assert not any(button.isEnabled() for button in widget.bar.buttons.values())
    assert "Nothing to compare yet" in widget.message.text()
    assert widget.inspector.map._message == "no volume"
    for index in range(widget.inspector.tabs.count()):
        widget.inspector.tabs.setCurrentIndex(index)
    widget.close_down()


def test_opening_compare_loads_nothing_heavy():
    code = (
        "import os; os.environ['QT_QPA_PLATFORM'] = 'offscreen'\n"
        "import sys\n"
        "from qtpy.QtWidgets import QApplication\n"
        "app = QApplication([])\n"
        "from napari.components import ViewerModel\n"
        "from napari_mep.widgets import CompareWidget\n"
        "widget = CompareWidget(ViewerModel())\n"
        "heavy = ('torch', 'abtem', 'pymatgen', 'h5py', 'zarr', 'matplotlib')\n"
        "print(*(m for m in heavy if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
