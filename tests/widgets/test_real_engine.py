"""The widget on a real, tiny problem: preflight, engine, Stop and the result that it keeps."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_mep.data.calibration import Calibration
from napari_mep.data.dataset import DiffractionDataset
from napari_mep.data.native import write_dataset
from napari_mep.export.ome_zarr import read_reconstruction
from napari_mep.reconstruction.baselines import BASELINES
from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.widgets import ReconstructWidget
from napari_mep.widgets._job import JobState


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A bright-field disk at 12 x 12 positions: nothing to see, but all there is to compute."""
    k = (np.arange(32) - 16) * 0.15
    disk = np.hypot(k[:, None], k[None, :]) < 1.0
    expected = np.broadcast_to(100.0 * disk, (12, 12, 32, 32))
    counts = np.random.default_rng(0).poisson(expected).astype(np.uint16)
    calibration = Calibration(
        beam_energy_keV=300, convergence_semiangle_mrad=19.7, defocus_A=-30, scan_step_A=0.5,
        detector_step_invA=0.15, specimen_thickness_A=6.4,
    )  # fmt: skip
    path = tmp_path / "scan.zarr"
    write_dataset(path, DiffractionDataset(counts, calibration, "disk"))
    return path


@pytest.fixture
def widget(qtbot: Any, viewer_model: Any, scan: Path) -> Iterator[ReconstructWidget]:
    widget = ReconstructWidget(viewer_model)
    qtbot.addWidget(widget)
    widget.set_plan(ReconstructionPlan(method="gradient", gradient={"iterations": 5000}))
    widget.data.set_source(str(scan))
    qtbot.waitUntil(widget.controls.run_button.isEnabled)
    # The check of the plan loads torch in a thread; a run would only wait for it.
    qtbot.waitUntil(lambda: not widget._checking.busy, timeout=30_000)
    assert widget.problem() == ""
    yield widget
    widget.close_down()
    qtbot.waitUntil(lambda: not widget.state.busy)


def test_stop_ends_a_real_run_at_once_and_keeps_the_result(qtbot, widget, scan, tmp_path):
    widget.controls.run_button.click()
    qtbot.waitUntil(lambda: widget.layer is not None, timeout=20_000)
    began = time.perf_counter()
    widget.controls.stop_button.click()
    assert time.perf_counter() - began < 0.2
    qtbot.waitUntil(lambda: widget.state is JobState.DONE)
    volume, record = widget.result
    assert 0 < record["step"] < record["total"] == 5000
    assert 0 < record["residual"] < 1
    np.testing.assert_array_equal(widget.layer.data, volume.data)

    with qtbot.waitSignal(widget.export_finished) as answer:
        widget.export(tmp_path / "stopped.ome.zarr")
    assert answer.args == [""]
    exported, provenance = read_reconstruction(tmp_path / "stopped.ome.zarr")
    np.testing.assert_array_equal(exported.data, volume.data)
    assert provenance["step"] == record["step"]
    assert provenance["dataset_path"] == str(scan)


def test_a_baseline_that_crashes_says_its_last_lines_and_the_viewer_lives(
    qtbot, widget, tmp_path, monkeypatch
):
    """As a package would: one iteration arrives, then its process ends in an exception."""
    (tmp_path / "a_child.py").write_text(
        "import numpy as np\n"
        "from napari_mep.reconstruction.baselines._child import main\n"
        "def run(job, report):\n"
        "    report(1, 0.5, np.ones(job.object_shape, np.float32))\n"
        "    raise MemoryError('no room for <object>')\n"
        "main(run)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    broken = dataclasses.replace(BASELINES["lsq-ml"], module="a_child")
    monkeypatch.setattr("napari_mep.reconstruction.baselines.solve.BASELINES", {"lsq-ml": broken})
    widget.set_plan(ReconstructionPlan(method="lsq-ml"))
    qtbot.waitUntil(lambda: not widget._checking.busy, timeout=30_000)
    widget.controls.run_button.click()
    qtbot.waitUntil(lambda: widget.state is JobState.FAILED, timeout=20_000)
    said = widget.controls.message.text()
    assert "LSQ-ML (Pty-Chi) ended with exit code 1 after 1 of 200 iterations" in said
    assert "MemoryError: no room for &lt;object&gt;" in said
    volume, record = widget.result
    assert record["step"] == 1
    assert record["baseline"]["package"] == "ptychi"
    np.testing.assert_array_equal(widget.layer.data, volume.data)
    # Nothing is in the way of another run.
    widget.set_plan(ReconstructionPlan(method="gradient", gradient={"iterations": 2}))
    qtbot.waitUntil(widget.controls.run_button.isEnabled)
    widget.controls.run_button.click()
    qtbot.waitUntil(lambda: widget.state is JobState.DONE, timeout=20_000)


def test_the_real_preflight_disables_run(qtbot, widget):
    widget.set_plan(ReconstructionPlan(method="gradient", device="cuda:99"))
    qtbot.waitUntil(lambda: not widget.controls.run_button.isEnabled())
    assert "cuda:99" in widget.problem()
