"""What the widget says: progress lines, summaries of a scan, provenance."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from napari_mep.errors import CalibrationError, DataError
from napari_mep.widgets._opening import open_scan
from napari_mep.widgets._progress import duration, progress_line
from tests.widgets.conftest import snapshot


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_progress_while_sampling():
    line = plain(progress_line(snapshot(12, 30, eta_s=38.2), 1.234))
    assert line == (
        "step 12/30 · logSNR −1.2 · residual 0.034 (noise floor 0.031) · 1.2 s/step · 38 s left"
    )


def test_progress_leaves_out_what_is_unknown():
    nan = float("nan")
    state = snapshot(1, 8, logsnr=nan, residual_floor=nan, eta_s=nan)
    assert plain(progress_line(state)) == "step 1/8 · residual 0.034"


def test_progress_at_the_end_and_after_a_stop():
    assert plain(progress_line(snapshot(30, 30), 1.0)).endswith("· 36 s in all")
    stopped = plain(progress_line(snapshot(3, 30), 1.0, ended=True))
    assert stopped.startswith("step 3/30")
    assert stopped.endswith("· 3.6 s in all")


@pytest.mark.parametrize(
    ("seconds", "words"), [(4.2, "4.2 s"), (38.4, "38 s"), (700, "12 min"), (12600, "3.5 h")]
)
def test_durations(seconds, words):
    assert duration(seconds) == words


@pytest.fixture
def scan_file(tmp_path):
    """HDF5 with a bright-field disk of 5.4 pixels: 20 mrad at 300 keV and 0.1877 1/A a pixel."""
    k = np.arange(32) - 16
    disk = (np.hypot(k[:, None], k[None, :]) < 5.4).astype(np.float32)
    patterns = np.random.default_rng(0).poisson(50 * disk, (4, 5, 32, 32)).astype(np.float32)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["data/patterns"] = patterns
    return tmp_path / "scan.h5"


@pytest.fixture
def calibration_file(tmp_path):
    path = tmp_path / "cal.toml"
    path.write_text(
        "beam_energy_keV = 300.0\nconvergence_semiangle_mrad = 20.0\ndefocus_A = -200.0\n"
        "scan_step_A = 0.5\ndetector_step_mrad = 3.7\nspecimen_thickness_A = 12.8\n"
    )
    return path


def test_a_calibrated_scan_is_summarised(scan_file, calibration_file):
    scan = open_scan(f"{scan_file}::/data/patterns", str(calibration_file))
    assert scan.problem == ""
    assert scan.caution == ""
    assert scan.dataset.scan_shape == (4, 5)
    assert scan.summary[0] == "4 × 5 patterns of 32 × 32 pixels"
    assert scan.summary[1] == "300 keV · 20 mrad · 200 Å overfocus"
    assert scan.summary[2].startswith("step 0.5 Å · pixel 0.166 Å · ")
    assert len(scan.fingerprint) == 64
    assert "convergence_semiangle_mrad" in scan.details


def test_a_scan_without_calibration_is_shown_with_the_reason(scan_file):
    scan = open_scan(str(scan_file))
    assert scan.dataset is None
    assert scan.summary == ("4 × 5 patterns of 32 × 32 pixels",)
    assert "beam_energy_keV" in scan.problem
    assert "scan_step_A" in scan.problem


def test_a_disk_of_another_size_is_pointed_out(scan_file, calibration_file):
    text = calibration_file.read_text().replace("20.0", "28.0")
    calibration_file.write_text(text)
    scan = open_scan(str(scan_file), str(calibration_file))
    assert scan.problem == ""
    assert "bright-field disk" in scan.caution


def test_impossible_values_raise_one_line(scan_file, calibration_file, tmp_path):
    calibration_file.write_text(calibration_file.read_text().replace("300.0", "300000.0"))
    with pytest.raises(CalibrationError, match="eV"):
        open_scan(str(scan_file), str(calibration_file))
    with pytest.raises(DataError, match="no such file"):
        open_scan(str(tmp_path / "nowhere.npy"))
