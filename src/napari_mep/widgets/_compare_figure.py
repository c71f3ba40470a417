"""What leaves the program: the table as CSV, and a figure for a paper."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from napari_mep.errors import ExportError
from napari_mep.widgets._compare_prepare import Row
from napari_mep.widgets._compare_scene import Scene, box_of, density_limits, image_of

__all__ = ["COLUMNS", "cell", "table_csv", "write_csv", "write_figure"]

COLUMNS = {
    "name": ("volume", ""),
    "psnr_dB": ("PSNR (dB)", ".2f"),
    "ssim": ("SSIM", ".3f"),
    "psnr_sum_dB": ("PSNR sum (dB)", ".2f"),
    "ssim_sum": ("SSIM sum", ".3f"),
    "frc_invA": ("FRC (1/Å)", ".2f"),
    "fsc_invA": ("FSC (1/Å)", ".2f"),
    "common_residual": ("residual", ".3f"),
    "residual": ("own residual", ".3f"),
    "residual_floor": ("noise floor", ".3f"),
    "seconds": ("time (s)", ".0f"),
}
"""Title and format of each field of a `Row`."""

_LIMITS = {"frc_invA": "frc_limit_invA", "fsc_invA": "fsc_limit_invA"}
_BAR_SHARE = 0.4  # of the width that the scale bar may take at most


def cell(row: Row, name: str) -> str:
    """A value as it is shown: a dash where there is none, "at least" where a crossing is none."""
    value = getattr(row, name)
    if isinstance(value, str):
        return value
    if math.isnan(value):
        return "\N{EN DASH}"
    text = format(value, COLUMNS[name][1])
    at_least = name in _LIMITS and value == getattr(row, _LIMITS[name])
    return f"\N{GREATER-THAN OR EQUAL TO} {text}" if at_least else text


def table_csv(rows: Sequence[Row]) -> str:
    """All fields in full precision, with the names that the code uses, units included."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [field.name for field in fields(Row)]
    writer.writerow(names)
    for row in rows:
        values = [getattr(row, name) for name in names]
        writer.writerow("" if isinstance(v, float) and math.isnan(v) else v for v in values)
    return text.getvalue()


def write_csv(path: str | Path, rows: Sequence[Row]) -> Path:
    """Write the table.

    Raises
    ------
    ExportError
        The file cannot be written.
    """
    path = Path(path)
    try:
        path.write_text(table_csv(rows), encoding="utf-8")
    except OSError as err:
        raise ExportError(f"table {path}: cannot be written ({err.strerror})") from None
    return path


def write_figure(path: str | Path, scene: Scene, rows: Sequence[Row]) -> Path:
    """Slices of all volumes on one grey scale with a scale bar, and the table below.

    Parameters
    ----------
    path : str or Path
        ``.pdf``, ``.svg`` or ``.png``.
    scene : Scene
        Volumes, depth and contrast.
    rows : sequence of Row
        Scores of the results.

    Raises
    ------
    ExportError
        Unknown kind of file, or it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    if path.suffix.lower() not in (".pdf", ".svg", ".png"):
        raise ExportError(f"figure {path}: unknown kind of file; use .pdf, .svg or .png")
    volumes = scene.prepared.volumes
    low, high = density_limits(volumes, scene.percentiles)
    columns = min(4, len(volumes))
    lines = math.ceil(len(volumes) / columns)
    table_height = 0.24 * (len(rows) + 1) + 0.1 if rows else 0.0
    width = 7.0
    panel = width / columns
    height = lines * (panel + 0.25) + table_height + 0.1
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    ratios = [panel] * lines + ([table_height] if rows else [])
    grid = figure.add_gridspec(len(ratios), columns, height_ratios=ratios)
    image = None
    for index, volume in enumerate(volumes):
        axes = figure.add_subplot(grid[index // columns, index % columns])
        box = box_of(volume.volume)
        image = axes.imshow(
            image_of(volume.volume, scene),
            cmap="gray",
            vmin=low,
            vmax=high,
            extent=(box.left, box.right, box.bottom, box.top),
            interpolation="nearest",
        )
        axes.set_title(volume.name, fontsize=8)
        axes.set_axis_off()
        if index == 0:
            bar = _round_length(_BAR_SHARE * box.width)
            y = box.bottom - 0.06 * box.height
            x = box.left + 0.06 * box.width
            axes.plot([x, x + bar], [y, y], color="white", linewidth=3, solid_capstyle="butt")
            axes.text(x, y - 0.03 * box.height, f"{bar:g} Å", color="white", fontsize=7)
    if image is not None:
        bar_axes = figure.colorbar(image, ax=figure.axes, shrink=0.8, pad=0.01, aspect=30)
        bar_axes.ax.tick_params(labelsize=6)
        bar_axes.set_label(f"phase (rad/Å), {scene.words}", fontsize=7)
    if rows:
        axes = figure.add_subplot(grid[lines, :])
        axes.set_axis_off()
        table = axes.table(
            cellText=[[cell(row, name) for name in COLUMNS] for row in rows],
            colLabels=[title for title, _ in COLUMNS.values()],
            colWidths=[0.22, *[0.78 / (len(COLUMNS) - 1)] * (len(COLUMNS) - 1)],
            cellLoc="center",
            loc="upper center",
            edges="horizontal",
        )
        table.auto_set_font_size(False)
        table.set_fontsize(5.5)
    try:
        figure.savefig(path, dpi=300)
    except OSError as err:
        raise ExportError(f"figure {path}: cannot be written ({err.strerror})") from None
    return path


def _round_length(most: float) -> float:
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(m * power for m in (1, 2, 5) if m * power <= most))
