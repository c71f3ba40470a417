from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_mep.data import Calibration, DiffractionDataset
from napari_mep.errors import CalibrationError, DataError


class Recorder:
    """Patterns that write down which part of which row was read."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.reads = array, []

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: self.array.dtype)

    def __getitem__(self, key):
        row, columns = key
        self.reads.append((row, columns.start, columns.stop))
        return self.array[row, columns]


def with_values(values, patterns, **changes) -> DiffractionDataset:
    return DiffractionDataset(patterns, Calibration(**{**values, **changes}), "test")


def test_shapes_and_sizes(dataset, patterns):
    assert dataset.scan_shape == (3, 4)
    assert dataset.detector_shape == (16, 16)
    assert dataset.n_patterns == 12
    assert dataset.pixel_size_A == pytest.approx((1 / 2.4, 1 / 2.4))
    assert dataset.electrons_per_pattern == pytest.approx(patterns.sum((2, 3)).mean())


def test_counts_in_any_order_with_repeats(dataset, patterns):
    flat = patterns.reshape(-1, 16, 16)
    wanted = [7, 0, 11, 0, 5]
    counts = dataset.counts(wanted)
    assert counts.dtype == np.float32
    np.testing.assert_array_equal(counts, flat[wanted])
    np.testing.assert_array_equal(dataset.counts(), flat)
    assert dataset.counts([]).shape == (0, 16, 16)


@pytest.mark.parametrize("index", [-1, 12])
def test_index_outside_the_scan(dataset, index):
    with pytest.raises(DataError, match=rf"index {index} outside 0..11"):
        dataset.counts([index])


def test_reads_are_few_and_small(values):
    array = np.arange(3 * 40, dtype=np.float32)[:, None, None] * np.ones((16, 16), np.float32)
    source = Recorder(array.reshape(3, 40, 16, 16))
    data = with_values(values, source)
    counts = data.counts([85, 3, 0, 39, 81])
    np.testing.assert_array_equal(counts[:, 0, 0], [85, 3, 0, 39, 81])
    # Neighbours in a row in one read, distant ones apart, nothing else of the file.
    assert source.reads == [(0, 0, 4), (0, 39, 40), (2, 1, 6)]


def _single_pixel(ky: int, kx: int, shape=(16, 15)) -> np.ndarray:
    patterns = np.zeros((1, 1, *shape), np.float32)
    patterns[0, 0, ky, kx] = 1
    return patterns


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, (3, -2)),
        ({"detector_flip_y": True}, (-3, -2)),
        ({"detector_flip_x": True}, (3, 2)),
        ({"detector_transpose": True}, (-2, 3)),
        ({"detector_transpose": True, "detector_flip_y": True}, (2, 3)),
    ],
)
def test_flips_keep_the_zero_frequency_at_the_centre(values, flags, expected):
    """A pixel at frequency (3, -2), even and odd detector axes, flipped after transposing."""
    data = with_values(values, _single_pixel(8 + 3, 7 - 2), **flags)
    pattern = data.counts([0])[0]
    assert pattern.shape == data.detector_shape
    (where,) = np.argwhere(pattern)
    centre = np.array(pattern.shape) // 2
    assert tuple(where - centre) == expected

    zero = with_values(values, _single_pixel(8, 7), **flags).counts([0])[0]
    assert zero[tuple(centre)] == 1


def test_dose_scales_to_electrons(values, patterns):
    data = with_values(values, patterns * 1e-6, dose_e_per_A2=1000.0, scan_step_A=(0.5, 0.4))
    assert data.electrons_per_pattern == pytest.approx(1000 * 0.5 * 0.4)
    assert data.counts().sum() / 12 == pytest.approx(200.0, rel=1e-5)
    ratio = data.counts() / patterns.reshape(-1, 16, 16).clip(1e-3)
    assert np.ptp(ratio[ratio > 0]) < 1e-5 * ratio.max()


def test_dose_cannot_scale_nothing(values):
    data = with_values(values, np.zeros((2, 2, 16, 16), np.float32), dose_e_per_A2=100.0)
    with pytest.raises(DataError, match=r"mean pattern sum is 0"):
        data.counts([0])


def test_mask_blanks_what_was_not_measured(dataset, patterns):
    mask = np.ones((16, 16), bool)
    mask[2, 3] = False
    broken = patterns.copy()
    broken[..., 2, 3] = np.nan
    data = replace(dataset, patterns=broken, mask=mask)
    assert data.validate() == 12
    assert (data.counts()[:, 2, 3] == 0).all()
    expected = patterns.sum((2, 3)) - patterns[..., 2, 3]
    assert data.electrons_per_pattern == pytest.approx(expected.mean())


def test_positions_start_at_the_origin_and_rotate(values, patterns):
    straight = with_values(values, patterns, scan_step_A=(0.5, 0.4))
    positions = straight.positions_A()
    assert positions.shape == (12, 2)
    assert positions.dtype == np.float64
    np.testing.assert_allclose(positions[0], (0, 0))
    np.testing.assert_allclose(positions[5], (0.5, 0.4))
    assert straight.scan_extent_A == pytest.approx((1.0, 1.2))
    turned = with_values(values, patterns, scan_step_A=(0.5, 0.4), scan_rotation_deg=90.0)
    assert turned.scan_extent_A == pytest.approx((1.2, 1.0))


def test_mean_pattern(dataset, patterns):
    np.testing.assert_allclose(dataset.mean_pattern(), patterns.mean((0, 1)), rtol=1e-6)
    flat = patterns.reshape(-1, 16, 16)
    np.testing.assert_allclose(dataset.mean_pattern(3), flat[[0, 4, 8]].mean(0), rtol=1e-6)


def test_fingerprint_covers_what_it_says(dataset, patterns, values):
    fingerprint = dataset.fingerprint()
    assert len(fingerprint) == 64
    same = replace(
        dataset,
        patterns=patterns.astype(np.uint16),
        name="other",
        calibration=Calibration(**values, sources={"scan_step_A": "guessed"}),
    )
    assert same.fingerprint() == fingerprint
    changed = patterns.copy()
    changed[1, 2, 3, 4] += 1
    mask = np.ones((16, 16), bool)
    mask[0, 0] = False
    others = [
        replace(dataset, patterns=changed),
        replace(dataset, patterns=patterns.reshape(4, 3, 16, 16)),
        replace(dataset, mask=mask),
        with_values(values, patterns, defocus_A=1.0),
    ]
    assert len({fingerprint, *(other.fingerprint() for other in others)}) == 5


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, r"NaN at scan position \(y=1, x=2\)"),
        (np.inf, r"infinite counts at scan position \(y=1, x=2\)"),
        (-np.inf, r"infinite counts at scan position \(y=1, x=2\)"),
        (-3.0, r"negative counts at scan position \(y=1, x=2\).*dark level"),
    ],
)
def test_impossible_counts_are_found(dataset, patterns, value, words):
    patterns[1, 2, 8, 8] = value
    patterns[2, 0, 8, 8] = value
    with pytest.raises(DataError, match=words) as caught:
        dataset.validate()
    assert "\n" not in str(caught.value)


def test_all_zero_is_refused(dataset):
    with pytest.raises(DataError, match=r"all counts are zero"):
        replace(dataset, patterns=np.zeros((2, 2, 16, 16))).validate()


def test_validate_samples_huge_data_evenly(values, patterns, monkeypatch):
    monkeypatch.setattr("napari_mep.data.dataset._CHECK_BYTES", 4 * 4 * 16 * 16)
    source = Recorder(patterns)
    assert with_values(values, source).validate() == 4
    assert source.reads == [(0, 0, 4), (1, 2, 3), (2, 1, 2)]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((12, 16, 16)), "3 axes of shape .*expected 4"),
        (np.zeros((3, 4, 16, 16), complex), "complex128"),
        (np.zeros((3, 4, 16, 16), "S3"), "real intensities"),
        (np.zeros((0, 4, 16, 16)), "no patterns"),
    ],
)
def test_what_cannot_be_patterns(values, array, words):
    with pytest.raises(DataError, match=words):
        with_values(values, array)


def test_mask_and_probe_must_fit(dataset):
    with pytest.raises(DataError, match=r"mask of shape \(8, 8\)"):
        replace(dataset, mask=np.ones((8, 8), bool))
    with pytest.raises(DataError, match=r"probe of shape \(32, 32\)"):
        replace(dataset, probe=np.ones((32, 32), complex))


def test_detector_too_small_for_the_disk(values, patterns):
    with pytest.raises(CalibrationError, match=r"short of the bright-field disk"):
        with_values(values, patterns[..., 4:12, 4:12])


def test_unreadable_patterns_are_a_data_error(values, patterns):
    class Broken(Recorder):
        def __getitem__(self, key):
            raise RuntimeError("Zstd decompression error:\n b'Corrupted'")

    with pytest.raises(DataError, match=r"scan row 2 cannot be read.*truncated") as caught:
        with_values(values, Broken(patterns)).counts([9])
    assert "\n" not in str(caught.value)


def test_explicit_positions(dataset):
    places = np.random.default_rng(4).normal(0, 3, (12, 2))
    data = replace(dataset, positions=places)
    np.testing.assert_allclose(data.positions_A(), places)
    turned = replace(
        data, calibration=data.calibration.model_copy(update={"scan_rotation_deg": 90.0})
    )
    # physics.scan: at +90 degrees the fast axis points up and the slow one to the right.
    np.testing.assert_allclose(turned.positions_A(), places[:, ::-1] * [-1, 1], atol=1e-12)
    assert data.fingerprint() != dataset.fingerprint()
    assert data.scan_extent_A == pytest.approx(np.ptp(places, axis=0))


@pytest.mark.parametrize(
    ("positions", "words"),
    [(np.zeros((11, 2)), r"shape \(11, 2\) do not fit 12"), (np.full((12, 2), np.nan), "finite")],
)
def test_positions_that_do_not_fit(dataset, positions, words):
    with pytest.raises(DataError, match=words):
        replace(dataset, positions=positions)
