"""The solver without a prior finds a small specimen, where it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_mep.crystals.cut import fill_box, oriented_cell
from napari_mep.crystals.render import SliceRenderer
from napari_mep.crystals.samples import sample
from napari_mep.reconstruction import gradient
from napari_mep.reconstruction.gradient import Belief, _inverse_over_depth, solve_gradient
from napari_mep.reconstruction.plan import GradientPlan
from napari_mep.reconstruction.positivity import neighbour_average
from napari_mep.reconstruction.problem import build_problem
from napari_mep.training import estimates
from napari_mep.training.estimates import LinearSolver, Optics

CPU = torch.device("cpu")


def _solve(dataset, plan, **settings):
    problem = build_problem(dataset, plan, device=CPU)
    steps = list(solve_gradient(problem, GradientPlan(**settings)))
    return problem, steps, problem.grid.crop(steps[-1].canvas)


def test_depth_sum_is_found_in_its_place(dataset, plan, truth):
    _, steps, volume = _solve(dataset, plan, iterations=16)
    found, true = volume.depth_sum(), truth(volume).sum(0)
    assert np.corrcoef(found.ravel(), true.ravel())[0, 1] > 0.98
    assert found.ravel()[true.argmax()] > 0.99 * found.max()
    # a specimen moved by one pixel would fit far worse
    for axis in (0, 1):
        moved = np.roll(found, 1, axis)
        assert np.corrcoef(moved.ravel(), true.ravel())[0, 1] < 0.9
    residuals = [s.residual for s in steps]
    assert residuals[-1] < 0.1 * residuals[0]


def test_rotated_and_non_square_scans_too(make_dataset, plan, truth):
    dataset = make_dataset((6, 9), scan_rotation_deg=20.0, scan_step_A=(0.45, 0.35))
    _, _, volume = _solve(dataset, plan, iterations=12)
    inner = np.s_[2:-2, 2:-2]
    found, true = volume.depth_sum()[inner], truth(volume).sum(0)[inner]
    assert np.corrcoef(found.ravel(), true.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("likelihood", ["amplitude", "poisson"])
def test_noise_is_reached_and_hardly_fitted(make_dataset, plan, likelihood):
    dataset = make_dataset(electrons=3e5, seed=2)
    problem, steps, _ = _solve(dataset, plan.replace(likelihood=likelihood), iterations=8)
    residuals = [s.residual for s in steps]
    assert residuals[0] > 2 * problem.residual_floor
    assert 0.7 * problem.residual_floor < residuals[-1] < 1.3 * problem.residual_floor


def test_vacuum_stays_vacuum(make_dataset, plan):
    problem = build_problem(make_dataset(), plan, device=CPU)
    vacuum = problem.model.intensities(torch.zeros(problem.grid.shape), problem.positions_px)
    problem.counts.copy_(vacuum)
    *_, last = solve_gradient(problem, GradientPlan(iterations=3))
    assert float(last.canvas.abs().max()) < 1e-4


def test_each_step_is_reported_with_the_residual_before_it(dataset, plan):
    problem, steps, _ = _solve(dataset, plan, iterations=3)
    assert [s.index for s in steps] == [0, 1, 2]
    vacuum = problem.data_term(torch.zeros(problem.grid.shape)).residual
    assert steps[0].residual == vacuum
    assert steps[1].residual == problem.data_term(steps[0].canvas).residual


def test_momentum_is_worth_its_name(dataset, plan):
    # Nesterov's acceleration beats the same number of plain steps by far.
    problem, steps, _ = _solve(
        dataset, plan, iterations=10, step=0.5, coarse_invA=100, fine_invA=100
    )
    canvas = torch.zeros(problem.grid.shape)
    for _ in range(10):
        canvas = canvas - 0.5 * problem.step_scale * problem.data_term(canvas).gradient
    accelerated = float(problem.data_term(steps[-1].canvas).value)
    assert accelerated < 0.5 * float(problem.data_term(canvas).value)


def test_heavy_columns_pass_pi(make_dataset, plan, truth):
    dataset = make_dataset(strength=12.0)  # a column of 5 rad
    _, _, volume = _solve(dataset, plan)
    true = 12.0 * truth(volume).sum(0)
    heavy = np.unravel_index(true.argmax(), true.shape)
    assert true[heavy] > 5
    assert volume.depth_sum()[heavy] > 0.95 * true[heavy]
    # At full resolution from the first step on, its core stays empty: a ring.
    _, _, volume = _solve(dataset, plan, coarse_invA=100, fine_invA=100)
    assert volume.depth_sum()[heavy] < 0.1 * true[heavy]


def test_full_steps_do_not_diverge_however_many(dataset, plan):
    # The preconditioned Hessian has eigenvalues up to 1.5, where momentum without restarts grows.
    _, steps, _ = _solve(dataset, plan, iterations=60, coarse_iterations=60, step=1.0)
    residuals = [s.residual for s in steps]
    assert max(residuals[20:]) < 0.1 * residuals[0]
    assert residuals[-1] == pytest.approx(min(residuals), rel=0.2)


def test_a_belief_gives_way_to_what_the_data_know_better(make_dataset, plan):
    problem = build_problem(make_dataset(electrons=3e4, seed=3), plan, device=CPU)
    settings = GradientPlan(iterations=60, coarse_invA=100, fine_invA=100)
    *_, alone = solve_gradient(problem, settings)
    mean = torch.full(problem.grid.shape, 0.05)

    def solved(deviation_rad):
        *_, last = solve_gradient(
            problem, settings, mean, Belief(mean, deviation_rad, deviation_rad)
        )
        return last.canvas

    firm, loose = solved(1e-5), solved(1e3)
    torch.testing.assert_close(firm, mean, rtol=0, atol=1e-4)
    fits = float(problem.data_term(alone.canvas).value)
    assert float(problem.data_term(loose).value) == pytest.approx(fits, rel=0.02)
    between = solved(0.02)
    # There the pull of the data and that of the belief cancel, but where phase would be negative.
    pull = problem.data_term(between).gradient
    back = (between - mean) / 0.02**2
    inner = between > 0
    assert float(inner.float().mean()) > 0.05
    assert float((pull + back)[inner].norm()) < 0.05 * float(back[inner].norm())


def test_a_belief_is_a_gaussian_with_the_spectrum_it_says():
    generator = torch.Generator().manual_seed(0)
    canvas, mean = torch.randn(2, 4, 24, 20, generator=generator, dtype=torch.float64)
    k = torch.hypot(torch.fft.fftfreq(24, 0.2)[:, None], torch.fft.rfftfreq(20, 0.2)).double()
    weight = torch.rand(24, 20, generator=generator, dtype=torch.float64)
    for belief in (Belief(mean, 0.3, 0.7, 1.1), Belief(mean, 0.3, 0.7, 1.1, weight)):
        value, gradient = belief.disbelief(canvas, k)
        canvas.requires_grad_(True)
        spectrum = torch.fft.rfft2(
            (canvas - mean) * (1 if belief.weight is None else weight), norm="ortho"
        )
        even = spectrum.mean(0, keepdim=True)
        even_firmness = torch.exp(2 * k / 1.1) / 0.7**2
        both = (spectrum - even).abs().square() / 0.3**2 + even.abs().square() * even_firmness
        twice = torch.full((11,), 2.0)
        twice[[0, -1]] = 1.0  # coefficients that are their own conjugates
        expected = 0.5 * (both * twice).sum()
        assert value == pytest.approx(float(expected.detach()), rel=1e-6)
        (derivative,) = torch.autograd.grad(expected, canvas)
        torch.testing.assert_close(gradient, derivative)
        canvas = canvas.detach()
    independent, _ = Belief(mean, 0.3, 0.3).disbelief(canvas, k)
    assert independent == pytest.approx(float((canvas - mean).square().sum()) / 0.18, rel=1e-6)


def test_the_inverse_over_depth_is_symmetric_and_positive(make_dataset, plan):
    problem = build_problem(make_dataset(), plan, device=CPU)
    zeros = torch.zeros(problem.grid.shape)
    weight = (1 / (problem.step_scale * problem.curvature)).sqrt()
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, *problem.grid.shape, generator=generator)
    for belief in (Belief(zeros, 0.3, 0.7, 1.1, weight), Belief(zeros, 0.017, 0.017)):
        inverse = _inverse_over_depth(problem, belief)
        assert float((a * inverse(b)).sum()) == pytest.approx(
            float((b * inverse(a)).sum()), rel=1e-3
        )
        assert float((a * inverse(a)).sum()) > 0
        assert float((b * inverse(b)).sum()) > 0


def test_quasi_newton_steps_find_depth_that_gradient_steps_do_not(make_dataset, plan):
    problem, specimen = _exact(make_dataset, plan)
    true = problem.grid.crop(specimen).data
    true = true - true.mean(0)

    def depth(**settings):
        """Share of the depth departures that is found, and how alike they are."""
        *_, last = solve_gradient(problem, GradientPlan(depth_deviation_rad=0.3, **settings))
        found = problem.grid.crop(last.canvas).data
        found = found - found.mean(0)
        share = float((found * true).sum() / (true * true).sum())
        return share, float(np.corrcoef(found.ravel(), true.ravel())[0, 1])

    share, alike = depth(iterations=38, coarse_iterations=10)
    share_of_twice, alike_of_twice = depth(iterations=76, coarse_iterations=76)
    assert share > share_of_twice
    assert alike > alike_of_twice


def test_slices_below_the_specimen_stay_as_they_are(make_dataset, plan):
    dataset = make_dataset((6, 6))
    problem = build_problem(dataset, plan, device=CPU)
    slices = problem.grid.measured_slices
    deeper = build_problem(
        dataset, plan, device=CPU, smallest_canvas=(slices + 2, *problem.grid.shape[1:])
    )
    settings = GradientPlan(iterations=9, coarse_iterations=4)
    (*_, found), (*_, same) = solve_gradient(problem, settings), solve_gradient(deeper, settings)
    torch.testing.assert_close(same.canvas[:slices], found.canvas)
    assert not same.canvas[slices:].any()
    mean = same.canvas + 0.01
    *_, last = solve_gradient(deeper, settings, mean, Belief(mean, 0.02, 0.02))
    assert torch.equal(last.canvas[slices:], mean[slices:])


def test_phases_are_positive(make_dataset, plan):
    _, steps, _ = _solve(make_dataset(electrons=1e3, seed=4), plan, iterations=5)
    assert all(float(step.canvas.min()) >= 0 for step in steps)


def test_voxels_may_ring_and_vacuum_stays_at_zero(make_dataset, plan, monkeypatch):
    problem = build_problem(make_dataset(electrons=1e3, seed=4), plan, device=CPU)
    mean = torch.zeros(problem.grid.shape)

    def lowest_phases():
        settings, belief = GradientPlan(iterations=12), Belief(mean, 0.02, 0.02)
        *_, last = solve_gradient(problem, settings, mean, belief, lowest=-0.02)
        return float(last.canvas.min()), float(neighbour_average(last.canvas).min())

    pixel, average = lowest_phases()
    monkeypatch.setattr(gradient, "_NEGATIVE_RAD", 1e6)
    free_pixel, free_average = lowest_phases()
    assert -0.02 <= free_pixel < pixel < 0
    assert 0.1 * free_average < average < 0


def _exact(make_dataset, plan):
    """A crystal, and a problem with the patterns that our own model expects of it."""
    calibration = {"specimen_thickness_A": 12.8, "defocus_A": -60.0}
    problem = build_problem(make_dataset((13, 13), **calibration), plan, device=CPU)
    crystal = sample("srtio3").crystal
    renderer = SliceRenderer(problem.grid.shape, problem.grid.voxel_size_A, energy_keV=300.0)
    cell = oriented_cell(crystal.cell_A, (0, 0, 1), 20.0)
    box = fill_box(crystal, cell, renderer.box_size_A, (0.6, 1.0, 2.0), np.random.default_rng(0))
    specimen = renderer([box])[0]
    problem.counts.copy_(problem.model.intensities(specimen, problem.positions_px))
    return problem, specimen


def _optics(problem):
    return Optics.of(
        problem.grid.shape,
        problem.grid.voxel_size_A,
        wavelength_A=problem.wavelength_A,
        aperture_invA=problem.aperture_invA,
    )


def _is_nearer_than_the_truth(linear, last, problem, specimen):
    """A linear estimate errs as the solution does."""
    crop = problem.grid.crop
    found, true = crop(last.canvas).data, crop(specimen).data
    expected = crop(linear(specimen, torch.zeros_like(specimen))).data
    assert np.linalg.norm(found - expected) < 0.4 * np.linalg.norm(found - true)
    assert np.corrcoef((found - true).ravel(), (expected - true).ravel())[0, 1] > 0.9


def test_training_knows_what_gradient_steps_leave_of_a_crystal(make_dataset, plan):
    plan = plan.replace(gradient={"iterations": 24, "coarse_iterations": 24})
    problem, specimen = _exact(make_dataset, plan)
    *_, last = solve_gradient(problem, plan.gradient)
    linear = LinearSolver.after_gradient_steps(_optics(problem), 24)
    _is_nearer_than_the_truth(linear, last, problem, specimen)


def test_training_knows_what_quasi_newton_steps_leave_of_a_crystal(make_dataset, plan):
    plan = plan.replace(gradient={"iterations": 40, "coarse_iterations": 10})
    problem, specimen = _exact(make_dataset, plan)
    *_, last = solve_gradient(problem, plan.gradient)
    optics = _optics(problem)
    stiffness = 0.8 * np.exp(-((optics.rings_invA / 1.8) ** 2))
    counting = problem.stiffness**-0.5
    linear = LinearSolver.after_quasi_newton_steps(optics, counting, stiffness, 10)
    _is_nearer_than_the_truth(linear, last, problem, specimen)


def test_training_believes_what_the_solver_believes(plan):
    believed = estimates._DEPTH_DEVIATION_RAD, estimates._SUM_DEVIATION_RAD
    assert believed == (plan.gradient.depth_deviation_rad, plan.gradient.sum_deviation_rad)
    assert estimates._ATOMIC_FALL_INVA == gradient._ATOMIC_FALL_INVA
    assert estimates._DAMPING == gradient._DAMPING
