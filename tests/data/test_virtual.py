"""Images of a scan: known sums, blocks, subsamples, stopping, and a field that is a gradient."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from napari_mep.data.virtual import (
    Stopped,
    VirtualDetector,
    coarse_raster,
    integrate_centre_of_mass,
    scan_images,
)
from napari_mep.errors import DataError


@pytest.fixture
def scan() -> np.ndarray:
    """(5, 6, 9, 8): one bright pixel per pattern, as bright as the pattern's number + 1."""
    scan = np.zeros((5, 6, 9, 8), np.uint16)
    for row in range(5):
        for column in range(6):
            scan[row, column, 4 + row - 2, 4 + column - 3] = row * 6 + column + 1
    return scan


def test_sums_and_centre_of_mass(scan):
    images = scan_images(scan)
    number = np.arange(1, 31).reshape(5, 6)
    np.testing.assert_array_equal(images.sums, number)
    np.testing.assert_allclose(
        images.centre_of_mass[..., 0], np.arange(5)[:, None] - 2 + 0 * number
    )
    np.testing.assert_allclose(images.centre_of_mass[..., 1], np.arange(6)[None] - 3 + 0 * number)
    np.testing.assert_allclose(images.mean_pattern, scan.mean((0, 1)), rtol=1e-6)
    assert images.every == (1, 1)


def test_virtual_detectors_are_rings_or_masks(scan):
    mask = np.zeros((9, 8))
    mask[4, 4] = 2.5
    images = scan_images(
        scan,
        [
            VirtualDetector("BF", outer_px=1.1),
            VirtualDetector("ADF", inner_px=1.1),
            VirtualDetector("one", mask=mask),
            VirtualDetector("off centre", outer_px=0.5, centre_px=(2, 1)),
        ],
    )
    assert list(images.virtual) == ["BF", "ADF", "one", "off centre"]
    np.testing.assert_array_equal(images.virtual["BF"] + images.virtual["ADF"], images.sums)
    assert images.virtual["BF"][2, 3] == 16  # the centre itself
    assert images.virtual["BF"][0, 0] == 0
    assert images.virtual["one"][2, 3] == 2.5 * 16
    assert images.virtual["one"].sum() == 2.5 * 16
    assert images.virtual["off centre"][0, 0] == 1


def test_bad_pixels_count_nowhere_but_in_the_mean_pattern(scan):
    bad = np.zeros((9, 8), bool)
    bad[4, 4] = True
    images = scan_images(scan, [VirtualDetector("all")], bad=bad)
    assert images.sums[2, 3] == images.virtual["all"][2, 3] == 0
    assert (images.centre_of_mass[2, 3] == 0).all()
    assert images.mean_pattern[4, 4] > 0


def test_blocks_and_subsamples_change_nothing_else(scan, monkeypatch):
    whole = scan_images(scan, [VirtualDetector("BF", outer_px=2)])
    monkeypatch.setattr("napari_mep.data.virtual._BLOCK_BYTES", 3 * 4 * 72)
    seen = []
    blocks = scan_images(
        scan, [VirtualDetector("BF", outer_px=2)], progress=lambda *done: seen.append(done)
    )
    np.testing.assert_array_equal(blocks.virtual["BF"], whole.virtual["BF"])
    np.testing.assert_array_equal(blocks.mean_pattern, whole.mean_pattern)
    assert seen[:2] == [(3, 30), (6, 30)]
    assert seen[-1] == (30, 30)
    coarse = scan_images(scan, max_patterns=8)
    assert coarse.every == (2, 2)
    np.testing.assert_array_equal(coarse.sums, whole.sums[::2, ::2])


def test_a_raster_of_any_size():
    rows, columns = coarse_raster((100, 400), 400)
    assert len(rows) * len(columns) <= 400
    assert (np.diff(rows) == 10).all()
    assert [len(part) for part in coarse_raster((1, 5), 1)] == [1, 2]
    assert [len(part) for part in coarse_raster((3, 4), None)] == [3, 4]


def test_stopping(scan):
    stop = threading.Event()

    def after_two_rows(done: int, total: int) -> None:
        if done >= 12:
            stop.set()

    with pytest.raises(Stopped):
        scan_images(scan, stop=stop, progress=after_two_rows)


def test_impossible_detectors_and_broken_files(scan):
    with pytest.raises(DataError, match="BF: 30 to inf px holds no detector pixel"):
        scan_images(scan, [VirtualDetector("BF", inner_px=30)])
    with pytest.raises(DataError, match="mask of shape"):
        scan_images(scan, [VirtualDetector("BF", mask=np.ones((3, 3)))])

    class Broken:
        shape, dtype = scan.shape, scan.dtype

        def __getitem__(self, key):
            raise OSError("unexpected end of file")

    with pytest.raises(DataError, match=r"scan row 0 cannot be read \(unexpected end of file\)"):
        scan_images(Broken())


def test_integrated_centre_of_mass_is_the_potential():
    y, x = np.meshgrid(np.arange(24.0), np.arange(32.0), indexing="ij")
    potential = np.exp(-((y - 10) ** 2 + (x - 18) ** 2) / 18) + 0.02 * y
    gradient = np.stack(np.gradient(potential), axis=-1)
    image = integrate_centre_of_mass(gradient)
    wanted = potential - 0.02 * y  # a constant deflection is descan, not specimen
    wanted -= wanted.mean()
    assert np.abs(image - wanted).max() < 0.04
    assert image[10, 18] > 0.8
