"""The canvas of a comparison on a viewer without a window: arranging, linking, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_mep.volume import PhaseVolume
from napari_mep.widgets._compare_layers import MARK, volume_of
from napari_mep.widgets._compare_links import Linked
from napari_mep.widgets._compare_looks import (
    Options,
    View,
    composite,
    grid_shape,
    symmetric_limit,
)
from napari_mep.widgets._compare_prepare import Candidate, Prepared, Settings, prepare
from napari_mep.widgets._compare_views import CompareViews

VIEWS = [view for view in View if view is not View.NONE]


@pytest.fixture
def viewer(qapp: Any) -> ViewerModel:
    """Three volumes, one with thicker slices, and two layers that are not compared."""
    viewer = ViewerModel()
    rng = np.random.default_rng(0)
    for name, shape, scale in (
        ("truth", (8, 12, 14), (1.6, 0.2, 0.2)),
        ("thin", (8, 12, 14), (1.6, 0.2, 0.2)),
        ("thick", (4, 12, 14), (3.2, 0.2, 0.2)),
    ):
        viewer.add_image(
            rng.random(shape).astype(np.float32),
            name=name,
            scale=scale,
            translate=(scale[0] / 2, 0, 0),
            units=("angstrom",) * 3,
            axis_labels=("z", "y", "x"),
        )
    viewer.add_image(np.ones((5, 6)), name="dark field", units=("angstrom",) * 2, visible=False)
    viewer.add_points([[1, 1, 1]], name="atoms", units=("angstrom",) * 3)
    viewer.dims.set_point(0, 4.0)
    viewer.scene.camera.zoom = 3.7
    viewer.scene.camera.center = (0, 1.1, 0.7)
    viewer.layers["thin"].contrast_limits = (0.2, 0.7)
    viewer.layers.selection.active = viewer.layers["thin"]
    return viewer


@pytest.fixture
def views(viewer: ViewerModel) -> Iterator[CompareViews]:
    views = CompareViews(viewer)
    yield views
    views.close_down()


def layers_of(viewer: ViewerModel) -> dict[str, Any]:
    return {str(viewer.layers[n].unique_id): viewer.layers[n] for n in ("truth", "thin", "thick")}


def prepared_of(viewer: ViewerModel, **settings: Any) -> Prepared:
    return prepare(
        [Candidate(k, layer.name, volume_of(layer)) for k, layer in layers_of(viewer).items()],
        Settings(**settings),
    )


def looks(viewer: ViewerModel) -> dict[str, Any]:
    """Everything that leaving has to bring back."""
    camera, grid = viewer.scene.camera, viewer.canvas.grid
    overlays = viewer.canvas.overlays
    return {
        "camera": (tuple(camera.center), camera.zoom, tuple(camera.angles)),
        "grid": (grid.enabled, grid.shape, grid.stride, grid.spacing),
        "dims": (np.round(viewer.dims.point, 9).tolist(), viewer.dims.ndisplay, viewer.dims.order),
        "bar": (overlays.scale_bar.visible, overlays.scale_bar.gridded),
        "text": (overlays.text.visible, overlays.text.text),
        "selected": [layer.name for layer in viewer.layers.selection],
        "layers": [
            (
                layer.name,
                layer.visible,
                tuple(getattr(layer, "contrast_limits", ())),
                layer.name_overlay.visible,
                layer.affine.affine_matrix.tolist(),
                tuple(layer.scale),
                tuple(layer.translate),
            )
            for layer in viewer.layers
        ],
    }


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("register", [False, True])
def test_leaving_gives_the_viewer_back(viewer, views, view, register):
    before = looks(viewer)
    views.show(view, prepared_of(viewer, register=register), layers_of(viewer), Options())
    assert looks(viewer) != before
    viewer.dims.set_point(0, 9.0)
    viewer.scene.camera.zoom = 9.0
    views.leave()
    assert looks(viewer) == before
    assert views.view is View.NONE


def test_changing_views_still_gives_the_first_state_back(viewer, views):
    before = looks(viewer)
    for view in [*VIEWS, View.SIDE]:
        views.show(view, prepared_of(viewer), layers_of(viewer), Options())
    views.leave()
    assert looks(viewer) == before


def test_side_by_side_shows_the_layers_themselves(viewer, views):
    views.show(View.SIDE, prepared_of(viewer), layers_of(viewer), Options())
    assert [layer.name for layer in views.shown] == ["truth", "thin", "thick"]
    assert len(viewer.layers) == 5
    assert [layer.name for layer in viewer.layers if layer.visible] == ["truth", "thin", "thick"]
    assert viewer.canvas.grid.enabled
    positions = [viewer.canvas.grid.position(i, viewer.layers) for i in range(3)]
    assert positions[0] == (0, 0)
    assert len(set(positions)) == 3
    assert "depth 4.0 Å" in viewer.canvas.overlays.text.text
    assert all(layer.name_overlay.visible for layer in views.shown)


def test_equal_contrast_is_equal_phase_per_thickness(viewer, views):
    views.show(View.SIDE, prepared_of(viewer), layers_of(viewer), Options())
    truth, thin, thick = views.shown
    assert truth.contrast_limits == pytest.approx(thin.contrast_limits)
    assert thick.contrast_limits == pytest.approx([2 * v for v in truth.contrast_limits])
    thin.contrast_limits = (0.1, 0.4)
    assert truth.contrast_limits == pytest.approx((0.1, 0.4))
    assert thick.contrast_limits == pytest.approx((0.2, 0.8))
    views.set_linked(Linked(contrast=False))
    thin.contrast_limits = (0.0, 0.9)
    assert truth.contrast_limits == pytest.approx((0.1, 0.4))
    viewer.layers.selection.active = thin
    views.set_linked(Linked())
    assert truth.contrast_limits == pytest.approx((0.0, 0.9))


def world(layer: Any, point: tuple[float, float, float]) -> np.ndarray:
    return np.array(layer.data_to_world(point))


def test_without_the_camera_link_only_the_selected_layer_moves(viewer, views):
    views.show(View.SIDE, prepared_of(viewer), layers_of(viewer), Options())
    truth, thin, thick = views.shown
    viewer.layers.selection.active = thin
    views.set_linked(Linked(camera=False))
    camera = viewer.scene.camera

    def screen(layer):
        at = world(layer, (0, 3, 5))[1:]
        return camera.zoom * (at - np.array(camera.center[-2:]))

    before = {layer.name: screen(layer) for layer in views.shown}
    camera.center = (0, 1.7, 0.4)
    camera.zoom = 2 * camera.zoom
    camera.center = (0, 1.9, 0.2)
    for layer in (truth, thick):
        np.testing.assert_allclose(screen(layer), before[layer.name])
    assert np.abs(screen(thin) - before["thin"]).max() > 0.5
    views.set_linked(Linked())
    np.testing.assert_allclose(truth.affine.affine_matrix, np.eye(4))


@pytest.mark.parametrize("apart", [Linked(camera=False), Linked(depth=False)])
def test_links_give_an_affine_of_the_user_back(viewer, views, apart):
    own = np.eye(4)
    own[:3, 3] = (0, 0.7, -0.3)
    viewer.layers["thin"].affine = own
    views.show(View.SIDE, prepared_of(viewer), layers_of(viewer), Options())
    thin = views.shown[1]
    viewer.layers.selection.active = views.shown[0]
    np.testing.assert_array_equal(thin.affine.affine_matrix, own)
    views.set_linked(apart)
    viewer.dims.set_point(0, 8.8)
    viewer.scene.camera.center = (0, 1.7, 0.4)
    assert not np.allclose(thin.affine.affine_matrix, own)
    np.testing.assert_array_equal(views.links.own_affine(thin), own)
    views.set_linked(Linked())
    np.testing.assert_array_equal(thin.affine.affine_matrix, own)
    assert views.links.own_affine(thin) is None


def test_without_the_depth_link_the_others_keep_their_slice(viewer, views):
    views.show(View.SIDE, prepared_of(viewer), layers_of(viewer), Options())
    truth, thin, _ = views.shown
    viewer.layers.selection.active = thin
    viewer.dims.set_point(0, 4.0)
    views.set_linked(Linked(depth=False))
    viewer.dims.set_point(0, 8.8)
    assert truth.world_to_data((8.8, 0, 0))[0] == pytest.approx((4.0 - 0.8) / 1.6)
    assert thin.world_to_data((8.8, 0, 0))[0] == pytest.approx(5)
    views.set_linked(Linked())
    assert truth.world_to_data((8.8, 0, 0))[0] == pytest.approx(5)


def test_differences_have_equal_limits_on_both_sides(viewer, views):
    prepared = prepared_of(viewer)
    viewer.layers["truth"].interpolation2d = "cubic"
    views.show(View.DIFFERENCE, prepared, layers_of(viewer), Options())
    reference, first, second = views.shown
    assert str(first.interpolation2d) == "cubic"  # as smooth as what it is compared with
    assert reference.name == "truth"
    assert first.name == "thin − truth"
    expected = viewer.layers["thin"].data - viewer.layers["truth"].data
    np.testing.assert_allclose(first.data, expected / np.float32(1.6), rtol=1e-5, atol=1e-7)
    low, high = first.contrast_limits
    assert low == -high
    assert tuple(second.contrast_limits) == (low, high)
    assert high == pytest.approx(symmetric_limit([d.difference().data for d in prepared.results]))
    assert first.metadata[MARK].startswith("difference")
    centre = first.colormap.map(np.array([0.5]))[0]
    np.testing.assert_allclose(centre[:3], 0.97, atol=0.01)
    words = viewer.canvas.overlays.text.text
    assert f"from −{high:.2g} to +{high:.2g} rad/Å" in words
    views.show(View.SIDE, prepared, layers_of(viewer), Options())
    assert "rad" not in viewer.canvas.overlays.text.text


def test_marks_lie_over_the_picture_of_a_pair(viewer, views):
    cross = np.array([[[1.0, 0], [1.0, 2.7]], [[0, 0.5], [2.3, 0.5]]])
    views.set_marks(cross)
    before = looks(viewer)
    views.show(View.CHECKER, prepared_of(viewer), layers_of(viewer), Options())
    (composite_layer,) = views.shown
    marks = viewer.layers["marks"]
    assert viewer.layers[-1].name == "marks"
    assert viewer.layers.selection.active.unique_id == composite_layer.unique_id
    np.testing.assert_allclose(marks.data[:, 0], cross[:, 0])
    np.testing.assert_allclose(marks.data[:, 0] + marks.data[:, 1], cross[:, 1])
    views.set_marks(cross[:1])
    assert len(marks.data) == 1
    viewer.layers.remove(marks)  # whoever does not want them is left alone
    views.set_marks(cross)
    assert "marks" not in viewer.layers
    views.show(View.SIDE, prepared_of(viewer), layers_of(viewer), Options())
    assert "marks" not in viewer.layers  # it would take a panel
    views.leave()
    assert looks(viewer) == before


def test_a_line_shows_where_the_curtain_hangs(viewer, views):
    views.show(View.CURTAIN, prepared_of(viewer), layers_of(viewer), Options())
    marks = viewer.layers["marks"]
    np.testing.assert_allclose(marks.data[0], [[-0.1, 1.3], [2.4, 0]], atol=1e-6)
    views.set_split(0.0)
    assert marks.data[0, 0, 1] == pytest.approx(-0.1)


def test_flicker_shows_one_of_two(viewer, views):
    key = str(viewer.layers["thick"].unique_id)
    views.show(View.FLICKER, prepared_of(viewer), layers_of(viewer), Options(partner=key))
    seen = []
    for _ in range(3):
        seen.append([layer.name for layer in viewer.layers if layer.visible])
        views.flicker()
    assert seen == [["thick"], ["truth"], ["thick"]]
    assert not viewer.canvas.grid.enabled


def test_the_curtain_moves_in_place(viewer, views):
    views.show(View.CURTAIN, prepared_of(viewer), layers_of(viewer), Options())
    (layer,) = views.shown
    truth, thin = viewer.layers["truth"].data, viewer.layers["thin"].data
    np.testing.assert_array_equal(layer.data[:, :, :7], truth[:, :, :7])
    np.testing.assert_array_equal(layer.data[:, :, 7:], thin[:, :, 7:])
    views.set_split(1.0)
    np.testing.assert_array_equal(layer.data, truth)
    assert views.shown == (layer,)


def test_new_values_appear_in_place_and_new_grids_do_not(viewer, views):
    views.show(View.DIFFERENCE, prepared_of(viewer), layers_of(viewer), Options())
    first = views.shown[1]
    viewer.layers["thin"].data[...] = viewer.layers["truth"].data
    assert views.update_volumes(prepared_of(viewer))
    assert np.abs(first.data).max() == 0
    viewer.layers["thin"].translate = (0.8, 0.2, 0)
    assert not views.update_volumes(prepared_of(viewer))


def test_corrected_volumes_stand_in_but_growing_ones_do_not(viewer, views):
    viewer.layers["thick"].metadata["napari_mep"] = {"plan": {}}  # a run under way
    views.show(View.SIDE, prepared_of(viewer, offset=True), layers_of(viewer), Options())
    assert [layer.name for layer in views.shown] == ["truth", "thin (corrected)", "thick"]
    assert not viewer.layers["thin"].visible
    assert viewer.layers["thick"].visible
    assert views.shown[1].data.mean() == pytest.approx(viewer.layers["truth"].data.mean(), abs=0.01)


def test_a_layer_that_was_deleted_meanwhile_is_not_missed(viewer, views):
    views.show(View.DIFFERENCE, prepared_of(viewer), layers_of(viewer), Options())
    viewer.layers.remove(viewer.layers["thick"])
    viewer.layers.remove(views.shown[1])
    views.leave()
    assert [layer.name for layer in viewer.layers] == ["truth", "thin", "dark field", "atoms"]


def test_units_of_the_reference_are_kept(qapp):
    viewer = ViewerModel()
    for name in ("a", "b"):
        viewer.add_image(
            np.random.default_rng(1).random((4, 8, 8)), name=name, scale=(0.16, 0.02, 0.02),
            units=("nm",) * 3,
        )  # fmt: skip
    layers = {str(layer.unique_id): layer for layer in viewer.layers}
    prepared = prepare(
        [Candidate(k, layer.name, volume_of(layer)) for k, layer in layers.items()], Settings()
    )
    views = CompareViews(viewer)
    views.show(View.DIFFERENCE, prepared, layers, Options())
    np.testing.assert_allclose(views.shown[1].scale, (0.16, 0.02, 0.02))
    assert {str(u) for u in views.shown[1].units} == {"nanometer"}
    views.close_down()
    assert len(viewer.layers) == 2


def test_checkerboard_of_two_volumes():
    a, b = (PhaseVolume(np.full((1, 4, 6), v), (1, 0.5, 0.5)) for v in (0, 1))
    expected = np.tile(np.kron([[0, 1, 0], [1, 0, 1]], np.ones((2, 2))), (1, 1, 1))
    np.testing.assert_array_equal(composite(a, b, tile_A=1.0), expected)


@pytest.mark.parametrize(
    ("largest", "limit"), [(0.1234, 0.13), (12.0, 12.0), (0.2, 0.2), (0.0, 1e-6)]
)
def test_limits_of_a_difference_have_two_digits(largest, limit):
    assert symmetric_limit([np.full(9, -largest)]) == pytest.approx(limit)


@pytest.mark.parametrize(
    ("panels", "canvas", "shape"),
    [
        (3, (300, 1000), (1, 3)),
        (3, (900, 300), (3, 1)),
        (4, (600, 600), (2, 2)),
        (10, (700, 1400), (2, 5)),
        (1, (600, 600), (1, 1)),
    ],
)
def test_panels_get_the_most_room(panels, canvas, shape):
    assert grid_shape(panels, canvas) == shape
