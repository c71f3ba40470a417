"""The dock widget: what is enabled when, what is said, what is kept."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_mep.errors import DataError, DeviceError, WeightsError
from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.widgets import ReconstructWidget
from napari_mep.widgets._job import JobState
from tests.widgets.conftest import opened_scan, snapshot, volume


def enabled(widget: ReconstructWidget) -> set[str]:
    """Names of the enabled buttons."""
    names = ("run", "pause", "stop", "discard", "export")
    return {name for name in names if getattr(widget.controls, f"{name}_button").isEnabled()}


def until(qtbot, widget, state):
    qtbot.waitUntil(lambda: widget.state is state)


def run_to_the_end(qtbot, widget, gated):
    gated.step(gated.total)
    assert widget.run()
    until(qtbot, widget, JobState.DONE)


def test_without_a_scan_run_is_disabled_and_says_why(qtbot, viewer_model):
    widget = ReconstructWidget(viewer_model)
    qtbot.addWidget(widget)
    assert enabled(widget) == set()
    assert "choose a 4D-STEM scan" in widget.controls.message.text()
    assert widget.controls.run_button.toolTip() == widget.problem()
    assert not widget.run()
    assert widget.state is JobState.IDLE
    widget.close_down()


def test_states_of_the_buttons(qtbot, make_widget, gated):
    widget = make_widget(engine=gated)
    assert enabled(widget) == {"run"}
    widget.controls.run_button.click()
    assert widget.state is JobState.RUNNING
    assert enabled(widget) == {"pause", "stop", "discard"}
    gated.step()
    qtbot.waitUntil(lambda: widget.layer is not None)
    widget.controls.pause_button.click()
    assert widget.state is JobState.PAUSED
    assert widget.controls.pause_button.text() == "Resume"
    assert "paused" in widget.controls.message.text()
    widget.controls.pause_button.click()
    assert widget.state is JobState.RUNNING
    assert widget.controls.pause_button.text() == "Pause"
    widget.controls.stop_button.click()
    assert enabled(widget) <= {"discard"}
    until(qtbot, widget, JobState.DONE)
    assert enabled(widget) == {"run", "discard", "export"}
    assert widget.controls.message.text() == ""


def test_the_engine_gets_the_data_and_the_plan(qtbot, make_widget, gated):
    widget = make_widget(engine=gated)
    plan = ReconstructionPlan(steps=12, seed=99)
    widget.set_plan(plan)
    assert widget.plan() == plan
    run_to_the_end(qtbot, widget, gated)
    ((dataset, seen),) = gated.seen
    assert dataset is widget.data.scan.dataset
    assert seen == plan


def test_progress_is_shown(qtbot, make_widget, gated):
    widget = make_widget(engine=gated)
    widget.run()
    gated.step(2)
    qtbot.waitUntil(lambda: widget.controls.bar.value() == 2)
    assert widget.controls.bar.maximum() == gated.total
    assert "step\N{NO-BREAK SPACE}2/5" in widget.controls.status.text()
    assert widget.form.plot.marker == (-1.2, 1.0)
    gated.step(10)
    until(qtbot, widget, JobState.DONE)
    assert widget.form.plot.marker is None


def test_the_result_carries_its_provenance(qtbot, make_widget, gated, viewer_model):
    widget = make_widget(engine=gated)
    run_to_the_end(qtbot, widget, gated)
    vol, provenance = widget.result
    np.testing.assert_array_equal(vol.data, volume(5).data)
    (layer,) = viewer_model.layers
    assert layer.name == "srtio3 [mep]"
    np.testing.assert_array_equal(layer.data, vol.data)
    assert layer.metadata["napari_mep"] == provenance | {"dataset_path": "srtio3.zarr"}
    # What the plan leaves to the prior and the data is told, too.
    assert ReconstructionPlan.parse(provenance["plan"]) == widget.plan().settled(
        sees_estimate=True, knows_depth=True
    )
    assert provenance["step"] == 5


def test_stop_is_answered_at_once_and_keeps_the_result(qtbot, make_widget):
    release = threading.Event()

    def engine(dataset, plan, stop):
        yield snapshot(1, 30, volume(1))
        release.wait(10)  # one long step
        yield snapshot(2, 30, volume(2))

    widget = make_widget(engine=engine)
    widget.run()
    qtbot.waitUntil(lambda: widget.layer is not None)
    began = time.perf_counter()
    qtbot.mouseClick(widget.controls.stop_button, Qt.MouseButton.LeftButton)
    assert time.perf_counter() - began < 0.2
    assert "stopping" in widget.controls.message.text()
    release.set()
    until(qtbot, widget, JobState.DONE)
    np.testing.assert_array_equal(widget.layer.data, volume(2).data)
    np.testing.assert_array_equal(widget.result[0].data, volume(2).data)


def test_discard_removes_the_layer_during_and_after_a_run(qtbot, make_widget, gated, viewer_model):
    widget = make_widget(engine=gated)
    widget.run()
    gated.step()
    qtbot.waitUntil(lambda: len(viewer_model.layers) == 1)
    widget.controls.discard_button.click()
    assert len(viewer_model.layers) == 0
    until(qtbot, widget, JobState.IDLE)
    assert widget.result is None
    assert enabled(widget) == {"run"}

    run_to_the_end(qtbot, widget, gated)
    assert len(viewer_model.layers) == 1
    widget.controls.discard_button.click()
    assert len(viewer_model.layers) == 0
    assert enabled(widget) == {"run"}


def test_a_second_run_is_refused_while_one_is_busy(qtbot, make_widget, gated):
    widget = make_widget(engine=gated)
    assert widget.run()
    assert not widget.run()
    assert "stop it first" in widget.controls.message.text()
    gated.step(10)
    until(qtbot, widget, JobState.DONE)
    assert len(gated.seen) == 1


def test_a_second_run_after_the_first_gets_its_own_layer(qtbot, make_widget, gated, viewer_model):
    widget = make_widget(engine=gated)
    run_to_the_end(qtbot, widget, gated)
    run_to_the_end(qtbot, widget, gated)
    assert len(viewer_model.layers) == 2


def test_a_failure_is_a_line_in_the_widget_and_loses_nothing(qtbot, make_widget):
    def engine(dataset, plan, stop):
        yield snapshot(1, 3, volume(1))
        yield snapshot(2, 3)
        raise RuntimeError("CUDA error: an illegal <memory> access")

    widget = make_widget(engine=engine)
    widget.run()
    until(qtbot, widget, JobState.FAILED)
    assert "illegal &lt;memory&gt; access" in widget.controls.message.text()
    assert enabled(widget) == {"run", "discard", "export"}
    np.testing.assert_array_equal(widget.result[0].data, volume(1).data)


def test_a_failure_before_the_first_step(qtbot, make_widget):
    def engine(dataset, plan, stop):
        raise WeightsError("prior 'x': not shipped")

    widget = make_widget(engine=engine)
    widget.run()
    until(qtbot, widget, JobState.FAILED)
    assert "prior 'x'" in widget.controls.message.text().replace("&#x27;", "'")
    assert widget.result is None
    assert enabled(widget) == {"run"}


def test_a_scan_that_cannot_be_opened_disables_run_with_the_reason(make_widget):
    def opener(path, calibration):
        raise DataError(f"{path}: no such file")

    widget = make_widget(opener=opener)
    assert "no such file" in widget.data.summary.text()
    assert widget.problem() == "srtio3.zarr: no such file"
    assert enabled(widget) == set()


def test_an_incomplete_calibration_disables_run_until_it_is_given(qtbot, make_widget):
    def opener(path, calibration):
        if calibration:
            return opened_scan()
        return opened_scan(dataset=None, problem="calibration lacks scan_step_A (Å)")

    widget = make_widget(opener=opener)
    assert "lacks scan_step_A" in widget.data.summary.text()
    assert enabled(widget) == set()
    widget.data.calibration.setText("cal.toml")
    widget.data.calibration.editingFinished.emit()
    qtbot.waitUntil(lambda: enabled(widget) == {"run"})


def test_missing_weights_or_devices_disable_run_with_the_reason(qtbot, make_widget):
    def checker(dataset, plan):
        if plan.device == "cuda:7":
            raise DeviceError("device 'cuda:7': not there; use auto or cpu")

    widget = make_widget(checker=checker)
    assert enabled(widget) == {"run"}
    widget.set_plan(ReconstructionPlan(device="cuda:7"))
    qtbot.waitUntil(lambda: enabled(widget) == set())
    assert "use auto or cpu" in widget.controls.message.text()
    widget.set_plan(ReconstructionPlan(device="cpu"))
    qtbot.waitUntil(lambda: enabled(widget) == {"run"})
    assert widget.controls.message.text() == ""


def test_contradicting_settings_disable_run(qtbot, make_widget):
    widget = make_widget()
    widget.form.editor("start_logsnr").set_value(5.0)
    assert enabled(widget) == set()
    assert "start_logsnr" in widget.controls.message.text()
    widget.form.editor("start_logsnr").set_value(None)
    assert enabled(widget) == {"run"}


def test_settings_are_locked_while_running(qtbot, make_widget, gated):
    widget = make_widget(engine=gated)
    widget.run()
    assert not widget.form.editor("steps").isEnabled()
    assert not widget.data.path.isEnabled()
    gated.step(10)
    until(qtbot, widget, JobState.DONE)
    assert widget.form.editor("steps").isEnabled()
    assert widget.data.path.isEnabled()


def test_layers_that_know_their_scan_are_offered(qtbot, viewer_model):
    opened = []

    def opener(path, calibration):
        opened.append(path)
        return opened_scan(path)

    widget = ReconstructWidget(viewer_model, opener=opener, checker=lambda dataset, plan: None)
    qtbot.addWidget(widget)
    viewer_model.add_image(np.zeros((4, 4)), name="unrelated")
    assert widget.data.layers.isHidden()
    for name in ("first", "second"):
        known = {"napari_mep": {"dataset_path": f"/data/{name}.zarr"}}
        viewer_model.add_image(np.zeros((4, 4)), name=name, metadata=known)
    assert not widget.data.layers.isHidden()
    assert widget.data.layers.count() == 3  # and "choose a layer"
    # The first one was taken because there was nothing else.
    assert widget.data.path.text() == "/data/first.zarr"
    widget.data.layers.setCurrentIndex(2)
    widget.data.layers.activated.emit(2)
    qtbot.waitUntil(lambda: not widget.data.is_opening)
    assert opened[-1] == "/data/second.zarr"
    assert widget.data.scan.dataset.name == "/data/second.zarr"
    widget.close_down()


def test_of_two_scans_the_later_one_counts(qtbot, viewer_model):
    slow = threading.Event()

    def opener(path, calibration):
        if path == "slow":
            slow.wait(5)
        return opened_scan(path)

    widget = ReconstructWidget(viewer_model, opener=opener, checker=lambda dataset, plan: None)
    qtbot.addWidget(widget)
    widget.data.set_source("slow")
    assert not widget.run()
    widget.data.set_source("fast")
    qtbot.waitUntil(lambda: not widget.data.is_opening)
    slow.set()
    qtbot.wait(50)
    assert widget.data.scan.dataset.name == "fast"
    widget.close_down()


def test_escape_stops(qtbot, make_widget, gated):
    widget = make_widget(engine=gated)
    widget.show()
    widget.run()
    gated.step()
    qtbot.waitUntil(lambda: widget.layer is not None)
    widget.activateWindow()
    widget.controls.stop_button.setFocus()
    qtbot.waitUntil(widget.isActiveWindow)
    qtbot.keyClick(widget, Qt.Key.Key_Escape)
    until(qtbot, widget, JobState.DONE)
    assert widget.result is not None


@pytest.mark.parametrize("how", ["close", "undock"])
def test_closing_the_widget_stops_the_engine(qtbot, make_widget, gated, how):
    widget = make_widget(engine=gated)
    dock = QWidget()
    widget.setParent(dock)
    widget.run()
    gated.step()
    qtbot.waitUntil(lambda: widget.layer is not None)
    if how == "close":
        widget.close()
    else:
        widget.setParent(None)  # what napari does when the dock is closed
    qtbot.waitUntil(gated.closed.is_set)
    qtbot.waitUntil(lambda: not widget.state.busy)
    assert not widget.run()
    widget.setParent(None)  # the dock goes first


def test_hiding_the_dock_does_not_stop_the_engine(qtbot, make_widget, gated):
    widget = make_widget(engine=gated)
    widget.show()
    widget.run()
    gated.step()
    qtbot.waitUntil(lambda: widget.layer is not None)
    widget.hide()
    assert widget.state is JobState.RUNNING
    gated.step(10)
    until(qtbot, widget, JobState.DONE)


def test_export_asks_before_it_replaces(qtbot, make_widget, gated, tmp_path, monkeypatch):
    from napari_mep.export.ome_zarr import read_reconstruction

    widget = make_widget(engine=gated)
    run_to_the_end(qtbot, widget, gated)
    target = tmp_path / "result"  # the suffix is added
    written = tmp_path / "result.ome.zarr"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, **k: (str(target), ""))
    asked = []
    monkeypatch.setattr(widget, "_confirmed", lambda question: bool(asked.append(question)))

    widget.controls.export_button.click()
    qtbot.waitUntil(lambda: "written" in widget.controls.message.text())
    exported, provenance = read_reconstruction(written)
    np.testing.assert_array_equal(exported.data, widget.result[0].data)
    assert exported.origin_A == widget.result[0].origin_A
    assert provenance["plan"] == widget.result[1]["plan"]
    assert asked == []

    target = written
    before = (written / "zarr.json").stat().st_mtime_ns
    widget.controls.export_button.click()
    assert len(asked) == 1
    assert (written / "zarr.json").stat().st_mtime_ns == before

    monkeypatch.setattr(widget, "_confirmed", lambda question: True)
    widget.controls.export_button.click()
    qtbot.waitUntil(lambda: "written" in widget.controls.message.text())
    assert (written / "zarr.json").stat().st_mtime_ns > before


def test_an_export_that_fails_is_a_line_and_keeps_the_result(qtbot, make_widget, gated, tmp_path):
    widget = make_widget(engine=gated)
    run_to_the_end(qtbot, widget, gated)
    (tmp_path / "taken.ome.zarr").mkdir()
    widget.export(tmp_path / "taken.ome.zarr")
    qtbot.waitUntil(lambda: "taken.ome.zarr" in widget.controls.message.text())
    assert "span" in widget.controls.message.text()
    assert enabled(widget) == {"run", "discard", "export"}


def test_parameters_of_ptyrad_bring_their_plan_once(qtbot, viewer_model, tmp_path):
    path, other = write_parameters(tmp_path), tmp_path / "other.npy"
    widget = ReconstructWidget(viewer_model, checker=lambda dataset, plan: None)
    qtbot.addWidget(widget)
    widget.data.set_source(str(path))
    qtbot.waitUntil(lambda: not widget.data.is_opening, timeout=30_000)
    plan = widget.plan()
    assert widget.data.problem == ""  # clipped at zero, as PtyRAD does
    assert plan.method == "gradient"
    assert plan.gradient.iterations == 17
    assert plan.object.slice_thickness_A == 2
    assert "not supported here (2)" in widget.data.unsupported.text()
    assert "probe_pmode_max" in widget.data._unsupported.text()
    # What is edited then stays, whatever happens to the calibration.
    widget.set_plan(plan.replace(seed=5))
    (tmp_path / "known.toml").write_text("defocus_A = 50.0\n")
    widget.data.set_source(str(path), str(tmp_path / "known.toml"))
    qtbot.waitUntil(lambda: not widget.data.is_opening, timeout=30_000)
    assert widget.plan().seed == 5
    np.save(other, np.ones((2, 2, 8, 8), np.float32))
    widget.data.set_source(str(other))
    qtbot.waitUntil(lambda: not widget.data.is_opening, timeout=30_000)
    assert widget.data.unsupported.isHidden()
    assert widget.plan().seed == 5
    widget.close_down()


def write_parameters(folder: Path) -> Path:
    """PtyRAD parameters of a scan whose counts have been offset."""
    k = np.arange(16) - 8
    disk = (np.hypot(k[:, None], k[None, :]) < 5) * 100.0
    frames = np.random.default_rng(0).poisson(disk, (3, 4, 16, 16)) - 1.0
    np.save(folder / "scan.npy", frames.astype(np.float32))
    parameters = {
        "init_params": {
            "probe_kv": 80, "probe_conv_angle": 24.9, "meas_Npix": 16, "pos_N_scan_slow": 3,
            "pos_N_scan_fast": 4, "pos_scan_step_size": 0.429, "probe_pmode_max": 6,
            "obj_Nlayer": 6, "obj_slice_thickness": 2, "meas_params": {"path": "scan.npy"},
        },
        "model_params": {"update_params": {"probe": {"lr": 0}, "probe_pos_shifts": {"lr": 0}}},
        "recon_params": {"NITER": 17},
    }  # fmt: skip
    (folder / "demo.json").write_text(json.dumps(parameters))
    return folder / "demo.json"
