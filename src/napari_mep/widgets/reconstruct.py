"""The dock widget "Reconstruct": data, plan, run, watch, keep."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt, Signal
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QFileDialog, QMessageBox, QVBoxLayout, QWidget

from napari_mep.errors import MepError
from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.reconstruction.preflight import preflight
from napari_mep.reconstruction.provenance import outcome, provenance
from napari_mep.reconstruction.schedules import preview_weights
from napari_mep.reconstruction.snapshot import Snapshot
from napari_mep.volume import PhaseVolume
from napari_mep.widgets._background import BackgroundCall
from napari_mep.widgets._data_panel import DataPanel, Opener
from napari_mep.widgets._job import JobState, ReconstructionJob
from napari_mep.widgets._layer_stream import LayerStream
from napari_mep.widgets._opening import open_scan
from napari_mep.widgets._plan_form import Curve, PlanForm
from napari_mep.widgets._run_controls import RunControls
from napari_mep.widgets._scroll import VerticalScrollArea

if TYPE_CHECKING:
    import napari.components

__all__ = ["PlanChecker", "PlanEngine", "ReconstructWidget"]

PlanEngine = Callable[[Any, ReconstructionPlan, threading.Event], Iterable[Snapshot]]
"""``reconstruct(dataset, plan, stop)``."""

PlanChecker = Callable[[Any, ReconstructionPlan], None]
"""``check(dataset, plan)`` raises a `MepError` if something is missing; called in a thread."""


def _reconstruct(
    dataset: Any, plan: ReconstructionPlan, stop: threading.Event
) -> Iterable[Snapshot]:
    # Loads torch: only when a run begins, and in the worker's thread.
    from napari_mep.reconstruction import reconstruct

    return reconstruct(dataset, plan, stop=stop)


class ReconstructWidget(QWidget):
    """Reconstruct a 4D-STEM scan and watch it in one layer.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
        Where the layer appears; napari passes its own.
    engine : callable, optional
        Does the work; see `PlanEngine`.
    opener : callable, optional
        Opens a scan; see `napari_mep.widgets._data_panel.Opener`.
    checker : callable, optional
        Looks for what a plan needs: weights, device, ...; see `PlanChecker`.
    curve : callable, optional
        Gives the guidance schedule of a plan for the picture.

    Attributes
    ----------
    state_changed : Signal(JobState)
        The run has started, paused, stopped, finished or failed.
    export_finished : Signal(str)
        The result was written; or, if not empty, why it was not.
    """

    state_changed = Signal(object)
    export_finished = Signal(str)

    def __init__(
        self,
        viewer: napari.components.ViewerModel,  # napari passes its viewer by this very name
        *,
        engine: PlanEngine = _reconstruct,
        opener: Opener = open_scan,
        checker: PlanChecker = preflight,
        curve: Curve = preview_weights,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._engine = engine
        self._job = ReconstructionJob(self)
        self._stream = LayerStream(viewer, parent=self)
        self._saving = BackgroundCall(self)
        self._checker = checker
        self._checking = BackgroundCall(self)
        self._checked: tuple[Any, ...] = ()
        self._objection = ""
        self._record: dict[str, Any] = {}
        self._scan_path: Path | None = None
        self._source = ""
        self._result: tuple[PhaseVolume, dict[str, Any]] | None = None
        self._last: Snapshot | None = None
        self._docked = False
        self._closed = False

        self.data = DataPanel(viewer, opener=opener)
        self.form = PlanForm(curve)
        self.data.set_label_width(self.form.label_width)
        self.controls = RunControls()
        self._build()
        self._connect()
        self._refresh()

    @property
    def state(self) -> JobState:
        """Where the run stands."""
        return self._job.state

    @property
    def layer(self) -> Any:
        """The streamed layer, None if there is none."""
        return self._stream.layer

    @property
    def result(self) -> tuple[PhaseVolume, dict[str, Any]] | None:
        """Volume and provenance of the last run that was kept."""
        return self._result

    @property
    def failure(self) -> str:
        """Why the last run failed, one line; empty if it did not."""
        return self._job.failure

    def plan(self) -> ReconstructionPlan:
        """The settings as they stand.

        Raises
        ------
        PlanError
            Two settings contradict each other.
        """
        return self.form.plan()

    def set_plan(self, plan: ReconstructionPlan) -> None:
        """Show other settings."""
        self.form.set_plan(plan)

    def problem(self) -> str:
        """Why Run is disabled, one line; empty if it is not."""
        if self.data.scan is None:
            return self.data.problem
        try:
            self.plan()
        except MepError as err:
            return str(err)
        return self._objection

    def run(self) -> bool:
        """Start a reconstruction; False, with a message, if something is in the way."""
        if self._job.state.busy:
            self.controls.say_warning("a reconstruction is running: stop it first")
            return False
        scan = self.data.scan
        if self._closed or self.problem() or scan is None:
            self._refresh()
            return False
        plan = self.plan()
        try:
            self._record = provenance(scan.dataset, plan, fingerprint=scan.fingerprint)
        except MepError as err:  # the weights went since they were checked
            self.controls.say_error(str(err))
            return False
        self._scan_path = scan.dataset.path
        self._result = self._last = None
        self.form.plot.clear_marks()
        self._stream.begin(f"{scan.dataset.name} [{plan.method}]", self._layer_metadata())
        return self._job.start(partial(self._engine, scan.dataset, plan))

    def toggle_pause(self) -> None:
        """Pause a running reconstruction, resume a paused one."""
        if self._job.state is JobState.PAUSED:
            self._job.resume()
        else:
            self._job.pause()

    def stop(self) -> None:
        """End the run now and keep the result of its last whole step."""
        self._job.stop()

    def discard(self) -> None:
        """End the run and remove its layer and result."""
        self._stream.discard()
        self._result = self._last = None
        self.form.plot.clear_marks()
        self._job.discard()
        self._refresh()

    def export(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the result as OME-Zarr in the background; the outcome is shown in the widget."""
        if self._result is None:
            return
        volume, provenance = self._result
        self._saving.submit(partial(_write, Path(path), volume, provenance, overwrite))
        self._refresh()

    def close_down(self) -> None:
        """Stop safely, because the dock or the window closes; called more than once at times."""
        if not self._closed:
            self._closed = True
            self._job.stop()
            self._checking.cancel()
            self.data.disconnect_viewer()

    def event(self, event: QEvent) -> bool:
        """Notice being taken out of the dock: napari sends no close event then."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._docked = True
            elif self._docked:
                self.close_down()
        return bool(super().event(event))

    def closeEvent(self, event: Any) -> None:
        """Stop safely."""
        self.close_down()
        super().closeEvent(event)

    def _build(self) -> None:
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(4, 4, 4, 4)
        column.addWidget(self.data)
        column.addWidget(self.form)
        column.addStretch(1)
        self.scroll = VerticalScrollArea(inner)

        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(6)
        layout.addWidget(self.scroll, 1)
        layout.addWidget(self.controls)

    def _connect(self) -> None:
        self.data.changed.connect(self._on_data)
        self.form.changed.connect(self._on_settings)
        self.controls.run_button.clicked.connect(lambda: self.run())
        self.controls.pause_button.clicked.connect(self.toggle_pause)
        self.controls.stop_button.clicked.connect(self.stop)
        self.controls.discard_button.clicked.connect(self.discard)
        self.controls.export_button.clicked.connect(self._on_export)
        self._job.state_changed.connect(self._on_state)
        self._job.advanced.connect(self._on_snapshot)
        self._job.warned.connect(self._on_warned)
        self._checking.succeeded.connect(self._on_checked)
        self._checking.failed.connect(self._on_checked)
        self._saving.succeeded.connect(self._on_saved)
        self._saving.failed.connect(self._on_save_failed)
        shortcut = QShortcut(QKeySequence(Qt.Key.Key_Escape), self)
        shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        shortcut.activated.connect(self.stop)

    def _on_state(self, state: JobState) -> None:
        if not state.busy:
            self._finish(state)
        self._refresh()
        self.state_changed.emit(state)

    def _finish(self, state: JobState) -> None:
        self.form.plot.end_run()
        last = self._last
        if state is JobState.IDLE:
            return
        if last is not None:
            self._record |= outcome(last)
            self.controls.show_end(last)
        self._stream.finish(self._layer_metadata())
        # After a failure the last good volume is kept, too: it may have cost hours.
        if last is not None and last.volume is not None:
            self._result = (last.volume, self._record)

    def _layer_metadata(self) -> dict[str, Any]:
        """The record, and where the scan was opened from."""
        path = self._scan_path
        return dict(self._record) if path is None else self._record | {"dataset_path": str(path)}

    def _on_snapshot(self, snapshot: Snapshot) -> None:
        if snapshot.volume is not None:
            self._stream.push(snapshot.volume)
        elif self._last is not None:
            # The newest volume there is, so that a failure in the next step loses nothing.
            snapshot = replace(snapshot, volume=self._last.volume)
        self._last = snapshot
        self.controls.show_progress(snapshot)
        self.form.plot.mark(snapshot.logsnr, snapshot.guidance_weight)

    def _on_warned(self, text: str) -> None:
        self.controls.say_warning(text)

    def _on_export(self) -> None:
        start = str(Path.home() / "reconstruction.ome.zarr")
        chosen, _ = QFileDialog.getSaveFileName(
            self,
            "Export OME-Zarr",
            start,
            "OME-Zarr (*.ome.zarr)",
            options=QFileDialog.Option.DontConfirmOverwrite,  # it is a folder: asked below
        )
        if not chosen:
            return
        path = Path(chosen if chosen.endswith(".zarr") else f"{chosen}.ome.zarr")
        overwrite = path.exists()
        if overwrite and not self._confirmed(f"{path.name} exists. Replace it?"):
            return
        self.export(path, overwrite=overwrite)

    def _confirmed(self, question: str) -> bool:
        answer = QMessageBox.question(self, "Export OME-Zarr", question)
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _on_saved(self, path: Path) -> None:
        self._refresh()
        self.controls.say(f"written: {path.name}", tooltip=str(path))
        self.export_finished.emit("")

    def _on_save_failed(self, reason: str) -> None:
        self._refresh()
        self.controls.say_error(reason)
        self.export_finished.emit(reason)

    def _on_data(self) -> None:
        """Take over the plan of a file that has one: once, it may be edited then."""
        source, answer = self.data.path.text().strip(), self.data.answer
        if answer is not None and source != self._source:
            self._source = source
            if answer.plan is not None:
                self.set_plan(answer.plan)  # which tells of a change
                return
        self._on_settings()

    def _on_settings(self) -> None:
        """Check in a thread what the plan needs, if that has changed."""
        scan = self.data.scan
        if scan is not None and not self._job.state.busy:
            with suppress(MepError):  # which `_refresh` shows
                plan = self.plan()
                needed = (scan, plan.method, plan.prior, plan.device, plan.object)
                if needed != self._checked:
                    self._checked = needed
                    self._objection = ""  # until the thread has found something
                    self._checking.submit(partial(self._checker, scan.dataset, plan))
        self._refresh()

    def _on_checked(self, problem: str | None) -> None:
        if (problem or "") != self._objection:  # a refresh would wipe a message from elsewhere
            self._objection = problem or ""
            self._refresh()

    def _refresh(self) -> None:
        """Bring buttons, locks and message in line with job, data and plan."""
        state = self._job.state
        problem = "this widget was closed" if self._closed else self.problem()
        self.controls.show_state(
            state,
            problem=problem,
            kept=self._result is not None or self._stream.layer is not None,
            exportable=self._result is not None and not self._saving.busy,
        )
        self.form.set_locked(state.busy)
        self.data.set_locked(state.busy)
        if self._last is None:
            self.controls.clear_progress("starting…" if state is JobState.RUNNING else "")
        if state is JobState.PAUSED:
            self.controls.say("paused")
        elif state is JobState.STOPPING:
            self.controls.say("stopping…")
        elif state is JobState.FAILED:
            self.controls.say_error(self._job.failure)
        elif state.busy or self.data.is_opening:
            self.controls.say()
        else:
            # The panel shows a problem of the data itself, and does so beside the data.
            shown = self.data.scan is None and self.data.path.text().strip()
            self.controls.say_error("" if shown else problem)


def _write(path: Path, volume: PhaseVolume, provenance: dict[str, Any], overwrite: bool) -> Path:
    from napari_mep.export.ome_zarr import write_reconstruction

    name = path.name.removesuffix(".zarr").removesuffix(".ome")
    return write_reconstruction(path, volume, provenance, name=name, overwrite=overwrite)
