"""Averages over crystals, and how sure the differences between methods are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from napari_mep.benchmark.methods import Method
from napari_mep.benchmark.records import SCORES, Result
from napari_mep.evaluation import BootstrapInterval, paired_bootstrap

__all__ = ["Average", "Comparison", "averages", "by_crystal", "comparisons", "reference_method"]


@dataclass(frozen=True, slots=True)
class Average:
    """One method over the crystals of a group at one dose.

    Parameters
    ----------
    group, dose_e_per_A2, label
        What is averaged.
    crystals : int
        How many; several zone axes of a crystal are averaged first.
    mean, deviation : dict
        Mean and standard deviation over crystals of each score, and of ``seconds``.
    residual, residual_floor : float or None
        Means.
    """

    group: str
    dose_e_per_A2: float
    label: str
    crystals: int
    mean: dict[str, float]
    deviation: dict[str, float]
    residual: float | None
    residual_floor: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The reference method against another one, on the crystals that both have done.

    Parameters
    ----------
    group, dose_e_per_A2, reference, other, score
        What is compared.
    crystals : int
        How many.
    difference : BootstrapInterval
        Reference minus other, 95 % paired bootstrap over crystals.
    reference_mean, other_mean : float
        Means over these crystals.
    other_ahead : tuple of str
        Crystals on which the other method is better.
    """

    group: str
    dose_e_per_A2: float
    reference: str
    other: str
    score: str
    crystals: int
    difference: BootstrapInterval
    reference_mean: float
    other_mean: float
    other_ahead: tuple[str, ...]


def reference_method(methods: Sequence[Method]) -> Method:
    """The method that the others are compared with: the first ``mep``, or else the first."""
    return next((m for m in methods if m.plan.method == "mep"), methods[0])


def averages(results: Sequence[Result]) -> list[Average]:
    """By group, dose and method, in the order of the results."""
    found = []
    for group, dose in _conditions(results):
        for label in _unique(r.label for r in results):
            some = [r for r in _at(results, group, dose) if r.label == label]
            if some:
                by_score = {s: list(by_crystal(some, s).values()) for s in (*SCORES, "seconds")}
                found.append(
                    Average(
                        group,
                        dose,
                        label,
                        len(by_score["seconds"]),
                        {s: float(np.mean(v)) for s, v in by_score.items()},
                        {s: _deviation(v) for s, v in by_score.items()},
                        _mean_known(r.residual for r in some),
                        _mean_known(r.residual_floor for r in some),
                    )
                )
    return found


def comparisons(results: Sequence[Result], reference: str) -> list[Comparison]:
    """The reference with every other method, by group and dose, score by score."""
    found = []
    for group, dose in _conditions(results):
        here = _at(results, group, dose)
        for other in _unique(r.label for r in results if r.label != reference):
            ours, theirs = _same_cases(here, reference, other)
            for score in SCORES if ours else ():
                a, b = by_crystal(ours, score), by_crystal(theirs, score)
                found.append(
                    Comparison(
                        group,
                        dose,
                        reference,
                        other,
                        score,
                        len(a),
                        paired_bootstrap([a[name] - b[name] for name in a]),
                        float(np.mean(list(a.values()))),
                        float(np.mean(list(b.values()))),
                        tuple(name for name in a if b[name] > a[name]),
                    )
                )
    return found


def _conditions(results: Sequence[Result]) -> list[tuple[str, float]]:
    groups = _unique(r.group for r in results)
    doses = sorted({r.dose_e_per_A2 for r in results})
    return [(group, dose) for group in groups for dose in doses]


def _at(results: Sequence[Result], group: str, dose: float) -> list[Result]:
    return [r for r in results if r.group == group and r.dose_e_per_A2 == dose]


def _same_cases(
    results: Sequence[Result], reference: str, other: str
) -> tuple[list[Result], list[Result]]:
    """Results of two methods on the cases that both have done, in the same order."""
    cases = {(r.label, r.crystal, r.zone_axis): r for r in results}
    both = [
        (r, cases[other, r.crystal, r.zone_axis])
        for r in results
        if r.label == reference and (other, r.crystal, r.zone_axis) in cases
    ]
    return [a for a, _ in both], [b for _, b in both]


def by_crystal(results: Sequence[Result], score: str) -> dict[str, float]:
    """One score of each crystal: the mean over its zone axes, which are no independent samples."""
    values: dict[str, list[float]] = {}
    for result in results:
        values.setdefault(result.crystal, []).append(getattr(result, score))
    return {name: float(np.mean(some)) for name, some in values.items()}


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _mean_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
