"""What goes to the child and what comes back."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from napari_mep.data.preprocessing import PreprocessingPlan, preprocess
from napari_mep.reconstruction.baselines.catalogue import BaselineSettings
from napari_mep.reconstruction.baselines.job import Frame, Job, read_frame, write_frame


def test_a_job_survives_its_folder(job, tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()
    job.save(folder)
    back = Job.load(folder)
    for name in Job.__slots__:
        np.testing.assert_array_equal(getattr(back, name), getattr(job, name), err_msg=name)


@pytest.mark.parametrize("window", [1, 2])
def test_every_window_lies_within_the_object(problem_of, job_of, make_dataset, window):
    job = job_of(problem_of(make_dataset((3, 4), scan_rotation_deg=30.0), window))
    size = job.probe.shape[0]
    assert size == 32 * window
    assert np.floor(job.corners_px).min() >= 1
    assert np.all(np.ceil(job.corners_px.max(axis=0)) + size + 1 <= job.object_shape[1:])


def test_the_canvas_is_where_it_was(problem_of, job_of, make_dataset):
    problem = problem_of(make_dataset((3, 4)))
    job = job_of(problem)
    y0, _, x0, _ = job.canvas
    middle = job.corners_px + job.probe.shape[0] // 2
    np.testing.assert_allclose(middle - (y0, x0), problem.positions_px)
    assert job.crop(np.empty(job.object_shape)).shape == problem.grid.shape


def test_probe_and_patterns_are_centred_and_in_electrons(problem_of, job_of, make_dataset):
    job = job_of(problem_of(make_dataset((3, 4), defocus_A=0.0)))
    # a focused probe has its peak in the middle, and the sum of what is counted
    intensity = np.abs(job.probe) ** 2
    assert np.unravel_index(intensity.argmax(), intensity.shape) == (16, 16)
    assert intensity.sum() == pytest.approx(job.counts.sum() / 12, rel=1e-4)
    y, x = np.mgrid[:32, :32] - 16
    mean = job.counts.mean(axis=0)
    disk = np.hypot(y, x) < 5  # of the bright field
    assert mean[disk].min() > 3 * mean[~disk & (np.hypot(y, x) > 9)].max()


def test_patterns_are_centred_for_models_that_cannot_shift_theirs(problem_of, job_of, make_dataset):
    lies_at = np.array([0.4, -0.3])
    scan = make_dataset((2, 3), shifts_px=np.tile(lies_at, (6, 1)))
    centred = preprocess(scan, PreprocessingPlan(centre_px=tuple(16 + lies_at)))
    job = job_of(problem_of(centred))
    np.testing.assert_allclose(job.counts, centred.counts(), rtol=1e-4, atol=1.0)


def test_unmeasured_pixels_are_empty_and_masked(problem_of, job_of, make_dataset):
    mask = np.ones((32, 32), bool)
    mask[4:7, 9] = False
    job = job_of(problem_of(make_dataset((2, 3), mask=mask)))
    np.testing.assert_array_equal(job.mask, mask)
    assert not job.counts[:, ~mask].any()


def test_a_frame_comes_back():
    stream = io.BytesIO()
    canvas = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    write_frame(stream, Frame(3, 0.25, canvas[:, ::-1]))
    write_frame(stream, Frame(4, float("nan"), canvas))
    stream.seek(0)
    first, second = read_frame(stream), read_frame(stream)
    assert (first.iteration, first.residual, second.iteration) == (3, 0.25, 4)
    assert np.isnan(second.residual)
    np.testing.assert_array_equal(first.canvas, canvas[:, ::-1])
    assert torch.from_numpy(first.canvas).dtype == torch.float32  # and writable, without a warning
    assert read_frame(stream) is None


@pytest.mark.parametrize("length", [0, 5, 40, 100])
def test_a_frame_that_breaks_off_is_no_frame(length):
    stream = io.BytesIO()
    write_frame(stream, Frame(1, 0.5, np.zeros((2, 5, 5))))
    assert read_frame(io.BytesIO(stream.getvalue()[:length])) is None


@pytest.mark.parametrize(
    ("batch", "patterns", "expected"), [(32, 676, 32), (32, 10, 10), (None, 676, 33), (None, 6, 1)]
)
def test_mini_batches(batch, patterns, expected):
    assert BaselineSettings(1, 1.0, batch).patterns_per_batch(patterns) == expected
