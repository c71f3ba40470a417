"""The data widget: what is seen of a scan, dragged, calibrated, prepared and written."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import h5py
import numpy as np
import pytest
from qtpy.QtCore import QPoint

from napari_mep.data import open_patterns
from napari_mep.widgets import DataWidget, ReconstructWidget
from napari_mep.widgets._scan_look import IMAGES
from napari_mep.widgets._scan_state import state_of_layer
from tests.widgets.data_scan import (
    CENTRE,
    COLUMNS,
    DEAD,
    PIXELS,
    RADIUS,
    ROWS,
    SEMIANGLE_MRAD,
    drag,
    event,
    write_scan,
)


@pytest.fixture
def scan(tmp_path):
    return write_scan(tmp_path)


@pytest.fixture
def widget(qtbot, viewer_model, scan):
    """With the scan open and everything shown."""
    widget = DataWidget(viewer_model)
    qtbot.addWidget(widget)
    widget.open(str(scan[0]), str(scan[1]))
    rest(qtbot, widget)
    yield widget
    widget.close_down()


def rest(qtbot, widget) -> None:
    qtbot.waitUntil(lambda: not widget.busy, timeout=20000)
    qtbot.wait(20)
    qtbot.waitUntil(lambda: not widget.busy, timeout=20000)


def layer(widget, role):
    return widget.view.board.layers[role]


def row(widget, name):
    return widget.form.table.rows[name]


def type_in(the_row, text):
    the_row.editor.setText(text)
    the_row.editor.editingFinished.emit()


# --- looking ---------------------------------------------------------------------------------


def test_sizes_are_told_and_layers_appear_in_their_places(widget, scan):
    assert (
        f"{ROWS} × {COLUMNS} patterns of {PIXELS} × {PIXELS} pixels" in widget.data.summary.text()
    )
    assert "uint16, 246 kB" in widget.data.summary.text()
    assert set(widget.view.board.layers) == {
        *IMAGES, "mean pattern", "pattern at the cursor", "detector and cursor"
    }  # fmt: skip
    image = layer(widget, "virtual detector")
    np.testing.assert_allclose(image.scale, (0.5, 0.5))
    np.testing.assert_allclose(image.translate, (0, 0))
    assert all(str(unit) == "angstrom" for unit in image.units)
    pattern = layer(widget, "mean pattern")
    assert pattern.extent.world[0][1] > image.extent.world[1][1]  # beside, not on top
    below = layer(widget, "iCoM")
    assert below.extent.world[0][0] > image.extent.world[1][0]
    assert image.visible
    assert below.visible
    assert not layer(widget, "bright field").visible
    assert state_of_layer(image) is widget.state


def test_patterns_are_shown_on_three_scales(widget, scan):
    mean = scan[2].mean(axis=(0, 1))
    widget.view.bar.scale.setCurrentText("linear")
    np.testing.assert_allclose(layer(widget, "mean pattern").data, mean, rtol=1e-5)
    widget.view.bar.scale.setCurrentText("square root")
    np.testing.assert_allclose(layer(widget, "mean pattern").data, np.sqrt(mean), rtol=1e-5)
    widget.view.bar.scale.setCurrentText("logarithm")
    bright = mean > 5
    np.testing.assert_allclose(
        layer(widget, "mean pattern").data[bright], np.log10(mean[bright]), rtol=1e-5
    )


def test_the_disk_is_found_as_the_first_detector(widget, scan):
    ring = widget.view.board.ring
    assert ring.centre == pytest.approx(CENTRE, abs=0.3)
    assert ring.outer == pytest.approx(RADIUS, abs=0.4)
    away = distance(ring.centre)
    expected = scan[2][..., away < ring.outer].sum(axis=-1)
    np.testing.assert_allclose(layer(widget, "virtual detector").data, expected, rtol=1e-5)


def distance(centre) -> np.ndarray:
    k = np.arange(PIXELS)
    return np.hypot(k[:, None] - centre[0], k[None, :] - centre[1])


def test_a_dragged_circle_gives_another_image(widget, scan, viewer_model, qtbot):
    board = widget.view.board
    place, ring = board.pattern_place(), board.ring
    y, x = ring.centre
    rim = [place.world((y, x + ring.outer + step)) for step in (0, -1, -2, -3)]
    assert drag(viewer_model, *rim)
    rest(qtbot, widget)
    assert board.ring.outer == pytest.approx(ring.outer - 3)
    expected = scan[2][..., distance(ring.centre) < ring.outer - 3].sum(axis=-1)
    np.testing.assert_allclose(layer(widget, "virtual detector").data, expected, rtol=1e-5)
    # The cross moves the detector, with Shift it opens the inner circle.
    assert drag(viewer_model, place.world((y, x)), place.world((y + 2, x)))
    assert board.ring.centre == pytest.approx((y + 2, x))
    centre = place.world(board.ring.centre)
    assert drag(viewer_model, centre, place.world((y + 4, x)), modifiers=("Shift",))
    assert board.ring.inner == pytest.approx(2)
    assert widget.view.bar.inner.value() == pytest.approx(2)
    # Anywhere else the canvas pans.
    assert not drag(viewer_model, place.world((1, 1)), place.world((3, 3)))


def test_presets_and_numbers(widget, scan, qtbot):
    widget.view.bar.presets["ADF"].click()
    rest(qtbot, widget)
    ring = widget.view.board.ring
    away = distance(ring.centre)
    expected = scan[2][..., (away >= ring.inner) & (away < ring.outer)].sum(axis=-1)
    np.testing.assert_allclose(layer(widget, "virtual detector").data, expected, rtol=1e-5)
    widget.view.bar.inner.setValue(3)
    widget.view.bar.outer.setValue(5)
    rest(qtbot, widget)
    assert (widget.view.board.ring.inner, widget.view.board.ring.outer) == (3, 5)


def test_the_pattern_under_the_cursor(widget, scan, viewer_model, qtbot):
    widget.view.bar.scale.setCurrentText("linear")
    place = widget.view.board.scan_place()
    start = place.world(tuple(float(i) for i in widget.view.board.cursor))
    assert drag(viewer_model, start, place.world((2.2, 3.4)), place.world((1.1, 7.9)))
    rest(qtbot, widget)
    assert widget.view.board.cursor == (1, 8)
    np.testing.assert_array_equal(layer(widget, "pattern at the cursor").data, scan[2][1, 8])
    assert "row 1, column 8 at y 0.5 Å, x 4.0 Å" in widget.view.bar.words.text()
    # In the lower image Shift and the mouse do the same.
    world = widget.view.board.scan_place(1).world((5, 2))
    for callback in viewer_model.mouse_move_callbacks:
        callback(viewer_model, event("mouse_move", world, "Shift"))
    rest(qtbot, widget)
    np.testing.assert_array_equal(layer(widget, "pattern at the cursor").data, scan[2][5, 2])


def test_a_layer_that_was_removed_stays_away(widget, viewer_model, qtbot):
    viewer_model.layers.remove(layer(widget, "iCoM"))
    widget.view.bar.presets["ABF"].click()
    rest(qtbot, widget)
    assert "iCoM" not in widget.view.board.layers
    assert widget.message.text() == ""


def test_a_large_scan_is_sampled_and_can_be_used_whole(qtbot, viewer_model, scan, monkeypatch):
    from napari_mep import _scan_layers

    monkeypatch.setattr(_scan_layers, "_BYTES", 30 * PIXELS * PIXELS * 2)
    widget = DataWidget(viewer_model)
    qtbot.addWidget(widget)
    widget.open(str(scan[0]), str(scan[1]))
    rest(qtbot, widget)
    assert widget.view.sample.every == (2, 2)
    assert "every 2. row" in widget.message.text()
    image = layer(widget, "virtual detector")
    assert image.data.shape == (ROWS // 2, COLUMNS // 2)
    np.testing.assert_allclose(image.scale, (1.0, 1.0))
    widget.view.bar.whole.click()
    rest(qtbot, widget)
    assert image.data.shape == (ROWS, COLUMNS)
    np.testing.assert_allclose(image.scale, (0.5, 0.5))
    widget.close_down()


def test_thumbnails_of_hidden_layers_show_what_is_there(widget, scan, qtbot):
    dark = layer(widget, "annular dark field")
    assert not dark.visible
    before = dark.thumbnail.copy()
    images = widget.view.board.images
    brighter = {name: 100 * image for name, image in images.images.items()}
    widget.view.board.show_images(replace(images, images=brighter))
    np.testing.assert_allclose(dark.thumbnail, before, atol=2)


# --- calibrating -----------------------------------------------------------------------------


def test_each_value_shows_its_unit_and_source(widget):
    energy = row(widget, "beam_energy_keV")
    assert (energy.editor.text(), energy.unit.text(), energy.source.text()) == (
        "300",
        "keV",
        "user",
    )
    assert row(widget, "scan_rotation_deg").source.text() == "default"
    assert "required" in row(widget, "detector_step_invA").problem
    assert "detector_step_invA" in widget.state.problem()
    type_in(row(widget, "detector_step_mrad"), "2.5")
    assert row(widget, "detector_step_invA").source.text() == "derived"
    assert row(widget, "detector_step_invA").editor.placeholderText() == "0.127"
    assert widget.state.problem() == ""


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("convergence_semiangle_mrad", "0.02", "looks like rad, give 20"),
        ("beam_energy_keV", "300000", "looks like eV, give 300"),
        ("scan_step_A", "fast", "'fast' is no number: give it in Å"),
        ("defocus_A", "1, 2", "one number is needed"),
        ("detector_step_mrad", "0.1", "short of the bright-field disk"),
    ],
)
def test_the_impossible_is_red_with_the_reason(widget, name, text, reason):
    type_in(row(widget, "detector_step_mrad"), "2.5")
    type_in(row(widget, name), text)
    shown = " ".join([*(r.problem for r in widget.form.table.rows.values()),
                      widget.form.problem.text()])  # fmt: skip
    assert reason in shown
    assert widget.state.problem()
    if name != "detector_step_mrad":
        assert not widget.form.save_button.isEnabled()
        row(widget, name).back.click()
        assert widget.state.problem() == ""


def test_run_waits_until_the_calibration_makes_sense(widget, viewer_model, qtbot):
    other = ReconstructWidget(viewer_model, checker=lambda dataset, plan: None)
    qtbot.addWidget(other)
    qtbot.waitUntil(lambda: not other.data.is_opening)
    assert other.problem().startswith("4D-STEM data: calibration lacks detector_step_invA")
    assert not other.controls.run_button.isEnabled()
    type_in(row(widget, "detector_step_mrad"), "2.5")
    qtbot.waitUntil(lambda: other.data.scan is not None)
    assert other.controls.run_button.isEnabled()
    assert other.data.scan.dataset.calibration.detector_step_mrad == pytest.approx(2.5)
    # Preprocessing comes along, and an impossible value stops it at once.
    widget.state.set_preprocessing("bin_detector", 2)
    assert other.data.scan is None
    qtbot.waitUntil(lambda: other.data.scan is not None)
    assert other.data.scan.dataset.detector_shape == (PIXELS // 2, PIXELS // 2)
    type_in(row(widget, "convergence_semiangle_mrad"), "0.02")
    qtbot.waitUntil(lambda: not other.data.is_opening)
    assert "looks like rad" in other.problem()
    assert not other.controls.run_button.isEnabled()
    other.close_down()


def test_a_proposal_is_shown_applied_and_undone(widget, qtbot):
    widget.helpers.buttons["disk"].click()
    rest(qtbot, widget)
    found = widget.helpers.found
    expected = SEMIANGLE_MRAD / RADIUS
    assert found.calibration["detector_step_mrad"] == pytest.approx(expected, rel=0.02)
    changes = widget.helpers.changes.text().split("<br>")
    assert changes[0].startswith("Detector pixel: not known → 2.4")
    assert changes[0].endswith(" mrad")
    assert changes[1].startswith("Centre: none → ")
    assert [type(view).__name__ for view in widget.helpers.proof.views] == [
        "PictureView", "CurvePlot"
    ]  # fmt: skip
    assert "detector_step_mrad" not in widget.state.calibration.values  # only a proposal
    widget.helpers.apply_button.click()
    assert row(widget, "detector_step_mrad").source.text() == "fitted"
    assert widget.state.plan.centre_px == pytest.approx(CENTRE, abs=0.1)
    assert layer(widget, "mean pattern").name.startswith(
        f"mean pattern ({found.calibration['detector_step_mrad']:.4g} mrad"
    )
    rest(qtbot, widget)
    widget.form.undo_button.click()
    assert "detector_step_mrad" not in widget.state.calibration.values
    assert widget.state.plan.is_identity
    assert not widget.form.undo_button.isEnabled()


def test_bad_pixels_become_a_mask_that_is_saved_beside_the_calibration(
    widget, scan, qtbot, tmp_path
):
    before = scan[0].read_bytes()
    widget.helpers.run("bad_pixels")
    rest(qtbot, widget)
    assert {tuple(p) for p in np.argwhere(widget.helpers.found.bad)} >= set(DEAD)
    widget.helpers.apply()
    type_in(row(widget, "detector_step_mrad"), "2.5")
    rest(qtbot, widget)
    widget.save(tmp_path / "cal.toml")
    rest(qtbot, widget)
    assert "written: cal.toml, cal-bad-pixels.npy" in widget.message.text()
    written = tomllib.loads((tmp_path / "cal.toml").read_text())
    assert written["detector_step_mrad"] == 2.5
    assert written["preprocessing"] == {"bad_pixels_file": "cal-bad-pixels.npy"}
    dataset = open_patterns(scan[0], tmp_path / "cal.toml").calibrated()
    assert not any(dataset.mask[place] for place in DEAD)
    assert scan[0].read_bytes() == before


def test_a_helper_that_fails_says_why(widget, qtbot):
    widget.helpers.lattice.setText("3.9")
    widget.helpers.run("step")
    rest(qtbot, widget)
    assert "scan step: no lattice peak" in widget.helpers.summary.text()
    assert widget.helpers.found is None
    widget.helpers.lattice.setText("many")
    widget.helpers.run("step")
    assert "'many' is no number" in widget.message.text().replace("&#x27;", "'")
    assert not widget.helpers.call.busy


def test_an_error_goes_when_another_helper_starts(widget, qtbot):
    widget.helpers.lattice.setText("3.9")
    widget.helpers.run("step")
    rest(qtbot, widget)
    assert "no lattice peak" in widget.message.text()
    widget.view.bar.presets["ABF"].click()  # images are another matter
    rest(qtbot, widget)
    assert "no lattice peak" in widget.message.text()
    widget.helpers.run("disk")
    rest(qtbot, widget)
    assert widget.message.text() == ""


def test_an_error_of_the_images_goes_when_they_are_back(widget, qtbot):
    type_in(widget.preprocessing.table.rows["bad_pixels_file"], "nowhere.npy")
    rest(qtbot, widget)
    assert "nowhere.npy" in widget.message.text()
    widget.preprocessing.table.rows["bad_pixels_file"].back.click()
    rest(qtbot, widget)
    assert widget.message.text() == ""


def test_what_a_helper_found_is_scrolled_into_view(widget, qtbot):
    widget.resize(420, 620)
    widget.tabs.setCurrentWidget(widget.helpers)
    with qtbot.waitExposed(widget):
        widget.show()
    widget.helpers.buttons["disk"].click()
    rest(qtbot, widget)
    seen = widget.scroll.viewport()
    qtbot.waitUntil(lambda: widget.scroll.verticalScrollBar().value() > 0)
    for part in (widget.helpers.summary, widget.helpers.apply_button):
        top = part.mapTo(seen, QPoint(0, 0)).y()
        assert 0 <= top <= seen.height() - part.height()


def test_helpers_that_cannot_work_yet_say_what_they_lack(widget):
    button = widget.helpers.buttons["defocus"]
    assert not button.isEnabled()
    assert "give detector_step_invA first" in button.toolTip()
    type_in(row(widget, "detector_step_mrad"), "2.5")
    assert button.isEnabled()


def test_fix_everything_is_a_proposal_too(widget, qtbot):
    row_of = widget.form.table.rows
    type_in(row_of["defocus_A"], "")  # no quick reconstructions without it
    widget.helpers.fix_button.click()
    rest(qtbot, widget)
    titles = [estimate.title for estimate in widget.helpers.found.estimates]
    assert {"Bad pixels", "Bright-field disk"} <= set(titles)
    assert "skipped: Defocus: give" in widget.helpers.skipped.text()
    widget.helpers.chooser.setCurrentIndex(titles.index("Bright-field disk"))
    assert "mrad per pixel" in widget.helpers.summary.text()
    widget.helpers.apply_button.click()
    assert widget.state.calibration.sources["detector_step_mrad"] == "fitted"
    assert widget.state.undo_label == "Fix everything"


def test_fix_everything_takes_the_counts_per_electron(widget, qtbot):
    type_in(row(widget, "defocus_A"), "")
    widget.helpers.per_electron.setText("4")
    widget.helpers.fix_button.click()
    rest(qtbot, widget)
    dose = widget.helpers.found.calibration["dose_e_per_A2"]
    assert dose == pytest.approx(widget.view.sample.patterns.sum((2, 3)).mean() / 4 / 0.25, rel=0.1)


@pytest.mark.parametrize("scan_of_vacuum", [False, True])
def test_the_vacuum_probe_is_an_image_or_the_mean_of_a_scan(
    widget, qtbot, scan, tmp_path, scan_of_vacuum
):
    vacuum = np.roll(scan[2].astype(np.float32), 2, axis=2)  # two pixels further down
    if scan_of_vacuum:
        (tmp_path / "vacuum").mkdir()
        path = tmp_path / "vacuum" / "vacuum.h5"
        with h5py.File(path, "w") as file:
            file["patterns"] = vacuum
    else:
        path = tmp_path / "vacuum.npy"
        np.save(path, vacuum.mean(axis=(0, 1)))
    widget.helpers.run("vacuum", str(path))
    rest(qtbot, widget)
    assert widget.helpers.found.estimates[0].title == "Disk of the vacuum probe"
    centre = (CENTRE[0] + 2, CENTRE[1])
    assert widget.helpers.found.preprocessing["centre_px"] == pytest.approx(centre, abs=0.2)
    assert widget.helpers.vacuum.text() == str(path)  # for Fix everything, too


def test_fix_everything_uses_the_vacuum_probe(widget, qtbot, monkeypatch, tmp_path):
    from napari_mep.errors import DataError
    from napari_mep.reconstruction import calibrate

    seen = {}

    def fix(opened, **given):
        seen.update(given)
        raise DataError("enough")

    monkeypatch.setattr(calibrate, "fix", fix)
    np.save(tmp_path / "vacuum.npy", np.ones((PIXELS, PIXELS)))
    widget.helpers.vacuum.setText(str(tmp_path / "vacuum.npy"))
    widget.helpers.fix_button.click()
    rest(qtbot, widget)
    np.testing.assert_array_equal(seen["vacuum"], 1)


# --- preparing -------------------------------------------------------------------------------


def test_preprocessing_is_edited_previewed_and_reset(widget, scan, qtbot):
    rows = widget.preprocessing.table.rows
    type_in(rows["bin_detector"], "2")
    type_in(rows["scan_rows"], "2, 8")
    rest(qtbot, widget)
    before, after = widget.preprocessing.gallery.tiles
    assert before.title == "before, 32 × 32"
    assert after.title == "after, 16 × 16"
    assert "6 × 10 patterns of 16 × 16 pixels" in widget.preprocessing.words.text()
    assert widget.state.plan.scan_rows == (2, 8)
    rows["scan_rows"].back.click()
    rows["bin_detector"].back.click()
    assert widget.state.plan.is_identity
    assert not rows["bin_detector"].back.isVisibleTo(widget.preprocessing)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("bin_detector", "two", "'two' is no number"),
        ("bin_detector", "0", "must be at least 1"),
        ("scan_rows", "5", "2 numbers needed"),
        ("scan_rows", "5, 2", "two whole numbers"),
        ("scan_every", "1.5", "whole numbers"),
        ("scan_rows", "inf, 3", "'inf, 3' is no number"),
        ("background", "nan", "'nan' is no number"),
    ],
)
def test_impossible_preprocessing(widget, name, text, reason):
    the_row = widget.preprocessing.table.rows[name]
    type_in(the_row, text)
    assert reason in the_row.problem
    assert name in widget.state.problem()
    the_row.back.click()
    assert the_row.problem == ""


def test_what_only_the_file_tells_arrives_from_the_preview(widget, qtbot):
    type_in(row(widget, "detector_step_mrad"), "2.5")
    type_in(widget.preprocessing.table.rows["gain_file"], "nowhere.npy")
    rest(qtbot, widget)
    assert "nowhere.npy" in widget.state.problem()
    assert "not readable" in widget.preprocessing.words.text()
    widget.preprocessing.table.rows["gain_file"].back.click()
    rest(qtbot, widget)
    assert widget.state.problem() == ""


def test_padding_for_a_pixel(widget, qtbot):
    type_in(row(widget, "detector_step_invA"), "0.125")
    widget.preprocessing.pad_button.click()
    assert widget.state.plan.detector_pixels == 40  # 1 / (0.2 A * 0.125 1/A)
    rest(qtbot, widget)
    assert "not measured" in widget.preprocessing.words.text()


# --- going -----------------------------------------------------------------------------------


def test_another_scan_replaces_the_first(widget, viewer_model, qtbot, tmp_path):
    (tmp_path / "two").mkdir()
    path, known, _ = write_scan(tmp_path / "two")
    first = widget.state
    widget.open(str(path), str(known))
    rest(qtbot, widget)
    assert widget.state is not first
    assert len(viewer_model.layers) == len(IMAGES) + 3
    assert all(state_of_layer(each) is widget.state for each in viewer_model.layers)


def test_a_broken_file_is_told_in_one_line(qtbot, viewer_model, tmp_path):
    widget = DataWidget(viewer_model)
    qtbot.addWidget(widget)
    (tmp_path / "broken.h5").write_bytes(b"no HDF5 at all")
    widget.open(str(tmp_path / "broken.h5"))
    rest(qtbot, widget)
    assert "broken.h5" in widget.data.summary.text()
    assert widget.state is None
    assert len(viewer_model.layers) == 0
    widget.close_down()


@pytest.fixture
def opened_with(qtbot, viewer_model, tmp_path):
    """A data widget with these patterns open."""
    made = []

    def show(patterns):
        path = tmp_path / f"scan{len(made)}.npy"
        np.save(path, patterns)
        widget = DataWidget(viewer_model)
        made.append(widget)
        qtbot.addWidget(widget)
        widget.open(str(path))
        rest(qtbot, widget)
        return widget

    yield show
    for widget in made:
        widget.close_down()


def test_counts_that_cannot_be_right_are_told_with_the_remedy(opened_with, scan, qtbot):
    good = scan[2].astype(np.float32)
    assert opened_with(good).trouble.said == ""
    assert "no finite count" in opened_with(np.full_like(good, np.nan)).trouble.said
    assert "all counts are zero" in opened_with(np.zeros_like(scan[2])).trouble.said
    one = good.copy()
    one[2, 3] = np.inf
    assert "leave out the scan rows" in opened_with(one).trouble.said


def test_negative_counts_are_no_trouble_once_they_are_clipped(opened_with, scan):
    widget = opened_with(scan[2].astype(np.float32) - 3)
    assert widget.trouble.said.startswith("negative counts, down to -3: tick Clip below zero")
    type_in(widget.preprocessing.table.rows["background"], "-3")
    assert widget.trouble.said == ""
    widget.preprocessing.table.rows["background"].back.click()
    widget.preprocessing.table.rows["clip_negative"].editor.click()
    assert widget.trouble.said == ""


def test_pixels_without_counts_are_no_trouble_once_they_are_marked(opened_with, scan, qtbot):
    broken = scan[2].astype(np.float32)
    broken[1, 2, 20, 17] = np.nan
    widget = opened_with(broken)
    assert "1 detector pixels: mark them with the helper Bad pixels" in widget.trouble.said
    widget.helpers.run("bad_pixels")
    rest(qtbot, widget)
    assert widget.helpers.found.bad[20, 17]
    widget.helpers.apply()
    assert widget.trouble.said == ""


def test_the_scan_shape_of_a_stack_is_given_beside_the_path(opened_with, scan, qtbot, tmp_path):
    stack = scan[2].reshape(ROWS * COLUMNS, PIXELS, PIXELS)
    widget = opened_with(stack)
    assert widget.state is None
    assert "rows x columns" in widget.data.summary.text()
    type_in_shape(widget, f"{ROWS}x{COLUMNS}")
    rest(qtbot, widget)
    assert widget.state.original.patterns.shape == scan[2].shape
    assert widget.data.path.text() == f"{tmp_path / 'scan0.npy'}::{ROWS}x{COLUMNS}"
    assert widget.data.scan_shape.text() == f"{ROWS} x {COLUMNS}"
    type_in_shape(widget, "many")
    assert widget.state is None
    assert "give rows x columns" in widget.data.summary.text()
    type_in_shape(widget, f"{ROWS + 1} x {COLUMNS}")
    rest(qtbot, widget)
    assert "does not fit" in widget.data.summary.text()
    type_in_shape(widget, "")
    assert widget.data.path.text() == str(tmp_path / "scan0.npy")


def type_in_shape(widget, text):
    widget.data.scan_shape.setText(text)
    widget.data.scan_shape.editingFinished.emit()


def test_closing_while_a_helper_runs(widget, viewer_model, qtbot):
    widget.helpers.run("drift")
    widget.view.set_ring(widget.view.board.ring)
    widget.close_down()
    widget.close_down()
    qtbot.wait(100)
    assert widget.helpers.found is None
    assert not widget.busy
    assert len(viewer_model.mouse_drag_callbacks) == 1  # napari's own
    assert len(viewer_model.layers) == len(IMAGES) + 3  # the layers stay


def test_a_helper_can_be_cancelled(widget, qtbot, monkeypatch):
    import threading

    from napari_mep.data.virtual import Stopped
    from napari_mep.widgets import _scan_helpers

    began = threading.Event()

    def endless(name, opened, vacuum, settings, watch):
        watch.tell(1, 10, "measuring")
        began.set()
        while not watch.stop.wait(0.01):
            pass
        raise Stopped

    monkeypatch.setattr(_scan_helpers, "run_helper", endless)
    widget.helpers.run("disk")
    assert began.wait(5)
    qtbot.waitUntil(lambda: widget.doing.text() == "measuring")
    widget.cancel_button.click()
    rest(qtbot, widget)
    assert widget.message.text() == "stopped"
    assert widget.helpers.found is None
