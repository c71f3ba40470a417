from __future__ import annotations

import pytest
from pydantic import ValidationError

from napari_mep.data import Calibration, PartialCalibration
from napari_mep.data.calibration import as_partial, describe_values
from napari_mep.data.preprocessing import PreprocessingPlan
from napari_mep.errors import CalibrationError


def test_toml_gives_values_and_sources(toml):
    calibration = Calibration.from_toml(toml)
    assert calibration.beam_energy_keV == 300.0
    assert calibration.scan_step_yx_A == (0.5, 0.5)
    assert calibration.sources["scan_step_A"] == "user"
    assert calibration.sources["defocus_A"] == "default"
    assert "sources" not in calibration.model_dump()


def test_all_keys_of_the_documented_toml(tmp_path):
    path = tmp_path / "cal.toml"
    path.write_text(
        "beam_energy_keV = 300.0\nconvergence_semiangle_mrad = 21.4\ndefocus_A = -200.0\n"
        "spherical_aberration_A = 0.0\nscan_step_A = [0.5, 0.6]\ndetector_step_mrad = 1.5\n"
        "scan_rotation_deg = 0.0\ndetector_flip_y = false\ndetector_flip_x = true\n"
        "detector_transpose = true\ndose_e_per_A2 = 1.0e6\nspecimen_thickness_A = 12.8\n"
    )
    calibration = Calibration.from_toml(path)
    assert calibration.defocus_A == -200.0
    assert calibration.scan_step_yx_A == (0.5, 0.6)
    assert calibration.detector_flip_x
    assert calibration.detector_transpose
    assert not calibration.detector_flip_y
    assert calibration.dose_e_per_A2 == 1e6
    assert calibration.specimen_thickness_A == 12.8


def test_mrad_become_reciprocal_angstrom():
    """1.96875 mrad at 300 keV (wavelength 0.0196875 A, tabulated) is 0.1 1/A."""
    known = {"beam_energy_keV": 300, "convergence_semiangle_mrad": 21.4, "scan_step_A": 0.5}
    calibration = PartialCalibration.from_mapping({**known, "detector_step_mrad": 1.96875})
    complete = calibration.complete()
    assert complete.detector_step_invA == pytest.approx(0.1, rel=1e-5)
    assert complete.detector_step_mrad == pytest.approx(1.96875, rel=1e-9)
    assert complete.sources["detector_step_invA"] == "user"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"beam_energy_keV": 300_000}, ("beam_energy_keV = 300000", "looks like eV", "300")),
        ({"beam_energy_keV": -80}, ("beam_energy_keV = -80 keV", "positive")),
        ({"beam_energy_keV": "300"}, ("'300'", "number in keV")),
        ({"beam_energy_keV": True}, ("True", "number in keV")),
        ({"convergence_semiangle_mrad": 0.0214}, ("looks like rad", "21.4")),
        ({"convergence_semiangle_mrad": 0.0}, ("positive",)),
        ({"scan_step_A": 0.0}, ("scan_step_A = 0 A", "positive")),
        ({"scan_step_A": [0.5, -0.5]}, ("scan_step_A = -0.5 A", "positive")),
        ({"scan_step_A": [1, 2, 3]}, ("[1, 2, 3]", "[y, x]")),
        ({"detector_step_invA": 0}, ("positive",)),
        ({"detector_step_invA": 1.5}, ("looks like mrad", "detector_step_mrad")),
        ({"defocus_A": float("nan")}, ("finite",)),
        ({"defocus_A": float("inf")}, ("finite",)),
        ({"dose_e_per_A2": 0}, ("dose_e_per_A2 = 0", "positive")),
        ({"specimen_thickness_A": -1}, ("specimen_thickness_A = -1 A", "positive")),
        ({"detector_flip_y": 1}, ("detector_flip_y = 1", "true or false")),
        ({"scan_stepA": 1.0}, ("unknown key 'scan_stepA'", "scan_step_A")),
        ({"beam_energy_keV": 10**400}, ("beam_energy_keV = inf keV", "finite")),
        ({"defocus_A": -(10**400)}, ("defocus_A = -inf A", "finite")),
        ({"colour": "red"}, ("unknown key 'colour'", "beam_energy_keV")),
    ],
)
def test_impossible_values_name_field_value_unit_and_remedy(values, change, words):
    for make in (
        lambda v: Calibration(**v),
        lambda v: PartialCalibration.from_mapping(v),
    ):
        with pytest.raises(CalibrationError) as caught:
            make({**values, **change})
        message = str(caught.value)
        assert "\n" not in message
        assert all(word in message for word in words), message


def test_everything_missing_is_named_with_units():
    with pytest.raises(CalibrationError) as caught:
        PartialCalibration.from_mapping({"scan_step_A": 0.5}).complete()
    message = str(caught.value)
    assert "beam_energy_keV (keV)" in message
    assert "convergence_semiangle_mrad (mrad)" in message
    assert "detector_step_invA (1/A, or detector_step_mrad)" in message
    assert "scan_step_A" not in message
    assert "--calibration FILE" in message
    with pytest.raises(CalibrationError, match="lacks convergence_semiangle_mrad"):
        Calibration(beam_energy_keV=300)


def test_user_wins_over_file_and_brings_the_source(values):
    file = PartialCalibration.from_mapping(values, "file")
    user = PartialCalibration.from_mapping({"scan_step_A": 0.7, "defocus_A": -50.0})
    merged = file.merge(user).complete()
    assert merged.scan_step_A == 0.7
    assert merged.sources["scan_step_A"] == "user"
    assert merged.sources["beam_energy_keV"] == "file"
    assert merged.sources["detector_flip_x"] == "default"


def test_either_form_of_the_detector_step_replaces_the_other(values):
    file = PartialCalibration.from_mapping(values, "file")
    merged = file.merge(PartialCalibration.from_mapping({"detector_step_mrad": 3.9375}))
    assert merged.complete().detector_step_invA == pytest.approx(0.2, rel=1e-5)
    with pytest.raises(CalibrationError, match="only one of the two"):
        PartialCalibration.from_mapping({**values, "detector_step_mrad": 3.0})


def test_complete_to_partial_and_back(values):
    calibration = PartialCalibration.from_mapping(values, "file").complete()
    again = PartialCalibration.from_calibration(calibration)
    assert set(again.values) == set(values)
    assert again.complete() == calibration
    assert again.complete().sources == calibration.sources
    assert as_partial(calibration).values == again.values


def test_json_round_trip_and_equality_ignore_sources(values):
    calibration = PartialCalibration.from_mapping(
        {**values, "scan_step_A": (0.5, 0.6)}, "guessed"
    ).complete()
    again = Calibration.model_validate_json(calibration.model_dump_json())
    assert again == calibration
    assert hash(again) == hash(calibration)
    assert again != Calibration(**values)


def test_frozen(values):
    with pytest.raises(ValidationError, match="frozen"):
        Calibration(**values).defocus_A = 3.0


def test_detector_must_reach_the_bright_field_disk(values):
    """7 pixels of 0.15 1/A reach 0.525 1/A = 10.3 mrad, less than the disk of 21.4 mrad."""
    calibration = Calibration(**values)
    calibration.check_detector((16, 16))
    with pytest.raises(CalibrationError, match=r"16 x 7 pixels reach 10\.3 mrad.*21\.4 mrad"):
        calibration.check_detector((16, 7))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"beam_energy_keV = \n", "not readable as TOML"),
        (b"\xff\xfe\x00", "not readable as TOML"),
        (b"beam_energy_kev = 300\n", "unknown key 'beam_energy_kev'.*'beam_energy_keV'"),
        (b"[beam]\nenergy = 300\n", "unknown key 'beam'"),
    ],
)
def test_bad_toml_is_one_line_with_the_file(tmp_path, content, words):
    path = tmp_path / "cal.toml"
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match=words) as caught:
        Calibration.from_toml(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_toml(tmp_path):
    with pytest.raises(CalibrationError, match="no such file"):
        Calibration.from_toml(tmp_path / "none.toml")


def test_toml_that_is_written_is_read_back(values, tmp_path):
    known = PartialCalibration(
        {**values, "detector_flip_y": True, "scan_step_A": (0.5, 0.61)},
        {"scan_step_A": "fitted"},
        PreprocessingPlan(centre_px=(15.25, 16.5), bad_pixels_file='bad "1".npy', scan_every=2),
    )
    text = known.to_toml({"scan_step_A": "± 0.01"})
    assert "scan_step_A = [0.5, 0.61]  # A, fitted, ± 0.01\n" in text
    assert "detector_flip_y = true  # user\n" in text
    path = tmp_path / "cal.toml"
    path.write_text(text)
    again = PartialCalibration.from_toml(path)
    assert again.values == known.values
    found = again.preprocessing
    assert found.replace(bad_pixels_file=None) == known.preprocessing.replace(bad_pixels_file=None)
    assert found.bad_pixels_file == str(tmp_path / 'bad "1".npy')


def test_the_stronger_preprocessing_counts():
    weak = PartialCalibration(preprocessing=PreprocessingPlan(bin_detector=2))
    strong = PartialCalibration(preprocessing=PreprocessingPlan(bin_detector=3))
    assert weak.merge(strong).preprocessing.bin_detector == 3
    assert weak.merge(PartialCalibration()).preprocessing.bin_detector == 2
    assert PartialCalibration().merge(weak).preprocessing.bin_detector == 2


def test_values_as_people_read_them(values):
    known = PartialCalibration({"scan_step_A": (0.5, 0.25), "detector_flip_x": True})
    assert describe_values(known) == [
        ("scan_step_A", "0.5 x 0.25", "A", "user"),
        ("detector_flip_x", "yes", "", "user"),
    ]


def test_numbers_without_end_in_a_file(tmp_path):
    path = tmp_path / "cal.toml"
    for text, words in (
        (f"beam_energy_keV = 1{'0' * 400}", "beam_energy_keV = inf keV: must be finite"),
        (f"beam_energy_keV = 1{'0' * 5000}", "not readable as TOML"),
        (f"scan_step_A = {'[' * 5000}", "not readable as TOML"),
        (f"[preprocessing]\nbackground = 1{'0' * 400}", "background = 1000"),
    ):
        path.write_text(text)
        with pytest.raises(CalibrationError, match=words) as caught:
            PartialCalibration.from_toml(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400


def test_sources_stay_what_they_are_in_a_file(tmp_path, values):
    known = PartialCalibration(
        {**values, "defocus_A": -50.0}, {"defocus_A": "fitted", "beam_energy_keV": "file"}
    )
    path = tmp_path / "cal.toml"
    path.write_text(known.to_toml({"defocus_A": "± 2"}))
    again = PartialCalibration.from_toml(path)
    assert again == known
    assert again.sources["defocus_A"] == "fitted"
    assert again.sources["beam_energy_keV"] == "file"
    assert again.sources["scan_step_A"] == "user"
    assert again.complete().sources["defocus_A"] == "fitted"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('[sources]\ndefocus_A = "fitted"', "sources: 'defocus_A' has no value in this file"),
        ('[sources]\nscan_step_A = "guess"', "sources: scan_step_A = 'guess': must be one of file"),
        ("[sources]\nscan_step_A = 3", "sources: scan_step_A = 3: must be one of"),
        ("[sources]\nscan_step_A = ['fitted']", "sources: scan_step_A = .*: must be one of"),
        ('sources = "fitted"', "sources = 'fitted': must be a table"),
    ],
)
def test_a_table_of_sources_that_makes_no_sense(tmp_path, table, words):
    (tmp_path / "cal.toml").write_text(f"scan_step_A = 0.5\n{table}\n")
    with pytest.raises(CalibrationError, match=words):
        PartialCalibration.from_toml(tmp_path / "cal.toml")
