from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from napari_mep.data import DiffractionDataset, PartialCalibration
from napari_mep.data.info import describe, format_lines
from napari_mep.data.readers import open_patterns


def disk_dataset(values, radius_px: float, offset=(0, 0)) -> DiffractionDataset:
    k = np.arange(64) - 32
    disk = np.hypot(k[:, None] - offset[0], k[None, :] - offset[1]) <= radius_px
    patterns = np.broadcast_to(np.where(disk, 10.0, 0.1), (3, 4, 64, 64))
    calibration = PartialCalibration.from_mapping({**values, "detector_step_invA": 0.078125})
    return DiffractionDataset(patterns, calibration.complete(), "disk")


def test_complete_dataset(values):
    """At 300 keV 21.4 mrad are 1.08699 1/A, 13.9135 pixels of 0.078125 1/A."""
    data = disk_dataset(values, 13.9, offset=(2, -1))
    info = describe(data)
    json.dumps(info, allow_nan=False)
    derived = {name: entry["value"] for name, entry in info["derived"].items()}
    assert derived["wavelength"] == pytest.approx(0.0196875, rel=1e-5)
    assert derived["pixel_size"] == pytest.approx([0.2, 0.2])
    assert derived["bright_field_radius"] == pytest.approx(13.9135, rel=1e-4)
    assert derived["measured_disk_radius"] == pytest.approx(13.9, abs=0.2)
    assert derived["pattern_centre_offset"] == pytest.approx([2, -1])
    assert derived["max_angle"] == pytest.approx(32 * 0.078125 * 19.6875, rel=1e-5)
    electrons = data.counts([0]).sum()
    assert derived["electrons_per_pattern"] == pytest.approx(electrons, rel=1e-5)
    assert derived["dose"] == pytest.approx(electrons / 0.25, rel=1e-5)
    assert info["calibration"]["scan_step_A"] == {"value": 0.5, "unit": "A", "source": "user"}
    assert info["calibration"]["defocus_A"]["source"] == "default"
    assert info["missing"] == []
    assert info["problems"] == []
    assert info["patterns_checked"] == 12
    assert "  patterns checked            12 of 12: no impossible values" in format_lines(info)


def test_incomplete_file_is_described_all_the_same(tmp_path, patterns):
    np.save(tmp_path / "a.npy", patterns)
    info = describe(open_patterns(tmp_path / "a.npy", {"scan_step_A": 0.5}))
    json.dumps(info, allow_nan=False)
    assert info["format"] == "NumPy"
    assert info["missing"] == [
        "beam_energy_keV",
        "convergence_semiangle_mrad",
        "detector_step_invA",
    ]
    assert len(info["problems"]) == 1
    assert "calibration lacks beam_energy_keV" in info["problems"][0]
    assert info["derived"] == {}
    assert info["shape"] == [3, 4, 16, 16]


def test_a_detector_too_small_is_a_problem_not_a_failure(tmp_path, patterns, values):
    np.save(tmp_path / "a.npy", patterns)
    info = describe(open_patterns(tmp_path / "a.npy", {**values, "detector_step_invA": 0.01}))
    assert "bright-field disk" in info["problems"][0]
    assert info["missing"] == []


def test_lines_for_people(values, tmp_path, patterns):
    np.save(tmp_path / "a.npy", patterns)
    text = "\n".join(format_lines(describe(open_patterns(tmp_path / "a.npy", {}))))
    assert "3 x 4 scan positions, 16 x 16 detector pixels" in text
    assert "beam_energy_keV             missing: required, in keV" in text
    complete = replace(disk_dataset(values, 13.9), provenance={})
    text = "\n".join(format_lines(describe(complete)))
    assert "convergence_semiangle_mrad  21.4 mrad  (user)" in text
    assert "detector_flip_x             no  (default)" in text
    assert "pixel size                  0.2 x 0.2 A" in text
    assert "problem" not in text


def test_dark_data_have_no_disk(values):
    data = replace(disk_dataset(values, 13.9), patterns=np.zeros((2, 2, 64, 64)))
    info = describe(data)
    assert info["derived"]["electrons_per_pattern"]["value"] == 0
    assert "measured_disk_radius" not in info["derived"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -3.0])
def test_values_that_no_detector_delivers_are_a_problem(dataset, patterns, value):
    broken = patterns.copy()
    broken[1, 2, 0, 0] = value
    description = describe(replace(dataset, patterns=broken))
    (problem,) = description["problems"]
    assert "at scan position (y=1, x=2)" in problem
    assert any(line == f"problem: {problem}" for line in format_lines(description))
    assert description["derived"]["pixel_size"]


def test_one_bad_pattern_among_many_is_seen(values):
    data = disk_dataset(values, 13.9)
    patterns = np.ones((8, 10, 64, 64), np.float32)
    patterns[5, 7] = np.nan
    description = describe(replace(data, patterns=patterns))
    assert "NaN at scan position (y=5, x=7)" in description["problems"][0]
    assert description["patterns_checked"] == 0


def test_of_a_large_scan_a_sample_is_checked_and_told(values):
    patterns = np.broadcast_to(np.float32(1), (100, 100, 64, 64))
    description = describe(replace(disk_dataset(values, 13.9), patterns=patterns))
    assert description["patterns_checked"] == 4096
    assert any("4096 of 10000" in line for line in format_lines(description))
