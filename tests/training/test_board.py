"""What TensorBoard shows of a run, read with its own reader."""

from __future__ import annotations

import sys
from itertools import pairwise

import pytest

from napari_mep.errors import ExportError
from napari_mep.training.board import BOARD_NAME, open_board
from napari_mep.training.loop import train


def _scalars(run_dir):
    """(step, value) of each curve."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = EventAccumulator(str(run_dir / BOARD_NAME))
    shown.Reload()
    return {
        tag: [(event.step, event.value) for event in shown.Scalars(tag)]
        for tag in shown.Tags()["scalars"]
    }


def _record(volumes, loss):
    return {
        "time": 1.75e9 + volumes,
        "volumes": volumes,
        "loss": loss,
        "learning_rate": 1e-3,
        "gradient_norm": 2.0,
        "volumes_per_second": 5.0,
        "band_edges": [-12.0, -3.0, 6.0],
        "band_loss": [0.9, None],
    }


@pytest.mark.usefixtures("small_network")
def test_a_run_shows_its_metrics(library, settings, tmp_path):
    records = list(train(library, settings, tmp_path, log_every=1))
    shown = _scalars(tmp_path)
    for name in ("loss", "learning_rate", "gradient_norm", "volumes_per_second"):
        steps, values = zip(*shown.pop(name), strict=True)
        assert list(steps) == [r["volumes"] for r in records]
        assert values == pytest.approx([r[name] for r in records])  # float32 there
    edges, losses = records[-1]["band_edges"], records[-1]["band_loss"]
    bands = {
        f"v-loss/logSNR {low:g} to {high:g}": pytest.approx(loss)
        for (low, high), loss in zip(pairwise(edges), losses, strict=True)
        if loss is not None
    }
    assert bands
    assert {tag: curve[-1][1] for tag, curve in shown.items()} == bands


def test_what_a_resumed_run_does_again_is_shown_once(tmp_path):
    for start, losses in ((0, {2: 0.9, 4: 0.8, 6: 0.7}), (4, {6: 0.75, 8: 0.6})):
        with open_board(tmp_path, start) as show:
            for volumes, loss in losses.items():
                show(_record(volumes, loss))
    shown = _scalars(tmp_path)
    assert [step for step, _ in shown["loss"]] == [2, 4, 6, 8]
    assert [loss for _, loss in shown["loss"]] == pytest.approx([0.9, 0.8, 0.75, 0.6])
    assert "v-loss/logSNR -12 to -3" in shown
    assert "v-loss/logSNR -3 to 6" not in shown  # nothing seen there


def test_a_record_is_on_the_disk_at_once(tmp_path):
    with open_board(tmp_path, 0) as show:
        show(_record(2, 0.9))
        assert _scalars(tmp_path)["loss"] == [(2, pytest.approx(0.9))]


def test_without_tensorboard_nothing_is_written(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # importing it fails
    with open_board(tmp_path, 0) as show:
        show(_record(2, 0.9))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / BOARD_NAME).write_text("in the way")
    with pytest.raises(ExportError, match="cannot be written") as info, open_board(tmp_path, 0):
        pass
    assert "\n" not in str(info.value)
