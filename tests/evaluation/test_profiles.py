from __future__ import annotations

import numpy as np
import pytest

from napari_mep.errors import DataError
from napari_mep.evaluation.profiles import depth_profile, line_profile
from napari_mep.volume import PhaseVolume


@pytest.fixture
def plane() -> PhaseVolume:
    """Phase density 10 z + 2 y + x rad/A at world coordinates, slices of 2 A."""
    z, y, x = 1 + 2 * np.arange(4), -1 + 0.5 * np.arange(20), 3 + 0.25 * np.arange(40)
    density = 10 * z[:, None, None] + 2 * y[:, None] + x[None, :]
    return PhaseVolume(2 * density, (2, 0.5, 0.25), (1, -1, 3))


def test_a_line_reads_world_coordinates(plane):
    profile = line_profile(plane, (0, 4), (3, 8), depth_A=3.2)
    assert profile.position_A[-1] == pytest.approx(5)
    assert np.diff(profile.position_A).max() == pytest.approx(0.125, rel=0.05)
    expected = 30 + 2 * 0.6 * profile.position_A + 4 + 0.8 * profile.position_A
    np.testing.assert_allclose(profile.density_rad_per_A, expected, rtol=1e-5)


def test_without_a_depth_it_is_the_mean_over_all_slices(plane):
    profile = line_profile(plane, (0, 4), (0, 8), depth_A=None)
    np.testing.assert_allclose(profile.density_rad_per_A, 40 + 4 + profile.position_A, rtol=1e-5)


def test_the_width_averages_across_the_line():
    """A bright stripe 1 A wide along x: a profile 2 A wide sees half of it."""
    data = np.zeros((1, 81, 81))
    data[0, 36:46] = 1  # y from 3.55 to 4.55, its middle at 4.05
    volume = PhaseVolume(data, (1, 0.1, 0.1), (0.5, 0, 0))
    thin = line_profile(volume, (4.05, 1), (4.05, 7), depth_A=0)
    wide = line_profile(volume, (4.05, 1), (4.05, 7), depth_A=0, width_A=2.0)
    np.testing.assert_allclose(thin.density_rad_per_A, 1)
    np.testing.assert_allclose(wide.density_rad_per_A, 0.5, atol=0.03)


def test_outside_of_the_volume_there_is_no_value(plane):
    profile = line_profile(plane, (0, 0), (0, 4), depth_A=1)
    assert np.isnan(profile.density_rad_per_A[0])
    assert np.isfinite(profile.density_rad_per_A[-1])
    # Of a wide line only what lies inside counts.
    edge = line_profile(plane, (-1, 4), (-1, 8), depth_A=1, width_A=2)
    assert np.isfinite(edge.density_rad_per_A).all()


def test_a_line_needs_a_length(plane):
    with pytest.raises(DataError, match="longer line"):
        line_profile(plane, (0, 4), (0, 4), depth_A=1)


def test_the_depth_profile_has_a_value_for_each_slice(plane):
    profile = depth_profile(plane, (0.5, 4.0))
    np.testing.assert_allclose(profile.position_A, [1, 3, 5, 7])
    np.testing.assert_allclose(profile.density_rad_per_A, 10 * profile.position_A + 1 + 4)
    # On a plane an average over a disk around a pixel changes nothing.
    disk = depth_profile(plane, (0.5, 4.0), radius_A=0.6)
    np.testing.assert_allclose(disk.density_rad_per_A, profile.density_rad_per_A, rtol=1e-5)


def test_the_radius_averages_over_a_disk():
    data = np.zeros((2, 21, 21))
    data[:, 10, 10] = 1
    volume = PhaseVolume(data, (1, 0.1, 0.1), (0.5, 0, 0))
    assert depth_profile(volume, (1, 1)).density_rad_per_A[0] == pytest.approx(1)
    # 5 pixels lie within 0.11 A: the middle and its neighbours.
    assert depth_profile(volume, (1, 1), radius_A=0.11).density_rad_per_A[0] == pytest.approx(0.2)
    assert np.isnan(depth_profile(volume, (9, 1)).density_rad_per_A).all()
