"""Limited-memory BFGS for phases above a bound, with a preconditioner that knows depth."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Evaluation", "minimise"]

_MEMORY = 10
_SHORTER = 0.4  # than a step that did not go down enough
_TRIES = 6  # along one direction
_ARMIJO = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Objective at a canvas; `residual` is passed through."""

    value: float
    gradient: Tensor
    residual: float


def minimise(
    objective: Callable[[Tensor], Evaluation],
    start: Tensor,
    precondition: Callable[[Tensor], Tensor],
    evaluations: int,
    *,
    lowest: float = 0.0,
) -> Iterator[tuple[Tensor, Evaluation]]:
    """Minimise over canvases that are nowhere below a bound.

    Liu and Nocedal (1989), with the bound kept as Bertsekas (1982) does: voxels at it that the
    gradient would push below stay out of the direction, and trial points are projected. Steps that
    do not go down enough are shortened.

    Parameters
    ----------
    objective : callable
        Value and gradient of a canvas.
    start : (z, y, x) tensor
        Nowhere below `lowest`.
    precondition : callable
        Applies a symmetric positive approximation of the inverse Hessian.
    evaluations : int
        Of the objective, those of rejected steps included.
    lowest : float
        The bound.

    Yields
    ------
    canvas, evaluation
        The best so far, after each evaluation; as many times as there are evaluations, also where
        nothing improves any more.
    """
    canvas, here = start, objective(start)
    yield canvas, here
    pairs: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=_MEMORY)
    done = 1
    while done < evaluations:
        free = (canvas > lowest) | (here.gradient <= 0)
        gradient = torch.where(free, here.gradient, 0.0)
        direction = -torch.where(free, _inverse_hessian(gradient, pairs, precondition), 0.0)
        if float((direction * gradient).sum()) >= 0:
            pairs.clear()
            direction = -torch.where(free, precondition(gradient), 0.0)
        if not bool(direction.any()):
            break
        length, tries, accepted = 1.0, 0, False
        while done < evaluations and not accepted and tries < _TRIES:
            trial = (canvas + length * direction).clamp(min=lowest)
            there = objective(trial)
            done, tries = done + 1, tries + 1
            moved = trial - canvas
            expected = _ARMIJO * float((here.gradient * moved).sum())
            accepted = math.isfinite(there.value) and there.value <= here.value + expected
            if accepted:
                change = there.gradient - here.gradient
                curved = float((moved * change).sum())
                if curved > 1e-10 * float(moved.norm() * change.norm()):
                    pairs.append((moved, change, curved))
                canvas, here = trial, there
            length *= _SHORTER
            yield canvas, here
        if not accepted and not pairs:
            break  # downhill by no step: this is as low as rounding lets it go
        if not accepted:
            pairs.clear()
    for _ in range(done, evaluations):
        yield canvas, here


def _inverse_hessian(
    gradient: Tensor,
    pairs: deque[tuple[Tensor, Tensor, float]],
    precondition: Callable[[Tensor], Tensor],
) -> Tensor:
    """Two loops over the remembered steps."""
    if not pairs:
        return precondition(gradient)
    shares = []
    for moved, change, curved in reversed(pairs):
        share = float((moved * gradient).sum()) / curved
        gradient = gradient - share * change
        shares.append(share)
    _, change, curved = pairs[-1]
    scale = curved / float((change * precondition(change)).sum())
    step = scale * precondition(gradient)
    for (moved, change, curved), share in zip(pairs, reversed(shares), strict=True):
        step = step + moved * (share - float((change * step).sum()) / curved)
    return step
