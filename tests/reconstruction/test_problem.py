"""From a dataset to an inverse problem: where things lie, and what the detector measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_mep.data._preprocessed import as_stored
from napari_mep.data.experiment import Experiment
from napari_mep.data.preprocessing import PreprocessingPlan, preprocess
from napari_mep.errors import PlanError
from napari_mep.physics.probe import Aberrations, probe_fourier
from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.reconstruction.problem import Interrupted, build_problem

CPU = torch.device("cpu")
PRIOR_VOXEL_A = (1.6, 0.2, 0.2)
CORNER = 40  # of the true canvas, see conftest


def _on_canvas(specimen: torch.Tensor, problem) -> torch.Tensor:
    """The true phase on the canvas of a problem, found by the world origin of both."""
    _, height, width = problem.grid.shape
    y0, x0 = (CORNER - c for c in problem.grid.corner_px)
    canvas = torch.zeros(problem.grid.shape)
    canvas[:2] = specimen[:, y0 : y0 + height, x0 : x0 + width].float()
    return canvas


def _residual_at_truth(specimen, problem) -> float:
    return problem.data_term(_on_canvas(specimen, problem)).residual


def test_canvas_lies_around_the_scan(dataset, plan):
    problem = build_problem(dataset, plan, device=CPU)
    grid = problem.grid
    assert grid.voxel_size_A == pytest.approx((1.6, 0.2, 0.2))
    assert grid.measured_slices == grid.shape[0] == 2
    np.testing.assert_allclose(
        (problem.positions_px - grid.corner_px) * 0.2, dataset.positions_A(), atol=1e-9
    )
    # everything the probe can reach, and not much more
    reach = problem.positions_px.min(0)
    assert (reach >= 1 / 0.2).all()
    assert (reach <= 6.4 / 0.2).all()
    assert (problem.positions_px.max(0) + reach <= np.array(grid.shape[1:])).all()


def test_crop_is_the_scanned_part_in_world_coordinates(dataset, plan):
    problem = build_problem(dataset, plan, device=CPU)
    marked = torch.zeros(problem.grid.shape)
    # one voxel at world (0.6, 1.0) A of the second slice
    y, x = (c + n for c, n in zip(problem.grid.corner_px, (3, 5), strict=True))
    marked[1, y, x] = 1
    volume = problem.grid.crop(marked)
    # 8 x 9 positions of 0.4 A: 2.8 x 3.2 A
    assert volume.data.shape == (2, 15, 17)
    assert volume.origin_A == pytest.approx((0.8, 0, 0))
    assert np.unravel_index(volume.data.argmax(), volume.data.shape) == (1, 3, 5)
    marked += 1
    assert volume.data.max() == 1  # a copy, not a view


@pytest.mark.parametrize("rotation", [30.0, -115.0])
def test_rotated_scans_keep_their_origin(make_dataset, plan, specimen, rotation):
    dataset = make_dataset(scan_rotation_deg=rotation)
    problem = build_problem(dataset, plan, device=CPU)
    volume = problem.grid.crop(torch.zeros(problem.grid.shape))
    positions = dataset.positions_A()
    last = np.array(volume.origin_A[1:]) + 0.2 * (np.array(volume.data.shape[1:]) - 1)
    assert (np.abs(volume.origin_A[1:] - positions.min(0)) < 0.2 + 1e-9).all()
    assert (np.abs(last - positions.max(0)) < 0.2 + 1e-9).all()
    assert (np.array(volume.origin_A[1:]) >= positions.min(0) - 1e-6).all()
    assert _residual_at_truth(specimen, problem) < 2e-3


def test_truth_explains_noise_free_data(dataset, plan, specimen):
    assert _residual_at_truth(specimen, build_problem(dataset, plan, device=CPU)) < 2e-3


def test_noise_floor_is_the_residual_of_the_truth(make_dataset, plan, specimen):
    problem = build_problem(make_dataset(electrons=3e3, seed=1), plan, device=CPU)
    assert problem.residual_floor == pytest.approx(_residual_at_truth(specimen, problem), rel=0.05)


@pytest.mark.parametrize(("transpose", "flip_y"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("electrons", [3e3, 1e6])
def test_electrons_stay_counted_where_patterns_are_centred(
    make_dataset, plan, specimen, electrons, transpose, flip_y
):
    """Fractions of a pixel are modelled and not interpolated: the truth leaves counting noise."""
    middle, drift = np.array([0.3, -1.6]), np.array([[0.11, -0.27], [0.05, 0.09]])
    row, column = np.mgrid[:8, :9].reshape(2, -1, 1) - np.array([3.5, 4.0]).reshape(2, 1, 1)
    as_stored_px = middle + row * drift[0] + column * drift[1]
    as_seen = as_stored_px[:, ::-1] if transpose else as_stored_px
    as_seen = as_seen * (-1 if flip_y else 1, 1)
    seen = make_dataset(shifts_px=as_seen, electrons=electrons, seed=1)
    flags = {"detector_transpose": transpose, "detector_flip_y": flip_y}
    stored = replace(
        seen,
        patterns=as_stored(seen.patterns, transpose, flip_y, False),
        calibration=seen.calibration.model_copy(update=flags),
    )
    centring = PreprocessingPlan(centre_px=tuple(16 + middle), descan_px=tuple(drift.ravel()))
    # A plan laid over that of the calibration file, as a user does who looks at a part of a scan.
    part = PreprocessingPlan(scan_rows=(1, 8), scan_columns=(2, 9))
    problem = build_problem(preprocess(preprocess(stored, centring), part), plan, device=CPU)

    assert np.abs(problem.shifts_px).max() <= 0.5
    assert np.array_equal(problem.counts, problem.counts.round())
    assert problem.likelihood == "poisson"
    # What drifted off the detector is not known: a little of the misfit is that.
    assert problem.residual_floor == pytest.approx(_residual_at_truth(specimen, problem), rel=0.05)


def test_whole_pixels_leave_nothing_to_model(make_dataset, plan):
    dataset = make_dataset()
    for kept in (
        PreprocessingPlan(centre_px=(15.0, 17.0)),
        PreprocessingPlan(centre_px=(15.3, 17.0), subpixel=False),
        PreprocessingPlan(clip_negative=True),
    ):
        assert build_problem(preprocess(dataset, kept), plan, device=CPU).shifts_px is None


@pytest.mark.parametrize("crop", [(24, 24), (32, 24), (20, 28), (25, 31)])
def test_small_detectors_are_padded_to_the_pixel_of_the_prior(make_dataset, plan, specimen, crop):
    dataset = make_dataset(crop=crop)
    problem = build_problem(
        dataset, plan, device=CPU, prior_voxel_A=PRIOR_VOXEL_A, smallest_canvas=(2, 16, 16)
    )
    mask = torch.fft.fftshift(problem.model.mask)
    assert mask.shape == (32, 32)
    measured = torch.zeros(32, 32, dtype=torch.bool)
    (y0, x0) = (16 - n // 2 for n in crop)
    measured[y0 : y0 + crop[0], x0 : x0 + crop[1]] = True
    assert torch.equal(mask, measured)
    assert problem.counts[:, ~problem.model.mask].abs().max() == 0
    assert float(problem.counts.sum()) == pytest.approx(float(dataset.counts().sum()), rel=1e-6)
    # zero frequency at the corner: what was measured is what the truth predicts
    assert _residual_at_truth(specimen, problem) < 0.02


def test_wide_detectors_are_cropped_to_a_coarser_pixel(make_dataset, plan):
    plan = plan.replace(object={"pixel_size_A": 0.25, "wave_oversampling": 1})
    problem = build_problem(make_dataset(), plan, device=CPU)
    assert problem.counts.shape[1:] == (26, 26)
    assert problem.grid.voxel_size_A[1] == pytest.approx(32 / 26 * 0.2)
    assert problem.model.mask is None


def test_detector_mask_reaches_the_model(make_dataset, plan, specimen):
    mask = np.ones((32, 32), bool)
    mask[14:18, 10:13] = False
    problem = build_problem(make_dataset(mask=mask), plan, device=CPU)
    assert torch.equal(torch.fft.fftshift(problem.model.mask), torch.from_numpy(mask))
    whole = build_problem(make_dataset(), plan, device=CPU)
    assert problem.residual_floor != whole.residual_floor


def test_known_probe_is_used(make_dataset, plan, specimen):
    probe = probe_fourier(
        (32, 32), 0.2, 300.0, 21.4, Aberrations.from_defocus(20.0), dtype=torch.complex128
    )
    wave = torch.fft.fftshift(torch.fft.ifft2(probe)).numpy()
    # the aberrations that the calibration states are wrong
    dataset = make_dataset(probe=wave, defocus_A=-50.0)
    assert _residual_at_truth(specimen, build_problem(dataset, plan, device=CPU)) < 2e-3
    wrong = replace(dataset, probe=None)
    assert _residual_at_truth(specimen, build_problem(wrong, plan, device=CPU)) > 0.02


def test_probe_that_does_not_fit_is_refused(make_dataset, plan):
    for shape in ((24, 24), (32, 24)):
        dataset = make_dataset(crop=shape, probe=np.ones(shape, complex))
        with pytest.raises(PlanError, match="does not fit the reconstruction's window of 32"):
            build_problem(dataset, plan, device=CPU, prior_voxel_A=PRIOR_VOXEL_A)


def test_prior_gets_at_least_its_tile(make_dataset, plan):
    problem = build_problem(
        make_dataset((2, 3)),
        plan,
        device=CPU,
        prior_voxel_A=PRIOR_VOXEL_A,
        smallest_canvas=(8, 64, 72),
    )
    assert problem.grid.shape == (8, 64, 72)
    assert problem.grid.measured_slices == 2
    # the scan stays in the middle
    middle = problem.positions_px.mean(0)
    assert (np.abs(middle - (32, 36)) < 3).all()


def test_slices_beyond_the_specimen_feel_no_data(dataset, plan):
    problem = build_problem(
        dataset, plan, device=CPU, prior_voxel_A=PRIOR_VOXEL_A, smallest_canvas=(4, 16, 16)
    )
    gradient = problem.data_term(torch.rand(problem.grid.shape)).gradient
    assert float(gradient[2:].abs().max()) == 0
    assert float(gradient[:2].abs().min()) >= 0
    assert float(gradient[:2].abs().max()) > 0
    assert problem.grid.crop(gradient).data.shape[0] == 2


def test_thickness_of_the_plan_wins_and_counts_whole_slices(make_dataset, plan):
    for thickness, slices in ((3.2, 2), (3.21, 3), (1.0, 1), (4.8, 3)):
        changed = plan.replace(object={"thickness_A": thickness, "wave_oversampling": 1})
        assert build_problem(make_dataset(), changed, device=CPU).grid.shape[0] == slices


def test_unknown_thickness_is_asked_for(make_dataset, plan):
    with pytest.raises(PlanError, match=r"specimen_thickness_A: not known; .*object\.thickness_A"):
        build_problem(make_dataset(specimen_thickness_A=None), plan, device=CPU)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"slice_thickness_A": 2.0}, r"slice_thickness_A = 2 A: .*voxels of 1\.6 A"),
        ({"pixel_size_A": 0.3}, r"pixel_size_A = 0\.3 A: .*voxels of 0\.2 A"),
    ],
)
def test_a_voxel_that_is_not_the_priors_is_refused(dataset, plan, settings, match):
    with pytest.raises(PlanError, match=match):
        build_problem(
            dataset, plan.replace(object=settings), device=CPU, prior_voxel_A=PRIOR_VOXEL_A
        )


@pytest.mark.parametrize("pixel_A", [0.6, 3.0, 50.0])
def test_a_pixel_too_coarse_for_the_bright_field_disk_is_refused(dataset, plan, pixel_A):
    with pytest.raises(PlanError, match="bright-field disk"):
        build_problem(dataset, plan.replace(object={"pixel_size_A": pixel_A}), device=CPU)


def test_a_pixel_that_the_detector_cannot_reach_is_refused(make_dataset, plan):
    # 0.65 1/A wide pixels: 4 of them give 0.385 A, 3 give 0.51 A, nothing gives 0.45 A
    dataset = make_dataset(detector_step_invA=0.65)
    with pytest.raises(PlanError, match=r"pixel_size_A = 0\.45 A: .*at best"):
        build_problem(dataset, plan.replace(object={"pixel_size_A": 0.45}), device=CPU)


@pytest.mark.parametrize("likelihood", ["amplitude", "poisson"])
def test_subsets_of_patterns_stand_for_all(make_dataset, plan, likelihood):
    dataset = make_dataset(electrons=1e3, seed=0)
    problem = build_problem(dataset, plan.replace(likelihood=likelihood), device=CPU)
    canvas = 0.1 * torch.rand(problem.grid.shape, generator=torch.Generator().manual_seed(0))
    whole = problem.data_term(canvas)
    parts = [problem.data_term(canvas, np.arange(i, 72, 3)) for i in range(3)]
    torch.testing.assert_close(sum(p.value for p in parts) / 3, whole.value, rtol=1e-4, atol=0)
    gradient = sum(p.gradient for p in parts) / 3
    torch.testing.assert_close(
        gradient, whole.gradient, rtol=1e-3, atol=1e-4 * float(whole.gradient.abs().max())
    )
    assert parts[0].residual == pytest.approx(whole.residual, rel=0.2)


def test_one_full_step_does_not_overshoot(dataset, plan, specimen):
    # step_scale is the inverse stiffness of the depth sum: along it a full step goes downhill.
    problem = build_problem(dataset, plan, device=CPU)
    truth = _on_canvas(specimen, problem)
    bump = torch.zeros_like(truth)
    y, x = (int(v) for v in problem.positions_px.mean(0))
    bump[:, y, x] = 0.05
    before = problem.data_term(truth + bump)
    after = problem.data_term(truth + bump - problem.step_scale * before.gradient)
    assert float(after.value) < 0.5 * float(before.value)
    y0, x0 = (lower for lower, _ in problem.grid.scanned_px)
    y1, x1 = (upper for _, upper in problem.grid.scanned_px)
    assert problem.curvature == pytest.approx(
        float((1 / problem.step_scale)[y0:y1, x0:x1].median())
    )


def test_stop_interrupts_between_patterns(dataset, plan):
    problem = build_problem(dataset, plan, device=CPU)
    problem.data_term(torch.zeros(problem.grid.shape))
    problem.stop.set()
    with pytest.raises(Interrupted):
        problem.data_term(torch.zeros(problem.grid.shape))


def test_a_mask_over_part_of_the_disk_does_not_dim_the_model(make_dataset, plan):
    mask = np.ones((32, 32), bool)
    mask[:14] = False  # takes a good part of the bright-field disk with it
    dataset = make_dataset(mask=mask)
    assert dataset.counts().sum() < 0.95 * make_dataset().counts().sum()
    seen = build_problem(dataset, plan, device=CPU).model.electrons
    assert seen == pytest.approx(1e5, rel=0.02)


def _simulated(experiment):
    """What abTEM counts of BaTiO3 without noise, with precise waves, and the true canvas."""
    pytest.importorskip("abtem")
    from napari_mep.data.simulate import apply_dose, simulate_expected
    from napari_mep.reconstruction.solve_views import _on_canvas as on_canvas

    expected = simulate_expected("BaTiO3", experiment)
    dataset = apply_dose(expected, None)
    plan = ReconstructionPlan(method="gradient")
    problem = build_problem(dataset, plan, device=CPU).with_precise_waves(dataset)
    return problem, torch.from_numpy(on_canvas(expected.specimen, problem.grid))


def test_precise_waves_know_what_abtem_simulates():
    """At the truth our model misses the patterns by much less with them."""
    problem, canvas = _simulated(Experiment(scan_shape=(4, 4), thickness_A=8.0))
    fast, precise = (problem.data_term(canvas, precisely=p) for p in (False, True))
    assert fast.residual > 0.025
    assert precise.residual < 0.5 * fast.residual


def test_cores_leave_the_depth_of_heavy_columns_right():
    """Without them patterns are told best by columns that weigh more where the beam leaves."""
    problem, canvas = _simulated(Experiment(scan_shape=(5, 5), thickness_A=12.8))
    precise = problem.precise
    bare = replace(problem, precise=replace(precise, model=replace(precise.model, cores=None)))
    z = torch.linspace(0.0, 1.0, len(canvas))[:, None, None]
    tilt = torch.cos(torch.pi * z) * canvas.mean(0) ** 2

    def preferred(problem):
        """How much of the tilt patterns ask for, to second order."""
        step = 0.05
        a, b, c = (
            float(problem.data_term(canvas + h * tilt, precisely=True).value)
            for h in (-step, 0.0, step)
        )
        return step * (a - c) / (2 * (a + c - 2 * b))

    assert preferred(bare) < -0.1
    assert abs(preferred(problem)) < 0.4 * abs(preferred(bare))


def test_the_precise_data_term_is_differentiated_as_it_is_evaluated(make_dataset, plan, specimen):
    dataset = make_dataset(seed=3)
    problem = build_problem(dataset, plan, device=CPU).with_precise_waves(dataset)
    canvas = _on_canvas(specimen, problem)
    generator = torch.Generator().manual_seed(2)
    direction = torch.randn(canvas.shape, generator=generator)
    step = 2e-3
    there, back = (problem.data_term(canvas + h * direction, precisely=True) for h in (step, -step))
    difference = float(there.value - back.value) / (2 * step)
    here = problem.data_term(canvas, precisely=True)
    assert float((here.gradient * direction).sum()) == pytest.approx(difference, rel=0.02)
    # And it is another function than the fast one.
    assert float(here.value) != pytest.approx(float(problem.data_term(canvas).value), rel=1e-3)


@pytest.mark.parametrize("crop", [(28, 28), (30, 31)])
def test_precise_waves_keep_to_the_detector(make_dataset, plan, specimen, crop):
    dataset = make_dataset(crop=crop)
    problem = build_problem(dataset, plan, device=CPU, prior_voxel_A=PRIOR_VOXEL_A)
    precise = problem.with_precise_waves(dataset).precise.model
    assert precise.detector_shape == problem.model.detector_shape
    assert precise.pixel_size_A * 40 == pytest.approx(problem.model.pixel_size_A * 32)
    torch.testing.assert_close(precise.mask, problem.model.mask)
