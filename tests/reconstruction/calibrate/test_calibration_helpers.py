"""Each helper on its own, as the data widget offers it."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from napari_mep.data.calibration import PartialCalibration
from napari_mep.data.opened import OpenedPatterns
from napari_mep.data.preprocessing import PreprocessingPlan
from napari_mep.data.virtual import Stopped
from napari_mep.errors import CalibrationError, DataError
from napari_mep.reconstruction import _measurements
from napari_mep.reconstruction.calibration_helpers import HELPERS, Request, measure


@pytest.fixture
def opened(case) -> OpenedPatterns:
    known = PartialCalibration.from_mapping(case.known())
    return OpenedPatterns(case.recording.patterns, known, "recording", None, "array")


@pytest.fixture
def prepared(case, opened, tmp_path) -> OpenedPatterns:
    """With everything right but the orientation."""
    np.save(tmp_path / "bad.npy", case.recording.bad)
    plan = PreprocessingPlan(
        bad_pixels_file=str(tmp_path / "bad.npy"),
        centre_px=(20.7, 18.7),
        descan_px=(0.06, 0.02, -0.03, 0.08),
    )
    true = case.expected.calibration
    values = {
        **case.known(),
        "defocus_A": true.defocus_A,
        "scan_rotation_deg": true.scan_rotation_deg,
        "detector_step_mrad": true.detector_step_mrad,
    }
    known = PartialCalibration.from_mapping(values)
    return replace(opened, calibration=replace(known, preprocessing=plan))


def test_bad_pixels_are_proposed_as_a_mask(case, opened):
    found = measure("bad_pixels", Request(opened))
    # Where nothing is counted a dead pixel cannot be told; in the disk every one can.
    k = np.arange(40)
    disk = np.hypot(k[:, None] - 20.7, k[None, :] - 18.7) < 7
    assert (case.recording.bad & disk).sum() > 3
    np.testing.assert_array_equal(found.bad[disk], case.recording.bad[disk])
    assert not (found.bad & ~case.recording.bad).any()
    assert not found.calibration


def test_the_disk_gives_step_and_centre_whether_corrected_or_not(case, opened, prepared):
    true = case.expected.calibration.detector_step_mrad
    bare = measure("disk", Request(opened))
    assert bare.calibration["detector_step_mrad"] == pytest.approx(true, rel=0.05)
    again = measure("disk", Request(prepared))
    assert again.calibration["detector_step_mrad"] == pytest.approx(true, rel=0.01)
    # What is left beside K // 2 is added to the centre that is known.
    assert again.preprocessing["centre_px"] == pytest.approx((20.7, 18.7), abs=0.1)


def test_the_disk_gives_the_semiangle_where_the_step_is_known(case, prepared):
    values = dict(prepared.calibration.values)
    semiangle = values.pop("convergence_semiangle_mrad")
    known = replace(PartialCalibration(values), preprocessing=prepared.calibration.preprocessing)
    found = measure("disk", Request(replace(prepared, calibration=known)))
    assert found.calibration["convergence_semiangle_mrad"] == pytest.approx(semiangle, rel=0.01)


def test_a_vacuum_pattern(opened):
    k = np.arange(40) - 20
    vacuum = 100.0 * (np.hypot(k[:, None] - 1, k[None, :]) < 8)
    found = measure("vacuum", Request(opened, vacuum=vacuum))
    assert found.calibration["detector_step_mrad"] == pytest.approx(20 / 8, rel=0.03)
    assert found.preprocessing["centre_px"] == pytest.approx((21, 20), abs=0.1)
    with pytest.raises(DataError, match="vacuum pattern: shape"):
        measure("vacuum", Request(opened, vacuum=vacuum[1:]))


def test_drift(opened):
    found = measure("drift", Request(opened))
    expected = (0.06, 0.02, -0.03, 0.08)
    assert found.preprocessing["descan_px"] == pytest.approx(expected, abs=0.02)


def test_rotation_from_the_curl_is_a_whole_orientation(prepared):
    found = measure("rotation", Request(prepared))
    assert set(found.calibration) == {
        "scan_rotation_deg", "detector_transpose", "detector_flip_y", "detector_flip_x"
    }  # fmt: skip
    assert abs(found.calibration["scan_rotation_deg"]) <= 45


def test_a_scan_too_large_for_the_curl_is_cropped_as_the_message_says(prepared, monkeypatch):
    monkeypatch.setattr(_measurements, "MOST_POSITIONS", 150)
    with pytest.raises(DataError, match="scan_rows and scan_columns"):
        measure("rotation", Request(prepared))
    known = prepared.calibration
    part = known.preprocessing.replace(scan_rows=(2, 14), scan_columns=(3, 15))
    cropped = replace(prepared, calibration=replace(known, preprocessing=part))
    assert measure("rotation", Request(cropped)).calibration["scan_rotation_deg"]


@pytest.fixture
def raw(case, opened, tmp_path) -> OpenedPatterns:
    """As a camera gives it: a dark level, a gain of two, one more bad pixel that is known."""
    known_bad = np.zeros((40, 40), bool)
    known_bad[3, 30] = True
    patterns = 2 * case.recording.patterns.astype(np.int64) + 100
    patterns[..., 3, 30] = 5_000
    for name, image in (("gain", np.full((40, 40), 2.0)), ("bad", known_bad)):
        np.save(tmp_path / f"{name}.npy", image)
    plan = PreprocessingPlan(
        background=100.0,
        gain_file=str(tmp_path / "gain.npy"),
        bad_pixels_file=str(tmp_path / "bad.npy"),
        scan_rows=(0, 12),
    )
    known = replace(opened.calibration, preprocessing=plan)
    return replace(opened, patterns=patterns, calibration=known)


def test_helpers_measure_corrected_patterns(case, raw):
    bad = measure("bad_pixels", Request(raw)).bad
    assert bad[3, 30], "what is known stays known"
    k = np.arange(40)
    disk = np.hypot(k[:, None] - 20.7, k[None, :] - 18.7) < 7
    np.testing.assert_array_equal(bad[disk], case.recording.bad[disk])
    np.save(raw.calibration.preprocessing.bad_pixels_file, bad)
    dose = measure("dose", Request(raw)).estimate
    assert dose.dose_e_per_A2 == pytest.approx(1e5, rel=0.15)
    found = measure("drift", Request(raw)).preprocessing
    assert found["descan_px"] == pytest.approx((0.06, 0.02, -0.03, 0.08), abs=0.03)
    # The part ends before the last rows; the centre is still that of the whole scan's middle.
    assert found["centre_px"] == pytest.approx((20.7, 18.7), abs=0.1)


def test_dose(case, opened):
    told = []
    found = measure("dose", Request(opened, progress=lambda *done: told.append(done)))
    assert found.estimate.dose_e_per_A2 == pytest.approx(1e5, rel=0.1)
    assert not found.calibration  # whole counts are electrons already
    assert told[-1] == (256, 256)
    scaled = measure("dose", Request(opened, counts_per_electron=2.0))
    assert scaled.calibration["dose_e_per_A2"] == pytest.approx(
        found.estimate.dose_e_per_A2 / 2, rel=1e-6
    )


def test_the_eight_orientations_find_the_flip(prepared):
    told = []
    found = measure("orientation", Request(prepared, progress=lambda *done: told.append(done)))
    assert found.calibration == {
        "detector_transpose": False, "detector_flip_y": True, "detector_flip_x": False
    }  # fmt: skip
    assert told[-1] == (8, 8)


def test_what_is_lacking_is_named(opened):
    assert HELPERS["defocus"].lacks(opened) == "give detector_step_invA first"
    with pytest.raises(CalibrationError, match="Defocus: give detector_step_invA first"):
        measure("defocus", Request(opened))


@pytest.mark.parametrize("name", ["bad_pixels", "disk", "drift", "dose", "defocus"])
def test_helpers_stop(prepared, name):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        measure(name, Request(prepared, stop=stop))
