"""Orientation and focus by quick reconstructions, on patterns without other faults."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from napari_mep.data.dataset import DiffractionDataset, orient_detector
from napari_mep.data.estimate import canonical_orientation
from napari_mep.data.imperfections import Imperfections, record
from napari_mep.physics.scan import raster_positions_A
from napari_mep.reconstruction.calibrate import (
    Trials,
    _trials,
    find_defocus,
    find_orientation,
    find_thickness,
    find_turn,
    refine_rotation,
)
from napari_mep.reconstruction.calibrate._trials import find_minimum
from napari_mep.reconstruction.gradient import solve_gradient
from napari_mep.reconstruction.plan import GradientPlan
from napari_mep.reconstruction.problem import build_problem

FLAGS = list(product((False, True), repeat=3))
NAMES = ("detector_transpose", "detector_flip_y", "detector_flip_x")


def trials(case, flags=(False, False, False), positions=8, oversampling=1, **changes) -> Trials:
    """Quick trials of a scan recorded with an orientation that the calibration does not tell."""
    transpose, flip_y, flip_x = flags
    recorded = record(
        case.expected, Imperfections(transpose=transpose, flip_y=flip_y, flip_x=flip_x), 1e5
    )
    calibration = case.expected.calibration.model_copy(update=changes)
    dataset = DiffractionDataset(recorded.patterns, calibration, "scan")
    return Trials.of(dataset, positions=positions, slice_A=8.0, oversampling=oversampling)


@pytest.mark.parametrize("flags", [FLAGS[0], FLAGS[3], FLAGS[5], FLAGS[6]])
def test_the_right_one_of_eight(case, flags):
    found = find_orientation(trials(case, flags, defocus_A=-100.0))
    assert found.orientation == flags
    assert found.contrast > 0.02
    assert found.calibration == dict(zip(NAMES, flags, strict=True))
    assert len(found.residuals) == 8


@pytest.mark.parametrize("flags", [FLAGS[2], FLAGS[4]])
def test_a_rotation_that_nobody_knows(case, flags):
    """Flipped in y at 23 degrees; transposed at 23 degrees is that at -67 degrees, and so on."""
    found = find_turn(trials(case, flags, scan_rotation_deg=0.0))
    assert found.orientation == flags
    assert found.rotation_deg == pytest.approx(23.0, abs=5)
    assert found.contrast > 0.02


@pytest.mark.parametrize(("flags", "rotation"), list(product(FLAGS, (-170.0, -44.0, 23.0, 131.0))))
def test_equivalent_orientations_describe_the_same_experiment(flags, rotation):
    """Pattern and position turn together: k . r is the same for every pixel and position."""
    turned, other = canonical_orientation(rotation, flags)
    assert abs(turned) <= 45

    def products(flags, rotation) -> np.ndarray:
        k = np.mgrid[-2:3, -2:3].astype(float)  # stored: where each pixel's frequency ends up
        oriented = orient_detector(np.arange(25).reshape(5, 5), *flags)
        k_of = {int(oriented[i, j]): k[:, i, j] for i in range(5) for j in range(5)}
        positions = raster_positions_A((3, 4), 0.5, rotation)
        return np.array([positions @ k_of[pixel] for pixel in range(25)])

    np.testing.assert_allclose(products(flags, rotation), products(other, turned), atol=1e-12)


def test_defocus_and_rotation_to_a_fraction(case):
    start = trials(case, positions=16, oversampling=2, defocus_A=-98.0)
    focus = find_defocus(start)
    assert focus.defocus_A == pytest.approx(-120, abs=6)
    assert focus.uncertainty["defocus_A"] >= 1.0
    assert focus.proof[0].x[0] < -120 < focus.proof[0].x[-1]
    better = replace(
        start,
        calibration=start.calibration.model_copy(
            update={"defocus_A": -120.0, "scan_rotation_deg": 25.0}
        ),
    )
    turn = refine_rotation(better, 4.0)
    assert turn.calibration["scan_rotation_deg"] == pytest.approx(23, abs=0.5)


def test_a_defocus_out_of_reach_says_so(case):
    assert "edge of the range" in find_defocus(trials(case, defocus_A=-260.0), 0.1).summary


def test_thickness_comes_with_the_focus_that_goes_with_it(case):
    start = trials(case, specimen_thickness_A=None, defocus_A=-119.0)
    found = find_thickness(replace(start, slice_A=4.0), (4, 9, 16, 25, 36))
    # The middle of the specimen stays in the focus that it had for 10 A.
    assert found.defocus_A - found.thickness_A / 2 == pytest.approx(-124.0)
    # 8 A are a sixth of the depth of focus, lambda / alpha^2 = 49.2 A, within which one thickness
    # explains the patterns like another. The curve is flat (0.1111 to 0.1124) and its minimum
    # anywhere; the error says so, and there is nothing to calibrate with.
    assert found.error_A == pytest.approx(49.2, rel=0.01)
    assert abs(found.thickness_A - 8) < found.error_A
    assert not found.calibration
    assert "the data do not tell it" in found.summary


def test_trials_minimise_what_they_compare(case, monkeypatch):
    """Residual and error bar are those of the amplitude objective, whatever plans start with."""
    asked = []

    def spy(*args, **kwargs):
        asked.append(build_problem(*args, **kwargs))
        return asked[-1]

    monkeypatch.setattr(_trials, "build_problem", spy)
    start = trials(case)
    residual = start.residual()
    assert [problem.likelihood for problem in asked] == ["amplitude"]
    *_, last = solve_gradient(asked[0], GradientPlan(iterations=5))
    assert residual == pytest.approx(last.residual, rel=1e-5)
    value = float(asked[0].data_term(last.canvas).value)
    after = asked[0].data_term(last.canvas).residual
    assert 2 * start.electrons * after**2 == pytest.approx(value, rel=1e-4)


def test_parts_of_a_scan_are_small(case):
    made = trials(case)
    assert made.patterns.shape == (8, 8, 30, 30)  # 1.45 times the disk of 20 pixels
    assert made.measured is None
    assert made.electrons == pytest.approx(64 * 1e5 * 0.25, rel=0.05)
    assert made.device == torch.device("cpu")


def test_fine_scans_and_detectors_are_thinned_out(case):
    """Steps of 0.06 A and four times finer pixels give trials of the same size."""
    calibration = case.expected.calibration.model_copy(
        update={"scan_step_A": 0.06, "detector_step_invA": 0.025}
    )
    patterns = np.ones((40, 48, 160, 160), np.uint8)
    made = Trials.of(DiffractionDataset(patterns, calibration, "fine"), positions=8, slice_A=8.0)
    assert made.patterns.shape[:2] == (6, 7) or made.patterns.shape[:2] == (8, 8)
    assert made.patterns.shape[-1] <= 40
    assert made.calibration.detector_step_invA >= 0.075


def test_find_minimum_of_a_parabola():
    def residual(x: float) -> float:
        return (0.01 + 4e-6 * (x - 3.3) ** 2) ** 0.5

    found = find_minimum(residual, [-10, -5, 0, 5, 10], electrons=1e5)
    assert found.place == pytest.approx(3.3, abs=1e-6)
    # 2 N r^2 rises by 1/2 at one standard deviation: 2e5 * 4e-6 * dx^2 = 1/2.
    assert found.error == pytest.approx((0.5 / 0.8) ** 0.5, rel=1e-3)
    assert not found.at_edge
    assert find_minimum(lambda x: 1 + x, [0, 1, 2, 3, 4], 1.0, bounded=True).at_edge
