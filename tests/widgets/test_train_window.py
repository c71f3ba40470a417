"""The training widget in real napari windows, and with the real training."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from napari_mep.crystals.library import CrystalLibrary
from napari_mep.crystals.structure import Crystal
from napari_mep.prior.unet import LevelConfig, UNetConfig
from napari_mep.training.run_directory import is_running, request_stop
from napari_mep.widgets import TrainWidget, _train_monitor
from napari_mep.widgets._train_state import Phase

pytestmark = [
    pytest.mark.usefixtures("display"),
    # vispy 0.17 and PyOpenGL on Mesa's software renderer.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:vispy"),
]

# The real training, of a network that is really small.
_SMALL = UNetConfig(
    (1, 4, 4), (LevelConfig(8, 1, (2, 2, 2)), LevelConfig(16, 1, attention=True)), embedding=16
)
_PROGRAM = """
import json, sys
import torch
from napari_mep.cli import main
from napari_mep.prior.unet import PRESETS, UNetConfig
torch.set_num_threads(1)
PRESETS["tiny"] = UNetConfig.from_dict(json.loads(sys.argv[1]))
sys.exit(main(["train", *sys.argv[2:]]))
"""


@pytest.fixture
def library(tmp_path):
    path = tmp_path / "library.npz"
    salt = Crystal(4.2 * np.eye(3), [12, 8], [[0, 0, 0], [0.5, 0.5, 0.5]], name="MgO")
    CrystalLibrary.from_crystals([salt], {"test": "made up"}).save(path)
    return path


def test_the_manifest_docks_the_widget(make_napari_viewer):
    viewer = make_napari_viewer()
    _dock, widget = viewer.window.add_plugin_dock_widget("napari-mep", "Train prior")
    assert isinstance(widget, TrainWidget)
    assert widget.problem()


def test_real_training_is_watched_outlives_its_window_and_becomes_a_prior(
    make_napari_viewer, qtbot, tmp_path, monkeypatch, repository, library
):
    monkeypatch.setenv("PYTHONPATH", str(repository / "src"))
    monkeypatch.setattr(_train_monitor, "_LOOK_MS", 100)
    run = tmp_path / "run"
    program = (sys.executable, "-c", _PROGRAM, json.dumps(_SMALL.to_dict()))

    def docked():
        viewer = make_napari_viewer()
        widget = TrainWidget(viewer, program=program)
        viewer.window.add_dock_widget(widget, name="Train prior", area="right")
        widget.attach(run)
        return viewer, widget

    viewer, widget = docked()
    widget.crystals.set_source(str(library))
    widget.form.device.set_value("cpu")
    widget.form.batch.set_value(2)
    widget.form.sample_minutes.set_value(0.01)
    qtbot.waitUntil(lambda: not widget.problem())
    try:
        assert widget.start()
        qtbot.waitUntil(lambda: widget.history.last is not None, timeout=60_000)
        assert len(widget.plot.curves) == 7  # the objective and six bands of logSNR
        assert "volumes/s" in widget.controls.status.text()
        qtbot.waitUntil(lambda: len(viewer.layers) == 4, timeout=60_000)
        assert viewer.layers[0].data.shape == (8, 64, 64)
        assert viewer.layers[0].data.std() > 0
        viewer.close()
        assert is_running(run)

        viewer, widget = docked()
        qtbot.waitUntil(lambda: widget.phase is Phase.RUNNING, timeout=20_000)
        qtbot.waitUntil(lambda: len(viewer.layers) == 4, timeout=20_000)
        widget.stop()
        qtbot.waitUntil(lambda: widget.phase is Phase.STOPPED, timeout=60_000)
    finally:
        if run.exists():
            request_stop(run)
    with qtbot.waitSignal(widget.export_finished) as finished:
        widget.export(tmp_path / "mine.safetensors")
    assert finished.args == [""]
    card = json.loads((tmp_path / "mine.json").read_text())
    assert card["name"] == "mine"
    assert card["training_data"] == {"test": "made up"}
    assert card["trained_volumes"] == widget.monitor.look.checkpoint.volumes
    assert "mine.safetensors" in widget.controls.message.text()
    with qtbot.waitSignal(widget.export_finished) as finished:
        widget.export(tmp_path / "mine.safetensors")
    assert "exist; choose another name" in finished.args[0]
