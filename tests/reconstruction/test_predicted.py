"""Patterns predicted from a volume against the physics that made the data."""

from __future__ import annotations

import numpy as np
import pytest

from napari_mep.data.preprocessing import PreprocessingPlan, preprocess
from napari_mep.errors import PlanError
from napari_mep.physics.noise import expected_residual_floor
from napari_mep.reconstruction.predicted import predicted_patterns, volume_residual
from napari_mep.volume import PhaseVolume
from tests.reconstruction.conftest import CORNER, DETECTOR, PIXEL_A, SLICE_A


@pytest.fixture
def volume(specimen) -> PhaseVolume:
    """The true phase with a wide margin of vacuum, in world coordinates."""
    return PhaseVolume(
        specimen.numpy(),
        (SLICE_A, PIXEL_A, PIXEL_A),
        (SLICE_A / 2, -CORNER * PIXEL_A, -CORNER * PIXEL_A),
    )


def test_the_true_volume_predicts_the_data(dataset, plan, volume):
    indices = [0, 40, 71]
    predicted = predicted_patterns(dataset, plan, volume, indices)
    measured = dataset.counts(indices)
    assert predicted.shape == (3, DETECTOR, DETECTOR)
    assert predicted.dtype == np.float32
    np.testing.assert_allclose(predicted, measured, atol=2e-3 * measured.max())
    # And the patterns differ from each other far more than that.
    assert np.abs(measured[0] - measured[1]).max() > 0.05 * measured.max()


def test_precise_waves_predict_nearly_the_same(dataset, plan, volume):
    """Both on three windows, so what differs is reach and cores, here as heavy as strontium's."""
    volume = PhaseVolume(2 * volume.data, volume.voxel_size_A, volume.origin_A)
    precise = plan.replace(object={"waves": "precise"})
    fast = plan.replace(object={"waves": "fast", "wave_oversampling": 3})
    a, b = (predicted_patterns(dataset, p, volume, [40])[0] for p in (precise, fast))
    assert a.shape == b.shape == (DETECTOR, DETECTOR)
    relative = np.linalg.norm(np.sqrt(a) - np.sqrt(b)) / np.linalg.norm(np.sqrt(b))
    assert 1e-3 < relative < 0.03
    assert 0.98 * b.sum() < a.sum() < b.sum()


def test_a_shifted_volume_predicts_something_else(dataset, plan, volume):
    z, y, x = volume.origin_A
    moved = PhaseVolume(volume.data, volume.voxel_size_A, (z, y + 0.4, x))
    measured = dataset.counts([40])
    difference = np.abs(predicted_patterns(dataset, plan, moved, [40]) - measured)
    assert difference.max() > 0.03 * measured.max()


def test_a_cropped_volume_continues_with_its_mean(dataset, plan):
    """A constant phase scatters nothing, wherever it ends: the pattern is that of vacuum."""
    flat = PhaseVolume(np.full((2, 10, 11), 0.7), (SLICE_A, PIXEL_A, PIXEL_A), (0.8, 0, 0))
    empty = PhaseVolume(np.zeros((2, 10, 11)), (SLICE_A, PIXEL_A, PIXEL_A), (0.8, 0, 0))
    a, b = (predicted_patterns(dataset, plan, v, [30]) for v in (flat, empty))
    np.testing.assert_allclose(a, b, atol=1e-4 * b.max())


def test_a_smaller_detector_shows_its_own_pixels(make_dataset, plan, volume):
    whole, part = make_dataset(), make_dataset(crop=(28, 28))
    a = predicted_patterns(whole, plan, volume, [5])[0]
    b = predicted_patterns(part, plan, volume, [5])[0]
    assert b.shape == (28, 28)
    # The cropped data hold fewer electrons; the pattern is the same.
    inner = a[2:-2, 2:-2]
    np.testing.assert_allclose(b / b.sum(), inner / inner.sum(), atol=1e-4)


def test_pixels_that_the_detector_cannot_reach_are_refused(dataset, plan):
    coarse = PhaseVolume(np.zeros((2, 8, 8)), (SLICE_A, 0.9, 0.9))
    with pytest.raises(PlanError, match="pixel_size_A"):
        predicted_patterns(dataset, plan, coarse, [0])


def test_the_residual_of_the_truth_is_that_of_noise_where_patterns_are_centred(
    make_dataset, plan, volume
):
    """Interpolating patterns would leave a misfit of its own, the same for every volume."""
    lies_at = np.array([0.4, -0.3])
    settings = {"shifts_px": np.tile(lies_at, (72, 1)), "electrons": 1e5}
    scan, expected = make_dataset(**settings, seed=3), make_dataset(**settings)
    centred = preprocess(scan, PreprocessingPlan(centre_px=tuple(DETECTOR // 2 + lies_at)))
    floor = expected_residual_floor(expected.counts())
    assert volume_residual(centred, plan, volume) == pytest.approx(floor, rel=0.05)
