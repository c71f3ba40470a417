"""The parts of the training widget that need no process: form, curves, layers, reading a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog

from napari_mep.cli import train as command
from napari_mep.training.run_directory import SETTINGS_NAME, claim, write_sample
from napari_mep.training.settings import TrainingSettings
from napari_mep.widgets._train_form import PRESET_NAMES, Lock, TrainForm
from napari_mep.widgets._train_history import History
from napari_mep.widgets._train_look import look_at
from napari_mep.widgets._train_volumes import Batch, SampleHistory, VolumeBlock

VOXEL_A = (1.6, 0.2, 0.2)


def record(volumes, **changes):
    values = {
        "volumes": volumes,
        "seconds": volumes / 10,
        "progress": volumes / 10_000,
        "eta_s": 75.0,
        "volumes_per_second": 12.34,
        "loss": 0.5,
        "band_edges": [-12.0, -3.0, 6.0],
        "band_loss": [0.9, 0.3],
    }
    return values | changes


@pytest.fixture
def form(qtbot):
    form = TrainForm()
    qtbot.addWidget(form)
    return form


def parsed(arguments):
    """The settings that ``napari-mep train`` makes of its arguments."""
    parser = argparse.ArgumentParser()
    command.add_command(parser.add_subparsers())
    given = parser.parse_args(["train", *arguments])
    return given, command._settings(given)


@pytest.mark.parametrize("timed", [True, False])
def test_the_command_line_understands_the_form(form, timed, tmp_path):
    form.preset.set_value("small")
    form.budget.set_value("minutes of training" if timed else "rendered volumes")
    form.minutes.set_value(12.5)
    form.volumes.set_value(4321)
    form.device.set_value("cuda:1")
    form.batch.set_value(24)
    form.learning_rate.set_value(3e-4)
    form.schedule.set_value("cosine")
    form.precision.set_value("bfloat16")
    form.seed.set_value(7)
    form.sample_minutes.set_value(2.0)
    form.checkpoint_minutes.set_value(3.0)
    form.compiled.set_value("yes")
    form.initial.set_value("crystals")
    form.estimate_share.set_value(0.9)
    request = form.request()
    given, settings = parsed(request.arguments(tmp_path / "l.npz", tmp_path / "run", resume=True))
    assert settings == request.settings
    assert settings.preset == "small"
    assert settings.minutes == (12.5 if timed else 0)
    assert (given.device, given.compile, given.resume) == ("cuda:1", True, True)
    assert (given.sample_minutes, given.checkpoint_minutes) == (2, 3)
    assert settings.estimate_share == 0.9
    assert given.initial is None  # a run that is resumed has its own weights
    begun, _ = parsed(request.arguments(tmp_path / "l.npz", tmp_path / "run", resume=False))
    assert begun.initial == "crystals"
    assert (given.library, given.output) == (tmp_path / "l.npz", tmp_path / "run")
    assert begun.solved_views is None
    form.solved_views.set_value("solved")
    for resume in (False, True):  # views are no part of a run: named again each time
        request = form.request()
        words = request.arguments(tmp_path / "l.npz", tmp_path / "run", resume=resume)
        given, settings = parsed(words)
        assert (given.solved_views, settings.solved_share) == (Path("solved"), 0.5)
    form.sample_minutes.set_value(0)
    assert "--sample-minutes" not in form.request().arguments(tmp_path, tmp_path, resume=False)


def test_a_folder_of_solved_views_can_be_browsed_to(form, qtbot, monkeypatch):
    answers = ["/data/solved", ""]  # the second time the dialog is cancelled
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: answers.pop(0))
    with qtbot.waitSignal(form.changed):
        form.solved_views.browse.click()
    form.solved_views.browse.click()
    assert not answers
    assert form.request().solved_views == "/data/solved"
    form.solved_views.set_value("~/solved ")
    assert form.request().solved_views == str(Path.home() / "solved")


def test_the_form_offers_the_presets_that_there_are(form):
    from napari_mep.prior.unet import PRESETS

    assert set(PRESET_NAMES) == set(PRESETS)


def test_a_new_run_does_not_inherit_what_the_form_does_not_show(form):
    form.set_settings(TrainingSettings(batch=8, logsnr_mean=-2.0))
    assert form.request().settings.logsnr_mean == -2
    form.forget_run()
    assert form.request().settings == TrainingSettings(batch=8)


def test_a_run_that_goes_on_keeps_what_belongs_to_it(form):
    form.set_lock(Lock.BOUND)
    assert not form.preset.isEnabled()
    assert not form.seed.isEnabled()
    assert not form.estimate_share.isEnabled()
    assert form.volumes.isEnabled()
    assert form.device.isEnabled()
    form.set_lock(Lock.SHUT)
    assert not form.volumes.isEnabled()


def test_curves_of_each_band_and_of_the_objective():
    history = History()
    assert history.curves() == []
    assert history.line() == ""
    assert history.add([record(2000, band_loss=[None, 1.0]), record(4000), {"volumes": 1}])
    objective, low, high = history.curves()
    assert [c.name for c in (low, high)] == [
        "\N{MINUS SIGN}12 … \N{MINUS SIGN}3",
        "\N{MINUS SIGN}3 … 6",
    ]
    assert objective.index == 0
    assert objective.x.tolist() == [2, 4]  # thousands
    np.testing.assert_array_equal(low.y, [np.nan, 0.9])
    assert high.y.tolist() == [1, 0.3]
    line = history.line().replace("\N{NO-BREAK SPACE}", " ")
    assert line == "4,000 volumes (40 %) · loss 0.500 · 12.3 volumes/s · 75 s left"
    assert "left" not in history.line(ended=True)
    assert not history.add([])


def test_a_resumed_run_replaces_what_came_after_its_checkpoint():
    history = History()
    history.add([record(n) for n in (100, 200, 300)])
    history.add([record(200, loss=0.1), record(400)])
    assert [(r["volumes"], r["loss"]) for r in history.records] == [
        (100, 0.5), (200, 0.1), (400, 0.5),
    ]  # fmt: skip


def test_volumes_lie_two_by_two_and_do_not_overlap(viewer_model, qapp):
    above, below = VolumeBlock(viewer_model, -1), VolumeBlock(viewer_model, 0)
    phase = np.random.default_rng(0).random((4, 2, 6, 8))
    for block, name in ((above, "seen"), (below, "drawn")):
        block.begin(name)
        block.show(Batch(phase, VOXEL_A), {"kind": "test"})
    names = [layer.name for layer in viewer_model.layers]
    assert names == [f"{kind} {n}" for kind in ("seen", "drawn") for n in (1, 2, 3, 4)]
    boxes = []
    for layer, data in zip(viewer_model.layers, [*phase, *phase], strict=True):
        np.testing.assert_allclose(layer.data, data, rtol=1e-6)
        assert tuple(layer.scale) == VOXEL_A
        assert layer.metadata["napari_mep"] == {"kind": "test"}
        low, high = layer.extent.world[:, 1:]
        assert all((low >= top).any() or (high <= bottom).any() for bottom, top in boxes)
        boxes.append((low, high))


def test_a_block_is_updated_in_place_and_what_was_deleted_stays_away(viewer_model, qapp):
    block = VolumeBlock(viewer_model, 0)
    block.begin("drawn")
    block.show(Batch(np.zeros((2, 2, 6, 8)), VOXEL_A), {})
    first, second = block.layers
    viewer_model.layers.remove(second)
    for stream in block._streams:
        stream._timer.stop()  # as if there were no hurry
    block.show(Batch(np.linspace(0, 9, 192).reshape(2, 2, 6, 8), VOXEL_A), {})
    assert block.layers == [first]
    assert first.data.max() > 4
    low, high = first.contrast_limits  # at once that of the newest
    assert low < 0.1
    assert high > 4


def test_samples_can_be_followed_and_gone_back_to(viewer_model, qtbot, tmp_path):
    samples = SampleHistory(viewer_model)
    qtbot.addWidget(samples)
    samples.begin("drawn")
    for seen in (100, 200):
        write_sample(tmp_path, seen, np.full((4, 2, 6, 8), seen), VOXEL_A)
    files = sorted((tmp_path / "samples").glob("*.npz"))

    def shown(value):
        return [float(layer.data.max()) for layer in samples.block.layers] == [value] * 4

    samples.set_files(files)
    qtbot.waitUntil(lambda: shown(200))
    assert samples.label.text() == "samples after 200 volumes, the newest"
    samples.slider.setValue(0)
    qtbot.waitUntil(lambda: shown(100))
    write_sample(tmp_path, 300, np.full((4, 2, 6, 8), 300), VOXEL_A)
    samples.set_files([*files, tmp_path / "samples" / "000000300.npz"])
    qtbot.wait(50)
    assert shown(100)  # whoever looks at the past is left there
    samples.slider.setValue(2)
    qtbot.waitUntil(lambda: shown(300))
    (tmp_path / "samples" / "000000100.npz").write_bytes(b"half")
    with qtbot.waitSignal(samples.failed) as failed:
        samples.slider.setValue(0)
    assert "not readable" in failed.args[0]
    samples.close_down()


def test_what_a_folder_says(tmp_path):
    assert look_at(tmp_path / "new").problem == ""
    assert not look_at(tmp_path).exists
    (tmp_path / "thesis.tex").write_text("mine")
    assert "holds other files" in look_at(tmp_path).problem
    assert "is a file" in look_at(tmp_path / "thesis.tex").problem
    assert "is a file" in look_at(tmp_path / "thesis.tex" / "below").problem
    run = tmp_path / "run"
    with claim(run):
        look = look_at(run)
        assert look.exists
        assert look.running
        assert look.failure == ""
    assert "ended without a word" in look_at(run).failure
    (run / SETTINGS_NAME).write_text("{")
    assert "settings.json is damaged" in look_at(run).problem
    (run / SETTINGS_NAME).unlink()
    (run / "checkpoint.safetensors").write_bytes(b"half a checkpoint")
    assert "checkpoint.safetensors is damaged" in look_at(run).problem
