"""Do what is missing of a benchmark, and keep each result the moment it is there."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import asdict
from typing import Any

from napari_mep.benchmark.cases import SimulationCache, Task, View
from napari_mep.benchmark.records import Failure, Records, Result, dose_text
from napari_mep.benchmark.schedulers import Backend
from napari_mep.benchmark.work import Measured, Stopped, simulate, solve
from napari_mep.data._store import one_line
from napari_mep.errors import MepError

__all__ = ["Progress", "check_methods", "missing", "run_tasks"]

_log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
"""Called with pieces of work done, in all, and what was done last."""

_LOOK_SECONDS = 0.2  # between two looks at the stop flag


def missing(tasks: Sequence[Task], records: Records) -> list[Task]:
    """Tasks without a result."""
    return [task for task in tasks if records.get(task.key) is None]


def check_methods(tasks: Sequence[Task]) -> None:
    """Raise now what would otherwise spoil every case of a method; reads weights.

    Raises
    ------
    DeviceError, WeightsError, PlanError
        See `napari_mep.reconstruction.preflight.preflight`.
    """
    import numpy as np

    from napari_mep.data.dataset import DiffractionDataset
    from napari_mep.reconstruction.preflight import preflight

    for task in {task.method.label: task for task in tasks}.values():
        experiment = task.view.experiment
        shape = (*experiment.scan_shape, *(experiment.detector_pixels,) * 2)
        # The shape without the memory: only calibration and geometry are looked at.
        patterns = np.broadcast_to(np.uint16(0), shape)
        preflight(
            DiffractionDataset(patterns, experiment.calibration(), task.view.name),
            task.method.plan,
        )


def run_tasks(
    tasks: Sequence[Task],
    records: Records,
    cache: SimulationCache,
    backend: Backend,
    *,
    stop: threading.Event | None = None,
    progress: Progress | None = None,
) -> list[Failure]:
    """Do the tasks that have no result yet.

    Parameters
    ----------
    tasks : sequence of Task
        In the order they are wanted.
    records : Records
        Where results are looked up and kept.
    cache : SimulationCache
        The same for simulations.
    backend : Backend
        Who does the work.
    stop : threading.Event, optional
        When set, what is under way is given up and the function returns.
    progress : callable, optional
        See `Progress`.

    Returns
    -------
    list of Failure
        What could not be done; a later run tries again.

    Raises
    ------
    ExportError
        A result cannot be written.
    """
    return _Run(missing(tasks, records), records, cache, backend, progress).go(
        stop or threading.Event()
    )


class _Run:
    """Simulations and reconstructions under way.

    A simulation makes its reconstructions ready; what is ready goes first, so that whole cases
    come early and few simulations are held in memory.
    """

    def __init__(
        self,
        tasks: list[Task],
        records: Records,
        cache: SimulationCache,
        backend: Backend,
        progress: Progress | None,
    ) -> None:
        self._records = records
        self._cache = cache
        self._backend = backend
        self._progress = progress
        self._of_view: dict[str, list[Task]] = {}
        for task in tasks:
            self._of_view.setdefault(task.view.digest, []).append(task)
        self._views = deque({task.view.digest: task.view for task in tasks}.values())
        self._ready: deque[tuple[Task, Any]] = deque()
        self._under_way: dict[Future[Any], Task | View] = {}
        self._failures: list[Failure] = []
        self._done = 0
        self._total = len(tasks) + len(self._views)

    def go(self, stop: threading.Event) -> list[Failure]:
        while not stop.is_set() and (self._views or self._ready or self._under_way):
            while len(self._under_way) < self._backend.slots and self._submit_next():
                pass
            finished, _ = wait(self._under_way, _LOOK_SECONDS, FIRST_COMPLETED)
            for future in finished:
                self._settle(future, self._under_way.pop(future))
        for future in self._under_way:
            future.cancel()
        return self._failures

    def _submit_next(self) -> bool:
        """Submit one piece of work; False if there is none to submit."""
        if self._ready:
            task, expected = self._ready.popleft()
            future = self._backend.submit(
                solve, expected, task.dose_e_per_A2, task.seed, task.method.plan
            )
            self._under_way[future] = task
            return True
        if not self._views:
            return False
        view = self._views.popleft()
        expected = self._cache.load(view)
        if expected is None:
            self._under_way[self._backend.submit(simulate, view.sample, view.experiment)] = view
        else:
            self._simulated(view, expected)
        return True

    def _simulated(self, view: View, expected: Any) -> None:
        shared = self._backend.share(expected)
        self._ready.extend((task, shared) for task in self._of_view[view.digest])
        self._advance(1, f"{view.name} simulated")

    def _settle(self, future: Future[Any], what: Task | View) -> None:
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or isinstance(error, Stopped):
            return
        if error is not None:
            self._failed(what, error)
        elif isinstance(what, View):
            expected = future.result()
            self._cache.store(what, expected)
            self._simulated(what, expected)
        else:
            result = _result(what, future.result(), self._backend.slots)
            self._records.append(result)
            text = f"{_name(what)}: SSIM {result.ssim:.3f}, PSNR {result.psnr:.2f} dB"
            _log.info("%s, %.0f s", text, result.seconds)
            self._advance(1, text)

    def _failed(self, what: Task | View, error: BaseException) -> None:
        if isinstance(error, MepError):
            reason = str(error)
        elif isinstance(error, BrokenExecutor):
            reason = "its worker process died (out of memory?); lower --workers and run again"
        else:
            reason = f"unexpected {type(error).__name__}: {one_line(error)}"
            _log.info("%s", reason, exc_info=error)
        if isinstance(what, View):
            failure = Failure(what.name, reason, what.zone_axis)
            self._advance(1 + len(self._of_view[what.digest]), str(failure))
        else:
            failure = Failure(what.view.name, reason, _conditions(what))
            self._advance(1, str(failure))
        self._failures.append(failure)

    def _advance(self, count: int, remark: str) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total, remark)


def _name(task: Task) -> str:
    return f"{task.view.name} {_conditions(task)}"


def _conditions(task: Task) -> str:
    dose = dose_text(task.dose_e_per_A2)
    return f"{task.view.zone_axis} {dose} e/A^2 {task.method.label}"


def _result(task: Task, measured: Measured, processes: int) -> Result:
    values = asdict(measured)
    values["machine"]["processes"] = processes
    return Result(
        key=task.key,
        crystal=task.view.name,
        group=task.view.group,
        zone_axis=task.view.zone_axis,
        dose_e_per_A2=task.dose_e_per_A2,
        noise_seed=task.seed,
        label=task.method.label,
        plan=task.method.settings(),
        prior_sha256=task.method.prior_sha256,
        **values,
    )
