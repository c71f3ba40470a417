"""The dock widget "Compare": reference and results, finished or running, at the same place."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QElapsedTimer, QEvent, Qt, QTimer, Signal
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import (
    QLabel,
    QVBoxLayout,
    QWidget,
)

from napari_mep.widgets._background import BackgroundCall
from napari_mep.widgets._compare_advice import advice
from napari_mep.widgets._compare_bar import ViewBar
from napari_mep.widgets._compare_baselines import BaselineQueue, SourceEngine
from napari_mep.widgets._compare_choice import Choice
from napari_mep.widgets._compare_inspector import Inspector
from napari_mep.widgets._compare_layers import (
    ScanSource,
    angstrom_per_unit,
    fingerprint,
    is_volume,
    record_of,
    scan_source,
    volume_of,
)
from napari_mep.widgets._compare_links import Linked
from napari_mep.widgets._compare_looks import View
from napari_mep.widgets._compare_prepare import Candidate, Prepared, prepare
from napari_mep.widgets._compare_queue import QueuePanel
from napari_mep.widgets._compare_scene import Scene
from napari_mep.widgets._compare_source import SourceField
from napari_mep.widgets._compare_views import CompareViews
from napari_mep.widgets._scroll import VerticalScrollArea
from napari_mep.widgets._theme import error_text, warning_text

if TYPE_CHECKING:
    import napari.components

__all__ = ["CompareWidget"]

# The slider comes first: pages are drawn when it rests, running volumes a few times a second.
_REST_MS = 150
_PAUSE_MS = 1000  # between two movements of the slider that do not belong together
_FOLLOW_MS = 300


class CompareWidget(QWidget):
    """Compare reconstructions in the same place, at the same time, on the same scale.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
        Whose volumes are compared; napari passes its own.
    engine : callable, optional
        Runs the baselines; see `napari_mep.widgets._compare_baselines.SourceEngine`.

    Attributes
    ----------
    prepared_changed : Signal
        The volumes were read, corrected and brought onto common voxels.
    """

    prepared_changed = Signal()

    def __init__(
        self,
        viewer: napari.components.ViewerModel,  # napari passes its viewer by this very name
        *,
        engine: SourceEngine | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._prepared = Prepared()
        self._asked: tuple[Any, ...] = ()
        self._wanted = View.NONE
        self._watched: list[Any] = []
        self._docked = False
        self._closed = False
        self._call = BackgroundCall(self)
        self.views = CompareViews(viewer, self)
        self.queue = BaselineQueue(viewer, engine=engine, parent=self)
        self.choice = Choice(viewer)
        self.bar = ViewBar()
        self.runs = QueuePanel(self.queue, self._plan_record)
        self.scan = SourceField(viewer)
        self.inspector = Inspector(
            {"Volumes": _ChoosingPage(self.choice, self.scan)}, {"Baselines": self.runs}
        )
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.message.setVisible(False)
        self._since = QElapsedTimer()
        self._rested: tuple[float, ...] = ()
        self._rest = _timer(self, _REST_MS, self._follow_depth)
        self._follow = _timer(self, _FOLLOW_MS, self._recompute)
        self._build()
        self._connect()
        self._on_choice()

    @property
    def prepared(self) -> Prepared:
        """The volumes as they are compared."""
        return self._prepared

    @property
    def busy(self) -> bool:
        """Whether volumes are being prepared."""
        return self._call.busy

    def show_view(self, view: View) -> None:
        """Enter a view, change to another, or leave with `View.NONE`."""
        self._wanted = view
        if view is View.NONE:
            self.views.leave()
        elif not self._call.busy:
            self._show()
        self.bar.show_view(view)
        self._escape.setEnabled(view is not View.NONE)

    def leave(self) -> None:
        """Give the viewer back as it was."""
        self.show_view(View.NONE)

    def source(self) -> ScanSource | None:
        """The scan that was named, else the one that the first layer remembers."""
        if self.scan.typed is not None:
            return self.scan.typed
        layers = self._layers()
        known = (scan_source(layers[key]) for key in self.choice.chosen() if key in layers)
        return next((source for source in known if source is not None), None)

    def close_down(self) -> None:
        """Leave and stop safely, because the dock or the window closes."""
        if self._closed:
            return
        self._closed = True
        self._rest.stop()
        self._follow.stop()
        self._call.cancel()
        self.inspector.cancel()
        self.queue.cancel()
        self._watch([])
        self.views.close_down()
        for event, slot in self._events():
            event.disconnect(slot)
        if self._on_mouse in self._viewer.mouse_move_callbacks:
            self._viewer.mouse_move_callbacks.remove(self._on_mouse)

    def event(self, event: QEvent) -> bool:
        """Notice being taken out of the dock: napari sends no close event then."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._docked = True
            elif self._docked:
                self.close_down()
        return bool(super().event(event))

    def closeEvent(self, event: Any) -> None:
        """Leave and stop safely."""
        self.close_down()
        super().closeEvent(event)

    def _build(self) -> None:
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(4, 4, 4, 4)
        for part in (self.bar, self.message, self.choice.report):
            column.addWidget(part)
        column.addWidget(self.inspector, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(VerticalScrollArea(inner))

    def _connect(self) -> None:
        for event, slot in self._events():
            event.connect(slot)
        self._viewer.mouse_move_callbacks.append(self._on_mouse)
        self._call.succeeded.connect(self._on_prepared)
        self._call.failed.connect(self._on_failed)
        self.choice.changed.connect(self._on_choice)
        self.scan.changed.connect(self._on_source)
        self.bar.view_chosen.connect(self.show_view)
        self.bar.options_changed.connect(self._on_options)
        self.bar.split_changed.connect(self.views.set_split)
        self.bar.linked_changed.connect(self._on_linked)
        self.bar.toggled.connect(self.views.flicker)
        self.inspector.depth_wanted.connect(self._on_depth_wanted)
        self.inspector.marked.connect(self.views.set_marks)
        # In the whole window, canvas included; off where there is nothing to leave, because other
        # things listen to Esc.
        self._escape = QShortcut(QKeySequence(Qt.Key.Key_Escape), self)
        self._escape.setContext(Qt.ShortcutContext.WindowShortcut)
        self._escape.setEnabled(False)
        self._escape.activated.connect(self.leave)

    def _events(self) -> list[tuple[Any, Any]]:
        layers, dims = self._viewer.layers.events, self._viewer.dims.events
        return [
            (layers.inserted, self._on_layers),
            (layers.removed, self._on_layers),
            (dims.point, self._on_point),
            (dims.ndisplay, self._on_point),
        ]

    def _layers(self) -> dict[str, Any]:
        return {str(layer.unique_id): layer for layer in self._viewer.layers if is_volume(layer)}

    def _on_layers(self, _event: object = None) -> None:
        self.choice.refresh()
        if not self._call.busy:
            self._advise()

    def _on_choice(self) -> None:
        layers = self._layers()
        self._watch([layers[key] for key in self.choice.chosen() if key in layers])
        self._on_source()
        self._recompute()

    def _on_source(self) -> None:
        source = self.source()
        self.inspector.pattern.set_source(source)
        self.inspector.table.set_source(source)
        self.runs.set_source(source)
        if self.scan.typed is None:
            self.scan.show_known(source)
        self.inspector.set_prepared(self._prepared)

    def _watch(self, layers: list[Any]) -> None:
        """Follow volumes that are still growing."""
        for layer in self._watched:
            for event in (layer.events.set_data, layer.events.data):
                event.disconnect(self._on_data)
        self._watched = layers
        for layer in layers:
            for event in (layer.events.set_data, layer.events.data):
                event.connect(self._on_data)

    def _on_data(self, _event: object = None) -> None:
        # Also comes with every step of the slider, and then says nothing about the data.
        moving = tuple(self._viewer.dims.point) != self._rested
        if not moving and not self._follow.isActive():
            self._follow.start()

    def _recompute(self) -> None:
        """Prepare the volumes in a thread, if any has changed."""
        if self._closed:
            return
        layers = self._layers()
        chosen = [(key, layers[key]) for key in self.choice.chosen() if key in layers]
        settings = self.choice.settings()
        own = {key: self.views.links.own_affine(layer) for key, layer in chosen}
        asked = (
            *(
                (key, layer.name, fingerprint(layer, own[key]), len(record_of(layer)))
                for key, layer in chosen
            ),
            settings,
        )
        if asked == self._asked:
            return
        self._asked = asked
        if not chosen:
            self._call.cancel()
            self._on_prepared(Prepared())
            return
        candidates = [
            Candidate(key, layer.name, volume_of(layer, own[key]), record_of(layer))
            for key, layer in chosen
        ]
        self._call.submit(partial(prepare, candidates, settings))

    def _on_prepared(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._advise()
        self.bar.show_prepared(prepared)
        self.choice.show_report(prepared)
        if not self.bar.offers(self._wanted):
            self.leave()
        elif self._wanted is not View.NONE and (
            self.views.view is not self._wanted or not self.views.update_volumes(prepared)
        ):
            self._show()
        self._follow_depth()
        self.inspector.set_prepared(prepared)
        self.prepared_changed.emit()

    def _on_failed(self, reason: str) -> None:
        self.message.setText(error_text(self, reason))
        self.message.setVisible(True)

    def _advise(self) -> None:
        """Say what is missing where the views cannot be entered."""
        text = advice(self._viewer.layers, self._prepared)
        self.message.setText(warning_text(self, text) if text else "")
        self.message.setVisible(bool(text))

    def _show(self) -> None:
        self.views.show(self._wanted, self._prepared, self._layers(), self.bar.options())
        if self._wanted is View.FLICKER:
            self.views.set_flicker_interval(self.bar.flicker_ms())

    def _on_options(self) -> None:
        options = self.bar.options()
        self.inspector.set_percentiles(options.percentiles)
        if self._wanted is not View.NONE and not self._call.busy:
            self._show()

    def _on_linked(self, linked: Linked) -> None:
        self.views.set_linked(linked)

    def _on_point(self, _event: object = None) -> None:
        self.views.show_depth()
        # Where a redraw takes long, steps of one movement are far apart.
        gap = self._since.elapsed() if self._since.isValid() else _PAUSE_MS
        self._since.start()
        self._rest.start(_REST_MS if gap >= _PAUSE_MS else max(_REST_MS, 2 * int(gap)))

    def _world_A(self) -> tuple[float, ...]:
        """Angstrom per world unit (z, y, x)."""
        layers = self._layers()
        layer = layers.get(self.choice.reference_key())
        return (1.0, 1.0, 1.0) if layer is None else angstrom_per_unit(layer)

    def _follow_depth(self) -> None:
        point = self._rested = tuple(self._viewer.dims.point)
        if not self._follow.isActive():
            self._follow.start()  # for what came while the slider moved
        if len(point) >= 3:
            self.inspector.set_depth(float(point[-3]) * self._world_A()[0])

    def _on_depth_wanted(self, depth_A: float) -> None:
        axis = self._viewer.dims.ndim - 3
        if axis >= 0:
            self._viewer.dims.set_point(axis, depth_A / self._world_A()[0])

    def _on_mouse(self, _viewer: Any, event: Any) -> None:
        """Shift and the mouse in the canvas move the crosshair."""
        if "Shift" in event.modifiers and len(event.position) >= 2:
            _, to_y, to_x = self._world_A()
            y, x = event.position[-2:]
            self.inspector.set_point(float(y) * to_y, float(x) * to_x)

    def _plan_record(self) -> dict[str, Any]:
        """What the first compared layer that has a plan remembers."""
        records = (volume.candidate.record for volume in self._prepared.volumes)
        return next((dict(record) for record in records if record.get("plan")), {})


class _ChoosingPage(QWidget):
    """The page on which volumes, corrections and the scan are chosen."""

    tool = ""

    def __init__(self, *parts: QWidget) -> None:
        super().__init__()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        for part in parts:
            layout.addWidget(part)
        layout.addStretch(1)

    def show_scene(self, scene: Scene) -> None:
        """Nothing here depends on where one looks."""


def _timer(owner: CompareWidget, milliseconds: int, slot: Any) -> QTimer:
    timer = QTimer(owner)
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.timeout.connect(slot)
    return timer
