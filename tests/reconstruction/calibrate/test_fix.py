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
