"""`reconstruct`: from a dataset and a plan to a stream of snapshots, whatever the method."""

from __future__ import annotations

import gc
import itertools
import logging
import math
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from napari_mep.data.preprocessing import preprocess
from napari_mep.errors import DeviceError, SolverError
from napari_mep.physics.optics import interaction_constant
from napari_mep.prior.catalogue import load_card
from napari_mep.prior.device import resolve_device
from napari_mep.prior.files import load_prior
from napari_mep.prior.orientation import ORIENTATIONS
from napari_mep.prior.precision import resolve_precision
from napari_mep.reconstruction.baselines import BASELINES
from napari_mep.reconstruction.baselines.catalogue import check_baseline
from napari_mep.reconstruction.baselines.solve import problem_plan, solve_baseline
from napari_mep.reconstruction.gradient import Belief, solve_gradient
from napari_mep.reconstruction.memory import check_memory
from napari_mep.reconstruction.positivity import nearest_positive
from napari_mep.reconstruction.posterior import sample_posterior
from napari_mep.reconstruction.problem import Interrupted, Problem, build_problem
from napari_mep.reconstruction.snapshot import Snapshot

if TYPE_CHECKING:
    from torch import Tensor

    from napari_mep.data.dataset import DiffractionDataset
    from napari_mep.prior.denoiser import Denoiser
    from napari_mep.reconstruction.plan import ReconstructionPlan

__all__ = ["reconstruct"]

_log = logging.getLogger(__name__)

# Potentials are positive, but on voxels that end at their Nyquist frequency an atom rings: beside
# it the phase is lower than zero by 0.6 to 1.2 % of its height (rendered, C to Pb).
_RINGING = 0.0075


def reconstruct(
    dataset: DiffractionDataset,
    plan: ReconstructionPlan,
    stop: threading.Event | None = None,
    *,
    preview_seconds: float = 0.25,
) -> Iterator[Snapshot]:
    """Reconstruct a specimen, one snapshot a step.

    Parameters
    ----------
    dataset : DiffractionDataset
        Patterns and calibration.
    plan : ReconstructionPlan
        What to do.
    stop : threading.Event, optional
        When set, the step under way is given up, the result of the last whole step is yielded and
        the generator returns.
    preview_seconds : float
        Snapshots in between carry a volume at most this often; the first and last always do.

    Yields
    ------
    Snapshot

    Raises
    ------
    PlanError, WeightsError, DeviceError, DataError, CalibrationError
        Before the first step, if it cannot begin.
    SolverError, DeviceError
        If it diverges or memory runs out; snapshots yielded before stay valid.
    """
    began = time.monotonic()
    stop = stop or threading.Event()
    device = resolve_device(plan.device)
    if plan.preprocessing is not None:
        dataset = preprocess(dataset, plan.preprocessing)
    last_volume_at = -math.inf
    snapshot: Snapshot | None = None
    canvas: Tensor | None = None
    try:
        denoiser = card = None
        if plan.method == "mep":
            energy_keV = dataset.calibration.beam_energy_keV
            denoiser = _at_energy(load_prior(plan.prior, device), energy_keV)
            denoiser = replace(denoiser, precision=resolve_precision(plan.precision, device))
            card = load_card(plan.prior)
        outside = plan.method in BASELINES
        if outside:
            check_baseline(plan, device)
        check_memory(dataset, plan, device, denoiser)
        problem = build_problem(
            dataset,
            problem_plan(plan) if outside else plan,
            device=torch.device("cpu") if outside else device,
            prior_voxel_A=denoiser.voxel_size_A if denoiser else None,
            smallest_canvas=denoiser.tile_shape if denoiser else (1, 1, 1),
            stop=stop,
        )
        plan = plan.settled_for(card, resolves_depth=problem.resolves_depth)
        if plan.object.waves == "precise":
            problem = problem.with_precise_waves(dataset)
        semiangle = dataset.calibration.convergence_semiangle_mrad
        steps = (
            _outside_steps(problem, plan, semiangle, device)
            if outside
            else _steps(problem, denoiser, plan)
        )
        try:
            for snapshot, canvas, spread in steps:
                _check_finite(canvas, snapshot)
                elapsed = time.monotonic() - began
                last = snapshot.step == snapshot.total
                due = last or elapsed - last_volume_at >= preview_seconds
                last_volume_at = elapsed if due else last_volume_at
                snapshot = replace(
                    snapshot,
                    volume=problem.grid.crop(canvas) if due else None,
                    spread=None if spread is None else problem.grid.crop(spread),
                    seconds=elapsed,
                    eta_s=elapsed / snapshot.step * (snapshot.total - snapshot.step),
                )
                yield snapshot
                problem.check_stop()
        except Interrupted:
            if snapshot is not None and canvas is not None and snapshot.volume is None:
                yield replace(snapshot, volume=problem.grid.crop(canvas))
    except RuntimeError as err:  # torch reports out of memory and kernel failures so
        text = _explain(err, device)
        _log.warning("%s\n%s", text, traceback.format_exc())
        traceback.clear_frames(err.__traceback__)  # frames pin tensors as long as the error lives
        kind = DeviceError if isinstance(err, torch.OutOfMemoryError) else SolverError
        raise kind(text) from None
    finally:
        # Memory goes back before the caller looks.
        problem = denoiser = canvas = steps = None  # type: ignore[assignment]
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _steps(
    problem: Problem, denoiser: Denoiser | None, plan: ReconstructionPlan
) -> Iterator[tuple[Snapshot, Tensor, Tensor | None]]:
    """Snapshots without volume and time, each with its canvas, the last with the spread."""
    warm = plan.method == "gradient" or plan.start == "gradient"
    of_predictions = plan.mean_of == "predictions"
    # In some orientations no sample is drawn: their predictions are for the mean only.
    others = max(0, ORIENTATIONS - plan.samples) if of_predictions else 0
    total = plan.gradient.counts()[0] if warm else 0
    if denoiser:
        total += plan.samples * plan.steps + others + plan.finish_iterations
    step_numbers = itertools.count(1)

    def snapshot(stage: str, residual: float, weight: float, logsnr: float) -> Snapshot:
        return Snapshot(
            plan=plan,
            step=next(step_numbers),
            total=total,
            stage=stage,
            volume=None,
            residual=residual,
            residual_floor=problem.residual_floor,
            guidance_weight=weight,
            logsnr=logsnr,
            seconds=0.0,
            eta_s=0.0,
        )

    start: Tensor | None = None
    if warm:
        stage = "gradient start" if denoiser else "gradient"
        for step in solve_gradient(problem, plan.gradient):
            start = step.canvas
            note = snapshot(stage, step.residual, plan.gradient.step, math.nan)
            yield note, start, None
    if denoiser is None:
        return
    expected: list[Tensor] = []
    finished: list[Tensor] = []
    spread: Tensor | None = None
    averaged = expected if of_predictions else finished
    for i in range(plan.samples + others):
        one = plan.sample(i)
        orientation = i if of_predictions else 0
        samples = sample_posterior(problem, denoiser, one, start, orientation)
        if i >= plan.samples:
            samples = itertools.islice(samples, 1)
            stage = f"prediction {i + 1} of {ORIENTATIONS}"
        else:
            stage = f"sample {i + 1} of {plan.samples}" if plan.samples > 1 else "sampling"
        for sample in samples:
            note = snapshot(stage, sample.residual, sample.weight, sample.logsnr)
            last = sample.index + 1 == plan.steps
            if sample.index == 0:
                expected.append(sample.canvas)
            if last:
                finished.append(sample.canvas)
            # The first sample is shown while it forms, then the mean of what there is, so that
            # a run that is stopped ends with something that has a meaning.
            shown = torch.stack(averaged).mean(0) if finished else sample.canvas
            lowest = -_RINGING * max(0.0, float(shown.max()))
            shown = shown.clamp(min=lowest)
            # Only whole sets tell how much samples differ.
            if last and 1 < plan.samples == len(finished):
                spread = torch.stack(finished).std(0)
            yield replace(note, samples=len(finished)), shown, spread
    if plan.finish_iterations == 0:
        return
    # What the prior expects and the data deny, the data decide: their depth sum is known sharply.
    finish = plan.gradient.model_copy(update={"iterations": plan.finish_iterations})
    depth_rad, sum_rad = plan.finish_depth_deviation_rad, plan.finish_deviation_rad
    assert depth_rad is not None  # settled plans leave nothing open
    assert sum_rad is not None
    start = nearest_positive(shown, problem.check_stop)
    mean = Belief(start, depth_rad, sum_rad)
    for finishing in solve_gradient(problem, finish, start, belief=mean, lowest=lowest):
        note = snapshot("finish", finishing.residual, finish.step, math.nan)
        yield replace(note, samples=plan.samples), finishing.canvas, spread


def _outside_steps(
    problem: Problem, plan: ReconstructionPlan, semiangle_mrad: float, device: torch.device
) -> Iterator[tuple[Snapshot, Tensor, None]]:
    """The same for the solver of another package."""
    for step in solve_baseline(problem, plan, semiangle_mrad=semiangle_mrad, device=device):
        note = Snapshot(
            plan=plan,
            step=step.index + 1,
            total=step.total,
            stage=BASELINES[plan.method].title,
            volume=None,
            residual=step.residual,
            residual_floor=problem.residual_floor,
            guidance_weight=math.nan,
            logsnr=math.nan,
            seconds=0.0,
            eta_s=0.0,
        )
        yield note, step.canvas, None


def _at_energy(denoiser: Denoiser, energy_keV: float) -> Denoiser:
    """The prior for another beam energy: the same potentials, phases scaled by sigma(E)."""
    ratio = interaction_constant(denoiser.energy_keV) / interaction_constant(energy_keV)
    return replace(denoiser, scale=denoiser.scale * ratio, energy_keV=energy_keV)


def _check_finite(canvas: Tensor, snapshot: Snapshot) -> None:
    if not bool(torch.isfinite(canvas).all()):
        outside = snapshot.method in BASELINES
        settings = "baseline.learning_rate" if outside else "guidance.strength or gradient.step"
        raise SolverError(
            f"reconstruction diverged in step {snapshot.step} of {snapshot.total}; lower "
            f"{settings}, or check the calibration"
        )


def _explain(err: RuntimeError, device: torch.device) -> str:
    if isinstance(err, torch.OutOfMemoryError) and device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return (
            f"out of memory on {device}: {free / 2**30:.1f} GiB of {total / 2**30:.1f} GiB free; "
            "lower guidance.patterns_per_step or object.wave_oversampling, or use device cpu"
        )
    return f"reconstruction failed on {device}: {str(err).splitlines()[0]}"
