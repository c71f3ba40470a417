"""`reconstruct`: the stream of snapshots that command line, widget and benchmarks consume."""

from __future__ import annotations

import dataclasses
import math
import threading
from itertools import pairwise

import numpy as np
import pytest
import torch

from napari_mep.errors import DeviceError, PlanError, SolverError, WeightsError
from napari_mep.prior.unet import UNet3D
from napari_mep.reconstruction import engine, reconstruct
from napari_mep.reconstruction.plan import START_LOGSNR
from napari_mep.reconstruction.provenance import provenance


def _volume(dataset, plan) -> np.ndarray:
    *_, last = reconstruct(dataset, plan)
    return last.volume.data


def test_gradient_snapshots_are_numbered_and_the_last_carries_the_volume(dataset, plan, truth):
    snapshots = list(reconstruct(dataset, plan, preview_seconds=math.inf))
    assert [s.step for s in snapshots] == list(range(1, 9))
    assert {s.total for s in snapshots} == {8}
    assert {(s.method, s.stage) for s in snapshots} == {("gradient", "gradient")}
    assert [s.volume is not None for s in snapshots] == [True] + 6 * [False] + [True]
    assert all(math.isnan(s.logsnr) for s in snapshots)
    assert np.all(np.diff([s.seconds for s in snapshots]) >= 0)
    assert snapshots[-1].eta_s == 0
    assert snapshots[0].eta_s == pytest.approx(7 * snapshots[0].seconds)
    volume = snapshots[-1].volume
    true = truth(volume).sum(0)
    assert np.corrcoef(volume.depth_sum().ravel(), true.ravel())[0, 1] > 0.95


def test_every_snapshot_may_carry_its_own_volume(dataset, plan):
    snapshots = list(reconstruct(dataset, plan, preview_seconds=0.0))
    volumes = [s.volume.data for s in snapshots]
    assert all(not np.shares_memory(a, b) for a, b in pairwise(volumes))
    assert all(not np.array_equal(a, b) for a, b in pairwise(volumes))


def test_mep_counts_the_gradient_start_and_the_sampling_steps(dataset, mep_plan):
    snapshots = list(reconstruct(dataset, mep_plan))
    assert [s.step for s in snapshots] == list(range(1, 10))
    assert [s.stage for s in snapshots] == 3 * ["gradient start"] + 6 * ["sampling"]
    sampling = snapshots[3:]
    assert [s.logsnr for s in sampling] == pytest.approx(np.linspace(-3, 6, 6).tolist())
    weights = [s.guidance_weight for s in sampling]
    assert weights == sorted(weights, reverse=True)
    assert 0 < weights[-1] < weights[0] <= 1


def test_several_samples_end_as_their_mean_and_spread(dataset, mep_plan):
    singles = [
        list(reconstruct(dataset, mep_plan.replace(seed=seed)))[-1].volume.data for seed in (5, 6)
    ]
    snapshots = list(reconstruct(dataset, mep_plan.replace(seed=5, samples=2), preview_seconds=0))
    *_, last = snapshots
    assert [s.step for s in snapshots] == list(range(1, 16))
    assert [s.samples for s in snapshots[3:]] == 5 * [0] + 6 * [1] + [2]
    assert all(s.spread is None for s in snapshots[:-1])
    # Phases are bounded from below last, in single samples too: compare where they were positive.
    positive = np.min(singles, axis=0) > 0
    assert positive.mean() > 0.2
    for result, expected in (
        (last.volume, np.mean(singles, axis=0)),
        (last.spread, np.std(singles, axis=0, ddof=1)),
    ):
        np.testing.assert_allclose(result.data[positive], expected[positive], atol=1e-6)
    # while the second sample is under way, the first whole one is what a stop would keep
    np.testing.assert_array_equal(snapshots[10].volume.data, singles[0])


def test_a_mean_of_predictions_is_over_all_orientations(dataset, mep_plan, monkeypatch):
    orientations = []
    sample = engine.sample_posterior

    def spy(problem, denoiser, plan, start, orientation):
        orientations.append(orientation)
        return sample(problem, denoiser, plan, start, orientation)

    monkeypatch.setattr(engine, "sample_posterior", spy)
    plan = mep_plan.replace(samples=3, mean_of="predictions")
    snapshots = list(reconstruct(dataset, plan, preview_seconds=0))
    assert orientations == list(range(8))
    # The first is shown while it forms; from its end on there is something to take the mean of.
    forming, mean = snapshots[3:8], snapshots[8:]
    assert len(mean) == 1 + 2 * 6 + 5
    assert not np.array_equal(forming[0].volume.data, forming[-1].volume.data)
    np.testing.assert_array_equal(mean[0].volume.data, forming[0].volume.data)
    # In some of them samples go on from there: their spread is told, and they change nothing else.
    assert [s.stage for s in mean[-6:]] == [
        "sample 3 of 3", *(f"prediction {i} of 8" for i in range(4, 9))
    ]  # fmt: skip
    assert [s.samples for s in mean[-6:]] == 6 * [3]
    assert len({s.volume.data.tobytes() for s in mean[-6:]}) == 6
    *_, short = reconstruct(dataset, plan.replace(steps=2, samples=2))
    np.testing.assert_array_equal(mean[-1].volume.data, short.volume.data)
    assert not np.array_equal(mean[-1].spread.data, short.spread.data)
    *_, samples = reconstruct(dataset, plan.replace(mean_of="samples"))
    assert not np.array_equal(mean[-1].volume.data, samples.volume.data)


def test_the_mean_of_the_samples_ends_with_gradient_steps(dataset, mep_plan):
    plan = mep_plan.replace(samples=2, finish_iterations=4)
    *_, mean = reconstruct(dataset, plan.replace(finish_iterations=0))
    snapshots = list(reconstruct(dataset, plan))
    assert [s.step for s in snapshots] == list(range(1, 20))
    assert [s.stage for s in snapshots[15:]] == 4 * ["finish"]
    last = snapshots[-1]
    assert (last.total, last.samples) == (19, 2)
    # how much samples differ stays known, and what was found is nearer to the data
    np.testing.assert_array_equal(last.spread.data, mean.spread.data)
    assert last.residual < 0.8 * snapshots[15].residual
    # the first of these steps is judged where it begins: at the mean
    moved = last.volume.data - mean.volume.data
    believed = plan.settled(sees_estimate=False)
    assert 0 < np.sqrt(np.mean(moved**2)) < 1.5 * believed.finish_deviation_rad


@pytest.mark.parametrize("finish_iterations", [0, 4])
def test_what_rings_beside_atoms_stays(dataset, mep_plan, finish_iterations):
    plan = mep_plan.replace(samples=2, finish_iterations=finish_iterations)
    *_, last = reconstruct(dataset, plan)
    # An atom rings by a hundredth of its height, and the highest may lie beyond what was scanned.
    assert 0 > last.volume.data.min() >= -0.02 * last.volume.data.max()


def test_a_prior_that_takes_an_estimate_sees_the_gradient_solution(
    dataset, mep_plan, seeing_prior, monkeypatch
):
    seen = []
    forward = UNet3D.forward

    def spy(network, x, logsnr, estimate=None):
        seen.append(estimate)
        return forward(network, x, logsnr, estimate)

    monkeypatch.setattr(UNet3D, "forward", spy)
    plan = mep_plan.replace(prior=str(seeing_prior), start_logsnr=None)
    snapshots = list(reconstruct(dataset, plan, preview_seconds=0))
    sampling = [s for s in snapshots if s.stage == "sampling"]
    assert sampling[0].logsnr == START_LOGSNR["estimate"]
    assert len(sampling) == 6
    solution = torch.from_numpy(snapshots[2].volume.data)
    assert seen
    assert all(e is not None for e in seen)
    # Tiles of the whole canvas, in units of the scaled data; the scanned part lies within them.
    assert max(float(e.max()) for e in seen) == pytest.approx(
        12.0 * float(solution.max()), rel=1e-4
    )

    seen.clear()
    list(reconstruct(dataset, plan.replace(start="noise")))
    assert seen
    assert all(e is None for e in seen)


def test_a_prior_that_knows_depth_gets_quasi_newton_steps_where_the_dose_suffices(
    make_dataset, mep_plan, depth_prior
):
    plan = mep_plan.replace(prior=str(depth_prior), gradient={}, steps=2)
    starts, waves = {}, {}
    for electrons in (1e5, 1e3):
        snapshots = list(reconstruct(make_dataset(electrons=electrons), plan))
        done = snapshots[-1].plan
        starts[electrons] = (done.gradient.iterations, done.gradient.coarse_iterations)
        assert [s.stage for s in snapshots].count("gradient start") == done.gradient.iterations
        assert snapshots[-1].total == snapshots[-1].step == done.gradient.iterations + 2 + 7
        assert done.mean_of == "predictions"
        waves[electrons] = done.object.waves
    assert starts == {1e5: (45, 24), 1e3: (24, 24)}
    assert waves == {1e5: "precise", 1e3: "fast"}
    # What is given stays.
    given = plan.replace(gradient={"iterations": 5, "coarse_iterations": 3})
    assert next(reconstruct(make_dataset(electrons=1e3), given)).plan.gradient == given.gradient


@pytest.mark.parametrize("start", ["noise", "gradient"])
@pytest.mark.parametrize("gradient_at", ["prediction", "network"])
def test_mep_with_a_prior_of_white_noise_finds_the_specimen(
    dataset, mep_plan, truth, start, gradient_at
):
    # A prior that knows nothing but the size of phases must not spoil what the data say. These data
    # have no noise: what pixels below one electron say counts, which only the amplitude listens to.
    plan = mep_plan.replace(
        start=start,
        steps=16,
        end_logsnr=8.0,
        guidance={"gradient_at": gradient_at},
        likelihood="amplitude",
    )
    *_, last = reconstruct(dataset, plan)
    true = truth(last.volume).sum(0)
    assert np.corrcoef(last.volume.depth_sum().ravel(), true.ravel())[0, 1] > 0.9
    assert last.residual < 0.05


@pytest.mark.parametrize("patterns", [None, 24])
def test_same_plan_same_result_bit_for_bit(dataset, mep_plan, patterns):
    plan = mep_plan.replace(guidance={"patterns_per_step": patterns}, seed=3)
    first = _volume(dataset, plan)
    assert np.array_equal(first, _volume(dataset, plan))
    assert not np.array_equal(first, _volume(dataset, plan.replace(seed=4)))


def test_global_random_state_is_left_alone(dataset, mep_plan):
    before = torch.get_rng_state()
    list(reconstruct(dataset, mep_plan))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("at", [2, 5])
def test_stop_keeps_the_last_whole_step(dataset, mep_plan, at):
    stop = threading.Event()
    snapshots = []
    for snapshot in reconstruct(dataset, mep_plan, stop, preview_seconds=math.inf):
        snapshots.append(snapshot)
        if snapshot.step == at:
            stop.set()
    assert snapshots[-1].step == at
    assert snapshots[-1].volume is not None
    assert snapshots[-1].total == 9


def test_stop_in_the_middle_of_a_step_keeps_the_one_before(dataset, plan, monkeypatch):
    from napari_mep.reconstruction.problem import Problem

    stop = threading.Event()
    calls = []
    original = Problem.check_stop

    def check(self) -> None:
        calls.append(1)
        if len(calls) == 8:
            stop.set()
        original(self)

    monkeypatch.setattr(Problem, "check_stop", check)
    snapshots = list(reconstruct(dataset, plan, stop, preview_seconds=math.inf))
    assert 1 < snapshots[-1].step < 8
    assert snapshots[-1].volume is not None
    assert [s.step for s in snapshots[:-1]] == list(range(1, snapshots[-1].step + 1))


def test_a_closed_generator_lets_go(dataset, plan):
    stream = reconstruct(dataset, plan)
    next(stream)
    stream.close()
    with pytest.raises(StopIteration):
        next(stream)


# --- what can go wrong ----------------------------------------------------------------------------


def test_device_is_checked_before_anything_is_read(plan):
    with pytest.raises(DeviceError):
        next(reconstruct(None, plan.replace(device="cuda:99")))


@pytest.mark.parametrize(
    ("error", "kind", "match"),
    [
        (RuntimeError("boom\nand a second line"), SolverError, "failed on cpu: boom$"),
        (torch.OutOfMemoryError("no more"), DeviceError, "failed on cpu: no more"),
    ],
)
def test_errors_of_torch_never_reach_the_caller(dataset, plan, monkeypatch, error, kind, match):
    steps = iter([None])

    def fail(problem, settings):
        from napari_mep.reconstruction.gradient import GradientStep

        next(steps)
        yield GradientStep(0, torch.zeros(problem.grid.shape), 0.1)
        raise error

    monkeypatch.setattr("napari_mep.reconstruction.engine.solve_gradient", fail)
    stream = reconstruct(dataset, plan)
    assert next(stream).volume is not None  # what was yielded stays valid
    with pytest.raises(kind, match=match) as info:
        next(stream)
    assert not isinstance(info.value, RuntimeError)
    assert "\n" not in str(info.value)


def test_divergence_is_named(dataset, plan, monkeypatch):
    from napari_mep.reconstruction.gradient import GradientStep

    monkeypatch.setattr(
        "napari_mep.reconstruction.engine.solve_gradient",
        lambda problem, settings: iter(
            [GradientStep(0, torch.full(problem.grid.shape, torch.nan), 0.1)]
        ),
    )
    with pytest.raises(SolverError, match=r"diverged in step 1 of 8; lower .*gradient\.step"):
        list(reconstruct(dataset, plan))


def test_missing_weights_and_another_voxel(dataset, mep_plan, tmp_path):
    with pytest.raises(WeightsError, match="no such weights file"):
        next(reconstruct(dataset, mep_plan.replace(prior=str(tmp_path / "none.safetensors"))))
    with pytest.raises(PlanError, match=r"pixel_size_A = 0\.4 A: prior .* voxels of 0\.2 A"):
        next(reconstruct(dataset, mep_plan.replace(object={"pixel_size_A": 0.4})))


def test_data_that_cannot_reach_the_voxel_of_the_prior(make_dataset, mep_plan):
    # 0.65 1/A: no whole number of detector pixels gives 0.2 A
    with pytest.raises(PlanError, match=r"pixel_size_A = 0\.2 A: .*or prior"):
        next(reconstruct(make_dataset(detector_step_invA=0.65), mep_plan))


# --- provenance -----------------------------------------------------------------------------------


def test_provenance_tells_how_to_make_it_again(dataset, mep_plan):
    import json

    from napari_mep.reconstruction.plan import ReconstructionPlan

    *_, last = reconstruct(dataset, mep_plan)
    record = json.loads(json.dumps(provenance(dataset, mep_plan, last)))
    settled = mep_plan.settled(sees_estimate=False)
    assert ReconstructionPlan.model_validate(record["plan"]) == settled
    assert record["data"]["fingerprint"] == dataset.fingerprint()
    assert record["data"]["calibration"]["scan_step_A"] == 0.4
    assert (record["step"], record["total"], record["residual"]) == (9, 9, last.residual)
    assert record["prior"]["name"] == "white"
    assert len(record["prior"]["sha256"]) == 64
    assert {"napari-mep", "torch", "numpy", "python"} <= set(record["versions"])


def test_provenance_of_the_gradient_solver_names_no_prior(dataset, plan):
    *_, last = reconstruct(dataset, plan)
    assert "prior" not in provenance(dataset, plan, last)


def test_snapshots_are_frozen(dataset, plan):
    snapshot = next(reconstruct(dataset, plan))
    with pytest.raises(dataclasses.FrozenInstanceError):
        snapshot.step = 3
