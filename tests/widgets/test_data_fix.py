"""An experiment with everything wrong is calibrated from the data widget alone."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest

from napari_mep.data import open_patterns
from napari_mep.widgets import DataWidget
from tests.faulty_experiment import case  # noqa: F401  # a fixture


@pytest.fixture
def files(case, tmp_path) -> tuple[Path, Path]:  # noqa: F811
    """The scan as plain HDF5, and what its user knows."""
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["patterns"] = case.recording.patterns
    lines = (f"{name} = {value}\n" for name, value in case.known().items())
    (tmp_path / "known.toml").write_text("".join(lines))
    return tmp_path / "scan.h5", tmp_path / "known.toml"


def test_fix_everything_finds_what_is_wrong(qtbot, viewer_model, files, case, tmp_path):  # noqa: F811
    def rest() -> None:
        for _ in range(2):
            qtbot.waitUntil(lambda: not widget.busy, timeout=120_000)
            qtbot.wait(20)

    widget = DataWidget(viewer_model)
    qtbot.addWidget(widget)
    widget.open(*(str(path) for path in files))
    rest()
    widget.helpers.fix_button.click()
    rest()
    widget.helpers.apply_button.click()
    rest()
    assert widget.state.calibration.sources["scan_rotation_deg"] == "fitted"
    widget.save(tmp_path / "cal.toml")
    rest()
    found = open_patterns(files[0], tmp_path / "cal.toml").calibrated().calibration
    true = case.expected.calibration
    assert found.scan_rotation_deg == pytest.approx(true.scan_rotation_deg, abs=0.5)
    assert found.defocus_A == pytest.approx(true.defocus_A, abs=15)
    assert found.detector_step_mrad == pytest.approx(true.detector_step_mrad, rel=0.01)
    flips = (found.detector_transpose, found.detector_flip_y, found.detector_flip_x)
    assert flips == (False, True, False)
    widget.close_down()
