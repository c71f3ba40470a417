"""Guidance schedules: their limits, and where they stand when the curvature is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_mep.reconstruction.plan import START_LOGSNR, GuidancePlan, ReconstructionPlan
from napari_mep.reconstruction.schedules import (
    guidance_weight,
    logsnr_schedule,
    preview_weights,
)

LOGSNR = np.linspace(-20, 20, 401)


@pytest.mark.parametrize("start", ["noise", "gradient"])
def test_levels_are_linear_and_end_where_the_plan_says(start):
    first = START_LOGSNR[start]
    levels = logsnr_schedule(ReconstructionPlan(start=start, steps=11, end_logsnr=5.0))
    assert levels.shape == (11,)
    assert (levels[0], levels[-1]) == (first, 5.0)
    np.testing.assert_allclose(np.diff(levels), (5.0 - first) / 10)
    given = logsnr_schedule(ReconstructionPlan(start=start, start_logsnr=-7.0))
    assert given[0] == -7.0


def test_shifted_sigmoid_falls_from_strength_to_zero():
    plan = GuidancePlan(schedule="shifted-sigmoid", strength=0.7, width_logsnr=1.5)
    weight = guidance_weight(LOGSNR, plan, shift=2.0)
    assert weight[0] == pytest.approx(0.7, rel=1e-5)
    assert weight[-1] == pytest.approx(0, abs=1e-4)
    assert np.diff(weight).max() < 0
    assert guidance_weight(np.array([2.0]), plan, 2.0)[0] == pytest.approx(0.35)
    # one width on either side: sigmoid(+-1)
    sides = guidance_weight(np.array([0.5, 3.5]), plan, 2.0)
    np.testing.assert_allclose(sides, 0.7 / (1 + np.exp([-1.0, 1.0])))


@pytest.mark.parametrize("curvature", [0.1, 3.0, 200.0])
def test_default_shift_makes_the_exact_guided_mean(curvature):
    # C / (1 + C h) with C = exp(-logsnr), in preconditioned steps of 1 / h
    variance = np.exp(-LOGSNR)
    exact = variance * curvature / (1 + variance * curvature)
    weight = guidance_weight(LOGSNR, GuidancePlan(), shift=math.log(curvature))
    np.testing.assert_allclose(weight, exact, rtol=1e-9, atol=1e-15)


def test_a_shift_in_the_plan_wins_over_the_measured_one():
    plan = GuidancePlan(shift_logsnr=-1.0)
    assert guidance_weight(np.array([-1.0]), plan, shift=5.0)[0] == pytest.approx(0.5)


def test_alpha_grows_with_the_signal():
    plan = GuidancePlan(schedule="alpha", strength=2.0)
    weight = guidance_weight(LOGSNR, plan, shift=99.0)
    np.testing.assert_allclose(weight, 2.0 / np.sqrt(1 + np.exp(-LOGSNR)))
    assert np.diff(weight).min() > 0


def test_constant_is_constant():
    weight = guidance_weight(LOGSNR, GuidancePlan(schedule="constant", strength=0.4), shift=1.0)
    assert set(weight) == {0.4}


def test_extreme_levels_do_not_overflow():
    for schedule in ("shifted-sigmoid", "alpha", "constant"):
        plan = GuidancePlan(schedule=schedule, width_logsnr=1e-3)
        assert np.isfinite(guidance_weight(np.array([-1e4, 0, 1e4]), plan, 0.0)).all()


def test_preview_shows_what_the_sampler_will_do():
    plan = ReconstructionPlan(steps=17, prior="crystals")
    levels, weight = preview_weights(plan, curvature=50.0)
    np.testing.assert_array_equal(levels, logsnr_schedule(plan))
    np.testing.assert_array_equal(weight, guidance_weight(levels, plan.guidance, math.log(50.0)))


def test_a_prior_that_sees_the_gradient_solution_starts_where_nothing_is_decided(seeing_prior):
    open_plan = ReconstructionPlan(prior=str(seeing_prior))
    settled = open_plan.settled(sees_estimate=True)
    assert settled.start_logsnr == START_LOGSNR["estimate"] < START_LOGSNR["gradient"]
    assert open_plan.settled(sees_estimate=False).start_logsnr == START_LOGSNR["gradient"]
    levels, _ = preview_weights(open_plan)
    np.testing.assert_array_equal(levels, logsnr_schedule(settled))

    # Every other sample keeps the depth of that solution.
    starts = [settled.sample(i).start_logsnr for i in range(4)]
    assert starts == 2 * [START_LOGSNR["estimate"], START_LOGSNR["gradient"]]
    assert [settled.sample(i).seed for i in range(4)] == [0, 1, 2, 3]

    given = open_plan.replace(start_logsnr=1.0)
    assert given.settled(sees_estimate=True).start_logsnr == 1.0
    assert given.settled(sees_estimate=True).second_start_logsnr is None
    assert [given.sample(i).start_logsnr for i in range(2)] == [1.0, 1.0]
    both = given.replace(second_start_logsnr=-5.0).settled(sees_estimate=False)
    assert [both.sample(i).start_logsnr for i in range(3)] == [1.0, -5.0, 1.0]
    from_noise = open_plan.replace(start="noise").settled(sees_estimate=True)
    assert from_noise.start_logsnr == START_LOGSNR["noise"]


def test_before_a_prior_that_knows_depth_the_solver_finds_it_and_its_predictions_are_averaged():
    plan = ReconstructionPlan()
    depth = plan.settled(sees_estimate=True, knows_depth=True)
    assert depth.start_logsnr == START_LOGSNR["expectation"] < START_LOGSNR["estimate"]
    assert depth.second_start_logsnr is None
    assert depth.mean_of == "predictions"
    assert (depth.gradient.iterations, depth.gradient.coarse_iterations) == (45, 24)
    assert depth.finish_depth_deviation_rad == depth.finish_deviation_rad == 0.005
    assert depth.settled(sees_estimate=True, knows_depth=True) == depth

    # Below the dose at which they find more depth than noise there are no quasi-Newton steps.
    faint = plan.settled(sees_estimate=True, knows_depth=True, resolves_depth=False)
    steps = {"iterations": 24, "coarse_iterations": 24}
    assert faint == depth.replace(gradient=steps, object={"waves": "fast"})
    assert depth.object.waves == "precise"

    # Where it is not told that solution all is as for any other prior.
    noise = plan.replace(start="noise").settled(sees_estimate=True, knows_depth=True)
    assert noise == plan.replace(start="noise").settled(sees_estimate=False)
    assert (noise.gradient.iterations, noise.gradient.coarse_iterations) == (24, 24)
    assert noise.object.waves == "fast"
    assert noise.mean_of == "samples"
    assert noise.finish_depth_deviation_rad == noise.finish_deviation_rad == 0.017
    # Other methods have no prior to ask.
    alone = plan.replace(method="gradient")
    settled = alone.settled(sees_estimate=True, knows_depth=True)
    assert settled == alone.replace(gradient=steps, object={"waves": "fast"})
    deep = alone.replace(gradient={"iterations": 38, "coarse_iterations": 10})
    assert deep.settled(sees_estimate=False).object.waves == "precise"
    assert deep.settled(sees_estimate=False, resolves_depth=False).object.waves == "fast"
    other = plan.replace(method="lsq-ml")
    assert other.settled(sees_estimate=False) == other

    # What is given stays.
    given = plan.replace(mean_of="samples", gradient={"iterations": 12}, start_logsnr=-3.0)
    kept = given.settled(sees_estimate=True, knows_depth=True)
    fast = plan.replace(object={"waves": "fast"}).settled(sees_estimate=True, knows_depth=True)
    assert fast == depth.replace(object={"waves": "fast"})
    assert (kept.mean_of, kept.start_logsnr, kept.gradient.iterations) == ("samples", -3.0, 12)


def test_preview_of_a_prior_that_is_not_there_is_a_picture_all_the_same():
    levels, _ = preview_weights(ReconstructionPlan(prior="cryst"))
    assert levels[0] == START_LOGSNR["gradient"]


def test_preview_without_data_shows_a_typical_curve():
    levels, weight = preview_weights(ReconstructionPlan(start="noise", end_logsnr=12.0, steps=200))
    centre = levels[np.abs(weight - 0.5).argmin()]
    assert 4 < centre < 7
