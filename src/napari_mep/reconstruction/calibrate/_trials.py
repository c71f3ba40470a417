"""Quick reconstructions of a part of a scan tell how well a calibration explains the patterns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_mep.data._preprocessed import as_stored
from napari_mep.data.calibration import Calibration
from napari_mep.data.dataset import DiffractionDataset, orient_detector
from napari_mep.data.preprocessing import PreprocessingPlan, preprocess
from napari_mep.data.virtual import Stopped
from napari_mep.reconstruction.gradient import solve_gradient
from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.reconstruction.problem import Interrupted, build_problem

__all__ = ["UNKNOWN_THICKNESS_A", "Minimum", "Trials", "find_minimum", "orientation"]

# The detector reaches that many disk radii: most of what tells specimens apart lies within.
_REACH = 1.45
UNKNOWN_THICKNESS_A = 10.0
_ITERATIONS = 5
_FAST = (24, 30, 32, 36, 40, 48, 54, 60, 64, 72, 80, 90, 96, 108, 120, 128)
# A slice acts at its entrance face. The slices of a full reconstruction are that thick; thicker
# ones lie on average that much higher in the specimen, which a change of focus makes up for.
_FINE_SLICE_A = 1.6


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """A part of a scan in memory, reconstructed again and again with other calibrations.

    Parameters
    ----------
    patterns : (rows, columns, k, k) float32 ndarray
        Oriented as stored.
    measured : (k, k) bool ndarray or None
        Detector pixels that count, oriented as stored.
    calibration : Calibration
        Of these patterns.
    slice_A : float
        Thickest slice of the model, angstrom.
    oversampling : int
        Width of the wave window; 1 lets the tail of the probe wrap around, which is good enough
        for telling orientations apart.
    device : torch.device
        Where trials run.
    stop : threading.Event
        Ends a trial with `Stopped`.
    """

    patterns: NDArray[np.float32]
    measured: NDArray[np.bool_] | None
    calibration: Calibration
    slice_A: float
    oversampling: int
    device: torch.device
    stop: Event

    @classmethod
    def of(
        cls,
        dataset: DiffractionDataset,
        *,
        positions: int,
        slice_A: float,
        oversampling: int = 2,
        device: torch.device | None = None,
        stop: Event | None = None,
    ) -> Trials:
        """The middle of a scan, `positions` x `positions` at most, on a small detector.

        Steps much finer than the probe are left out, detector pixels much finer than the probe
        needs are binned.
        """
        c = dataset.calibration
        diameter = _probe_diameter_A(c)
        step = max(c.scan_step_yx_A)
        every = max(1, math.floor(diameter / 12 / step))
        smallest = min(n // every for n in dataset.scan_shape)
        every = max(1, every if smallest >= 8 else min(dataset.scan_shape) // 8)
        radius = c.convergence_semiangle_mrad / c.detector_step_mrad
        fits = 1 / (1.4 * diameter * c.detector_step_invA)
        factor = max(1, math.floor(min(fits, radius / 10)))
        wanted = _REACH * 2 * radius / factor
        side = min(
            next((n for n in _FAST if n >= wanted), 2 * math.ceil(wanted / 2)),
            min(dataset.detector_shape) // factor,
        )
        middle = [_middle(n, every * (positions - 1) + 1) for n in dataset.scan_shape]
        small = preprocess(
            dataset,
            PreprocessingPlan(
                scan_rows=middle[0],
                scan_columns=middle[1],
                scan_every=every,
                bin_detector=factor,
                detector_pixels=side,
            ),
        )
        columns = slice(0, small.scan_shape[1])
        rows = [np.asarray(small.patterns[row, columns]) for row in range(small.scan_shape[0])]
        mask = small.mask
        return cls(
            patterns=np.stack(rows).astype(np.float32),
            measured=None if mask is None else as_stored(mask, *orientation(small.calibration)),
            calibration=small.calibration,
            slice_A=slice_A,
            oversampling=oversampling,
            device=device or torch.device("cpu"),
            stop=stop or Event(),
        )

    def residual(self, **changes: Any) -> float:
        """Relative amplitude residual that a few gradient steps on the amplitude objective leave.

        Twice the electrons times its square is the negative log-likelihood that was minimised,
        which is what makes its curvature an error bar.

        Parameters
        ----------
        **changes
            Fields of the calibration by name.

        Raises
        ------
        Stopped
            The user asked to stop.
        """
        if self.stop.is_set():
            raise Stopped
        calibration = self.calibration.model_copy(update=changes)
        thickness = calibration.specimen_thickness_A or UNKNOWN_THICKNESS_A
        slice_A = thickness / max(1, math.ceil(thickness / self.slice_A))
        higher = (slice_A - min(_FINE_SLICE_A, thickness)) / 2
        calibration = calibration.model_copy(update={"defocus_A": calibration.defocus_A - higher})
        mask = self.measured
        dataset = DiffractionDataset(
            self.patterns,
            calibration,
            "part of the scan",
            mask=None if mask is None else orient_detector(mask, *orientation(calibration)),
        )
        plan = ReconstructionPlan.parse(
            {
                "method": "gradient",
                # What is minimised must be what is compared: the amplitude residual.
                "likelihood": "amplitude",
                "gradient": {"iterations": _ITERATIONS},
                "object": {
                    "thickness_A": thickness,
                    "slice_thickness_A": slice_A,
                    "wave_oversampling": self.oversampling,
                },
            }
        )
        try:
            problem = build_problem(dataset, plan, device=self.device, stop=self.stop)
            steps = list(solve_gradient(problem, plan.gradient))
        except Interrupted:
            raise Stopped from None
        return steps[-1].residual

    @property
    def electrons(self) -> float:
        """Electrons in all patterns: how much a change of the squared residual weighs."""
        measured = self.patterns if self.measured is None else self.patterns[..., self.measured]
        return float(measured.sum(dtype=np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class Minimum:
    """Where a curve of residuals is lowest.

    Parameters
    ----------
    place : float
        Abscissa of the minimum.
    error : float
        One standard deviation by counting statistics.
    x, residual : (n,) float64 ndarray
        All points that were tried, in order of x.
    at_edge : bool
        Whether the lowest point is the first or the last.
    """

    place: float
    error: float
    x: NDArray[np.float64]
    residual: NDArray[np.float64]
    at_edge: bool


def find_minimum(
    residual: Callable[[float], float],
    grid: Sequence[float],
    electrons: float,
    *,
    bounded: bool = False,
) -> Minimum:
    """Lowest point of a smooth curve: a grid, then a parabola around its lowest point.

    Parameters
    ----------
    residual : callable
        Relative amplitude residual at a place.
    grid : sequence of floats
        Places, evenly spaced, 5 or more.
    electrons : float
        In all patterns; twice this times the squared residual is the negative log-likelihood.
    bounded : bool
        Whether to stay within the grid; else the parabola may lead a little beyond it.

    Returns
    -------
    Minimum
    """
    tried = {float(x): residual(float(x)) for x in sorted(grid)}
    for shrink in (1.0, 0.5):
        places = sorted(tried)
        best = min(tried, key=lambda x: tried[x])
        spacing = (max(grid) - min(grid)) / (len(grid) - 1) * shrink
        vertex = _vertex(places, tried, best)
        # The next look is half as wide and centred on where the parabola points.
        for x in (vertex - spacing / 2, vertex, vertex + spacing / 2):
            if bounded:
                x = min(max(x, min(grid)), max(grid))
            if min(abs(x - known) for known in tried) > 0.1 * spacing:
                tried[x] = residual(x)
    places = sorted(tried)
    best = min(tried, key=lambda x: tried[x])
    near = [x for x in places if abs(x - best) <= 1.01 * spacing] or places
    away, squared = np.array(near) - best, np.array([tried[p] ** 2 for p in near])
    curvature, slope, _ = np.polyfit(away, squared, 2) if len(near) >= 3 else (0.0, 0.0, 0.0)
    place, error = best, math.inf
    if curvature > 0:
        place = best + float(np.clip(-slope / (2 * curvature), away.min(), away.max()))
        # Var(sqrt n) = 1/4: the negative log-likelihood is 2 * electrons * residual^2.
        error = 1 / math.sqrt(4 * electrons * curvature)
    return Minimum(
        place=place,
        error=error,
        x=np.array(places),
        residual=np.array([tried[p] for p in places]),
        at_edge=best in (places[0], places[-1]),
    )


def orientation(calibration: Calibration) -> tuple[bool, bool, bool]:
    """Transpose, flip y, flip x."""
    c = calibration
    return c.detector_transpose, c.detector_flip_y, c.detector_flip_x


def _vertex(places: list[float], tried: dict[float, float], best: float) -> float:
    """Vertex of the parabola through the best point and its neighbours."""
    i = places.index(best)
    if i in (0, len(places) - 1):
        return best
    x = np.array(places[i - 1 : i + 2]) - best
    curvature, slope, _ = np.polyfit(x, [tried[p] ** 2 for p in places[i - 1 : i + 2]], 2)
    return best + float(np.clip(-slope / (2 * curvature), x[0], x[-1])) if curvature > 0 else best


def _probe_diameter_A(c: Calibration) -> float:
    """Geometric diameter of the defocused probe, or that of the Airy disk."""
    alpha = c.convergence_semiangle_mrad * 1e-3
    geometric = 2 * alpha * abs(c.defocus_A) + 2 * abs(c.spherical_aberration_A) * alpha**3
    return max(geometric, 1.2 * c.wavelength_A / alpha)


def _middle(length: int, wanted: int) -> tuple[int, int]:
    first = max(0, (length - wanted) // 2)
    return first, min(length, first + wanted)
