from __future__ import annotations

import numpy as np
import pytest

from napari_mep.data.readers import open_patterns


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).random((3, 4, 128, 128)).astype(np.float32)


G1 = """<root><timestamp isoformat="2026-03-25T16:47:52"/><raw_file filename="scan.raw"/>
<scan_parameters mode="search"><scan_resolution_y>9</scan_resolution_y>
<scan_resolution_x>9</scan_resolution_x></scan_parameters>
<scan_parameters mode="acquire"><scan_resolution_y>3</scan_resolution_y>
<scan_resolution_x>4</scan_resolution_x></scan_parameters>
<iom_measurements><high_voltage>300000.0</high_voltage>
<calibrated_pixelsize>1.8e-10</calibrated_pixelsize>
<full_scan_field_of_view><scale_factor>0.5</scale_factor><x>1e-9</x><y>1e-9</y>
</full_scan_field_of_view></iom_measurements></root>"""

G2 = """<root><sensor><type>EMPAD2</type><shape>128,128</shape></sensor>
<scan><type>scan</type><shape>3,4</shape></scan>
<rawfile><filename>scan.raw</filename><datatype>float32</datatype></rawfile>
<iom_measurements><ColumnSourceHighVoltage>80000</ColumnSourceHighVoltage>
<calibrated_diffraction_angle>0.0011</calibrated_diffraction_angle>
</iom_measurements></root>"""


@pytest.mark.parametrize("footer", [2, 0])
def test_raw_with_the_scan_shape_in_its_name(tmp_path, frames, footer, h):
    path = tmp_path / "scan_x4_y3.raw"
    path.write_bytes(h.empad_bytes(frames, footer))
    opened = open_patterns(path)
    np.testing.assert_array_equal(h.all_of(opened), frames)
    assert isinstance(opened.patterns, np.memmap)
    assert not opened.calibration.values


@pytest.mark.parametrize("opened_as", ["scan.raw", "scan.xml"])
def test_the_xml_of_the_first_generation(tmp_path, frames, opened_as, h):
    (tmp_path / "scan.raw").write_bytes(h.empad_bytes(frames, 2))
    (tmp_path / "scan.xml").write_text(G1)
    (tmp_path / "another.xml").write_text("<root/>")
    opened = open_patterns(tmp_path / opened_as)
    np.testing.assert_array_equal(h.all_of(opened), frames)
    values = opened.calibration.values
    assert values["beam_energy_keV"] == 300
    assert values["detector_step_invA"] == pytest.approx(0.018)
    assert values["scan_step_A"] == pytest.approx(10 / 0.5 / 4)
    assert set(opened.calibration.sources.values()) == {"file"}
    assert opened.format == "EMPAD"


def test_the_xml_of_the_second_generation(tmp_path, frames, h):
    (tmp_path / "scan.raw").write_bytes(h.empad_bytes(frames, 0))
    (tmp_path / "meta.xml").write_text(G2)
    opened = open_patterns(tmp_path / "meta.xml")
    np.testing.assert_array_equal(h.all_of(opened), frames)
    assert opened.calibration.values["beam_energy_keV"] == 80
    assert opened.calibration.values["detector_step_mrad"] == pytest.approx(1.1)
    assert opened.calibration.missing() == ("convergence_semiangle_mrad", "scan_step_A")


def test_old_xml_gives_the_field_in_both_directions(tmp_path, frames, h):
    (tmp_path / "scan.raw").write_bytes(h.empad_bytes(frames, 2))
    (tmp_path / "scan.xml").write_text(
        '<root><raw_file filename="scan.raw"/><pix_x>4</pix_x><pix_y>3</pix_y><iom_measurements>'
        "<optics.get_full_scan_field_of_view>[6e-10, 1.2e-9]</optics.get_full_scan_field_of_view>"
        "</iom_measurements></root>"
    )
    step = open_patterns(tmp_path / "scan.xml").calibration.values["scan_step_A"]
    assert step == pytest.approx((2, 3))


def test_the_scan_shape_can_be_given_and_a_square_one_is_assumed_aloud(tmp_path, frames, h):
    path = tmp_path / "scan.raw"
    path.write_bytes(h.empad_bytes(frames, 2))
    assert open_patterns(path, scan_shape=(6, 2)).patterns.shape == (6, 2, 128, 128)
    assert open_patterns(f"{path}::2x6").patterns.shape == (2, 6, 128, 128)
    h.refused(path, "give it as rows x columns, in a path as scan.raw::YxX")
    path.write_bytes(h.empad_bytes(frames.reshape(-1, 128, 128)[:9], 2))
    square = open_patterns(path)
    assert square.patterns.shape == (3, 3, 128, 128)
    assert square.format == "EMPAD; square scan assumed"


def test_broken_files(tmp_path, frames, h):
    path = tmp_path / "scan_x4_y3.raw"
    path.write_bytes(h.empad_bytes(frames, 2))
    h.refused(path, "are not 4 x 4 patterns", scan_shape=(4, 4))
    h.refused(f"{path}::/data", "leave out '::/data'")
    h.refused(h.cut(path, 0.5), "bytes are not 3 x 4 patterns of an EMPAD")
    xml = tmp_path / "a.xml"
    xml.write_text(G1)
    h.refused(xml, "raw file scan.raw is missing")
    h.refused(h.cut(xml, 0.5), "not a whole EMPAD XML file")
    xml.write_text("<root><something/></root>")
    h.refused(xml, "none of an EMPAD scan")
    xml.write_text(G1.replace(">3<", ">three<"))
    h.refused(xml, "not a whole EMPAD XML file")


def test_impossible_values_of_the_file_are_left_out(tmp_path, frames, h, caplog):
    (tmp_path / "scan.raw").write_bytes(h.empad_bytes(frames, 2))
    (tmp_path / "scan.xml").write_text(G1.replace("300000.0", "0"))
    opened = open_patterns(tmp_path / "scan.xml")
    assert "beam_energy_keV" in opened.calibration.missing()
    assert "ignored a value of the file: beam_energy_keV = 0 keV" in caplog.text
