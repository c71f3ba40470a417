"""The report as pictures: quality against dose, sampling steps and training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_mep.benchmark.methods import Method
from napari_mep.benchmark.records import SCORES, dose_text
from napari_mep.benchmark.report import Report
from napari_mep.benchmark.statistics import by_crystal
from napari_mep.benchmark.sweeps import QUANTITIES, sweeps
from napari_mep.errors import ExportError
from napari_mep.evaluation import paired_bootstrap
from napari_mep.reconstruction.baselines import BASELINES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["write_figures"]

# Okabe and Ito's palette, which people with any colour vision can tell apart, and markers for
# those who print in grey.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"
_TITLES = {
    "ssim": "SSIM, volume",
    "psnr": "PSNR, volume (dB)",
    "ssim_sum": "SSIM, depth sum",
    "psnr_sum": "PSNR, depth sum (dB)",
}


@dataclass(frozen=True, slots=True)
class _Series:
    """One line: for each place on the x axis the method and dose whose results lie there.

    `look` chooses colour and marker, `hollow` an empty marker and a dashed line.
    """

    name: str
    places: tuple[tuple[str | None, float], ...]
    look: int
    hollow: bool = False


def write_figures(report: Report, stem: Path) -> list[Path]:
    """Write ``STEM.png`` and, where there are `sweeps`, ``STEM-steps.png``, ``STEM-training.png``.

    Parameters
    ----------
    report : Report
        With at least one result.
    stem : Path
        Path without suffix.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    ExportError
        The disk refuses.
    """
    doses = sorted({result.dose_e_per_A2 for result in report.results})
    by_dose = [
        _Series(method.label, tuple((method.label, dose) for dose in doses), *look)
        for method, look in zip(report.methods, _looks(report.methods), strict=True)
    ]
    written = [_draw(report, by_dose, [dose_text(d) for d in doses], "dose (e/Å²)", stem)]
    for quantity, axis in QUANTITIES.items():
        found = sweeps(report.methods, quantity)
        numbers = sorted({number for one in found for number, _ in one})
        series: list[_Series] = []
        for one in found:
            label = {number: method.label for number, method in one}
            which = f"{one[0][1].label} ... {one[-1][1].label}, " if len(found) > 1 else ""
            series += [
                _Series(
                    f"{which}{dose_text(dose)} e/Å²",
                    tuple((label.get(number), dose) for number in numbers),
                    len(series) + index,
                )
                for index, dose in enumerate(doses)
            ]
        if series:
            path = stem.with_name(f"{stem.name}-{quantity}")
            written.append(_draw(report, series, [f"{n:,}" for n in numbers], axis, path))
    return written


def _looks(methods: Sequence[Method]) -> list[tuple[int, bool]]:
    """Colour and fill of each: presets of another package's solver differ in the fill alone."""
    solvers = [
        method.plan.method if method.plan.method in BASELINES else method.label
        for method in methods
    ]
    colours = list(dict.fromkeys(solvers))
    return [
        (colours.index(solver), solver in BASELINES and method.plan.baseline.preset == "paper")
        for method, solver in zip(methods, solvers, strict=True)
    ]


def _draw(
    report: Report, series: Sequence[_Series], places: Sequence[str], axis: str, stem: Path
) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = list(dict.fromkeys(result.group for result in report.results))
    figure = Figure(figsize=(12.5, 0.9 + 2.7 * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(groups), len(SCORES), squeeze=False, sharex=True, sharey="col")
    for row, group in zip(axes, groups, strict=True):
        for ax, score in zip(row, SCORES, strict=True):
            for index, one in enumerate(series):
                shift = 0.6 * ((index + 0.5) / len(series) - 0.5)
                _plot(ax, report, group, score, one, shift)
            _style(ax, places)
        row[0].set_ylabel(group)
    for ax, score in zip(axes[0], SCORES, strict=True):
        ax.set_title(_TITLES[score], fontsize=10)
    for ax in axes[-1]:
        ax.set_xlabel(axis)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside upper center", ncols=min(8, len(names)), frameon=False
    )
    path = stem.with_name(f"{stem.name}.png")
    try:
        # Without the software's name and version, the same results are the same file.
        figure.savefig(path, dpi=160, metadata={"Software": None})
    except OSError as err:
        raise ExportError(f"picture {path}: not written ({err.strerror or err})") from None
    return path


def _plot(ax: Axes, report: Report, group: str, score: str, series: _Series, shift: float) -> None:
    """Every crystal as a faint dot, the mean with its 95 % bootstrap interval."""
    colour, marker = _COLOURS[series.look % len(_COLOURS)], _MARKERS[series.look % len(_MARKERS)]
    at, means, low, high = [], [], [], []
    for place, (label, dose) in enumerate(series.places):
        results = [
            r for r in report.results if (r.group, r.label, r.dose_e_per_A2) == (group, label, dose)
        ]
        values = list(by_crystal(results, score).values())
        if not values:
            continue
        x = place + shift
        dots: dict[str, Any] = {"color": colour, "alpha": 0.35, "linewidths": 0, "zorder": 1}
        ax.scatter(np.full(len(values), x), values, s=11, **dots)
        interval = paired_bootstrap(values)
        at.append(x)
        means.append(interval.mean)
        low.append(interval.mean - interval.low)
        high.append(interval.high - interval.mean)
    ax.errorbar(
        at,
        means,
        yerr=[low, high],
        label=series.name,
        color=colour,
        marker=marker,
        markersize=6,
        markerfacecolor="white" if series.hollow else colour,
        markeredgecolor=colour if series.hollow else "white",
        markeredgewidth=1.2 if series.hollow else 0.6,
        linewidth=1.0,
        linestyle="--" if series.hollow else "-",
        elinewidth=1.4,
        capsize=2.5,
        zorder=2,
    )


def _style(ax: Axes, places: Sequence[str]) -> None:
    ax.set_xticks(range(len(places)), places)
    ax.set_xlim(-0.5, len(places) - 0.5)
    ax.grid(axis="y", color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=9)
