"""The training widget and a process beside it: start, watch, stop, resume, attach, export, fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from napari_mep.crystals.library import CrystalLibrary
from napari_mep.crystals.structure import Crystal
from napari_mep.errors import DeviceError
from napari_mep.training.run_directory import (
    CHECKPOINT_NAME,
    SETTINGS_NAME,
    claim,
    is_running,
    read_metrics,
    read_process,
    request_stop,
    sample_files,
)
from napari_mep.training.settings import TrainingSettings
from napari_mep.widgets import _train_monitor
from napari_mep.widgets._train_state import Phase
from napari_mep.widgets.train import TrainWidget

STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in_trainer.py")))
FAILS, HAS_A_FAULT = 13, 14  # seeds, to the stand-in


@pytest.fixture
def library(tmp_path):
    path = tmp_path / "library.npz"
    salt = Crystal(4.2 * np.eye(3), [12, 8], [[0, 0, 0], [0.5, 0.5, 0.5]], name="MgO")
    CrystalLibrary.from_crystals([salt], {"test": "made up"}).save(path)
    return path


@pytest.fixture
def run(tmp_path, monkeypatch, repository):
    """A folder for a run; whatever trains there at the end of the test is ended."""
    monkeypatch.setenv("PYTHONPATH", str(repository / "src"))
    folder = tmp_path / "prior-1"
    yield folder
    if is_running(folder):
        os.kill(read_process(folder).pid, signal.SIGKILL)
        until = time.monotonic() + 10
        while is_running(folder) and time.monotonic() < until:
            time.sleep(0.01)


@pytest.fixture
def make(qtbot, viewer_model, library, run, monkeypatch):
    """Makes widgets that know library and folder."""
    monkeypatch.setattr(_train_monitor, "_LOOK_MS", 50)
    made = []

    def make(*, source=str(library), program=STAND_IN, **given):
        widget = TrainWidget(viewer_model, program=program, **given)
        qtbot.addWidget(widget)
        made.append(widget)
        widget.attach(run)
        if source:
            widget.crystals.set_source(source)
        qtbot.waitUntil(lambda: widget.monitor.look is not None and not widget.crystals.busy)
        return widget

    yield make
    for widget in made:
        widget.close_down()


def reaches(qtbot, widget, phase):
    qtbot.waitUntil(lambda: widget.phase is phase, timeout=20_000)


def test_nothing_starts_before_there_are_crystals(make, qtbot, tmp_path):
    widget = make(source="")
    assert widget.problem() == "choose crystals to train on"
    assert not widget.controls.start_button.isEnabled()
    assert not widget.start()
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"no library")
    widget.crystals.set_source(str(broken))
    qtbot.waitUntil(lambda: "not readable" in widget.problem())
    assert "not readable" in widget.controls.message.text()
    assert not widget.controls.start_button.isEnabled()


def test_a_missing_gpu_is_told_before_anything_starts(make, qtbot, run):
    def checker(device):
        if device != "auto":
            raise DeviceError(f"device {device}: is not there")

    widget = make(checker=checker)
    assert widget.problem() == ""
    widget.form.device.set_value("cuda:7")
    qtbot.waitUntil(lambda: widget.problem() == "device cuda:7: is not there")
    assert not widget.controls.start_button.isEnabled()
    assert not widget.start()
    widget.form.device.set_value("auto")
    qtbot.waitUntil(widget.controls.start_button.isEnabled)
    assert not run.exists()


def test_the_preview_shows_what_the_network_will_see(make, qtbot, library, viewer_model):
    from napari_mep.training.volumes import VolumeSource

    widget = make()
    widget.form.seed.set_value(5)
    widget.crystals.preview_button.click()
    qtbot.waitUntil(lambda: len(viewer_model.layers) == 4, timeout=20_000)
    source = VolumeSource(CrystalLibrary.load(library), TrainingSettings(seed=5))
    for first in (0, 4):  # a second click shows the next ones in the same layers
        expected = source(first, 4).numpy()
        qtbot.waitUntil(
            lambda e=expected: all(
                np.allclose(layer.data, volume)
                for layer, volume in zip(viewer_model.layers, e, strict=True)
            )
        )
        assert [layer.name for layer in viewer_model.layers] == [
            f"training volume {n}" for n in (1, 2, 3, 4)
        ]
        if not first:
            qtbot.waitUntil(widget.crystals.preview_button.isEnabled)
            widget.crystals.preview_button.click()


def test_a_run_is_watched_stopped_and_resumed(make, qtbot, run, viewer_model):
    widget = make()
    assert widget.controls.start_button.text() == "Start"
    assert not widget.controls.export_button.isEnabled()
    assert str(run) in widget.command()
    widget.controls.start_button.click()
    reaches(qtbot, widget, Phase.RUNNING)
    assert not widget.form.preset.isEnabled()
    # Curves of every band, pace and time left.
    qtbot.waitUntil(lambda: len(widget.plot.curves) == 3)
    qtbot.waitUntil(lambda: len(widget.plot.curves[0].x) > 5)
    assert "100 volumes/s · 90" in widget.controls.status.text().replace("\xa0", " ")
    assert "left" in widget.controls.status.text()
    assert 0 < widget.controls.bar.value() < widget.controls.bar.maximum()
    # Samples stream into the same four layers.
    qtbot.waitUntil(lambda: len(viewer_model.layers) == 4)
    layer = viewer_model.layers[0]
    assert layer.name == "prior sample [prior-1] 1"
    before = float(layer.data.max())
    qtbot.waitUntil(lambda: float(layer.data.max()) > before)
    assert len(viewer_model.layers) == 4
    # Stop and checkpoint.
    widget.controls.stop_button.click()
    assert widget.phase is Phase.STOPPING
    reaches(qtbot, widget, Phase.STOPPED)
    assert not is_running(run)
    assert (run / CHECKPOINT_NAME).exists()
    reached = read_metrics(run)[0][-1]["volumes"]
    assert f"Resume goes on from the checkpoint after {reached:,}" in widget.controls.message.text()
    # Resume goes on where it was, up to a budget that may be changed.
    assert widget.controls.start_button.text() == "Resume"
    widget.form.volumes.setValue(reached + 300)
    widget.controls.start_button.click()
    reaches(qtbot, widget, Phase.COMPLETE)
    volumes = [r["volumes"] for r in read_metrics(run)[0]]
    assert volumes == list(range(100, reached + 301, 100))
    qtbot.waitUntil(lambda: [r["volumes"] for r in widget.history.records] == volumes)
    assert widget.problem() == "the run has used up its budget: raise it to go on"
    assert not widget.controls.start_button.isEnabled()


def test_a_run_outlives_its_widget_and_is_found_again(make, qtbot, run):
    widget = make()
    widget.start()
    qtbot.waitUntil(lambda: widget.history.last is not None, timeout=20_000)
    widget.close_down()
    assert widget.problem()
    seen = read_metrics(run)[0][-1]["volumes"]
    again = make(source="")
    reaches(qtbot, again, Phase.RUNNING)
    assert again.crystals.source == str(run / "library.npz")  # the run's own copy
    assert again.tabs.currentIndex() == 1
    assert again.history.records[0]["volumes"] == 100  # from its beginning
    qtbot.waitUntil(lambda: again.history.last["volumes"] > seen)
    assert "goes on when napari is closed" in again.controls.message.text()
    again.stop()
    reaches(qtbot, again, Phase.STOPPED)
    assert again.controls.start_button.isEnabled()


def test_the_settings_of_a_run_that_is_still_loading_are_shown_when_they_come(make, qtbot, run):
    widget = make()
    with claim(run):
        reaches(qtbot, widget, Phase.RUNNING)
        assert widget.controls.status.text().startswith("training; the first figures")
        text = json.dumps(TrainingSettings(minutes=4.0, batch=12).to_dict())
        (run / SETTINGS_NAME).write_text(text)
        qtbot.waitUntil(lambda: widget.form.batch.value() == 12)
        assert widget.form.minutes.value() == 4
        assert widget.tabs.currentIndex() == 1


def test_a_run_outlives_the_program_that_started_it(run, library, qtbot):
    """As when napari is closed: the very process that launched it ends."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from napari_mep.widgets._train_actions import launch\n"
        "from napari_mep.widgets._train_request import TrainRequest\n"
        "library, run, *program = sys.argv[1:]\n"
        "launch(TrainRequest(), Path(library), Path(run), resume=False, program=program)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(library), str(run), *STAND_IN], check=True)
    qtbot.waitUntil(lambda: is_running(run), timeout=20_000)
    assert os.getsid(read_process(run).pid) != os.getsid(0)  # no Ctrl-C of ours reaches it
    count = len(sample_files(run))
    qtbot.waitUntil(lambda: len(sample_files(run)) > count)
    request_stop(run)
    qtbot.waitUntil(lambda: not is_running(run), timeout=20_000)
    assert read_metrics(run)[0]


def test_kill_9_is_told_and_resume_goes_on(make, qtbot, run):
    widget = make()
    widget.start()
    qtbot.waitUntil(lambda: widget.history.last is not None, timeout=20_000)
    os.kill(read_process(run).pid, signal.SIGKILL)
    reaches(qtbot, widget, Phase.FAILED)
    text = widget.controls.message.text()
    assert "killed by SIGKILL" in text
    assert "Resume goes on from the checkpoint after" in text
    assert widget.controls.start_button.isEnabled()
    widget.start()
    reaches(qtbot, widget, Phase.RUNNING)


@pytest.mark.parametrize(
    ("seed", "words"),
    [
        (FAILS, "training: loss is not finite"),
        (HAS_A_FAULT, "RuntimeError: a fault of the program"),
    ],
)
def test_why_a_run_failed_is_told_in_one_line(make, qtbot, run, seed, words):
    widget = make()
    widget.form.seed.set_value(seed)
    widget.start()
    reaches(qtbot, widget, Phase.FAILED)
    assert words in widget.controls.message.text()
    again = make(source="")  # also to whoever looks later
    reaches(qtbot, again, Phase.FAILED)
    assert words in again.controls.message.text()


def test_a_folder_that_cannot_be_made_is_told(make, qtbot, tmp_path):
    widget = make()
    (tmp_path / "file").write_text("")
    widget.attach(tmp_path / "file" / "run")
    qtbot.waitUntil(lambda: "is a file" in widget.problem())
    assert not widget.start()
