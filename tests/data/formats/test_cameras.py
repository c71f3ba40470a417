"""Merlin, DigitalMicrograph, blockfiles, TVIPS and MRC."""

from __future__ import annotations

import struct
import sys

import numpy as np
import pytest

from napari_mep.data.readers import open_patterns

HDR = "HDR,\nFrames in Acquisition (Number):\t12\nFrames per Trigger (Number):\t4\nEnd\t\n"


def test_mib_with_its_hdr(tmp_path, truth, h):
    path = tmp_path / "scan.mib"
    path.write_bytes(h.mib_bytes(truth.reshape(12, 16, 16)))
    (tmp_path / "scan.hdr").write_text(HDR)
    opened = open_patterns(path)
    np.testing.assert_array_equal(h.all_of(opened), truth)
    assert isinstance(opened.patterns, np.memmap)
    assert not opened.calibration.values
    assert opened.format == "Merlin mib"


@pytest.mark.parametrize("kind", ["U08", "U16", "U32"])
def test_mib_scan_lines_show_in_the_times(tmp_path, truth, kind, h):
    path = tmp_path / "scan.mib"
    seconds = [row * 0.02 + column * 1e-3 for row in range(3) for column in range(4)]
    path.write_bytes(h.mib_bytes(truth.reshape(12, 16, 16), seconds, kind))
    opened = open_patterns(path)
    np.testing.assert_array_equal(h.all_of(opened), truth)
    assert "assumed" not in opened.format


def test_mib_scan_shape_unknown_given_or_square(tmp_path, truth, h, caplog):
    stack = truth.reshape(12, 16, 16)
    path = tmp_path / "scan.mib"
    path.write_bytes(h.mib_bytes(stack))
    h.refused(path, "a stack of 12 patterns whose scan shape the file does not say")
    np.testing.assert_array_equal(h.all_of(open_patterns(path, scan_shape=(3, 4))), truth)
    np.testing.assert_array_equal(h.all_of(open_patterns(path, scan_shape=(2, 4))), truth[:2])
    assert "4 patterns after the scan are left out" in caplog.text
    path.write_bytes(h.mib_bytes(stack[:9]))
    assert open_patterns(path).format == "Merlin mib; square scan assumed"


def test_broken_mib(tmp_path, truth, h):
    path = tmp_path / "scan.mib"
    content = h.mib_bytes(truth.reshape(12, 16, 16))
    path.write_bytes(content)
    (tmp_path / "scan.hdr").write_text(HDR)
    h.cut(path, 0.7)
    assert "give the scan shape 2 x 4 if" in h.refused(path, "holds 8 of 3 x 4 patterns")
    h.cut(path, 0.01)
    h.refused(path, "not a whole Merlin mib file")
    path.write_bytes(content[:400])
    h.refused(path, "not a whole Merlin mib file")
    path.write_bytes(b"")
    h.refused(path, r"not a whole Merlin mib file \(it is empty\); copy it anew")
    path.write_bytes(b"\xff\xfe" * 2000)
    h.refused(path, r"not a Merlin mib file \(it begins otherwise\); check its name")
    path.write_text("a text file whose name is wrong")
    h.refused(path, "not a Merlin mib file")
    path.write_bytes(content.replace(b"U08", b"R64"))
    h.refused(path, "raw frames")


@pytest.mark.parametrize("version", [3, 4])
def test_dm(dm_file, truth, version, h):
    path = dm_file(
        truth.astype(np.uint16), [(0.05, "nm"), (0.04, "nm"), (0.2, "1/nm"), (0.2, "1/nm")], version
    )
    opened = open_patterns(path)
    np.testing.assert_array_equal(h.all_of(opened), truth)
    values = opened.calibration.values
    assert values["scan_step_A"] == pytest.approx((0.5, 0.4))
    assert values["detector_step_invA"] == pytest.approx(0.02)
    assert values["beam_energy_keV"] == 200


def test_dm_with_the_detector_axes_first(dm_file, truth, h):
    path = dm_file(
        np.ascontiguousarray(truth.transpose(2, 3, 0, 1)).astype(np.float32),
        [(1.5, "mrad"), (1.5, "mrad"), (0.05, "nm"), (0.05, "nm")],
    )
    opened = open_patterns(path)
    np.testing.assert_array_equal(h.all_of(opened), truth)
    assert opened.calibration.values["detector_step_mrad"] == pytest.approx(1.5)
    assert opened.calibration.values["scan_step_A"] == pytest.approx(0.5)


def test_dm_stack_and_image(dm_file, truth, h):
    units = [(1.0, ""), (1.0, "1/nm"), (1.0, "1/nm")]
    path = dm_file(truth.reshape(12, 16, 16).astype(np.uint16), units)
    h.refused(path, "a stack of 12 patterns")
    np.testing.assert_array_equal(h.all_of(open_patterns(path, scan_shape=(3, 4))), truth)
    path = dm_file(truth[0, 0].astype(np.uint16), units[1:])
    h.refused(path, "no 4D-STEM data; it holds 16 x 16")


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5])
def test_broken_dm(dm_file, truth, kept, h):
    path = dm_file(truth.astype(np.uint16), [(1.0, "nm")] * 2 + [(1.0, "1/nm")] * 2)
    h.refused(h.cut(path, kept), "not a whole Gatan DigitalMicrograph file")


def test_blockfile(tmp_path, truth, h):
    from rsciio.blockfile import file_writer

    path = tmp_path / "scan.blo"
    header = {"Beam_energy": 200_000, "Camera_length": 2000, "Note": ""}
    scan = {**h.signal(truth, (0.5, "nm"), (0.02, "cm"))}
    scan["original_metadata"] = {"blockfile_header": header}
    file_writer(str(path), scan, show_progressbar=False)
    opened = open_patterns(path)
    np.testing.assert_array_equal(h.all_of(opened), truth)
    values = opened.calibration.values
    assert values["scan_step_A"] == pytest.approx(5)
    assert values["beam_energy_keV"] == 200
    assert values["detector_step_mrad"] == pytest.approx(1e3 * np.arctan(0.2 / 200), rel=1e-3)
    h.refused(h.cut(path, 0.6), r"not a whole ASTAR blo file \(it holds \d of 12 patterns\)")
    h.refused(h.cut(path, 0.01), "not a whole ASTAR blo")
    path.write_bytes(b"x" * 5000)
    h.refused(path, "not an ASTAR blo file")


def test_tvips_over_several_files(tvips, truth, h):
    assert len(list(tvips.parent.glob("scan_*.tvips"))) > 1
    h.refused(tvips, "a stack of 12 patterns")
    opened = open_patterns(tvips, scan_shape=(3, 4))
    np.testing.assert_array_equal(h.all_of(opened), truth)
    assert opened.calibration.values == {"beam_energy_keV": 200}
    h.refused(tvips, "holds 12 of 5 x 4 patterns", scan_shape=(5, 4))
    h.refused(tvips.with_name("scan_001.tvips"), "not the first file of a stream")


def test_tvips_frames_before_the_scan_are_left_out(tvips, truth, h):
    content = bytearray(tvips.read_bytes())
    size = int.from_bytes(content[48:52], "little") + 256
    marks = [0, 0, 1, 2, 3]
    frames = (len(content) - 256) // size
    for index in range(frames):
        at = 256 + index * size + 48
        content[at : at + 4] = struct.pack("<I", marks[index] if index < 5 else index - 1)
    tvips.write_bytes(content)
    opened = open_patterns(tvips, scan_shape=(2, 5))
    np.testing.assert_array_equal(
        h.all_of(opened).reshape(10, 16, 16), truth.reshape(12, 16, 16)[2:]
    )


def test_broken_tvips(tvips, h):
    for other in tvips.parent.glob("scan_00[1-9].tvips"):
        other.unlink()
    h.refused(h.cut(tvips, 0.4), r"holds \d of 3 x 4 patterns", scan_shape=(3, 4))
    tvips.write_bytes(b"\0" * 40)
    h.refused(tvips, "not a whole TVIPS file", scan_shape=(3, 4))
    tvips.write_bytes(b"")
    h.refused(tvips, r"not a whole TVIPS file \(it is empty\)", scan_shape=(3, 4))
    tvips.write_bytes(b"\xff" * 4000)
    h.refused(tvips, "not a TVIPS file .*version 4294967295, not 1 or 2", scan_shape=(3, 4))


def test_mrc(tmp_path, truth, h):
    path = tmp_path / "scan.mrc"
    path.write_bytes(h.mrc_bytes(truth.reshape(12, 16, 16)))
    h.refused(path, "a stack of 12 patterns")
    opened = open_patterns(f"{path}::3x4")
    np.testing.assert_array_equal(h.all_of(opened), truth)
    h.refused(path, "does not fit 12 patterns", scan_shape=(4, 4))
    h.refused(h.cut(path, 0.5), r"not a whole MRC file \(it holds \d of 12 patterns\)")
    h.refused(h.cut(path, 0.05), "not a whole MRC file")
    path.write_bytes(h.mrc_bytes(truth[0, :1]))
    h.refused(path, "no stack of patterns")
    path.write_bytes(b"\xff" * 3000)
    h.refused(path, "not an MRC file")


def test_a_direct_electron_movie_knows_its_scan_shape(tmp_path, truth, h):
    path = tmp_path / "20240501_00007_movie.mrc"
    path.write_bytes(h.mrc_bytes(truth.reshape(12, 16, 16)))
    info = tmp_path / "20240501_00007_info.txt"
    info.write_text("Scan - Enable = Enable\nScan - Size X = 4\nScan - Size Y = 3\n")
    np.testing.assert_array_equal(h.all_of(open_patterns(path)), truth)
    info.write_text("Scan - Enable = Enable\nScan - Type = Spiral\n")
    h.refused(path, "only raster scans can be read")


@pytest.mark.parametrize("number", ["²", "٣", "-3", "1e1", "9" * 5000, ""])
def test_sizes_in_sidecar_files_that_are_no_numbers(tmp_path, truth, h, number):
    """A superscript two is a digit to Python, and no number."""
    stack = truth.reshape(12, 16, 16)
    movie = tmp_path / "20240501_00007_movie.mrc"
    movie.write_bytes(h.mrc_bytes(stack))
    (tmp_path / "20240501_00007_info.txt").write_text(
        f"Scan - Enable = Enable\nScan - Size X = 4\nScan - Size Y = {number}\n", encoding="utf-8"
    )
    h.refused(movie, "a stack of 12 patterns whose scan shape the file does not say")
    (tmp_path / "scan.mib").write_bytes(h.mib_bytes(stack))
    (tmp_path / "scan.hdr").write_text(f"HDR,\nScanX:\t{number}\nScanY:\t3\n", encoding="utf-8")
    h.refused(tmp_path / "scan.mib", "a stack of 12 patterns whose scan shape")
    assert open_patterns(tmp_path / "scan.mib", scan_shape=(3, 4)).patterns.shape[:2] == (3, 4)


def test_folders_in_the_place_of_sidecar_files(tmp_path, truth, h):
    stack = truth.reshape(12, 16, 16)
    movie = tmp_path / "20240501_00007_movie.mrc"
    movie.write_bytes(h.mrc_bytes(stack))
    (tmp_path / "20240501_00007_info.txt").mkdir()
    h.refused(movie, "a stack of 12 patterns")
    (tmp_path / "scan.mib").write_bytes(h.mib_bytes(stack))
    (tmp_path / "scan.hdr").mkdir()
    h.refused(tmp_path / "scan.mib", "a stack of 12 patterns")


def test_without_rosettasciio_one_sentence_says_what_to_do(tmp_path, truth, h, monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "rsciio"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rsciio", None)
    for name in ("scan.mib", "scan.dm4"):
        (tmp_path / name).write_bytes(b"\0" * 2000)
        h.refused(tmp_path / name, r"needs rosettasciio .*pip install 'napari-mep\[io\]'")
