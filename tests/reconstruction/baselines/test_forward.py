"""Each package's forward model on a known specimen gives our patterns: nothing got lost on the way.

Axes, signs, order of slices, normalisation, positions between pixels, metres and angstrom: any
mistake in them is far above 1e-4.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

CHILD = Path(__file__).with_name("forward_child.py")


@pytest.fixture
def both(problem_of, job_of, tmp_path):
    """Patterns of several problems by a package and by our model."""

    def run(package: str, *problems):
        rng = np.random.default_rng(0)
        ours, folders = [], []
        for problem in problems:
            # Vacuum beyond the canvas, as in our model; strong slices that differ in between.
            phase = rng.uniform(0.0, 0.6, problem.grid.shape).astype(np.float32)
            patterns = problem.model.intensities(torch.from_numpy(phase), problem.positions_px)
            ours.append(np.fft.fftshift(patterns.numpy(), axes=(1, 2)))
            job = job_of(problem, {"ptychi": "lsq-ml", "ptyrad": "ptyrad-adam"}[package])
            folders.append(tmp_path / str(len(folders)))
            folders[-1].mkdir()
            job.save(folders[-1])
            y0, y1, x0, x1 = job.canvas
            whole = np.zeros(job.object_shape, np.float32)
            whole[:, y0:y1, x0:x1] = phase
            np.save(folders[-1] / "phase.npy", whole)
        command = [sys.executable, str(CHILD), package, *map(str, folders)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [(a, np.load(f / "patterns.npy")) for a, f in zip(ours, folders, strict=True)]

    return run


def worst(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference relative to the peak."""
    return float(np.abs(ours - theirs).max() / ours.max())


@pytest.fixture
def problems(problem_of, make_dataset):
    """A rotated scan with positions between pixels, and one slice only with other optics."""
    return (
        problem_of(make_dataset((3, 4), scan_step_A=0.37, scan_rotation_deg=17.0)),
        problem_of(make_dataset((2, 3), specimen_thickness_A=1.5, defocus_A=-40.0)),
    )


def check(pairs) -> None:
    for ours, theirs in pairs:
        assert theirs.shape == ours.shape
        assert worst(ours, theirs) < 1e-4
        # controls: what a mistake would look like
        assert worst(ours, theirs.transpose(0, 2, 1)) > 0.01
        assert worst(ours, np.roll(theirs, 1, axis=0)) > 0.01


def test_ptychi_computes_our_patterns(both, problems):
    check(both("ptychi", *problems))


def test_ptyrad_computes_our_patterns(both, problems, problem_of, make_dataset):
    *narrow, (ours, theirs) = both("ptyrad", *problems, problem_of(make_dataset((2, 3)), 2))
    check(narrow)
    # On a window of two detector windows there are two ways to add up the samples on a pixel's
    # area, so they are equal only as far as those go; but nothing is shifted, and nothing lost.
    assert np.abs(ours - theirs).sum() / ours.sum() < 0.1
    for axis in np.mgrid[:32, :32]:
        middle = [(axis * p).sum((1, 2)) / p.sum((1, 2)) for p in (ours, theirs)]
        np.testing.assert_allclose(middle[0], middle[1], atol=0.02)
