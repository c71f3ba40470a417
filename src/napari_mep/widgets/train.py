"""The dock widget "Train prior": crystals, settings, a process that trains, and its progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Signal
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QFileDialog, QMessageBox, QTabWidget, QVBoxLayout, QWidget

from napari_mep.errors import MepError
from napari_mep.widgets._background import BackgroundCall
from napari_mep.widgets._compare_curves import CurvePlot
from napari_mep.widgets._progress import duration
from napari_mep.widgets._scroll import VerticalScrollArea
from napari_mep.widgets._train_actions import check_device, export
from napari_mep.widgets._train_controls import TrainControls
from napari_mep.widgets._train_crystals_panel import CrystalsPanel
from napari_mep.widgets._train_folder import RunFolder
from napari_mep.widgets._train_form import Lock, TrainForm
from napari_mep.widgets._train_history import History
from napari_mep.widgets._train_look import RunLook
from napari_mep.widgets._train_monitor import RunMonitor
from napari_mep.widgets._train_process import PROGRAM, as_shell
from napari_mep.widgets._train_state import Phase, is_complete
from napari_mep.widgets._train_volumes import SampleHistory

if TYPE_CHECKING:
    import napari.components

__all__ = ["TrainWidget"]

_QUIET_SECONDS = 180.0  # without news of a run that trains, it is said so


class TrainWidget(QWidget):
    """Train a prior on one's own crystals, in a process that needs no window.

    The widget starts ``napari-mep train`` on a run folder and from then on only reads that folder;
    so it can be closed, and attached again by choosing the folder of a run.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
        Where previews and samples appear; napari passes its own.
    program : sequence of str, optional
        What trains; it is given the arguments of ``napari-mep train``.
    checker : callable, optional
        ``checker(device)`` raises a `MepError` if it is not there; called in a thread.

    Attributes
    ----------
    phase_changed : Signal(Phase)
        The run has started, stopped, ended or failed.
    export_finished : Signal(str)
        The prior was written; or, if not empty, why it was not.
    """

    phase_changed = Signal(object)
    export_finished = Signal(str)

    def __init__(
        self,
        viewer: napari.components.ViewerModel,  # napari passes its viewer by this very name
        *,
        program: Sequence[str] = PROGRAM,
        checker: Callable[[str], None] = check_device,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._checker = checker
        self._phase = Phase.NONE
        self._said: tuple[Any, ...] = ()
        self._checked_device, self._objection = "auto", ""
        self._news_at = time.monotonic()
        self._history = History()
        self._docked = self._closed = False
        self._checking, self._exporting = BackgroundCall(self), BackgroundCall(self)

        self.monitor = RunMonitor(program, self)
        self.folder = RunFolder()
        self.crystals = CrystalsPanel(viewer)
        self.form = TrainForm()
        self.plot = CurvePlot("volumes seen, thousands", "v-loss, by logSNR", log_y=True)
        self.samples = SampleHistory(viewer)
        self.controls = TrainControls()
        self._build()
        self._connect()
        self._on_folder()

    @property
    def phase(self) -> Phase:
        """Where the run stands."""
        return self._phase

    @property
    def history(self) -> History:
        """The curves of the run."""
        return self._history

    def attach(self, run_dir: str | Path) -> None:
        """Watch the run in a folder, or make it the folder of the next run."""
        self.folder.set_path(str(run_dir))

    def problem(self) -> str:
        """Why nothing can be started, one line; empty if it can."""
        look = self.monitor.look
        if self.monitor.run_dir is None:
            return "choose a run folder"
        if look is None:
            return "the run folder is being read"
        if look.problem:
            return look.problem
        if look.running:
            return "a process is training there"
        if not self._has_own_library() and self.crystals.problem:
            return self.crystals.problem
        try:
            settings = self.form.request().settings
        except MepError as err:
            return str(err)
        if is_complete(look, settings):
            return "the run has used up its budget: raise it to go on"
        return self._objection

    def start(self) -> bool:
        """Start or resume; False, with a message, if something is in the way."""
        library, look = self._library_path(), self.monitor.look
        busy = self.monitor.phase.busy
        if self._closed or busy or self.problem() or library is None or look is None:
            self._refresh()
            return False
        self._news_at = time.monotonic()
        if look.checkpoint is None:
            self._begin()
        self.monitor.start(self.form.request(), library)
        self.tabs.setCurrentWidget(self._watch_tab)
        return True

    def stop(self) -> None:
        """Ask the run to save a checkpoint and end."""
        self.monitor.stop()

    def export(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the prior of the last checkpoint in the background; the outcome is shown."""
        run_dir = self.monitor.run_dir
        if run_dir is not None:
            self._exporting.submit(partial(export, run_dir, Path(path), overwrite=overwrite))
            self._refresh()

    def command(self) -> str:
        """What Start would run, for a terminal; empty if nothing could be run."""
        library, look, run_dir = self._library_path(), self.monitor.look, self.monitor.run_dir
        if run_dir is None or look is None or library is None:
            return ""
        with suppress(MepError):
            request, resume = self.form.request(), look.checkpoint is not None
            return as_shell(request.arguments(library, run_dir, resume=resume))
        return ""

    def close_down(self) -> None:
        """Stop watching, because the dock or the window closes. Training goes on."""
        if not self._closed:
            self._closed = True
            self.monitor.close_down()
            self._checking.cancel()
            self.crystals.close_down()
            self.samples.close_down()

    def event(self, event: QEvent) -> bool:
        """Notice being taken out of the dock: napari sends no close event then."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._docked = True
            elif self._docked:
                self.close_down()
        return bool(super().event(event))

    def closeEvent(self, event: Any) -> None:
        """Stop watching."""
        self.close_down()
        super().closeEvent(event)

    def _build(self) -> None:
        self.tabs = QTabWidget()
        set_up, watch = QWidget(), QWidget()
        column = QVBoxLayout(set_up)
        column.setContentsMargins(4, 4, 4, 4)
        column.addWidget(self.crystals)
        column.addWidget(self.form)
        column.addStretch(1)
        self._watch_tab = watch
        column = QVBoxLayout(watch)
        column.setContentsMargins(4, 4, 4, 4)
        column.addWidget(self.plot, 1)
        column.addWidget(self.samples)
        self.tabs.addTab(VerticalScrollArea(set_up), "Set up")
        self.tabs.addTab(watch, "Watch")
        self.plot.setToolTip(
            "Error of the network in bands of logSNR: at −12 there is nothing but noise, at 6 "
            "hardly any. Each falls until it has learned what can be learned there. They are means "
            "over the last two thousand volumes or so. Dashed: the weighted mean of all, which is "
            "what training makes small; it is newer, so in the beginning it runs ahead."
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(6)
        layout.addWidget(self.folder)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self.controls)

    def _connect(self) -> None:
        self.folder.changed.connect(self._on_folder)
        self.crystals.changed.connect(self._refresh)
        self.form.changed.connect(self._on_settings)
        self.samples.failed.connect(self.controls.message.say_warning)
        self.controls.start_button.clicked.connect(lambda: self.start())
        self.controls.stop_button.clicked.connect(self.stop)
        self.controls.export_button.clicked.connect(self._on_export)
        self.controls.copy_button.clicked.connect(self._on_copy)
        self.monitor.attached.connect(self._on_attached)
        self.monitor.looked.connect(self._on_look)
        self.monitor.changed.connect(self._refresh)
        self.monitor.refused.connect(self.controls.message.say_error)
        self._checking.succeeded.connect(lambda _nothing: self._on_checked(""))
        self._checking.failed.connect(self._on_checked)
        self._exporting.succeeded.connect(self._on_exported)
        self._exporting.failed.connect(self._on_export_failed)

    def _begin(self) -> None:
        """Nothing is known yet of the run in this folder."""
        self._history = History()
        self.plot.set_message("no figures yet")
        path = self.folder.path
        self.samples.begin(f"prior sample [{path.name}]" if path else "prior sample")

    def _on_folder(self) -> None:
        self._begin()
        self.form.forget_run()
        self.monitor.set_run_dir(self.folder.path)

    def _on_attached(self, look: RunLook) -> None:
        """A run that was there before says what it was made with."""
        if look.settings is not None:
            self.form.set_settings(look.settings)
            self.tabs.setCurrentWidget(self._watch_tab)
        if look.library is not None and not self.crystals.source:
            self.crystals.set_source(str(look.library))

    def _on_look(self, look: RunLook) -> None:
        if self._history.add(look.records):
            self._news_at = time.monotonic()
            self.plot.set_curves(self._history.curves())
        self.samples.set_files(look.samples)

    def _on_settings(self) -> None:
        """Check in a thread whether the device is there, if that has changed."""
        with suppress(MepError):  # which `_refresh` shows
            request = self.form.request()
            self.crystals.set_settings(request.settings)
            if request.device != self._checked_device:
                self._checked_device, self._objection = request.device, ""
                self._checking.submit(partial(self._checker, request.device))
        self._refresh()

    def _on_checked(self, problem: str) -> None:
        self._objection = problem
        self._refresh()

    def _on_export(self) -> None:
        run_dir = self.monitor.run_dir
        if run_dir is None:
            return
        chosen, _ = QFileDialog.getSaveFileName(
            self,
            "Export prior",
            str(Path.home() / f"{run_dir.name}.safetensors"),
            "Weights (*.safetensors)",
            options=QFileDialog.Option.DontConfirmOverwrite,  # there are two files: asked below
        )
        if not chosen:
            return
        path = Path(chosen if chosen.endswith(".safetensors") else f"{chosen}.safetensors")
        there = [p.name for p in (path, path.with_suffix(".json")) if p.exists()]
        if there and not self._confirmed(f"Replace {' and '.join(there)}?"):
            return
        self.export(path, overwrite=bool(there))

    def _confirmed(self, question: str) -> bool:
        answer = QMessageBox.question(self, "Export prior", question)
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _on_exported(self, path: Path) -> None:
        self._refresh()
        self.controls.message.say(
            f"written: {path.name}; give its path as Prior in Reconstruct", tooltip=str(path)
        )
        self.export_finished.emit("")

    def _on_export_failed(self, reason: str) -> None:
        self._refresh()
        self.controls.message.say_error(reason)
        self.export_finished.emit(reason)

    def _on_copy(self) -> None:
        QGuiApplication.clipboard().setText(self.command())

    def _has_own_library(self) -> bool:
        look = self.monitor.look
        return look is not None and look.checkpoint is not None and look.library is not None

    def _library_path(self) -> Path | None:
        """What is trained on: the run's own crystals if it is resumed, else those chosen."""
        look = self.monitor.look
        if look is not None and self._has_own_library():
            return look.library
        return self.crystals.library.path if self.crystals.library is not None else None

    def _refresh(self) -> None:
        """Bring buttons, locks and messages in line with folder, process and settings."""
        phase, look = self.monitor.phase, self.monitor.look
        checkpoint = look.checkpoint if look is not None else None
        problem = "this widget was closed" if self._closed else self.problem()
        self.controls.show_phase(
            phase,
            problem=problem,
            resumable=checkpoint is not None,
            exportable=checkpoint is not None and not self._exporting.busy,
            command=self.command(),
        )
        bound = Lock.BOUND if checkpoint is not None else Lock.FREE
        self.form.set_lock(Lock.SHUT if phase.busy else bound)
        self.crystals.set_locked(phase.busy)
        self._show_progress(phase)
        # Not at every look: it would wipe what was said about an export, say.
        said = (phase, problem, self.monitor.failure, checkpoint, self._process())
        if said != self._said:
            self._said = said
            self._say(phase, problem)
        if phase is not self._phase:
            self._phase = phase
            self.phase_changed.emit(phase)

    def _process(self) -> str:
        """Which process trains, in words."""
        process = self.monitor.look.process if self.monitor.look is not None else None
        return "the process" if process is None else f"process {process.pid} on {process.host}"

    def _show_progress(self, phase: Phase) -> None:
        last = self._history.last
        line = self._history.line(ended=not phase.busy)
        quiet = time.monotonic() - self._news_at
        if phase is Phase.STARTING:
            line = "loading…"
        elif phase is Phase.RUNNING and last is None:
            line = "training; the first figures come after 20 steps"
        elif phase is Phase.RUNNING and quiet > _QUIET_SECONDS:
            line += f" · no news for {duration(quiet)}"
        self.controls.show_progress(last["progress"] if last else 0.0, line)

    def _say(self, phase: Phase, problem: str) -> None:
        message, look = self.controls.message, self.monitor.look
        reached = look.checkpoint if look is not None else None
        kept = f"the checkpoint after {reached.volumes:,} volumes" if reached else ""
        if phase is Phase.RUNNING:
            message.say(f"{self._process()} trains; it goes on when napari is closed")
        elif phase is Phase.STOPPING:
            message.say("stopping: the current step, a checkpoint and the prior are finished first")
        elif phase is Phase.STARTING:
            message.say()
        elif phase is Phase.FAILED:
            after = f"; Resume goes on from {kept}" if kept and not problem else ""
            message.say_error(f"{self.monitor.failure}{after}")
        elif phase is Phase.COMPLETE:
            message.say(f"complete: {kept} is the prior; raise the budget to go on")
        elif problem:
            message.say_error(problem)
        elif phase is Phase.STOPPED:
            message.say(f"stopped; Resume goes on from {kept}")
        else:
            message.say()
