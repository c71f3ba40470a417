"""The chain: an experiment with everything wrong comes out right, from files and the command."""

from __future__ import annotations

import json
import re
import threading
import tomllib
from pathlib import Path

import h5py
import numpy as np
import pytest

from napari_mep.cli import main
from napari_mep.data import open_dataset
from napari_mep.data.calibration import PartialCalibration
from napari_mep.data.opened import OpenedPatterns
from napari_mep.data.virtual import Stopped
from napari_mep.errors import DataError, ExportError
from napari_mep.reconstruction import ReconstructionPlan, reconstruct
from napari_mep.reconstruction.calibrate import fix

GRADIENT = ReconstructionPlan.parse(
    {"method": "gradient", "device": "cpu", "object": {"slice_thickness_A": 4.0}}
)


def residual(dataset) -> float:
    for snapshot in reconstruct(dataset, GRADIENT):  # noqa: B007
        pass
    return snapshot.residual


def write_toml(path: Path, values: dict) -> Path:
    path.write_text("".join(f"{name} = {value}\n" for name, value in values.items()))
    return path


@pytest.fixture(scope="module")
def fixed(case, tmp_path_factory) -> tuple[dict, Path, Path]:
    """What ``info --fix`` says of plain HDF5, with the folder and the scan; done once."""
    folder = tmp_path_factory.mktemp("fix")
    with h5py.File(folder / "scan.h5", "w") as file:
        file["patterns"] = case.recording.patterns
    known = write_toml(folder / "known.toml", case.known())
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = main(
            ["info", str(folder / "scan.h5"), "--fix", "--json", "--calibration", str(known),
             "-o", str(folder / "cal.toml"), "--picture", str(folder / "proof.png")]
        )  # fmt: skip
    assert status == 0
    return json.loads(out.getvalue()), folder, folder / "scan.h5"


def test_every_quantity_is_found_within_its_tolerance(fixed, case):
    said, _, _ = fixed
    values, true = said["calibration"], case.expected.calibration
    assert values["scan_rotation_deg"] == pytest.approx(true.scan_rotation_deg, abs=0.5)
    assert values["defocus_A"] == pytest.approx(true.defocus_A, abs=15)
    assert values["detector_step_mrad"] == pytest.approx(true.detector_step_mrad, rel=0.01)
    assert (values["detector_transpose"], values["detector_flip_y"]) == (False, True)
    assert values["detector_flip_x"] is False
    fitted = {name for name, source in said["sources"].items() if source == "fitted"}
    assert {"scan_rotation_deg", "defocus_A", "detector_step_mrad"} < fitted
    assert said["sources"]["beam_energy_keV"] == "user"
    descan = said["preprocessing"]["descan_px"]
    assert descan == pytest.approx([0.06, 0.02, -0.03, 0.08], abs=0.02)
    assert said["preprocessing"]["centre_px"] == pytest.approx([20.7, 18.7], abs=0.1)


def test_the_calibration_file_makes_the_data_reconstruct(fixed, case):
    said, folder, scan = fixed
    assert {Path(name).name for name in said["written"]} == {
        "cal.toml", "cal-bad-pixels.npy", "proof.png"
    }  # fmt: skip
    assert (folder / "proof.png").stat().st_size > 20_000
    text = (folder / "cal.toml").read_text()
    assert "# deg, fitted, ± 0.1" in text
    assert tomllib.loads(text)["preprocessing"]["bad_pixels_file"] == "cal-bad-pixels.npy"
    found = np.load(folder / "cal-bad-pixels.npy")
    bad = case.recording.bad
    assert not (found & ~bad).any()
    y, x = np.ogrid[:40, :40]
    assert found[bad & (np.hypot(y - 20, x - 20) < 12)].all()  # all that matter
    dataset = open_dataset(scan, folder / "cal.toml")
    assert dataset.mask is not None
    mended = residual(dataset)
    raw = residual(open_dataset(scan, {**case.known(), "detector_step_invA": 0.1}))
    assert mended < 0.16
    assert raw > 0.22


def test_the_raw_file_is_as_it_was(fixed, case):
    _, _, scan = fixed
    with h5py.File(scan) as file:
        np.testing.assert_array_equal(file["patterns"][:], case.recording.patterns)


def test_people_read_units_sources_and_what_was_skipped(case, tmp_path, capsys):
    """Without a defocus nothing can be reconstructed, but the rest is measured all the same."""
    np.save(tmp_path / "scan.npy", case.recording.patterns)
    known = write_toml(tmp_path / "known.toml", case.known(defocus_A=None))
    arguments = ["info", str(tmp_path / "scan.npy"), "--fix", "--calibration", str(known)]
    assert main([*arguments, "-o", str(tmp_path / "cal.toml")]) == 0
    text = capsys.readouterr().out
    assert "Bright-field disk              centre (20.00, 20.00) px, radius 10.1" in text
    assert re.search(r"detector_step_mrad          1\.9[678]\d* mrad  \(fitted\)", text)
    assert "scan_step_A                 0.5 A  (user)" in text
    assert "Orientation                    give defocus_A, to about 30 % and with its sign" in text
    assert "Scan step                      no lattice spacings given" in text
    assert "descan drift taken out" in text
    assert main([*arguments, "-o", str(tmp_path / "cal.toml")]) == 2
    assert "exists" in capsys.readouterr().err


def opened(case, **changes) -> OpenedPatterns:
    known = PartialCalibration.from_mapping(case.known(**changes))
    return OpenedPatterns(case.recording.patterns, known, "scan", None, "test")


def test_semiangle_where_only_the_detector_step_is_known(case):
    found = fix(
        opened(case, convergence_semiangle_mrad=None, detector_step_invA=0.1, defocus_A=None)
    )
    semiangle = found.calibration.values["convergence_semiangle_mrad"]
    assert semiangle == pytest.approx(20.0, rel=0.01)
    assert found.calibration.sources["convergence_semiangle_mrad"] == "fitted"


def test_a_vacuum_pattern_gives_the_disk(case):
    y, x = np.ogrid[:40, :40]
    vacuum = np.clip(10.66 - np.hypot(y - 20.5, x - 18.5), 0, 1) * 50
    found = fix(opened(case, defocus_A=None), vacuum=vacuum)
    assert found.calibration.values["detector_step_mrad"] == pytest.approx(20 / 10.16, rel=0.01)
    with pytest.raises(DataError, match="vacuum pattern: shape"):
        fix(opened(case), vacuum=vacuum[:30])


@pytest.fixture
def camera(case, tmp_path) -> tuple[Path, Path]:
    """A scan with a dark level, a gain and a bad pixel that is known; what the user says of it."""
    folder = tmp_path / "camera"
    folder.mkdir()
    patterns = 2 * case.recording.patterns.astype(np.int32) + 100
    patterns[..., 3, 30] = 5_000
    known_bad = np.zeros((40, 40), bool)
    known_bad[3, 30] = True
    np.save(tmp_path / "scan.npy", patterns)
    np.save(folder / "gain.npy", np.full((40, 40), 2.0))
    np.save(folder / "bad.npy", known_bad)
    toml = write_toml(folder / "known.toml", case.known(defocus_A=None))
    with toml.open("a") as file:
        file.write(
            "[preprocessing]\nbackground = 100.0\ngain_file = 'gain.npy'\nclip_negative = true\n"
            "bad_pixels_file = 'bad.npy'\nscan_rows = [0, 12]\nbin_detector = 2\n"
            "detector_pixels = 18\nsubpixel = false\n"
        )
    return tmp_path / "scan.npy", toml


def test_what_the_user_asked_for_is_kept_and_counts_in_measuring(
    case, camera, tmp_path, capsys, monkeypatch
):
    scan, _ = camera
    monkeypatch.chdir(tmp_path)
    arguments = ["info", str(scan), "--fix", "--calibration", "camera/known.toml"]
    assert main([*arguments, "-o", "cal.toml", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    true = case.expected.calibration
    assert said["calibration"]["detector_step_mrad"] == pytest.approx(
        true.detector_step_mrad, rel=0.01
    )
    dose = next(e["summary"] for e in said["estimates"] if e["title"] == "Dose")
    assert float(re.search(r"([\d.e+]+) e/A2", dose)[1]) == pytest.approx(1e5, rel=0.15)
    skipped = {skip["title"]: skip["reason"] for skip in said["skipped"]}
    assert skipped["bin_detector"] == "kept; measured on the detector as stored"
    assert "detector_pixels" in skipped
    written = tomllib.loads((tmp_path / "cal.toml").read_text())["preprocessing"]
    descan, centre = written.pop("descan_px"), written.pop("centre_px")
    assert descan == pytest.approx([0.06, 0.02, -0.03, 0.08], abs=0.03)
    assert centre == pytest.approx([20.7, 18.7], abs=0.1)  # at the middle of the whole scan
    assert written == {
        "background": 100.0, "gain_file": "camera/gain.npy", "clip_negative": True,
        "bad_pixels_file": "cal-bad-pixels.npy", "scan_rows": [0, 12], "bin_detector": 2,
        "detector_pixels": 18, "subpixel": False,
    }  # fmt: skip
    bad = np.load(tmp_path / "cal-bad-pixels.npy")
    assert bad[3, 30], "what is known stays known"
    assert bad.sum() > 10
    dataset = open_dataset(scan, tmp_path / "cal.toml")
    assert dataset.patterns.shape == (12, 16, 18, 18)
    assert dataset.calibration.sources["detector_step_invA"] == "fitted"
    # Once more, over the first file: nothing is lost or added twice.
    again = ["info", str(scan), "--fix", "--calibration", "cal.toml", "-o", "cal.toml"]
    assert main([*again, "--overwrite"]) == 0
    text = capsys.readouterr().out
    assert "bin_detector                   kept; measured on the detector as stored" in text
    after = tomllib.loads((tmp_path / "cal.toml").read_text())["preprocessing"]
    assert after["centre_px"] == pytest.approx(centre, abs=0.05)
    np.testing.assert_array_equal(np.load(tmp_path / "cal-bad-pixels.npy"), bad)
    assert after["gain_file"] == "camera/gain.npy"


def test_the_dose_where_an_electron_counts_more_than_one(case):
    plain = fix(opened(case, defocus_A=None))
    assert "dose_e_per_A2" not in plain.calibration.values
    for given in (None, 3e4):  # asked for, it is measured even where one is given
        found = fix(opened(case, defocus_A=None, dose_e_per_A2=given), counts_per_electron=2.0)
        assert found.calibration.values["dose_e_per_A2"] == pytest.approx(5e4, rel=0.1)
        assert found.calibration.sources["dose_e_per_A2"] == "fitted"


def test_patterns_of_nan_say_so_before_anything_else(case, tmp_path, capsys):
    known = write_toml(tmp_path / "known.toml", case.known())
    patterns = case.recording.patterns.astype(np.float32)
    for part in (slice(None), slice(3, 4)):
        patterns[part] = np.nan
        np.save(tmp_path / "scan.npy", patterns)
        arguments = ["info", str(tmp_path / "scan.npy"), "--fix", "--calibration", str(known)]
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "every detector pixel is NaN or infinite in at least one of the 256" in line


def test_stopping_and_progress(case):
    stop, seen = threading.Event(), []

    def until_the_orientation(done: int, total: int, what: str) -> None:
        seen.append(what)
        if what == "orientation":
            stop.set()

    with pytest.raises(Stopped):
        fix(opened(case), stop=stop, progress=until_the_orientation)
    assert seen[0] == "bad pixels"
    assert seen[-1] == "orientation"


def test_patterns_that_show_nothing(case):
    dark = OpenedPatterns(
        np.zeros((8, 8, 16, 16)), PartialCalibration.from_mapping(case.known()), "x", None, "test"
    )
    with pytest.raises(DataError, match="dark"):
        fix(dark)


def test_outputs_are_not_replaced_unasked(case, tmp_path):
    found = fix(opened(case, defocus_A=None))
    assert [p.name for p in found.write(tmp_path / "a.toml")] == ["a.toml", "a-bad-pixels.npy"]
    with pytest.raises(ExportError, match="exists"):
        found.write(tmp_path / "a.toml")
    found.write(tmp_path / "a.toml", overwrite=True)
    with pytest.raises(ExportError, match="cannot be written"):
        found.write(tmp_path / "none" / "a.toml")


@pytest.mark.parametrize("option", [["-o", "a.toml"], ["--lattice", "3.9"], ["--vacuum", "a.npy"]])
def test_options_that_only_fix_knows(option, tmp_path, capsys):
    np.save(tmp_path / "scan.npy", np.ones((2, 2, 8, 8)))
    assert main(["info", str(tmp_path / "scan.npy"), *option]) == 2
    assert "goes with --fix" in capsys.readouterr().err
