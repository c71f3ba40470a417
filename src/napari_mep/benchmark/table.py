"""The report as Markdown: what it was computed on, Table 1, sweeps, every crystal, all settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from napari_mep.benchmark.methods import Method
from napari_mep.benchmark.records import SCORES, Result, dose_text
from napari_mep.benchmark.report import Report
from napari_mep.benchmark.statistics import Average, Comparison
from napari_mep.benchmark.sweeps import QUANTITIES, Sweep, sweeps

__all__ = ["markdown", "summary_markdown"]

SCORE_NAMES = {"ssim": "SSIM", "psnr": "PSNR", "ssim_sum": "SSIM sum", "psnr_sum": "PSNR sum"}
"""What tables call the scores; "sum" is the sum over depth, PSNR is in dB."""


_ENOUGH = 5  # crystals; a bootstrap over fewer says little


def markdown(report: Report, command: str = "") -> str:
    """The whole page.

    Parameters
    ----------
    report : Report
        What to say.
    command : str
        The command that makes it again.
    """
    parts = [*_head(report, command), summary_markdown(report)]
    for quantity in QUANTITIES:
        found = sweeps(report.methods, quantity)
        if found:
            parts += [f"## Quality against {QUANTITIES[quantity]}"]
            parts += [_sweep_table(report, one, QUANTITIES[quantity]) for one in found]
    parts += ["## Every crystal", *_crystal_tables(report)]
    parts += ["## Settings", *_settings(report)]
    return "\n\n".join(parts) + "\n"


def summary_markdown(report: Report) -> str:
    """Table 1, the differences with their intervals, where another method wins, what is missing."""
    parts = []
    for group in dict.fromkeys(a.group for a in report.averages):
        here = [a for a in report.averages if a.group == group]
        parts += [f"## {group}", _averages_table(here)]
        compared = [c for c in report.comparisons if c.group == group]
        if compared:
            parts += [
                f"{report.reference} minus the other method, with 95 % paired bootstrap interval:",
                _comparison_table(compared),
                _wins(compared, report.reference),
            ]
    undone = report.asked - len(report.results)
    if undone or report.failures:
        parts.append("## Not computed")
    if report.failures:
        parts.append("\n".join(f"- {failure}" for failure in report.failures))
    if undone:
        parts.append(f"{undone} of {report.asked} results are missing; the same command continues.")
    return "\n\n".join(parts)


def _head(report: Report, command: str) -> list[str]:
    crystals = len({result.crystal for result in report.results})
    e = report.experiment
    parts = ["# Benchmark"]
    if e:
        scan_y, scan_x = e["scan_shape"]
        pixels = e["detector_pixels"]
        parts.append(
            f"Simulated with abTEM's multislice, an independent and finer model than the one that "
            f"reconstructs: {e['energy_keV']:g} keV, {e['semiangle_mrad']:g} mrad, defocus "
            f"{e['defocus_A']:g} Å (positive is underfocus), Cs {e['spherical_aberration_A']:g} Å, "
            f"{scan_y}×{scan_x} positions {e['scan_step_A']:g} Å apart, {pixels}×{pixels} detector "
            f"pixels of {e['detector_step_invA']:g} 1/Å, specimen {e['thickness_A']:g} Å thick, "
            "counting noise; every method gets the same counts. The truth is the potential that "
            "was simulated. Scores are over the scanned area, each volume scaled to [0, 1]; "
            '"sum" is the sum over depth, PSNR is in dB. The residual is that of the last step, '
            "as the method itself reports it; below its floor, noise is being fitted."
        )
    if command:
        parts.append(f"    {command}")
    done, spent = len(report.results), sum(result.seconds for result in report.results)
    parts.append(
        f"{_count(done, 'result')} on {_count(crystals, 'crystal')}, {_duration(spent)} of "
        "reconstruction, on:"
    )
    parts.append("\n".join(_machine(*pair) for pair in report.machines()) or "- nothing yet")
    return parts


def _machine(machine: dict[str, Any], count: int) -> str:
    memory = machine["memory_GiB"]
    versions = ", ".join(f"{name} {text}" for name, text in machine["versions"].items())
    return (
        f"- {machine['device']} ({_count(count, 'result')}): {machine['cpu']}, "
        f"{_count(machine['cores'], 'core')}{'' if memory is None else f', {memory:g} GiB'}, "
        f"{_count(machine['threads'], 'thread')} in each of "
        f"{_count(machine['processes'], 'process')}; {machine['system']}, "
        f"Python {machine['python']}, {versions}"
    )


def _averages_table(rows: Sequence[Average]) -> str:
    head = ["dose e/Å²", "method", "crystals", *SCORE_NAMES.values()]
    cells = []
    for row in rows:
        same_dose = [r for r in rows if r.dose_e_per_A2 == row.dose_e_per_A2]
        scores = []
        for score in SCORES:
            text = _number(score, row.mean[score])
            if row.crystals > 1:
                text += f" ± {_number(score, row.deviation[score])}"
            best = row.mean[score] == max(r.mean[score] for r in same_dose)
            scores.append(f"**{text}**" if best and len(same_dose) > 1 else text)
        residual = "–" if row.residual is None else f"{row.residual:.4f}"
        floor = "–" if row.residual_floor is None else f"{row.residual_floor:.4f}"
        dose = dose_text(row.dose_e_per_A2)
        seconds = f"{row.mean['seconds']:.3g}"
        cells.append([dose, row.label, row.crystals, *scores, f"{residual} ({floor})", seconds])
    table = _table([*head, "residual (floor)", "seconds"], cells)
    return f"Mean ± standard deviation over crystals; the best mean is bold.\n\n{table}"


def _comparison_table(rows: Sequence[Comparison]) -> str:
    cells: dict[tuple[float, str], list[object]] = {}
    for row in rows:
        d = row.difference
        line = cells.setdefault(
            (row.dose_e_per_A2, row.other), [dose_text(row.dose_e_per_A2), row.other, row.crystals]
        )
        mean, low, high = (_number(row.score, v, "+") for v in (d.mean, d.low, d.high))
        line.append(f"{mean} [{low}, {high}]" if row.crystals > 1 else mean)
    return _table(["dose e/Å²", "against", "crystals", *SCORE_NAMES.values()], list(cells.values()))


def _wins(rows: Sequence[Comparison], reference: str) -> str:
    """Where another method is ahead, said in words."""
    lines = []
    for row in rows:
        if row.difference.mean >= 0:
            continue
        sure = row.difference.high < 0 and row.crystals >= _ENOUGH
        how = "ahead of" if sure else "ahead, within the uncertainty, of"
        lines.append(
            f"- At {dose_text(row.dose_e_per_A2)} e/Å², {row.other} is {how} {reference} in "
            f"{SCORE_NAMES[row.score]}: {_number(row.score, row.other_mean)} against "
            f"{_number(row.score, row.reference_mean)}, better on {len(row.other_ahead)} of "
            f"{row.crystals} ({', '.join(row.other_ahead)})."
        )
    return "\n".join(lines) or f"No other method has a higher mean than {reference} in any score."


def _sweep_table(report: Report, one: Sweep, column: str) -> str:
    numbers = {method.label: number for number, method in one}
    rows = [row for row in report.averages if row.label in numbers]
    groups = [row.group for row in rows]
    rows.sort(key=lambda r: (groups.index(r.group), r.dose_e_per_A2, numbers[r.label]))
    cells = [
        [
            row.group,
            dose_text(row.dose_e_per_A2),
            numbers[row.label],
            row.crystals,
            *(_number(score, row.mean[score]) for score in SCORES),
            f"{row.mean['seconds']:.3g}",
        ]
        for row in rows
    ]
    return _table(
        ["group", "dose e/Å²", column, "crystals", *SCORE_NAMES.values(), "seconds"], cells
    )


def _crystal_tables(report: Report) -> list[str]:
    labels = list(dict.fromkeys(result.label for result in report.results))
    parts = []
    for dose in sorted({result.dose_e_per_A2 for result in report.results}):
        here = [result for result in report.results if result.dose_e_per_A2 == dose]
        cases: dict[tuple[str, str], dict[str, Result]] = {}
        for result in here:
            cases.setdefault((result.crystal, result.zone_axis), {})[result.label] = result
        for first, second, what in (
            ("ssim", "psnr", "volume"),
            ("ssim_sum", "psnr_sum", "depth sum"),
        ):
            cells = [
                [name, axis, *(_pair(by_label, label, first, second) for label in labels)]
                for (name, axis), by_label in cases.items()
            ]
            parts.append(f"{dose_text(dose)} e/Å², {what}, SSIM / PSNR (best SSIM bold):")
            parts.append(_table(["crystal", "zone axis", *labels], cells))
        cells = [
            [name, axis, *(_cost(by_label.get(label)) for label in labels)]
            for (name, axis), by_label in cases.items()
        ]
        parts.append(f"{dose_text(dose)} e/Å², residual (floor), seconds:")
        parts.append(_table(["crystal", "zone axis", *labels], cells))
    return parts


def _pair(by_label: dict[str, Result], label: str, first: str, second: str) -> str:
    result = by_label.get(label)
    if result is None:
        return "–"
    text = _number(first, getattr(result, first))
    best = max(getattr(r, first) for r in by_label.values()) == getattr(result, first)
    return f"{f'**{text}**' if best else text} / {_number(second, getattr(result, second))}"


def _cost(result: Result | None) -> str:
    if result is None:
        return "–"
    residual = "–" if result.residual is None else f"{result.residual:.4f}"
    floor = "–" if result.residual_floor is None else f"{result.residual_floor:.4f}"
    return f"{residual} ({floor}), {result.seconds:.3g}"


def _settings(report: Report) -> list[str]:
    """Every setting of every method, one row each; a dash where a method does not have it."""
    plans = [_told(method) for method in report.methods]
    names = list(dict.fromkeys(name for plan in plans for name in plan))
    cells = [[f"`{name}`", *(_setting(plan, name) for plan in plans)] for name in names]
    priors = [
        f"- {m.label}: prior {m.plan.prior}, sha256 {m.prior_sha256[:12]}, trained on "
        f"{m.trained_volumes} volumes"
        for m in report.methods
        if m.prior_sha256 is not None
    ]
    table = _table(["setting", *(method.label for method in report.methods)], cells)
    return [*(["\n".join(priors)] if priors else []), table]


def _told(method: Method) -> dict[str, Any]:
    """Settings by name, and what they come to where the plan leaves it to the method."""
    values = _flat(method.settings()) | {"likelihood": method.plan.counting}
    if "baseline.window" in values:
        values["object.wave_oversampling"] = values.pop("baseline.window")
        values.pop("object.waves", None)  # ours
    # PtyRAD begins a constraint in iteration None where it is not to be used.
    off = [n for n, v in values.items() if v is None and n.startswith("baseline.options.")]
    return values | dict.fromkeys(off, "off")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else None
        flat |= {f"{prefix}{name}": value} if inner is None else inner
    return flat


def _setting(plan: dict[str, Any], name: str) -> str:
    if name not in plan:
        return "–"
    value = plan[name]
    return (
        "auto" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def _count(number: int, what: str) -> str:
    plural = "es" if what.endswith("s") else "s"
    return f"{number} {what}{'' if number == 1 else plural}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _number(score: str, value: float, sign: str = "") -> str:
    return f"{value:{sign}.{3 if score.startswith('ssim') else 2}f}"


def _table(head: Iterable[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [list(head), *rows]
    texts = ["| " + " | ".join(str(c).replace("|", "\\|") for c in line) + " |" for line in lines]
    return "\n".join([texts[0], "|" + "---|" * len(lines[0]), *texts[1:]])
