"""Stand-ins for data and engine, so that widgets are tested without torch and without waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from superqt.utils import WorkerBase

from napari_mep.data.calibration import Calibration
from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.reconstruction.schedules import preview_weights
from napari_mep.reconstruction.snapshot import Snapshot
from napari_mep.volume import PhaseVolume
from napari_mep.widgets import ReconstructWidget
from napari_mep.widgets._opening import OpenedScan


def volume(value: float = 0.0, shape: tuple[int, int, int] = (3, 8, 10)) -> PhaseVolume:
    """A ramp from `value` to `value` + 1 rad."""
    ramp = np.linspace(value, value + 1, np.prod(shape)).reshape(shape)
    return PhaseVolume(ramp, (1.6, 0.2, 0.2), (0.8, -1.0, -1.0))


def snapshot(step: int, total: int, vol: PhaseVolume | None = None, **changes: Any) -> Snapshot:
    """A plausible state after `step` of `total` steps."""
    values = {
        "plan": ReconstructionPlan(),
        "step": step,
        "total": total,
        "stage": "sampling",
        "volume": vol,
        "residual": 0.034,
        "residual_floor": 0.031,
        "guidance_weight": 1.0,
        "logsnr": -1.2,
        "seconds": 1.2 * step,
        "eta_s": 1.2 * (total - step),
    }
    return Snapshot(**(values | changes))


def opened_scan(name: str = "srtio3", **changes: Any) -> OpenedScan:
    """A scan whose patterns nobody reads."""
    calibration = Calibration(
        beam_energy_keV=300, convergence_semiangle_mrad=21.4, scan_step_A=0.5,
        detector_step_invA=0.08, specimen_thickness_A=12.8,
    )  # fmt: skip
    dataset = SimpleNamespace(
        name=name, path=f"{name}.zarr", calibration=calibration, patterns=None
    )
    values = {"dataset": dataset, "fingerprint": "f" * 64, "summary": (name,)}
    return OpenedScan(**(values | changes))


@pytest.fixture
def viewer_model() -> ViewerModel:
    """A viewer without a window."""
    return ViewerModel()


@pytest.fixture(autouse=True)
def _no_worker_survives(qapp: Any) -> Iterator[None]:
    yield
    WorkerBase.await_workers(5000)
    for _ in range(3):
        qapp.processEvents()


class GatedEngine:
    """An engine that takes one step whenever the test says so.

    Each step yields a snapshot with a volume; when stopped, one more, as the contract asks.
    """

    def __init__(self, total: int = 5) -> None:
        self.total = total
        self.steps = threading.Semaphore(0)
        self.closed = threading.Event()
        self.seen: list[tuple[Any, ReconstructionPlan]] = []

    def step(self, n: int = 1) -> None:
        """Allow `n` more steps."""
        self.steps.release(n)

    def __call__(self, dataset: Any, plan: Any, stop: threading.Event) -> Iterator[Snapshot]:
        self.seen.append((dataset, plan))
        done = (plan or ReconstructionPlan()).settled(sees_estimate=True, knows_depth=True)
        try:
            for step in range(1, self.total + 1):
                while not self.steps.acquire(timeout=0.01):
                    if stop.is_set():
                        return
                yield snapshot(step, self.total, volume(step), plan=done)
                if stop.is_set():
                    return
        finally:
            self.closed.set()


@pytest.fixture
def gated() -> Iterator[GatedEngine]:
    """An engine under the test's control; let go at the end whatever happened."""
    engine = GatedEngine()
    yield engine
    engine.step(1000)


@pytest.fixture
def make_widget(
    qtbot: Any, viewer_model: ViewerModel
) -> Iterator[Callable[..., ReconstructWidget]]:
    """Widget with a scan already chosen; keyword arguments go to the widget."""
    made: list[ReconstructWidget] = []

    def make(*, scan: OpenedScan | None = None, **given: Any) -> ReconstructWidget:
        settings: dict[str, Any] = {
            "opener": lambda path, calibration: scan or opened_scan(),
            "checker": lambda dataset, plan: None,
            "curve": preview_weights,
        }
        widget = ReconstructWidget(viewer_model, **(settings | given))
        qtbot.addWidget(widget)
        made.append(widget)
        widget.data.set_source("srtio3.zarr")
        qtbot.waitUntil(lambda: not widget.data.is_opening)
        return widget

    yield make
    for widget in made:
        widget.close_down()
