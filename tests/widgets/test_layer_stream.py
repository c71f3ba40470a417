"""One layer, updated in place, that stays the user's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_mep.volume import PhaseVolume
from napari_mep.widgets._layer_stream import LayerStream, contrast_of
from tests.widgets.conftest import volume


@pytest.fixture
def stream(qtbot: Any, viewer_model: Any) -> LayerStream:
    stream = LayerStream(viewer_model, interval_ms=0)
    stream.begin("recon", {"plan": {"seed": 3}})
    return stream


def push(qtbot: Any, stream: LayerStream, vol: PhaseVolume) -> None:
    stream.push(vol)
    qtbot.waitUntil(lambda: stream._pending is None)


def test_the_layer_lies_where_the_specimen_is(qtbot, stream, viewer_model):
    push(qtbot, stream, volume())
    (layer,) = viewer_model.layers
    assert layer is stream.layer
    np.testing.assert_allclose(layer.scale, (1.6, 0.2, 0.2))
    np.testing.assert_allclose(layer.translate, (0.8, -1.0, -1.0))
    assert [str(unit) for unit in layer.units] == ["angstrom"] * 3
    assert layer.axis_labels == ("z", "y", "x")
    assert layer.metadata["napari_mep"] == {"plan": {"seed": 3}}


def test_updates_happen_in_place(qtbot, stream, viewer_model):
    push(qtbot, stream, volume(0))
    buffer = stream.layer.data
    push(qtbot, stream, volume(5))
    assert len(viewer_model.layers) == 1
    assert stream.layer.data is buffer
    np.testing.assert_array_equal(buffer, volume(5).data)


def test_the_engine_keeps_its_own_buffer(qtbot, stream):
    first = volume(0)
    push(qtbot, stream, first)
    push(qtbot, stream, volume(5))
    np.testing.assert_array_equal(first.data, volume(0).data)


def test_another_shape_is_taken_over_too(qtbot, stream):
    push(qtbot, stream, volume())
    push(qtbot, stream, PhaseVolume(np.ones((4, 6, 6)), (0.8, 0.4, 0.4), (0.4, 0, 0)))
    assert stream.layer.data.shape == (4, 6, 6)
    np.testing.assert_allclose(stream.layer.scale, (0.8, 0.4, 0.4))


def test_what_the_user_chose_survives(qtbot, stream):
    push(qtbot, stream, volume(0))
    layer = stream.layer
    layer.contrast_limits = (0.2, 0.6)
    layer.colormap = "viridis"
    layer.name = "mine"
    layer.opacity = 0.5
    push(qtbot, stream, volume(3))
    stream.finish({"plan": {}})
    np.testing.assert_allclose(layer.contrast_limits, (0.2, 0.6))
    assert layer.colormap.name == "viridis"
    assert layer.name == "mine"
    assert layer.opacity == 0.5


def test_contrast_follows_until_the_user_touches_it(qtbot, stream):
    push(qtbot, stream, volume(0))
    for _ in range(12):
        push(qtbot, stream, volume(4))
    low, high = stream.layer.contrast_limits
    assert low == pytest.approx(4, abs=0.1)
    assert high == pytest.approx(5, abs=0.1)
    range_low, range_high = stream.layer.contrast_limits_range
    assert range_low <= 4
    assert range_high >= 5


def test_small_changes_of_contrast_do_not_flicker(qtbot, stream):
    push(qtbot, stream, volume(0))
    limits = list(stream.layer.contrast_limits)
    push(qtbot, stream, volume(0.02))
    assert list(stream.layer.contrast_limits) == limits


def test_a_deleted_layer_ends_the_preview(qtbot, stream, viewer_model):
    push(qtbot, stream, volume())
    viewer_model.layers.clear()
    stream.push(volume(1))
    qtbot.wait(20)
    stream.push(volume(2))
    stream.finish({})
    assert stream.layer is None
    assert len(viewer_model.layers) == 0


def test_a_hidden_layer_is_updated_when_shown(qtbot, stream):
    push(qtbot, stream, volume(0))
    stream.layer.visible = False
    stream.push(volume(1))
    stream.push(volume(2))
    qtbot.wait(20)
    np.testing.assert_array_equal(stream.layer.data, volume(0).data)
    stream.layer.visible = True
    np.testing.assert_array_equal(stream.layer.data, volume(2).data)


def test_only_the_newest_of_many_is_shown(qtbot, viewer_model, monkeypatch):
    stream = LayerStream(viewer_model, interval_ms=50)
    stream.begin("recon", {})
    written = []
    original = LayerStream._write
    monkeypatch.setattr(
        LayerStream, "_write", lambda self, layer, v: (written.append(v), original(self, layer, v))
    )
    last = volume(999)
    for step in range(1000):
        stream.push(last if step == 999 else volume(step, (2, 2, 2)))
    qtbot.waitUntil(lambda: stream._pending is None)
    assert written == [last]
    np.testing.assert_array_equal(stream.layer.data, last.data)


def test_finish_shows_the_last_volume_and_completes_the_metadata(qtbot, viewer_model):
    stream = LayerStream(viewer_model, interval_ms=10_000)
    stream.begin("recon", {"residual": None})
    stream.push(volume(0))
    stream.push(volume(1))
    stream.finish({"residual": 0.03})
    np.testing.assert_array_equal(stream.layer.data, volume(1).data)
    assert stream.layer.metadata["napari_mep"] == {"residual": 0.03}
    assert not stream._timer.isActive()
    stream.push(volume(2))  # too late
    np.testing.assert_array_equal(stream.layer.data, volume(1).data)


def test_discard_removes_the_layer_only_of_this_run(qtbot, stream, viewer_model):
    push(qtbot, stream, volume())
    stream.finish({})
    kept = stream.layer
    stream.begin("second", {})
    push(qtbot, stream, volume())
    stream.discard()
    assert list(viewer_model.layers) == [kept]


@pytest.mark.parametrize("data", [np.zeros((2, 2, 2)), np.full((2, 2, 2), np.nan)])
def test_contrast_of_an_empty_volume_has_a_range(data):
    low, high = contrast_of(data)
    assert high > low
