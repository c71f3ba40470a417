"""Everything a benchmark has to say, before it becomes Markdown, JSON or a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from napari_mep.benchmark.cases import Task
from napari_mep.benchmark.methods import Method
from napari_mep.benchmark.records import Failure, Records, Result
from napari_mep.benchmark.statistics import (
    Average,
    Comparison,
    averages,
    comparisons,
    reference_method,
)
from napari_mep.data._store import to_json

__all__ = ["Report", "make_report", "report_values"]


@dataclass(frozen=True, slots=True)
class Report:
    """The results that were asked for, with what follows from them.

    Parameters
    ----------
    methods : tuple of Method
        In the order they were asked for.
    reference : str
        Label of the method that the others are compared with.
    experiment : dict
        Conditions of the simulation, without the zone axis.
    results : tuple of Result
        By crystal, dose and method.
    averages, comparisons
        See `napari_mep.benchmark.statistics`.
    failures : tuple of Failure
        What could not be done in this run.
    asked : int
        Number of results that were asked for.
    """

    methods: tuple[Method, ...]
    reference: str
    experiment: dict[str, Any]
    results: tuple[Result, ...]
    averages: tuple[Average, ...]
    comparisons: tuple[Comparison, ...]
    failures: tuple[Failure, ...]
    asked: int

    def machines(self) -> list[tuple[dict[str, Any], int]]:
        """The machines that computed, each with its number of results."""
        found: list[tuple[dict[str, Any], int]] = []
        for machine in (result.machine for result in self.results):
            for index, (known, count) in enumerate(found):
                if known == machine:
                    found[index] = (known, count + 1)
                    break
            else:
                found.append((machine, 1))
        return found


def make_report(
    tasks: Sequence[Task],
    records: Records,
    methods: Sequence[Method],
    failures: Sequence[Failure] = (),
) -> Report:
    """Collect what there is for these tasks; nothing is computed but averages."""
    results = []
    for task in tasks:
        result = records.get(task.key)
        if result is not None:
            # Names may have changed since; the key says that it is the same case.
            view = task.view
            results.append(
                replace(result, label=task.method.label, crystal=view.name, group=view.group)
            )
    reference = reference_method(methods).label
    experiment = to_json(asdict(tasks[0].view.experiment)) if tasks else {}
    experiment.pop("zone_axis", None)
    return Report(
        tuple(methods),
        reference,
        experiment,
        tuple(results),
        tuple(averages(results)),
        tuple(comparisons(results, reference)),
        tuple(failures),
        len(tasks),
    )


def report_values(report: Report) -> dict[str, Any]:
    """The report in values that JSON can hold."""
    return {
        "reference": report.reference,
        "experiment": report.experiment,
        "machines": [{**machine, "results": count} for machine, count in report.machines()],
        "methods": {
            method.label: {
                "plan": method.settings(),
                "prior_sha256": method.prior_sha256,
                "trained_volumes": method.trained_volumes,
            }
            for method in report.methods
        },
        "asked": report.asked,
        "results": [
            # The settings are those of the method, the machines are above.
            {k: v for k, v in asdict(result).items() if k not in ("plan", "machine")}
            for result in report.results
        ],
        "averages": [asdict(average) for average in report.averages],
        "comparisons": [asdict(comparison) for comparison in report.comparisons],
        "failures": [asdict(failure) for failure in report.failures],
    }
