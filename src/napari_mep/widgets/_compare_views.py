"""The ways to look at several volumes at once in napari's canvas, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, QTimer

from napari_mep.evaluation.resample import WorldGrid
from napari_mep.volume import PhaseVolume
from napari_mep.widgets._compare_layers import MARK, angstrom_per_unit, is_running, placement
from napari_mep.widgets._compare_links import Linked, Links
from napari_mep.widgets._compare_looks import (
    DIVERGING,
    Options,
    View,
    composite,
    grid_shape,
    percentile_limits,
    symmetric_limit,
    with_data,
)
from napari_mep.widgets._compare_prepare import Prepared, PreparedVolume
from napari_mep.widgets._compare_state import ViewState

__all__ = ["CompareViews"]

_SPACING_PX = 6
_COLORBAR_PX = (14, 130)
_MARK_COLOURS = ("#56b4e9", "#ffffff")  # the accent of the pages; of the curtain
_MARK_WIDTH = 0.002  # of the width of the field


class CompareViews(QObject):
    """Arranges layers for a comparison and gives the viewer back as it was.

    Layers of others are never moved, renamed or removed: they are shown, hidden and given a
    contrast, all of which `leave` takes back. What has to be computed is shown in layers of its
    own, which `leave` removes.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
        The viewer.
    """

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.links = Links(viewer, self)
        self._state: ViewState | None = None
        self._view = View.NONE
        self._prepared = Prepared()
        self._options = Options()
        self._made: dict[str, Any] = {}
        self._grids: dict[str, WorldGrid] = {}
        self._shown: list[Any] = []
        self._beneath: list[Any] = []
        self._marks = np.zeros((0, 2, 2))
        self._drawn: Any = None
        self._limit_rad_per_A = 0.0
        self._flicker = QTimer(self)
        self._flicker.timeout.connect(self.flicker)

    @property
    def view(self) -> View:
        """What is shown."""
        return self._view

    @property
    def shown(self) -> tuple[Any, ...]:
        """The layers of the comparison."""
        return tuple(self._shown)

    def show(
        self, view: View, prepared: Prepared, layers: Mapping[str, Any], options: Options
    ) -> None:
        """Enter a view, or change to another.

        Parameters
        ----------
        view : View
            `View.NONE` leaves.
        prepared : Prepared
            The volumes.
        layers : mapping
            Layer of each key in `prepared`.
        options : Options
            Looks.
        """
        if view is View.NONE or not prepared.volumes:
            self.leave()
            return
        entering = self._state is None
        panels = len(self._shown)
        if self._state is None:
            self._state = ViewState.of(self._viewer)
        else:
            self._clear()
            self._state.join(self._viewer)
        self._view, self._prepared, self._options = view, prepared, options
        makers: dict[View, Callable[[Mapping[str, Any]], list[tuple[Any, float]]]] = {
            View.SIDE: self._side_by_side,
            View.DIFFERENCE: self._differences,
            View.CHECKER: self._composite,
            View.CURTAIN: self._composite,
            View.FLICKER: self._flicker_pair,
        }
        shown = makers[view](layers)
        self._shown = [layer for layer, _ in shown]
        self._arrange()
        linked = [(layer, dz) for layer, dz in shown if dz > 0]
        self.links.hold([layer for layer, _ in linked], [dz for _, dz in linked])
        if self.links.linked.contrast:
            self.set_percentiles(options.percentiles)
        if entering or len(self._shown) != panels:
            self._viewer.fit_to_view(layers=self._shown)
        self._draw_marks()
        if view is View.FLICKER:
            self.flicker()

    def leave(self) -> None:
        """Give the viewer back as it was."""
        if self._state is None:
            return
        self._clear()
        state, self._state = self._state, None
        self._view = View.NONE
        state.restore(self._viewer)

    def close_down(self) -> None:
        """Leave, and let go of the viewer."""
        self._flicker.stop()
        self.leave()
        self.links.close_down()

    def set_linked(self, linked: Linked) -> None:
        """Close and open links between the layers."""
        self.links.set_linked(linked)

    def set_percentiles(self, percentiles: tuple[float, float]) -> None:
        """Common contrast from percentiles of the reference."""
        if self._prepared.volumes and self._view is not View.NONE:
            volume = self._prepared.reference.volume
            low, high = percentile_limits(volume.data, percentiles)
            dz = volume.voxel_size_A[0]
            self.links.set_contrast(low / dz, high / dz)

    def set_split(self, split: float) -> None:
        """Move the curtain: 0 shows the partner only, 1 the reference only."""
        layer = self._made.get("composite")
        pair = self._pair()
        if self._view is View.CURTAIN and layer is not None and pair is not None:
            self._options = replace(self._options, split=split)
            layer.data = self._compose(*pair)
            self._draw_marks()

    def set_marks(self, lines_A: np.ndarray) -> None:
        """Draw lines over the picture of a pairwise view.

        A grid has no layer that is seen in all of its panels, so that marks would take panels of
        their own there.

        Parameters
        ----------
        lines_A : (n, 2, 2) ndarray
            Start and end of each, (y, x) in angstrom.
        """
        self._marks = lines_A
        self._draw_marks()

    def _draw_marks(self) -> None:
        if not self._view.pairwise or not self._shown:
            return
        like = self._shown[0]
        curtain = self._curtain_A()
        lines = np.concatenate([self._marks, curtain]) / angstrom_per_unit(like)[1:]
        colours = np.repeat(_MARK_COLOURS, (len(self._marks), len(curtain)))
        vectors = np.stack([lines[:, 0], lines[:, 1] - lines[:, 0]], axis=1)
        if self._drawn is not None:
            if any(layer.unique_id == self._drawn.unique_id for layer in self._viewer.layers):
                self._drawn.data = vectors
                if len(vectors):
                    self._drawn.edge_color = colours
            return
        if not len(vectors):
            return
        active = self._viewer.layers.selection.active
        width = like.extent.world[1][-1] - like.extent.world[0][-1]
        self._drawn = self._viewer.add_vectors(
            vectors,
            ndim=2,
            name="marks",
            edge_width=_MARK_WIDTH * float(width),
            edge_color=colours,
            vector_style="line",
            opacity=0.8,
            units=tuple(str(unit) for unit in like.units[1:]),
            axis_labels=tuple(like.axis_labels[1:]),
            metadata={MARK: "marks"},
        )
        self._viewer.layers.selection.active = active  # the camera link follows it

    def _curtain_A(self) -> np.ndarray:
        """The line between the two sides of a curtain."""
        grid = self._grids.get("composite")
        if self._view is not View.CURTAIN or grid is None:
            return np.zeros((0, 2, 2))
        _, (top, bottom), (left, right) = grid.spans_A()
        columns = round((right - left) / grid.voxel_size_A[2])
        x = left + round(self._options.split * columns) * grid.voxel_size_A[2]
        return np.array([[[top, x], [bottom, x]]])

    def set_flicker_interval(self, milliseconds: int) -> None:
        """Toggle by itself; 0 only when `flicker` is called."""
        self._flicker.setInterval(max(1, milliseconds))
        if milliseconds and self._view is View.FLICKER:
            self._flicker.start()
        else:
            self._flicker.stop()

    def flicker(self) -> None:
        """Show the other one of the two."""
        if self._view is View.FLICKER and len(self._shown) == 2:
            first, second = self._shown
            first.visible, second.visible = not first.visible, first.visible

    def update_volumes(self, prepared: Prepared) -> bool:
        """Show new values of the same volumes in place.

        Returns
        -------
        bool
            False, and nothing is done, if the view has to be made anew with `show`.
        """
        old, self._prepared = self._prepared, prepared
        if [v.key for v in old.volumes] != [v.key for v in prepared.volumes]:
            return False
        fresh = dict(self._values())
        if {key: WorldGrid.of(volume) for key, volume in fresh.items()} != self._grids:
            return False
        for key, layer in self._made.items():
            layer.data = fresh[key].data
        return True

    def _values(self) -> list[tuple[str, PhaseVolume]]:
        """What the made layers of this view show, by role."""
        if self._view is View.DIFFERENCE:
            pairs = [(f"difference {r.key}", r.difference()) for r in self._prepared.results]
            values = [(key, volume) for key, volume in pairs if volume is not None]
            return values + self._corrected([self._prepared.reference])
        if self._view in (View.CHECKER, View.CURTAIN):
            pair = self._pair()
            return [] if pair is None else [("composite", with_data(pair[0], self._compose(*pair)))]
        partner = self._partner()
        if self._view is View.FLICKER and partner is not None:
            return self._corrected([self._prepared.reference, partner])
        return self._corrected(self._prepared.volumes)

    def _corrected(self, volumes: Any) -> list[tuple[str, PhaseVolume]]:
        return [(f"corrected {v.key}", v.volume) for v in volumes if v.changed]

    def _side_by_side(self, layers: Mapping[str, Any]) -> list[tuple[Any, float]]:
        return [self._stand_in(v, layers) for v in self._prepared.volumes if v.key in layers]

    def _flicker_pair(self, layers: Mapping[str, Any]) -> list[tuple[Any, float]]:
        partner = self._partner()
        pair = [self._prepared.reference] + ([partner] if partner is not None else [])
        return [self._stand_in(v, layers) for v in pair if v.key in layers]

    def _differences(self, layers: Mapping[str, Any]) -> list[tuple[Any, float]]:
        """The reference, and each result minus the reference with common symmetric limits."""
        reference = self._prepared.reference
        labels = dict(
            zip((v.key for v in self._prepared.volumes), self._prepared.labels, strict=True)
        )
        shown = [self._stand_in(reference, layers)]
        # A hidden layer is not written to by its run: one that grows stays in sight.
        running = [r for r in self._prepared.results if is_running(layers[r.key])]
        shown += [self._stand_in(r, layers) for r in running]
        pairs = [(r, r.difference()) for r in self._prepared.results]
        known = [(r, d) for r, d in pairs if d is not None]
        limit = self._limit_rad_per_A = symmetric_limit([d.data for _, d in known])
        for result, difference in known:
            layer = self._add(
                f"difference {result.key}",
                f"{labels[result.key]} \N{MINUS SIGN} {labels[reference.key]}",
                difference,
                layers[reference.key],
                limits=(-limit, limit),
                colormap=DIVERGING,
            )
            shown.append((layer, 0.0))  # its limits are its own
        if known:  # one is enough, they are all the same
            bar = shown[-1][0].colorbar
            bar.size, bar.font_size, bar.visible = _COLORBAR_PX, 8, True
        return shown

    def _composite(self, layers: Mapping[str, Any]) -> list[tuple[Any, float]]:
        pair = self._pair()
        partner = self._partner()
        if pair is None or partner is None:
            return []
        volume = with_data(pair[0], self._compose(*pair))
        reference = self._prepared.reference
        low, high = percentile_limits(volume.data, self._options.percentiles)
        word = " | " if self._view is View.CURTAIN else " # "
        layer = self._add(
            "composite",
            f"{reference.name}{word}{partner.name}",
            volume,
            layers[reference.key],
            limits=(low, high),
            colormap=layers[reference.key].colormap,
        )
        # Below the composite, and so not seen, layers that grow are still written to.
        self._beneath = [layers[r.key] for r in self._prepared.volumes if is_running(layers[r.key])]
        return [(layer, volume.voxel_size_A[0])]

    def _compose(self, reference: PhaseVolume, partner: PhaseVolume) -> np.ndarray:
        tile = self._options.tile_A if self._view is View.CHECKER else None
        return composite(reference, partner, tile_A=tile, split=self._options.split)

    def _partner(self) -> PreparedVolume | None:
        results = self._prepared.comparable
        chosen = [r for r in results if r.key == self._options.partner]
        return next(iter(chosen or results), None)

    def _pair(self) -> tuple[PhaseVolume, PhaseVolume] | None:
        partner = self._partner()
        if partner is None or partner.on_grid is None or partner.reference_on_grid is None:
            return None
        return partner.reference_on_grid, partner.on_grid

    def _stand_in(self, prepared: PreparedVolume, layers: Mapping[str, Any]) -> tuple[Any, float]:
        """The layer itself, or what corrections made of it; and its slice thickness."""
        layer = layers[prepared.key]
        thickness = prepared.volume.voxel_size_A[0]
        # As a correction would hide it, a layer that grows is shown as it is.
        if not prepared.changed or is_running(layer):
            return layer, thickness
        made = self._add(
            f"corrected {prepared.key}",
            f"{prepared.name} (corrected)",
            prepared.volume,
            layer,
            limits=tuple(layer.contrast_limits),
            colormap=layer.colormap,
        )
        return made, thickness

    def _add(
        self,
        role: str,
        name: str,
        volume: PhaseVolume,
        like: Any,
        *,
        limits: tuple[float, ...],
        colormap: Any,
    ) -> Any:
        layer = self._viewer.add_image(
            volume.data,
            name=name,
            **placement(volume, like),
            contrast_limits=limits,
            colormap=colormap,
            interpolation2d=str(like.interpolation2d),
            metadata={MARK: role},
        )
        self._made[role] = layer
        self._grids[role] = WorldGrid.of(volume)
        return layer

    def _arrange(self) -> None:
        """Show what is compared and nothing else, each with its name."""
        viewer = self._viewer
        shown = {layer.unique_id for layer in (*self._shown, *self._beneath)}
        for layer in viewer.layers:
            if layer.visible is not (layer.unique_id in shown):
                layer.visible = not layer.visible
        for layer in self._shown:
            layer.name_overlay.visible = True
        grid, bar = viewer.canvas.grid, viewer.canvas.overlays.scale_bar
        # All panels have one scale, and one bar: words and a bar in each would not fit small ones.
        bar.gridded, bar.visible = False, True
        side = self._view in (View.SIDE, View.DIFFERENCE) and len(self._shown) > 1
        if side:
            order = [layer.unique_id for layer in viewer.layers]
            places = [order.index(layer.unique_id) for layer in self._shown]
            # Layers are not moved; of the two directions, the one in which the reference is first.
            grid.stride = 1 if places[0] <= np.mean(places) else -1
            grid.shape = grid_shape(len(self._shown), tuple(viewer.canvas.size))
            grid.spacing = _SPACING_PX
        grid.enabled = side
        self._show_depth()

    def show_depth(self) -> None:
        """Follow the slider with the words in the canvas."""
        if self._view is not View.NONE:
            self._show_depth()

    def _show_depth(self) -> None:
        overlay = self._viewer.canvas.overlays.text
        point = self._viewer.dims.point
        if self._viewer.dims.ndisplay == 2 and len(point) >= 3 and self._shown:
            depth_A = point[-3] * angstrom_per_unit(self._shown[0])[-3]
            overlay.text = f"depth {depth_A:.1f} Å" + self._scale_words()
            overlay.position = "bottom_left"
            overlay.visible = True
        else:
            overlay.visible = False

    def _scale_words(self) -> str:
        """What the colours of a difference mean; napari's own colour bar knows no unit."""
        if self._view is not View.DIFFERENCE or not self._limit_rad_per_A:
            return ""
        limit = f"{self._limit_rad_per_A:.2g}"
        return f"\ncolours from \N{MINUS SIGN}{limit} to +{limit} rad/Å"

    def _clear(self) -> None:
        """Take back all but camera, grid and depth."""
        self._flicker.stop()
        self.links.release()
        self._viewer.canvas.overlays.scale_bar.gridded = False
        present = {layer.unique_id: layer for layer in self._viewer.layers}
        marks = [] if self._drawn is None else [self._drawn]
        for layer in (*self._made.values(), *marks):
            if layer.unique_id in present:
                self._viewer.layers.remove(layer)
        self._made.clear()
        self._drawn, self._limit_rad_per_A = None, 0.0
        self._grids.clear()
        self._shown.clear()
        self._beneath.clear()
        if self._state is not None:
            self._state.restore_layers(self._viewer)
