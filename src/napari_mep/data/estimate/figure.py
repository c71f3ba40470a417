"""One picture of everything that calibration helpers found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_mep.data.estimate._estimate import Curve, Estimate, Picture
from napari_mep.errors import ExportError

__all__ = ["check_picture", "write_figure"]

_ENDINGS = (".png", ".pdf", ".svg")
# Colours that colour-blind people tell apart (Okabe and Ito).
_FIRST, _SECOND, _MARK = "#0072b2", "#e69f00", "#d55e00"


def check_picture(path: Path) -> None:
    """Refuse a name that no picture can be written under.

    Raises
    ------
    ExportError
        It ends in none of ``.png``, ``.pdf`` and ``.svg``.
    """
    if path.suffix.lower() not in _ENDINGS:
        raise ExportError(
            f"picture {path}: '{path.suffix}' is no kind of picture; use {', '.join(_ENDINGS)}"
        )


def write_figure(path: str | Path, estimates: Sequence[Estimate], title: str = "") -> Path:
    """Draw every proof of some estimates into one picture.

    Parameters
    ----------
    path : str or Path
        ``.png``, ``.pdf`` or ``.svg``; replaced if it exists.
    estimates : sequence of Estimate
        What to show, in this order.
    title : str
        Name of the data.

    Raises
    ------
    ExportError
        There is nothing to show, the file cannot be written, or its ending is no picture's.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    check_picture(path)
    panels = [(estimate, proof) for estimate in estimates for proof in estimate.proof]
    if not panels:
        raise ExportError(f"picture {path}: nothing was estimated, so there is nothing to show")
    columns = min(4, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3.9 * columns, 3.6 * rows + 0.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontsize=12)
    for number, (estimate, proof) in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, number)
        if isinstance(proof, Picture):
            _draw_picture(axes, proof)
        else:
            _draw_curve(axes, proof)
        first = proof is estimate.proof[0]
        head = f"{estimate.title}: {estimate.summary}" if first else proof.title
        axes.set_title(_wrapped(head), fontsize=8, loc="left")
    try:
        figure.savefig(path)
    except OSError as err:
        raise ExportError(f"picture {path}: cannot be written ({err.strerror or err})") from None
    return path


def _draw_picture(axes: Any, picture: Picture) -> None:
    from matplotlib.patches import Circle

    image = np.asarray(picture.image, dtype=float)
    if picture.logarithmic:
        positive = image[image > 0]
        image = np.log10(np.maximum(image, positive.min() if positive.size else 1.0))
    low, high = np.percentile(image, (0.5, 99.8))
    axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-12), interpolation="nearest")
    for y, x, radius in picture.circles:
        axes.add_patch(Circle((x, y), radius, fill=False, color=_MARK, linewidth=1.2))
        axes.plot([x], [y], "+", color=_MARK, markersize=8)
    if picture.points is not None and len(picture.points):
        y, x = np.asarray(picture.points).T
        axes.plot(x, y, "o", markerfacecolor="none", color=_MARK, markersize=5, markeredgewidth=0.8)
        axes.set_xlim(-0.5, image.shape[1] - 0.5)
        axes.set_ylim(image.shape[0] - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(picture.title, fontsize=8)


def _draw_curve(axes: Any, curve: Curve) -> None:
    style = {"linewidth": 1.2, "marker": "o", "markersize": 3 if len(curve.x) < 60 else 0}
    axes.plot(curve.x, curve.y, color=_FIRST, label=curve.name or None, **style)
    for name, values in curve.others.items():
        axes.plot(curve.x, values, color=_SECOND, label=name, **style)
    if curve.best is not None:
        axes.axvline(curve.best, color=_MARK, linewidth=1, linestyle="--")
    if curve.ticks:
        axes.set_xticks(curve.x, curve.ticks)
    if curve.others:
        axes.legend(fontsize=7, frameon=False)
    axes.set_xlabel(curve.x_label, fontsize=8)
    axes.set_ylabel(curve.y_label, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _wrapped(text: str, width: int = 58) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))
