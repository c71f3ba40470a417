from __future__ import annotations

import numpy as np
import pytest

from napari_mep.evaluation.alignment import Adjustments, adjust, lateral_shift_A
from napari_mep.volume import PhaseVolume

VOXEL = (1.6, 0.2, 0.2)
RNG = np.random.default_rng(3)
ATOMS = RNG.uniform(1, 12, (25, 2))


def specimen(pixel=0.2, n=64, moved=(0.0, 0.0), slices=4, dz=1.6) -> PhaseVolume:
    """Irregular atoms, whose image is moved by (y, x) angstrom in world coordinates."""
    y, x = np.mgrid[:n, :n] * pixel
    image = sum(
        np.exp(-((y - ay - moved[0]) ** 2 + (x - ax - moved[1]) ** 2) / (2 * 0.4**2))
        for ay, ax in ATOMS
    )
    weights = np.linspace(0.5, 1.5, slices)[:, None, None] * dz
    return PhaseVolume(weights * image, (dz, pixel, pixel), (dz / 2, 0, 0))


@pytest.mark.parametrize("moved", [(0.0, 0.0), (0.13, -0.37), (1.0, 0.75)])
def test_a_shift_is_found_and_undone(moved):
    reference, volume = specimen(), specimen(moved=moved)
    result = adjust(volume, reference, Adjustments(register=True))
    assert result.shift_A == pytest.approx((-moved[0], -moved[1]), abs=0.01)
    assert result.volume.origin_A == pytest.approx((0.8, *result.shift_A))
    np.testing.assert_array_equal(result.volume.data, volume.data)  # nothing was resampled


def test_another_pixel_and_slice_thickness_do_not_matter():
    other = specimen(pixel=0.15, n=86, slices=2, dz=3.2, moved=(0.3, 0.2))
    assert lateral_shift_A(other, specimen()) == pytest.approx((-0.3, -0.2), abs=0.02)


def test_offset_and_ramp_are_found_and_taken_away():
    reference = specimen()
    y, x = np.mgrid[:64, :64] * 0.2 - 6.3
    plane = 0.3 + 0.02 * y - 0.05 * x  # rad/A
    spoiled = PhaseVolume(reference.data + 1.6 * plane, VOXEL, reference.origin_A)
    result = adjust(spoiled, reference, Adjustments(offset=True, ramp=True))
    assert result.offset_rad_per_A == pytest.approx(0.3, rel=1e-4)
    assert result.ramp_rad_per_A2 == pytest.approx((0.02, -0.05), rel=1e-3)
    np.testing.assert_allclose(result.volume.data, reference.data, atol=1e-4)

    only = adjust(spoiled, reference, Adjustments(offset=True))
    assert only.ramp_rad_per_A2 == (0, 0)
    np.testing.assert_allclose(only.volume.data, reference.data + 1.6 * (plane - 0.3), atol=1e-4)
    ramp = adjust(spoiled, reference, Adjustments(ramp=True))
    np.testing.assert_allclose(ramp.volume.data, reference.data + 1.6 * 0.3, atol=1e-4)


def test_levelling_a_volume_of_other_slices():
    """The offset is per angstrom, so that a slice twice as thick loses twice as much."""
    reference, thick = specimen(), specimen(slices=2, dz=3.2)
    raised = PhaseVolume(thick.data + 3.2 * 0.2, thick.voxel_size_A, thick.origin_A)
    level = adjust(thick, reference, Adjustments(offset=True)).offset_rad_per_A
    result = adjust(raised, reference, Adjustments(offset=True))
    assert result.offset_rad_per_A - level == pytest.approx(0.2, rel=1e-4)
    np.testing.assert_allclose(result.volume.data + 3.2 * np.float32(level), thick.data, atol=1e-4)


@pytest.mark.parametrize(("name", "axis"), [("flip_z", 0), ("flip_y", 1), ("flip_x", 2)])
def test_a_flip_reverses_one_axis_in_place(name, axis):
    volume = specimen()
    result = adjust(volume, volume, Adjustments(**{name: True})).volume
    np.testing.assert_array_equal(result.data, np.flip(volume.data, axis))
    assert result.origin_A == volume.origin_A


def test_nothing_is_done_unasked():
    reference, volume = specimen(), specimen(moved=(0.3, 0.3))
    result = adjust(volume, reference, Adjustments())
    assert result.volume is volume
    assert (result.shift_A, result.offset_rad_per_A) == ((0, 0), 0)
    assert not Adjustments().any
    assert Adjustments(ramp=True).any
