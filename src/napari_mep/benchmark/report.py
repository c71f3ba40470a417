"""Everything a benchmark has to say, before it becomes Markdown, JSON or a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from napari_mep.benchmark.cases import Task
from napari_mep.benchmark.methods import Method
from napari_mep.benchmark.records import Failure, Records, Result, read_lines
from napari_mep.benchmark.statistics import (
    Average,
    Comparison,
    averages,
    comparisons,
    reference_method,
)
from napari_mep.data._store import to_json
from napari_mep.errors import ExportError

__all__ = ["Report", "make_report", "read_results", "report_values", "results_of"]

_SHARED = ("plan", "prior_sha256", "machine")
"""What results of one method or one machine have in common: said once in a report."""


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
        machines = [result.machine for result in self.results]
        return [(one, machines.count(one)) for one in _different(machines)]


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
    """The report in values that JSON can hold; `results_of` finds the results in them again."""
    machines = [machine for machine, _ in report.machines()]
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
            # The settings are those of the method, the machine is one of those above.
            {k: v for k, v in asdict(result).items() if k not in _SHARED}
            | {"machine": machines.index(result.machine)}
            for result in report.results
        ],
        "averages": [asdict(average) for average in report.averages],
        "comparisons": [asdict(comparison) for comparison in report.comparisons],
        "failures": [asdict(failure) for failure in report.failures],
    }


def read_results(path: Path) -> list[Result]:
    """The results in a ``benchmark.json`` or ``results.jsonl`` that another run left behind.

    Raises
    ------
    ExportError
        The file cannot be read, or is neither.
    """
    try:
        if path.suffix == ".jsonl":
            return list(read_lines(path).values())
        return results_of(json.loads(path.read_text(encoding="utf-8")))
    except OSError as err:
        raise ExportError(f"{path}: not readable ({err.strerror or err})") from None
    except (ValueError, KeyError, IndexError, TypeError):
        raise ExportError(
            f"{path}: no results of a benchmark; name a benchmark.json or a results.jsonl"
        ) from None


def results_of(values: Mapping[str, Any]) -> list[Result]:
    """The results of a report, from what `report_values` made of it.

    Raises
    ------
    KeyError, IndexError, TypeError
        These are not the values of a report.
    """
    machines = [{k: v for k, v in m.items() if k != "results"} for m in values["machines"]]
    results = []
    for row in values["results"]:
        method = values["methods"][row["label"]]
        shared = {
            "plan": method["plan"],
            "prior_sha256": method["prior_sha256"],
            "machine": machines[row["machine"]],
        }
        results.append(Result(**(row | shared)))
    return results


def _different(values: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found
