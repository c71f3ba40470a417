"""The methods that users know already, run one after another on the same data."""

from __future__ import annotations

import threading
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.reconstruction.provenance import outcome, provenance
from napari_mep.reconstruction.snapshot import Snapshot
from napari_mep.widgets._compare_layers import ScanSource
from napari_mep.widgets._compare_scan import open_source
from napari_mep.widgets._job import JobState, ReconstructionJob
from napari_mep.widgets._layer_stream import LayerStream
from napari_mep.widgets._progress import progress_line

__all__ = ["BaselineQueue", "QueuedRun", "SourceEngine", "baseline_methods"]

SourceEngine = Callable[
    [ScanSource, ReconstructionPlan, dict[str, Any], threading.Event], Iterable[Snapshot]
]
"""``engine(source, plan, record, stop)``: opens the scan, fills the record, yields snapshots."""


@dataclass(slots=True)
class QueuedRun:
    """One method in the queue.

    Parameters
    ----------
    plan : ReconstructionPlan
        What is run.
    state : str
        "waiting", "running", "done", "failed" or "cancelled".
    line : str
        How far it is, or why it failed.
    record : dict
        Provenance, filled in when the scan has been opened.
    """

    plan: ReconstructionPlan
    state: str = "waiting"
    line: str = ""
    record: dict[str, Any] = field(default_factory=dict)


def baseline_methods() -> tuple[str, ...]:
    """All methods of the plan but the one with the prior."""
    methods = typing.get_args(ReconstructionPlan.model_fields["method"].annotation)
    return tuple(str(name) for name in methods if name != "mep")


class BaselineQueue(QObject):
    """Runs plans one after another, each into a layer of its own; a failure ends only its own.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
        Where the layers appear.
    engine : callable, optional
        Does the work; see `SourceEngine`.

    Attributes
    ----------
    changed : Signal
        Some run has started, advanced or ended.
    finished : Signal
        Nothing is left to run.
    """

    changed = Signal()
    finished = Signal()

    def __init__(
        self, viewer: Any, *, engine: SourceEngine | None = None, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._engine = engine or _reconstruct
        self._job = ReconstructionJob(self)
        self._job.state_changed.connect(self._on_state)
        self._job.advanced.connect(self._on_snapshot)
        self._streams: list[LayerStream] = []  # each keeps the looks of its layer
        self._runs: list[QueuedRun] = []
        self._current: QueuedRun | None = None
        self._last: Snapshot | None = None
        self._source: ScanSource | None = None

    @property
    def runs(self) -> tuple[QueuedRun, ...]:
        """All runs of the queue, in their order."""
        return tuple(self._runs)

    @property
    def busy(self) -> bool:
        """Whether something runs or waits."""
        return self._job.state.busy

    def start(self, source: ScanSource, plans: Sequence[ReconstructionPlan]) -> bool:
        """Queue some plans; False, and nothing happens, while a queue is busy."""
        if self.busy or not plans:
            return False
        self._source = source
        self._runs = [QueuedRun(plan) for plan in plans]
        self._next()
        return True

    def cancel(self) -> None:
        """Stop the run under way, keeping what it has, and start no other."""
        for run in self._runs:
            if run.state == "waiting":
                run.state, run.line = "cancelled", ""
        self._job.stop()
        self.changed.emit()

    def _next(self) -> None:
        waiting = [run for run in self._runs if run.state == "waiting"]
        self._current = run = waiting[0] if waiting else None
        if run is None or self._source is None:
            self.finished.emit()
            return
        self._last = None
        run.state, run.line = "running", "starting…"
        stem = self._source.file.name.partition(".")[0]
        stream = LayerStream(self._viewer, parent=self)
        self._streams.append(stream)
        stream.begin(f"{stem} [{_label(run.plan)}]", self._metadata(run))
        self._job.start(partial(self._engine, self._source, run.plan, run.record))
        self.changed.emit()

    def _metadata(self, run: QueuedRun) -> dict[str, Any]:
        assert self._source is not None
        # Until the scan is open, the plan says that the layer belongs to a run.
        known = run.record or {"plan": run.plan.model_dump(mode="json"), "method": run.plan.method}
        return {"dataset_path": str(self._source.file)} | dict(known)

    def _on_snapshot(self, snapshot: Snapshot) -> None:
        run = self._current
        if run is None:
            return
        if snapshot.volume is not None:
            self._streams[-1].push(snapshot.volume)
        self._last = snapshot
        run.line = progress_line(snapshot)
        self.changed.emit()

    def _on_state(self, state: JobState) -> None:
        run = self._current
        if state.busy or run is None:
            return
        last = self._last
        if last is not None:
            run.record.update(outcome(last))
            run.line = progress_line(last, ended=True)
        if state is JobState.FAILED:
            run.state, run.line = "failed", self._job.failure
        else:
            stopped = last is None or last.step < last.total
            run.state = "cancelled" if stopped else "done"
        self._streams[-1].finish(self._metadata(run))
        self.changed.emit()
        self._next()


def _label(plan: ReconstructionPlan) -> str:
    """The method as the benchmark calls it: two presets of a package are two methods."""
    tuned = plan.method != "gradient" and plan.baseline.preset != "paper"
    return f"{plan.method}:{plan.baseline.preset}" if tuned else plan.method


def _reconstruct(
    source: ScanSource, plan: ReconstructionPlan, record: dict[str, Any], stop: threading.Event
) -> Iterator[Snapshot]:
    # Loads torch: only when a run begins, and in the worker's thread.
    from napari_mep.reconstruction import reconstruct

    dataset = open_source(source)
    # Filled before the first snapshot, read by the GUI thread after the last one.
    record.update(provenance(dataset, plan))
    yield from reconstruct(dataset, plan, stop=stop)
