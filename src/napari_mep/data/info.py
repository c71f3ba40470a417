"""What a 4D-STEM file is, what is calibrated and from where, and what is missing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from napari_mep.data._quantities import FLAGS, QUANTITIES
from napari_mep.data._store import to_json
from napari_mep.data.calibration import PartialCalibration
from napari_mep.data.dataset import DiffractionDataset
from napari_mep.data.opened import OpenedPatterns
from napari_mep.data.preprocessing import PreprocessingPlan, preprocess
from napari_mep.errors import MepError

__all__ = ["describe", "format_lines"]

_SAMPLE = 64  # patterns read for the measured values: a second even on a slow disk
_CHECK_BYTES = 1 << 26  # patterns looked at for values that no detector delivers: also a second


def describe(
    data: DiffractionDataset | OpenedPatterns, preprocessing: PreprocessingPlan | None = None
) -> dict[str, Any]:
    """Everything worth knowing about a dataset, calibrated or not, in types that JSON knows.

    Parameters
    ----------
    data : DiffractionDataset or OpenedPatterns
        Every pattern of a scan below 64 MB (as float32) is read, an even sample of that size of
        a larger one, at least 64 patterns.
    preprocessing : PreprocessingPlan, optional
        What a reconstruction plan will do to the patterns, after what the calibration asks for.

    Returns
    -------
    dict
        ``name, path, format, shape, dtype, gigabytes, has_truth, has_probe``;
        ``patterns_checked``: for how many patterns it is known whether their values are possible;
        ``calibration``: name -> {value, unit, source};
        ``derived``: name -> {value, unit}, as far as the calibration allows;
        ``missing``: names of required values that nobody gave;
        ``preprocessing``: what is to be done to the patterns, lines;
        ``problems``: sentences, empty when a reconstruction can start.

    Raises
    ------
    DataError
        The patterns cannot be read.
    """
    dataset, checked, problem = _complete(data, preprocessing)
    partial = (
        data.calibration
        if isinstance(data, OpenedPatterns)
        else PartialCalibration.from_calibration(data.calibration)
    )
    shape = [int(n) for n in data.patterns.shape]
    dtype = np.dtype(data.patterns.dtype)
    return to_json(
        {
            "name": data.name,
            "path": data.path,
            "format": data.format if isinstance(data, OpenedPatterns) else "4D-STEM data",
            "shape": shape,
            "dtype": str(dtype),
            "gigabytes": math.prod(shape) * dtype.itemsize / 1e9,
            "patterns_checked": checked,
            "has_truth": data.truth is not None,
            "has_probe": data.probe is not None,
            "calibration": _calibration(partial, dataset),
            "derived": {} if dataset is None else _derived(dataset),
            "missing": partial.missing(),
            "preprocessing": [
                line
                for plan in (partial.preprocessing, preprocessing)
                if plan is not None
                for line in plan.summary()
            ],
            "problems": [problem] if problem else [],
        }
    )


def format_lines(description: dict[str, Any]) -> list[str]:
    """The result of `describe` as lines of text for a terminal."""
    scan_y, scan_x, ky, kx = description["shape"]
    lines = [
        f"{description['name']}  ({description['format']})",
        f"  {scan_y} x {scan_x} scan positions, {ky} x {kx} detector pixels",
        f"  {description['dtype']}, {description['gigabytes']:.3g} GB",
    ]
    extras = [name for name in ("truth", "probe") if description[f"has_{name}"]]
    if extras:
        lines.append(f"  holds {' and '.join(extras)}")
    lines.append("calibration")
    for name, entry in description["calibration"].items():
        lines.append(f"  {name:<28}{_shown(entry['value'], entry['unit'])}  ({entry['source']})")
    lines += [
        f"  {name:<28}missing: required, in {QUANTITIES[name].unit}"
        for name in description["missing"]
    ]
    if description["derived"]:
        lines.append("derived")
    for name, entry in description["derived"].items():
        lines.append(f"  {name.replace('_', ' '):<28}{_shown(entry['value'], entry['unit'])}")
    if description["patterns_checked"]:
        n, scan = description["patterns_checked"], description["derived"]["positions_used"]["value"]
        lines.append(f"  {'patterns checked':<28}{n} of {math.prod(scan)}: no impossible values")
    if description["preprocessing"]:
        lines.append("preprocessing")
    lines += [f"  {line}" for line in description["preprocessing"]]
    lines += [f"problem: {sentence}" for sentence in description["problems"]]
    return lines


def _complete(
    data: DiffractionDataset | OpenedPatterns, preprocessing: PreprocessingPlan | None
) -> tuple[DiffractionDataset | None, int, str]:
    """The dataset if its calibration is complete, how many of its patterns are possible ones.

    And why nothing can be computed from it yet.
    """
    dataset = None
    try:
        dataset = data if isinstance(data, DiffractionDataset) else data.calibrated()
        if preprocessing is not None:
            dataset = preprocess(dataset, preprocessing)
        ky, kx = dataset.detector_shape
        checked = dataset.validate(max(_SAMPLE, _CHECK_BYTES // (4 * ky * kx)))
    except MepError as err:
        return dataset, 0, str(err)
    return dataset, checked, ""


def _calibration(
    partial: PartialCalibration, dataset: DiffractionDataset | None
) -> dict[str, dict[str, Any]]:
    values, sources = dict(partial.values), dict(partial.sources)
    if dataset is not None:
        calibration = dataset.calibration
        # A default may stand for "unknown" (thickness): nothing to show then.
        values = {k: v for k, v in calibration.model_dump().items() if v is not None}
        sources = {name: calibration.sources.get(name, "user") for name in values}
    order = [*QUANTITIES, *FLAGS]
    return {
        name: {
            "value": values[name],
            "unit": QUANTITIES[name].unit if name in QUANTITIES else "",
            "source": sources[name],
        }
        for name in sorted(values, key=order.index)
    }


def _derived(dataset: DiffractionDataset) -> dict[str, dict[str, Any]]:
    calibration = dataset.calibration
    step_y, step_x = calibration.scan_step_yx_A
    mean = dataset.mean_pattern(_SAMPLE)
    electrons = float(mean.sum(dtype=np.float64))
    radius = calibration.convergence_semiangle_mrad / calibration.detector_step_mrad
    rows, columns = dataset.detector_shape
    entries: dict[str, tuple[Any, str]] = {
        "positions_used": (dataset.scan_shape, "scan positions"),
        "detector_used": ((rows, columns), "pixels"),
    }
    if dataset.mask is not None:
        lacking = rows * columns - int(dataset.mask.sum())
        entries["not_measured"] = (lacking, f"of {rows * columns} detector pixels")
    entries |= {
        "wavelength": (calibration.wavelength_A, "A"),
        "pixel_size": (dataset.pixel_size_A, "A"),
        "scan_extent": (dataset.scan_extent_A, "A"),
        "bright_field_radius": (radius, "detector pixels"),
        "max_angle": (calibration.detector_reach_mrad(dataset.detector_shape), "mrad"),
    }
    if math.isfinite(electrons):
        entries["electrons_per_pattern"] = (electrons, "e")
        entries["dose"] = (electrons / (step_y * step_x), "e/A2")
    if math.isfinite(electrons) and electrons > 0:
        offset, measured = _disk(mean)
        entries["pattern_centre_offset"] = (offset, "detector pixels")
        entries["measured_disk_radius"] = (measured, "detector pixels")
    return {name: {"value": value, "unit": unit} for name, (value, unit) in entries.items()}


def _disk(mean: np.ndarray) -> tuple[tuple[float, float], float]:
    """Offset (y, x) of the bright-field disk from the zero frequency and its radius, in pixels.

    The disk is what exceeds half of its own median brightness in the mean pattern. Measured, not
    calibrated: a disagreement with the calibrated radius is a wrong angle or detector step.
    """
    ky, kx = mean.shape
    bright = mean > mean.max() / 2
    bright = mean > np.median(mean[bright]) / 2
    y, x = np.nonzero(bright)
    offset = (float(y.mean() - ky // 2), float(x.mean() - kx // 2))
    return offset, math.sqrt(bright.sum() / math.pi)


def _shown(value: Any, unit: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " x ".join(f"{v:.5g}" for v in value) + f" {unit}"
    return f"{value:.6g} {unit}".rstrip()
