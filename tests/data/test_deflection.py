"""Centre of mass in the axes of the scan."""

from __future__ import annotations

import numpy as np
import pytest

from napari_mep.data.dataset import orient_detector
from napari_mep.data.deflection import deflection
from napari_mep.data.preprocessing import pixels_for
from napari_mep.data.virtual import Stopped, sample_patterns, scan_images


def test_transposition_flips_and_rotation_are_undone():
    rng = np.random.default_rng(0)
    field = rng.normal(size=(6, 5, 2))
    field -= field.mean(axis=(0, 1))
    angle = np.radians(23.0)
    cos, sin = np.cos(angle), np.sin(angle)
    world = np.stack(
        (cos * field[..., 0] - sin * field[..., 1], sin * field[..., 0] + cos * field[..., 1]), -1
    )
    stored = world * np.array([-1, 1])  # flips are undone first, then the transposition
    known = {"detector_transpose": True, "detector_flip_y": True, "scan_rotation_deg": 23.0}
    found = deflection(stored[..., ::-1], known)
    np.testing.assert_allclose(found, field, atol=1e-12)


def test_it_agrees_with_how_patterns_are_oriented():
    patterns = np.random.default_rng(1).random((3, 4, 9, 9)).astype(np.float32)
    known = {"detector_transpose": True, "detector_flip_y": False, "detector_flip_x": True}
    oriented = orient_detector(patterns, True, False, True)
    expected = scan_images(oriented).centre_of_mass
    found = deflection(scan_images(patterns).centre_of_mass, known)
    np.testing.assert_allclose(found, expected - expected.mean(axis=(0, 1)), atol=1e-5)


def test_drift_is_taken_out_of_a_coarse_raster():
    y, x = np.meshgrid(np.arange(0, 8, 2.0), np.arange(0, 9, 3.0), indexing="ij")
    drifting = np.stack((0.1 * y - 0.2 * x, 0.3 * x), axis=-1)
    found = deflection(drifting, {}, every=(2, 3), descan_px=(0.1, 0.0, -0.2, 0.3))
    np.testing.assert_allclose(found, 0, atol=1e-12)


def test_a_sample_is_a_coarser_raster_in_the_type_of_the_patterns():
    patterns = np.arange(8 * 9 * 2 * 2, dtype=">u2").reshape(8, 9, 2, 2)
    told = []
    sample, every = sample_patterns(patterns, 10, progress=lambda *done: told.append(done))
    assert every == (3, 3)
    assert sample.dtype == np.uint16
    np.testing.assert_array_equal(sample, patterns[::3, ::3])
    assert told[-1] == (9, 9)


def test_sampling_stops():
    import threading

    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        sample_patterns(np.zeros((3, 3, 2, 2)), None, stop=stop)


def test_pixels_for_a_pixel():
    # 0.2 A need 5 1/A: 64 pixels of 0.078125 1/A, half of them when two are added up.
    assert pixels_for(0.2, 0.078125) == 64
    assert pixels_for(0.2, 0.078125, 2) == 32
