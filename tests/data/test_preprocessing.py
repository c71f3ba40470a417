"""Preprocessing: each operation against what it should give, alone and with the calibration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_mep.data import Calibration, DiffractionDataset, open_dataset, write_dataset
from napari_mep.data._pattern_operations import shift_patterns
from napari_mep.data._preprocessed import PreprocessedPatterns
from napari_mep.data.preprocessing import PreprocessingPlan, preprocess
from napari_mep.errors import CalibrationError, DataError, PlanError
from napari_mep.physics.scan import raster_positions_A


def after(dataset: DiffractionDataset, **settings) -> DiffractionDataset:
    return preprocess(dataset, PreprocessingPlan.parse(settings))


def disk(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.clip(radius + 0.5 - np.hypot(y - centre[0], x - centre[1]), 0, 1)


def test_doing_nothing_is_the_same_object(dataset):
    assert after(dataset) is dataset
    assert PreprocessingPlan().summary() == []


def test_the_raw_patterns_are_never_written(dataset, patterns):
    before = patterns.copy()
    after(dataset, background=1.0, clip_negative=True, centre_px=(7.5, 8.2)).counts()
    np.testing.assert_array_equal(patterns, before)


def test_background_gain_and_clip(dataset, patterns, tmp_path):
    rng = np.random.default_rng(0)
    dark, gain = rng.random((16, 16)), 0.5 + rng.random((16, 16))
    np.save(tmp_path / "dark.npy", dark)
    np.save(tmp_path / "gain.npy", gain)
    done = after(
        dataset,
        background=2.0,
        background_file=str(tmp_path / "dark.npy"),
        gain_file=str(tmp_path / "gain.npy"),
        clip_negative=True,
    )
    wanted = np.clip((patterns - dark - 2.0) / gain, 0, None).reshape(-1, 16, 16)
    np.testing.assert_allclose(done.counts(), wanted, atol=1e-4)
    assert done.mask is None
    assert done.validate() == 12
    with pytest.raises(DataError, match="negative counts"):
        after(dataset, background=2.0).validate()


def test_part_of_the_scan_keeps_its_place(dataset, patterns, values):
    turned = replace(
        dataset, calibration=Calibration(**values | {"scan_rotation_deg": 30.0, "scan_step_A": 0.5})
    )
    part = after(turned, scan_rows=(1, 3), scan_columns=(1, 4))
    np.testing.assert_array_equal(part.counts(), patterns[1:3, 1:4].reshape(-1, 16, 16))
    whole = raster_positions_A((3, 4), 0.5, 30.0).reshape(3, 4, 2)
    np.testing.assert_allclose(part.positions_A(), whole[1:3, 1:4].reshape(-1, 2), atol=1e-12)
    assert part.calibration == turned.calibration
    assert part.fingerprint() != turned.fingerprint()
    assert part.provenance["preprocessing"] == [{"scan_rows": [1, 3], "scan_columns": [1, 4]}]


def test_every_second_position_doubles_the_step(dataset, patterns, values):
    dosed = replace(dataset, calibration=Calibration(**values | {"dose_e_per_A2": 400.0}))
    part = after(dosed, scan_every=2)
    assert part.scan_shape == (2, 2)
    assert part.calibration.scan_step_yx_A == (1.0, 1.0)
    assert part.electrons_per_pattern == pytest.approx(dosed.electrons_per_pattern)
    stored = patterns[::2, ::2].reshape(-1, 16, 16)
    np.testing.assert_allclose(part.counts(), stored * (100 / stored.sum((1, 2)).mean()), rtol=1e-5)
    np.testing.assert_allclose(part.positions_A(), raster_positions_A((2, 2), 1.0))


def test_bad_pixels_are_replaced_and_masked(dataset, patterns, tmp_path):
    bad = np.zeros((16, 16), np.uint8)
    bad[3, 4] = bad[3, 5] = bad[0, 0] = 1
    np.save(tmp_path / "bad.npy", bad)
    done = after(dataset, bad_pixels_file=str(tmp_path / "bad.npy"))
    np.testing.assert_array_equal(done.mask, bad == 0)
    stored = np.asarray(done.patterns[1, slice(0, 4)])
    around = [patterns[1, :, y, x] for y in (2, 3, 4) for x in (3, 4, 5) if not bad[y, x]]
    np.testing.assert_allclose(stored[:, 3, 4], np.median(around, axis=0))
    assert (done.counts()[:, 3, 4] == 0).all()


@pytest.mark.parametrize(
    "flags", [(False, True, False), (True, False, False), (True, True, False), (True, False, True)]
)
def test_masks_follow_the_orientation(values, flags, tmp_path):
    """A detector wider than high; a pixel is bad in the file's own axes."""
    rng = np.random.default_rng(2)
    bad = rng.random((16, 20)) < 0.1
    stored = np.where(bad, 7, 0)[None, None] * np.ones((2, 2, 1, 1))
    names = ("detector_transpose", "detector_flip_y", "detector_flip_x")
    calibration = Calibration(**values, **dict(zip(names, flags, strict=True)))
    raw = DiffractionDataset(stored, calibration, "oriented")
    np.save(tmp_path / "bad.npy", bad)
    done = after(raw, bad_pixels_file=str(tmp_path / "bad.npy"))
    np.testing.assert_array_equal(raw.counts()[0] == 0, done.mask)
    # A mask that the data have already is kept, whatever the orientation.
    again = after(replace(raw, mask=done.mask), clip_negative=True)
    np.testing.assert_array_equal(again.mask, done.mask)


@pytest.mark.parametrize("factor", [2, 3])
def test_binning_keeps_the_zero_frequency_centred(values, factor):
    """A disk about K // 2 stays one: no half pixel of hidden tilt."""
    image = disk((31, 31), (15, 15), 9.0)[None, None]
    raw = DiffractionDataset(image, Calibration(**values), "disk")
    done = after(raw, bin_detector=factor)
    side = 31 // factor
    assert done.detector_shape == (side, side)
    assert done.calibration.detector_step_invA == pytest.approx(0.15 * factor)
    counts = done.counts()[0].astype(float)
    k = np.arange(side) - side // 2
    assert abs((counts * k[:, None]).sum() / counts.sum()) < 1e-6
    assert abs((counts * k).sum() / counts.sum()) < 1e-6
    assert counts.sum() == pytest.approx(image.sum(), rel=1e-5)
    assert done.pixel_size_A == pytest.approx((1 / (side * 0.15 * factor),) * 2)


def test_pixels_that_padding_adds_are_not_measured(dataset, patterns):
    done = after(dataset, detector_pixels=20)
    np.testing.assert_array_equal(done.counts()[:, 2:18, 2:18], patterns.reshape(-1, 16, 16))
    assert done.mask.sum() == 256
    assert done.mask[2:18, 2:18].all()
    assert done.pixel_size_A == pytest.approx((1 / (20 * 0.15),) * 2)
    smaller = after(done, detector_pixels=16)
    np.testing.assert_array_equal(smaller.counts(), dataset.counts())
    assert smaller.mask is None


def test_cropping_keeps_the_centre_and_must_keep_the_disk(dataset, patterns):
    done = after(dataset, detector_pixels=15)
    np.testing.assert_array_equal(done.counts()[:, 7, 7], patterns[..., 8, 8].ravel())
    with pytest.raises(CalibrationError, match="bright-field disk"):
        after(dataset, detector_pixels=8)


def drifting(values) -> tuple[DiffractionDataset, np.ndarray]:
    """A disk that wanders by one pixel per row and half a pixel per column."""
    y, x = np.mgrid[:3, :5]
    centres = np.stack((16 + 0.4 + (y - 1), 16 - 0.3 + 0.5 * (x - 2)), axis=-1)
    stack = np.array([[disk((32, 32), tuple(c), 8.0) for c in row] for row in centres])
    return DiffractionDataset(stack, Calibration(**values), "drift"), centres


@pytest.mark.parametrize(("subpixel", "tolerance"), [(True, 0.02), (False, 0.51)])
def test_centre_and_descan_put_the_disk_back(values, subpixel, tolerance):
    raw, _ = drifting(values)
    done = after(raw, centre_px=(16.4, 15.7), descan_px=(1.0, 0.0, 0.0, 0.5), subpixel=subpixel)
    counts = done.counts().astype(float)
    k = np.arange(32) - 16
    total = counts.sum((1, 2))
    for profile in (counts.sum(2), counts.sum(1)):
        assert np.abs((profile * k).sum(1) / total).max() < tolerance
    np.testing.assert_allclose(total, raw.counts().sum((1, 2)), rtol=0.01)
    # The rows and columns that come in from outside were not measured by every pattern.
    assert done.mask is not None
    assert done.mask[4:-4, 4:-4].all()
    assert not done.mask.all()


def test_drift_of_a_part_is_that_of_the_whole_scan(values):
    raw, _ = drifting(values)
    settings = {"centre_px": (16.4, 15.7), "descan_px": (1.0, 0.0, 0.0, 0.5)}
    whole = after(raw, **settings).patterns
    part = after(raw, **settings, scan_rows=(1, 3), scan_columns=(3, 5)).patterns
    for row in (0, 1):
        np.testing.assert_array_equal(part[row, slice(0, 2)], whole[row + 1, slice(3, 5)])


def test_whole_shifts_keep_counts_whole():
    rng = np.random.default_rng(5)
    patterns = rng.poisson(3.0, (2, 8, 9)).astype(np.float32)
    moved = shift_patterns(patterns, np.array([[2.0, -1.0], [-9.0, 0.0]]), subpixel=True)
    np.testing.assert_array_equal(moved[0, 2:, :-1], patterns[0, :-2, 1:])
    assert (moved[0, :2] == 0).all()
    assert (moved[1] == 0).all()


def test_bad_pixels_that_drift_moves_about(values):
    """They stay masked where most patterns have them."""
    raw, _ = drifting(values)
    bad = np.zeros((32, 32), bool)
    bad[10, 12] = True
    plan = PreprocessingPlan(centre_px=(16, 16), descan_px=(0.0, 0.0, 0.0, 0.2))
    view = PreprocessedPatterns(raw.patterns, plan, "x", also_bad=bad)
    assert not view.measured[10, 12]
    assert view.measured[10, 11]


@pytest.mark.parametrize("name", ["places.npy", "places.csv", "places.txt"])
def test_positions_from_a_file(dataset, tmp_path, name):
    wanted = raster_positions_A((3, 4), 0.5) + np.random.default_rng(1).normal(0, 0.05, (12, 2))
    path = tmp_path / name
    if path.suffix == ".npy":
        np.save(path, wanted.reshape(3, 4, 2))
    elif path.suffix == ".csv":
        np.savetxt(path, wanted, delimiter=",", header="y,x", comments="", fmt="%.12g")
    else:
        np.savetxt(path, wanted, fmt="%.12g")
    done = after(dataset, positions_file=str(path), scan_columns=(1, 4))
    places = (wanted - wanted[0]).reshape(3, 4, 2)[:, 1:].reshape(-1, 2)
    np.testing.assert_allclose(done.positions_A(), places, atol=1e-9)
    assert done.fingerprint() != after(dataset, scan_columns=(1, 4)).fingerprint()


def test_it_survives_being_written_and_read(dataset, tmp_path):
    done = after(dataset, scan_rows=(1, 3), bin_detector=1, detector_pixels=20)
    write_dataset(tmp_path / "part.zarr", done)
    again = open_dataset(tmp_path / "part.zarr")
    np.testing.assert_array_equal(again.counts(), done.counts())
    np.testing.assert_allclose(again.positions_A(), done.positions_A())
    assert again.fingerprint() == done.fingerprint()


def test_a_calibration_file_brings_its_preprocessing(dataset, patterns, toml, tmp_path):
    np.save(tmp_path / "scan.npy", patterns)
    np.save(tmp_path / "bad.npy", np.eye(16) > 0)
    text = toml.read_text() + "\n[preprocessing]\nscan_rows = [0, 2]\nbad_pixels_file = 'bad.npy'\n"
    toml.write_text(text)
    opened = open_dataset(tmp_path / "scan.npy", toml)
    assert opened.scan_shape == (2, 4)
    assert opened.mask.sum() == 240  # the file name is taken from the folder of the calibration
    toml.write_text(text + "wrong = 1\n")
    with pytest.raises(CalibrationError, match=r"cal\.toml: preprocessing: unknown key 'wrong'"):
        open_dataset(tmp_path / "scan.npy", toml)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bin": 2}, "unknown key 'bin'"),
        ({"scan_rows": [3, 1]}, "scan_rows = .*first one kept"),
        ({"bin_detector": 0}, "bin_detector = 0"),
        ({"scan_every": 0}, "scan_every = 0"),
        ({"background": float("nan")}, "background = nan"),
    ],
)
def test_impossible_settings_are_named(settings, words):
    with pytest.raises(PlanError, match=words) as caught:
        PreprocessingPlan.parse(settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"scan_rows": [0, 9]}, PlanError, "scan_rows = .*the scan of test has 3"),
        ({"scan_every": 50}, PlanError, "scan_every = 50: leaves one of the 3 x 4 scan positions"),
        ({"scan_every": 10**400}, PlanError, "leaves one of the 3 x 4 scan positions"),
        ({"centre_px": [40, 8]}, PlanError, "centre_px = .*outside the detector"),
        ({"gain_file": "none.npy"}, DataError, "gain_file none.npy: not readable"),
        ({"gain_file": "zero.npy"}, DataError, "gain must be positive"),
        ({"bad_pixels_file": "small.npy"}, DataError, r"shape \(3, 3\), expected"),
        ({"bad_pixels_file": "ones.npy"}, DataError, "every detector pixel is marked bad"),
        ({"positions_file": "small.npy"}, DataError, r"positions of shape \(3, 3\)"),
        ({"positions_file": "words.txt"}, DataError, "positions_file words.txt: not readable"),
    ],
)
def test_what_does_not_fit_is_named(dataset, settings, error, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("zero.npy", np.zeros((16, 16)))
    np.save("ones.npy", np.ones((16, 16)))
    np.save("small.npy", np.zeros((3, 3)))
    (tmp_path / "words.txt").write_text("1 2\nthree four\n")
    with pytest.raises(error, match=words) as caught:
        after(dataset, **settings).counts()
    assert "\n" not in str(caught.value)


def test_a_summary_says_everything_in_order():
    plan = PreprocessingPlan(
        bin_detector=2, detector_pixels=40, centre_px=(15.52, 17), bad_pixels_file="a/bad.npy"
    )
    assert plan.summary() == [
        "bad pixels bad.npy masked",
        "centre (15.52, 17.00) px moved to K // 2",
        "detector binned by 2",
        "detector made 40 x 40 pixels",
    ]


def test_a_detector_that_no_memory_holds_is_refused_with_its_size():
    with pytest.raises(PlanError, match=r"detector_pixels = 100000: .* 40 GB; give at most 8192"):
        PreprocessingPlan.parse({"detector_pixels": 100_000})
    with pytest.raises(PlanError, match="give at most 8192 pixels") as caught:
        PreprocessingPlan.parse({"detector_pixels": 10**400})
    assert len(str(caught.value)) < 200
    with pytest.raises(PlanError, match=r"detector_pixels = 1: must be at least 2"):
        PreprocessingPlan.parse({"detector_pixels": 1})


def test_files_are_named_from_the_folder_of_the_plan(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    plan = PreprocessingPlan(background_file="here/dark.npy", gain_file="gain.npy")
    named = plan.named_from(tmp_path / "here")
    assert named.background_file == "dark.npy"
    assert named.gain_file == str((tmp_path / "gain.npy").resolve())
    again = named.relative_to(tmp_path / "here")
    assert again.background_file == str(tmp_path / "here" / "dark.npy")
    assert again.gain_file == named.gain_file
