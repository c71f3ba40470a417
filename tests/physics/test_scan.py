from __future__ import annotations

import numpy as np

from napari_mep.physics.scan import raster_positions_A


def test_rows_first_from_the_origin():
    positions = raster_positions_A((2, 3), (0.4, 0.5))
    expected = [(0, 0), (0, 0.5), (0, 1.0), (0.4, 0), (0.4, 0.5), (0.4, 1.0)]
    np.testing.assert_allclose(positions, expected)
    assert positions.dtype == np.float64


def test_positive_rotation_is_counter_clockwise_with_y_down():
    first, fast, slow, _ = raster_positions_A((2, 2), 1.0, rotation_deg=90.0)
    np.testing.assert_allclose(first, (0, 0))
    np.testing.assert_allclose(fast, (-1, 0), atol=1e-15)  # up on the screen
    np.testing.assert_allclose(slow, (0, 1), atol=1e-15)  # to the right


def test_rotation_keeps_distances():
    straight = raster_positions_A((4, 5), (0.3, 0.7))
    turned = raster_positions_A((4, 5), (0.3, 0.7), rotation_deg=-33.0)
    np.testing.assert_allclose(np.hypot(*straight.T), np.hypot(*turned.T))
