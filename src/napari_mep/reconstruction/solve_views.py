"""Training pairs from the solver itself: crystals, patterns of them, gradient solutions.

`training.estimates` works out in milliseconds what a solver would find if it were linear. A real
one is not, stops early, and disagrees with its data beyond counting noise (pixels cut potentials
off, windows wrap); what that does to depth has no formula. With abTEM's patterns everything is done
as for a user's data, which takes about forty seconds a view. With those of our own model, which
needs no precise waves to agree with itself, and from the depth sum on, which the first half of the
steps would only find, a view takes two and a half.
"""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from napari_mep.crystals.library import CrystalLibrary
from napari_mep.data.dataset import DiffractionDataset
from napari_mep.data.experiment import Experiment
from napari_mep.data.simulate import apply_dose, simulate_atoms, simulated_size_A
from napari_mep.reconstruction.geometry import CanvasGrid
from napari_mep.reconstruction.gradient import solve_gradient
from napari_mep.reconstruction.model_patterns import model_patterns, model_windows
from napari_mep.reconstruction.plan import GradientPlan, ReconstructionPlan
from napari_mep.reconstruction.problem import Interrupted, Problem, build_problem
from napari_mep.training.settings import TrainingSettings
from napari_mep.training.solved import SolvedView
from napari_mep.training.volumes import AtomBoxes
from napari_mep.volume import PhaseVolume

__all__ = ["DOSES", "Simulator", "drawn_experiment", "solve_view"]

Simulator = Literal["abtem", "model"]
"""Whose patterns are solved: abTEM's, or those of our own forward model."""

DOSES = (5e3, 5e6)
"""Between which doses of views are drawn, e/A2."""

_FIRST = 2**41  # far from the numbers that training draws volumes by
_DETECTOR = 64
_SCAN = (12, 12)  # with the probe's own width the tile of the prior
# Depth is where errors of a calibration go, and a prior should have seen them.
_MISCALIBRATED_SHARE = 0.5
_DEFOCUS_ERROR_A = 3.0
_SEMIANGLE_ERROR_MRAD = 0.1
# Of the illumination in the middle: where there is less, the solver finds no depth sum.
_UNLIT = 0.002


def drawn_experiment(
    rng: np.random.Generator, settings: TrainingSettings, simulator: Simulator = "abtem"
) -> Experiment:
    """Conditions of one view: the paper's mostly, else any with a defocused probe.

    For our model such a probe fits one window, as that of the paper does: wider windows are four
    times the work.
    """
    experiment = _drawn_once(rng, settings)
    while simulator == "model" and model_windows(experiment) > 1:
        experiment = _drawn_once(rng, settings)
    return experiment


def _drawn_once(rng: np.random.Generator, settings: TrainingSettings) -> Experiment:
    slices, slice_A = settings.tile_shape[0], settings.voxel_size_A[0]
    slices *= 2 if rng.random() < 0.1 else 1
    common: dict[str, Any] = {
        "scan_shape": _SCAN,
        "detector_pixels": _DETECTOR,
        # The detector whose pixel in real space is the prior's.
        "detector_step_invA": 1 / (_DETECTOR * settings.voxel_size_A[1]),
        "thickness_A": slices * slice_A,
        "slice_thickness_A": slice_A,
        "energy_keV": settings.energy_keV,
    }
    if rng.random() < 0.6:
        return Experiment(**common)
    return Experiment(
        **common,
        scan_step_A=rng.uniform(0.35, 0.7),
        semiangle_mrad=rng.uniform(15.0, 30.0),
        defocus_A=rng.choice([-1, 1]) * rng.uniform(60.0, 250.0),
        spherical_aberration_A=rng.uniform(0.0, 1e4),
    )


def solve_view(
    library: CrystalLibrary,
    settings: TrainingSettings,
    number: int,
    *,
    simulator: Simulator = "abtem",
    doses: tuple[float, float] = DOSES,
    plan: GradientPlan | None = None,
    device: torch.device | str = "cpu",
    stop: threading.Event | None = None,
) -> SolvedView:
    """One view of a random crystal, and what the solver without a prior makes of its patterns.

    Parameters
    ----------
    library : CrystalLibrary
        Crystals to draw from.
    settings : TrainingSettings
        Voxels, defects, orientations and seed, as the training that will learn from the view.
    number : int
        Of the view: the same crystal, conditions and dose for the same library, settings and
        number.
    simulator : {"abtem", "model"}
        Whose patterns are solved. abTEM's are independent of the solver's model, as real ones
        are.
    doses : (float, float)
        Lowest and highest, e/A2; drawn evenly on a logarithmic scale.
    plan : GradientPlan, optional
        Of the solver; what it leaves open is as in a reconstruction, before a prior that has
        learned what quasi-Newton steps leave if the settings say that it will.
    device : torch.device or str
        Where the solver runs; patterns are simulated on the processor.
    stop : threading.Event, optional
        Gives the view up.

    Returns
    -------
    SolvedView
        On the canvas of the reconstruction, float32.

    Raises
    ------
    Interrupted
        `stop` was set.
    """
    rng = np.random.default_rng([settings.seed, 3, number])
    experiment = drawn_experiment(rng, settings, simulator)
    size_A = (experiment.thickness_A, *simulated_size_A(experiment))
    atoms = AtomBoxes(library, settings, size_A).box(_FIRST + number)

    def look(*_: int) -> None:
        if stop is not None and stop.is_set():
            raise Interrupted

    described = ReconstructionPlan(method="gradient")
    ours = simulator == "model"
    if ours:
        windows = model_windows(experiment)
        expected = model_patterns(atoms, experiment, windows)
        described = described.replace(object={"wave_oversampling": windows})
    else:
        expected = simulate_atoms(atoms, experiment, progress=look)
    low, high = doses
    dose = low * math.exp(rng.uniform(0.0, math.log(high / low)))
    counted = apply_dose(expected, dose, seed=number)
    if rng.random() < _MISCALIBRATED_SHARE:
        counted = _miscalibrated(counted, rng)
    problem = build_problem(
        counted,
        described,
        device=torch.device(device),
        prior_voxel_A=settings.voxel_size_A,
        smallest_canvas=settings.tile_shape,
        stop=stop,
    )
    find_depth = settings.quasi_newton_share > 0 and problem.resolves_depth
    if find_depth and not ours:
        problem = problem.with_precise_waves(counted)
    settled = (plan or GradientPlan()).settled(find_depth=find_depth)
    specimen = _on_canvas(expected.specimen, problem.grid)
    start = None
    if find_depth and ours:
        start = _depth_sum(specimen, problem)
        iterations, coarse = settled.counts()
        settled = settled.model_copy(update={"iterations": max(1, iterations - coarse)})
    *_, last = solve_gradient(problem, settled, start)
    corner = (0, *_corner(expected.specimen, problem.grid))
    positions_A = atoms.positions_A - np.array(corner) * problem.grid.voxel_size_A
    return SolvedView(specimen, last.canvas.cpu().numpy(), replace(atoms, positions_A=positions_A))


def _miscalibrated(dataset: DiffractionDataset, rng: np.random.Generator) -> DiffractionDataset:
    """Told wrong about the probe by about what a good calibration leaves."""
    calibration = dataset.calibration
    wrong = {
        "defocus_A": calibration.defocus_A + rng.normal(0.0, _DEFOCUS_ERROR_A),
        "convergence_semiangle_mrad": calibration.convergence_semiangle_mrad
        + rng.normal(0.0, _SEMIANGLE_ERROR_MRAD),
    }
    return replace(dataset, calibration=calibration.model_copy(update=wrong))


def _depth_sum(specimen: np.ndarray, problem: Problem) -> Tensor:
    """Where coarse steps lead: the depth sum, spread over the slices, as far as there is a beam.

    Of depth it tells nothing. Quasi-Newton steps from here and from coarse steps end nearer to each
    other than either to convergence (docs/training.md).
    """
    shape = problem.grid.shape
    beam = problem.model.illumination(
        shape[1:], problem.positions_px, problem.grid.measured_slices, device=problem.device
    )
    (y0, y1), (x0, x1) = problem.grid.scanned_px
    lit = beam / (beam + _UNLIT * beam[y0:y1, x0:x1].median())
    mean = torch.from_numpy(specimen).to(problem.device).mean(0)
    return (mean.clamp(min=0.0) * lit).expand(shape).contiguous()


def _on_canvas(specimen: PhaseVolume, grid: CanvasGrid) -> np.ndarray:
    """The part of a simulated specimen that the canvas shows; their voxels coincide."""
    slices, height, width = grid.shape
    top, left = _corner(specimen, grid)
    part = specimen.data[:slices, top : top + height, left : left + width]
    if min(top, left) < 0 or part.shape != grid.shape:
        raise AssertionError(
            f"canvas {grid.shape} reaches beyond the specimen {specimen.data.shape}"
        )
    return np.asarray(part, np.float32)


def _corner(specimen: PhaseVolume, grid: CanvasGrid) -> tuple[int, int]:
    """Voxel (y, x) of the specimen at which the canvas begins."""
    top, left = (
        round(-origin / voxel) - corner
        for origin, voxel, corner in zip(
            specimen.origin_A[1:], grid.voxel_size_A[1:], grid.corner_px, strict=True
        )
    )
    return top, left
