"""Baselines one after another: order, failure, cancelling, and one real run."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Image

from napari_mep.data.calibration import Calibration
from napari_mep.data.dataset import DiffractionDataset
from napari_mep.data.native import write_dataset
from napari_mep.data.preprocessing import PreprocessingPlan, preprocess
from napari_mep.errors import SolverError
from napari_mep.reconstruction.baselines import BASELINES
from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.reconstruction.predicted import volume_residual
from napari_mep.reconstruction.provenance import provenance
from napari_mep.reconstruction.snapshot import Snapshot
from napari_mep.volume import PhaseVolume
from napari_mep.widgets._compare_baselines import BaselineQueue, baseline_methods
from napari_mep.widgets._compare_layers import ScanSource, is_running, scan_source
from napari_mep.widgets._compare_pattern import PatternPanel
from napari_mep.widgets._compare_prepare import Candidate, Settings, prepare
from napari_mep.widgets._compare_queue import QueuePanel
from napari_mep.widgets._compare_scan import open_source, patterns_at, plan_of, residuals
from napari_mep.widgets._compare_scene import Scene
from napari_mep.widgets._compare_table import TablePanel
from tests.widgets.conftest import snapshot, volume

SOURCE = ScanSource("scans/srtio3.zarr")
PLANS = [ReconstructionPlan(method="gradient", seed=seed) for seed in (1, 2, 3)]


class Engine:
    """Two steps for each plan; seed 2 fails. Waits for `go` before each step."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.seeds: list[int] = []

    def __call__(
        self, source: Any, plan: Any, record: dict, stop: threading.Event
    ) -> Iterator[Snapshot]:
        self.seeds.append(plan.seed)
        record.update(plan=plan.model_dump(mode="json"), method=plan.method)
        for step in (1, 2):
            while not self.go.acquire(timeout=0.01):
                if stop.is_set():
                    return
            if plan.seed == 2:
                raise SolverError("diverged in step 1; lower the step")
            yield snapshot(step, 2, volume(plan.seed), plan=plan)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.go.release(100)


@pytest.fixture
def queue(qtbot: Any, viewer_model: Any, engine: Engine) -> Iterator[BaselineQueue]:
    queue = BaselineQueue(viewer_model, engine=engine)
    yield queue
    queue.cancel()
    qtbot.waitUntil(lambda: not queue.busy)


def test_all_methods_but_the_one_with_the_prior():
    assert "mep" not in baseline_methods()
    assert "gradient" in baseline_methods()
    for method in baseline_methods():
        assert ReconstructionPlan(method=method).method == method


def test_one_after_another_and_a_failure_ends_only_its_own(qtbot, viewer_model, queue, engine):
    assert queue.start(SOURCE, PLANS)
    assert not queue.start(SOURCE, PLANS)
    assert [run.state for run in queue.runs] == ["running", "waiting", "waiting"]
    engine.go.release()
    qtbot.waitUntil(lambda: len(viewer_model.layers) == 1)
    assert is_running(viewer_model.layers[0])
    with qtbot.waitSignal(queue.finished):
        engine.go.release(100)
    assert [run.state for run in queue.runs] == ["done", "failed", "done"]
    assert queue.runs[1].line == "diverged in step 1; lower the step"
    assert engine.seeds == [1, 2, 3]
    first, third = viewer_model.layers
    assert first.name == "srtio3 [gradient]"
    np.testing.assert_array_equal(third.data, volume(3).data)
    assert not is_running(third)
    assert third.metadata["napari_mep"]["plan"]["seed"] == 3
    assert scan_source(third).path == SOURCE.path
    assert not queue.busy


def test_cancel_keeps_what_there_is_and_starts_no_other(qtbot, viewer_model, queue, engine):
    queue.start(SOURCE, PLANS)
    engine.go.release()
    qtbot.waitUntil(lambda: len(viewer_model.layers) == 1)
    with qtbot.waitSignal(queue.finished):
        queue.cancel()
    assert [run.state for run in queue.runs] == ["cancelled"] * 3
    assert engine.seeds == [1]
    assert not is_running(viewer_model.layers[0])
    assert queue.start(SOURCE, PLANS[:1])


@pytest.mark.parametrize("preset", ["tuned", "paper"])
def test_the_panel_queues_what_is_ticked_with_the_plan_of_a_result(
    qtbot, queue, engine, preset, tmp_path
):
    record = {"plan": ReconstructionPlan(seed=1, device="cpu", steps=5).model_dump(mode="json")}
    panel = QueuePanel(queue, lambda: record)
    qtbot.addWidget(panel)
    assert not panel.run_button.isEnabled()
    panel.set_source(ScanSource(str(tmp_path)))
    assert panel.run_button.isEnabled()
    for method, box in panel.boxes.items():
        box.setChecked(method in ("gradient", "lsq-ml"))
    panel.preset.setCurrentIndex(panel.preset.findData(preset))
    panel.run_button.click()
    assert [run.plan.method for run in queue.runs] == ["gradient", "lsq-ml"]
    assert queue.runs[1].plan.baseline.preset == preset
    assert all(run.plan.steps == 5 and run.plan.device == "cpu" for run in queue.runs)
    assert not panel.run_button.isEnabled()
    assert "waiting" in panel.lines["lsq-ml"].text()
    panel.cancel_button.click()
    qtbot.waitUntil(lambda: panel.run_button.isEnabled())
    assert "cancelled" in panel.lines["gradient"].text()


def test_a_scan_that_is_not_there_queues_nothing_and_old_lines_go(qtbot, queue, engine, tmp_path):
    panel = QueuePanel(queue, dict)
    qtbot.addWidget(panel)
    there = ScanSource(str(tmp_path))
    engine.go.release(100)
    panel.set_source(there)
    with qtbot.waitSignal(queue.finished):
        panel.run_button.click()
    assert all(line.text() for line in panel.lines.values())

    panel.set_source(ScanSource(str(tmp_path / "gone.zarr") + "::/data"))
    panel.run_button.click()
    assert not queue.busy
    assert "no such file" in panel.scan.text()
    assert not any(line.text() for line in panel.lines.values())

    panel.set_source(there)
    assert "no such file" not in panel.scan.text()
    for method, box in panel.boxes.items():
        box.setChecked(method == "gradient")
    with qtbot.waitSignal(queue.finished):
        panel.run_button.click()
    assert [m for m, line in panel.lines.items() if line.text()] == ["gradient"]


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A bright-field disk at 8 x 8 positions."""
    k = (np.arange(32) - 16) * 0.15
    disk = np.hypot(k[:, None], k[None, :]) < 1.0
    counts = np.random.default_rng(0).poisson(np.broadcast_to(100.0 * disk, (8, 8, 32, 32)))
    calibration = Calibration(
        beam_energy_keV=300, convergence_semiangle_mrad=19.7, defocus_A=-30, scan_step_A=0.5,
        detector_step_invA=0.15, specimen_thickness_A=6.4,
    )  # fmt: skip
    path = tmp_path / "disk.zarr"
    write_dataset(path, DiffractionDataset(counts.astype(np.uint16), calibration, "disk"))
    return path


@pytest.fixture
def children(tmp_path, monkeypatch) -> Callable[[str, str], None]:
    """Runs a body in place of a package's adapter, in a process of its own as the package would."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    known: dict[str, Any] = {}
    monkeypatch.setattr("napari_mep.reconstruction.baselines.solve.BASELINES", known)

    def write(method: str, body: str) -> None:
        module = f"child_of_{method.replace('-', '_')}"
        (tmp_path / f"{module}.py").write_text(
            "import os, time\n"
            "import numpy as np\n"
            "from napari_mep.reconstruction.baselines._child import main\n"
            "def run(job, report):\n"
            "    report(1, 0.5, np.full(job.object_shape, 0.25, np.float32))\n"
            f"    {body}\n"
            "main(run)\n"
        )
        known[method] = dataclasses.replace(BASELINES[method], module=module)

    return write


def test_a_crash_shows_its_last_lines_and_cancel_kills_what_runs(
    qtbot, viewer_model, scan, children, tmp_path
):
    """As packages would: one breaks off after its first iteration, the next never ends."""
    children("lsq-ml", "raise MemoryError('no room for <object>')")
    pid = tmp_path / "pid"
    children("ptyrad-adam", f"open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    queue = BaselineQueue(viewer_model)
    panel = QueuePanel(queue, dict)
    qtbot.addWidget(panel)
    panel.set_source(ScanSource(str(scan)))
    for method, box in panel.boxes.items():
        box.setChecked(method.endswith(("-ml", "-adam")))
    panel.run_button.click()
    qtbot.waitUntil(lambda: len(viewer_model.layers) == 2, timeout=60_000)
    broken, endless = queue.runs
    assert "ended with exit code 1 after 1 of" in broken.line
    assert "no room for &lt;object&gt;" in panel.lines["lsq-ml"].text()
    assert (broken.state, endless.state) == ("failed", "running")

    qtbot.waitUntil(lambda: pid.exists() and pid.read_text() != "", timeout=10_000)
    began = time.monotonic()
    panel.cancel_button.click()
    qtbot.waitUntil(lambda: not queue.busy)
    assert time.monotonic() - began < 1.0
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert endless.state == "cancelled"
    # What had come by then is kept of both, and says how far it is.
    assert [layer.name for layer in viewer_model.layers] == [
        "disk [lsq-ml:tuned]", "disk [ptyrad-adam:tuned]",
    ]  # fmt: skip
    for layer in viewer_model.layers:
        np.testing.assert_array_equal(layer.data, np.float32(0.25))
        assert layer.metadata["napari_mep"]["step"] == 1
        assert not is_running(layer)


def test_a_real_run_ends_with_provenance(qtbot, viewer_model, scan):
    queue = BaselineQueue(viewer_model)
    plan = ReconstructionPlan(method="gradient", gradient={"iterations": 2}, device="cpu")
    missing = ScanSource(str(scan.with_name("gone.zarr")))
    with qtbot.waitSignal(queue.finished, timeout=30_000):
        queue.start(missing, [plan])
    assert queue.runs[0].state == "failed"
    assert "no such file" in queue.runs[0].line
    with qtbot.waitSignal(queue.finished, timeout=60_000):
        queue.start(ScanSource(str(scan)), [plan])
    assert queue.runs[0].state == "done"
    (layer,) = viewer_model.layers
    record = layer.metadata["napari_mep"]
    assert record["step"] == record["total"] == 2
    assert 0 < record["residual"] < 1
    assert len(record["data"]["fingerprint"]) == 64
    assert record["dataset_path"] == str(scan)
    # The record alone is enough to open the scan again, with its calibration.
    again = open_source(scan_source(layer))
    assert again.calibration == open_source(ScanSource(str(scan))).calibration
    assert plan_of(record) == plan.settled(sees_estimate=False)


def test_a_scan_is_opened_again_with_the_preprocessing_of_its_calibration(scan):
    binned = PreprocessingPlan(bin_detector=2, scan_rows=(1, 4))
    plan = ReconstructionPlan(method="gradient")
    dataset = preprocess(open_source(ScanSource(str(scan))), binned)
    record = json.loads(json.dumps(provenance(dataset, plan)))
    layer = Image(np.zeros((2, 4, 4)), metadata={"napari_mep": record})
    again = open_source(scan_source(layer))
    assert again.calibration == dataset.calibration
    np.testing.assert_array_equal(again.counts(), dataset.counts())


def test_measured_against_predicted(scan):
    flat = PhaseVolume(np.zeros((4, 18, 18)), (1.6, 0.2083, 0.2083), (0.8, 0, 0))
    coarse = PhaseVolume(np.zeros((4, 8, 8)), (1.6, 0.9, 0.9), (0.8, 0, 0))
    plan = ReconstructionPlan(method="gradient")
    found = patterns_at(
        ScanSource(str(scan)), [("flat", flat, plan), ("coarse", coarse, plan)], (1.1, 2.9)
    )
    assert found.position == (2, 6)
    assert found.position_A == pytest.approx((1.0, 3.0))
    (_, predicted, problem), (_, none, reason) = found.predicted
    assert problem == ""
    assert predicted.sum() == pytest.approx(found.measured.sum(), rel=0.02)
    assert np.corrcoef(predicted.ravel(), found.measured.ravel())[0, 1] > 0.95
    assert none is None
    assert "pixel_size_A" in reason


def test_one_residual_for_volumes_of_any_program(qtbot, scan):
    """A foreign volume reports none of its own, and is held against the same patterns."""
    rng = np.random.default_rng(0)
    flat, rough = (
        PhaseVolume(a * rng.normal(size=(4, 18, 18)), (1.6, 0.2083, 0.2083), (0.8, 0, 0))
        for a in (0.0, 0.3)
    )
    plan = ReconstructionPlan(method="gradient")
    found = residuals(ScanSource(str(scan)), [("flat", flat, plan), ("rough", rough, plan)])
    assert found["flat"] == pytest.approx(
        volume_residual(open_source(ScanSource(str(scan))), plan, flat), rel=0.05
    )
    assert found["rough"] > 1.2 * found["flat"]
    coarse = PhaseVolume(np.zeros((4, 8, 8)), (1.6, 0.9, 0.9), (0.8, 0, 0))
    only = residuals(ScanSource(str(scan)), [("flat", flat, plan), ("coarse", coarse, plan)])
    assert set(only) == {"flat"}
    far = PhaseVolume(flat.data, flat.voxel_size_A, (0.8, 90, 0))
    assert residuals(ScanSource(str(scan)), [("far", far, plan)]) == {}

    panel = TablePanel()
    qtbot.addWidget(panel)
    volumes = [Candidate(name, name, v) for name, v in (("flat", flat), ("rough", rough))]
    volumes.append(Candidate("far", "far", far))
    panel.set_source(ScanSource(str(scan)))
    panel.show_scene(Scene(prepare(volumes, Settings())))
    qtbot.waitUntil(lambda: bool(panel.rows) and not panel.busy, timeout=20_000)
    row, stranger = panel.rows
    assert np.isnan(stranger.common_residual)
    assert row.common_residual == pytest.approx(found["rough"])
    assert row.scan == str(scan)
    assert np.isnan(row.residual)


def test_patterns_are_drawn_on_one_logarithmic_scale(qtbot, scan):
    panel = PatternPanel()
    qtbot.addWidget(panel)
    flat = PhaseVolume(np.zeros((4, 18, 18)), (1.6, 0.2083, 0.2083), (0.8, 0, 0))
    panel.set_source(ScanSource(str(scan)))
    with qtbot.waitSignal(panel.computed, timeout=20_000):
        panel.show_scene(Scene(prepare([Candidate("k", "flat", flat)], Settings())))
    measured, predicted = panel.gallery.tiles
    assert measured.title == "measured"
    assert predicted.title.startswith("flat\nmisfit 0.")
    assert measured.unit == "1/Å"
    assert measured.box.width == pytest.approx(32 * 0.15)
    counts = panel.patterns.measured
    few = (counts > 0) & (counts < 0.9 * counts.max())
    assert few.any()
    panel.minus.setChecked(True)
    signed = panel.gallery.tiles[1].grey.astype(int)
    assert panel.gallery.tiles[0].grey.ndim == 2
    too_much = panel.patterns.predicted[0][1] > panel.patterns.measured + 15
    assert too_much.any()
    assert (signed[too_much][:, 0] > signed[too_much][:, 2]).all()  # red
    panel.minus.setChecked(False)
    panel.log.setChecked(False)
    linear = panel.gallery.tiles[0].grey
    # A logarithm lifts the weak pixels and leaves the brightest where it is.
    assert (measured.grey[few] > linear[few]).all()
    assert measured.grey.max() == linear.max() == 255


def test_a_candidate_without_a_plan_gets_the_default():
    prepared = prepare([Candidate("k", "truth", volume())], Settings())
    assert plan_of(prepared.reference.candidate.record) == ReconstructionPlan()
    assert plan_of({"plan": {"unknown": 1}}) == ReconstructionPlan()
