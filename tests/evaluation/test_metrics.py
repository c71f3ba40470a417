from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from napari_mep.errors import DataError
from napari_mep.evaluation import compare_volumes
from napari_mep.evaluation.metrics import common_volumes
from napari_mep.volume import PhaseVolume

VOXEL = (1.6, 0.2, 0.2)


def smooth(z, y, x):
    """A band-limited specimen: phase density in rad/A at world coordinates."""
    return (
        1.2
        + np.sin(2 * np.pi * y / 3.9)
        + np.cos(2 * np.pi * x / 2.7)
        + 0.5 * np.sin(2 * np.pi * z / 20 + x)
    )


def sampled(shape, voxel, origin) -> PhaseVolume:
    """The specimen on a grid, slices integrated exactly over their thickness (50 sub-slices)."""
    dz = voxel[0]
    sub = (np.arange(50) + 0.5) / 50 - 0.5
    z = origin[0] + dz * (np.arange(shape[0])[:, None] + sub[None, :])
    y, x = (origin[a] + voxel[a] * np.arange(shape[a]) for a in (1, 2))
    density = smooth(z[:, :, None, None], y[:, None], x[None, :]).mean(axis=1)
    return PhaseVolume(density * dz, voxel, origin)


@pytest.fixture
def truth() -> PhaseVolume:
    return sampled((8, 30, 32), VOXEL, (0.8, 0.0, 0.0))


def test_identical(truth):
    scores = compare_volumes(truth, truth)
    assert scores.ssim == pytest.approx(1.0)
    assert scores.ssim_sum == pytest.approx(1.0)
    assert scores.psnr == math.inf
    assert scores.psnr_sum == math.inf
    assert scores.shape == (8, 30, 32)
    assert scores.window == 7


def test_scale_and_offset_do_not_matter(truth):
    rng = np.random.default_rng(0)
    noisy = truth.data + rng.normal(0, 0.3, truth.data.shape)
    first = compare_volumes(PhaseVolume(noisy, VOXEL, truth.origin_A), truth)
    second = compare_volumes(PhaseVolume(3 * noisy - 5, VOXEL, truth.origin_A), truth)
    assert first.psnr < 40
    for name in ("psnr", "ssim", "psnr_sum", "ssim_sum"):
        assert getattr(second, name) == pytest.approx(getattr(first, name), rel=1e-4)


def test_psnr_by_hand():
    """Truth 0 or 1 in halves; one voxel of 64 is 0.5 off: PSNR = 10 log10(64 / 0.25)."""
    data = np.zeros((4, 4, 4))
    data[2:] = 1
    other = data.copy()
    other[0, 1, 1] = 0.5
    truth, recon = (PhaseVolume(a, (1, 1, 1)) for a in (data, other))
    scores = compare_volumes(recon, truth)
    assert scores.psnr == pytest.approx(10 * math.log10(64 / 0.25))
    assert scores.window == 3
    # The depth sum of the truth is constant (2 everywhere), scaled to 0; the other is 1 at a pixel.
    assert scores.psnr_sum == pytest.approx(10 * math.log10(16))


def test_ssim_is_skimages_own(truth):
    other = truth.data + np.random.default_rng(1).normal(0, 1.0, truth.data.shape)
    scores = compare_volumes(PhaseVolume(other, VOXEL, truth.origin_A), truth)

    def unit(a):
        a = a.astype(np.float64)
        return (a - a.min()) / (a.max() - a.min())

    other32 = other.astype(np.float32)
    expected = structural_similarity(unit(other32), unit(truth.data), data_range=1)
    assert scores.ssim == pytest.approx(expected, rel=1e-6)


def test_larger_canvas_with_other_origin_needs_no_interpolation(truth):
    """The reconstruction begins 5 and 3 pixels before the truth and a slice deeper."""
    origin = (0.8 - 1.6, -1.0, -0.6)
    canvas = np.full((11, 50, 45), 7.0, np.float32)
    canvas[1:9, 5:35, 3:35] = truth.data
    recon = PhaseVolume(canvas, VOXEL, origin)
    compared, reference = common_volumes(recon, truth)
    np.testing.assert_array_equal(compared, truth.data)
    np.testing.assert_array_equal(reference, truth.data)
    assert compare_volumes(recon, truth).ssim == pytest.approx(1.0)


def test_partial_overlap_is_cut_to_what_both_cover(truth):
    recon = sampled((5, 40, 20), VOXEL, (0.8, 2.0, -1.0))
    compared, reference = common_volumes(recon, truth)
    assert compared.shape == (5, 20, 15)
    np.testing.assert_allclose(compared, reference, atol=1e-5)


def test_a_wrong_origin_shows(truth):
    """The same numbers half a period away are a bad reconstruction."""
    shifted = PhaseVolume(truth.data, VOXEL, (0.8, 2.0, 0.0))
    assert compare_volumes(shifted, truth).ssim < 0.5


def test_other_lateral_grid_is_interpolated(truth):
    recon = sampled((8, 70, 75), (1.6, 0.13, 0.11), (0.8, -0.37, -0.21))
    compared, reference = common_volumes(recon, truth)
    inner = (slice(None), slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(compared[inner], reference[inner], atol=1e-4)
    assert compare_volumes(recon, truth).ssim > 0.999


def test_other_slices_conserve_the_projected_phase(truth):
    """Five slices of 2.56 A against eight of 1.6 A over the same 12.8 A."""
    recon = sampled((5, 30, 32), (2.56, 0.2, 0.2), (1.28, 0.0, 0.0))
    compared, reference = common_volumes(recon, truth)
    assert compared.shape == (8, 30, 32)
    np.testing.assert_allclose(compared.sum(0), recon.depth_sum(), rtol=1e-5)
    np.testing.assert_allclose(compared.sum(0), reference.sum(0), atol=1e-4)
    first, second = recon.data[:2]
    np.testing.assert_allclose(compared[0], first * 1.6 / 2.56, rtol=1e-5)
    np.testing.assert_allclose(compared[1], first * 0.96 / 2.56 + second * 0.64 / 2.56, rtol=1e-5)


def test_halved_slices_add_up_exactly(truth):
    fine = PhaseVolume(np.repeat(truth.data / 2, 2, axis=0), (0.8, 0.2, 0.2), (0.4, 0.0, 0.0))
    compared, reference = common_volumes(fine, truth)
    np.testing.assert_allclose(compared, reference, rtol=1e-6)


def test_slices_that_are_only_half_covered_do_not_count(truth):
    recon = sampled((3, 30, 32), (4.0, 0.2, 0.2), (2.0, 0.0, 0.0))  # 12 of 12.8 A
    compared, _ = common_volumes(recon, truth)
    assert compared.shape[0] == 7


def test_rounding_of_the_origin_is_no_reason_to_interpolate(truth):
    moved = PhaseVolume(truth.data, VOXEL, (0.8 + 1e-5, 1e-5, -1e-5))
    np.testing.assert_array_equal(common_volumes(moved, truth)[0], truth.data)


@pytest.mark.parametrize("slices", [1, 2])
def test_few_slices_are_compared_slice_by_slice(slices):
    truth = sampled((slices, 30, 32), VOXEL, (0.8, 0.0, 0.0))
    scores = compare_volumes(truth, truth)
    assert scores.ssim == pytest.approx(1.0)
    assert scores.window == 7


@pytest.mark.parametrize(
    "origin", [(0.8, 100.0, 0.0), (0.8, 0.0, -50.0), (60.0, 0.0, 0.0), (0.8, 5.7, 0.0)]
)
def test_no_overlap(truth, origin):
    with pytest.raises(DataError, match="share no field of view") as caught:
        compare_volumes(PhaseVolume(truth.data, VOXEL, origin), truth)
    assert "0..12.8" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_that_are_not_finite(truth):
    broken = truth.data.copy()
    broken[1, 2, 3] = np.nan
    with pytest.raises(DataError, match="reconstruction: has values that are not finite"):
        compare_volumes(PhaseVolume(broken, VOXEL, truth.origin_A), truth)
