"""Opening a scan for the widget: patterns, a short description, and what stands in the way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

__all__ = ["OpenedScan", "check_scan", "open_scan", "peek", "summary_lines"]

_DISK_TOLERANCE = 0.15  # a measured disk this far from the calibrated one is worth a question


@dataclass(frozen=True, slots=True)
class OpenedScan:
    """What the widget needs to know about a scan.

    Parameters
    ----------
    dataset : DiffractionDataset or None
        None while the calibration is incomplete or impossible.
    fingerprint : str
        Identifies the data in the provenance of a result.
    summary : tuple of str
        Two or three short lines.
    details : str
        Everything, as the command ``napari-mep info`` prints it.
    problem : str
        Why no reconstruction can start; empty if it can.
    caution : str
        What looks doubtful; empty if nothing does.
    opened : OpenedPatterns or None
        The file, where one only wants to look at it.
    plan : ReconstructionPlan or None
        What the file itself asks for, as the parameters of another program do.
    unsupported : tuple of str
        What it asks for that has no counterpart here, one line each.
    """

    dataset: Any
    fingerprint: str
    summary: tuple[str, ...]
    details: str = ""
    problem: str = ""
    caution: str = ""
    opened: Any = None
    plan: Any = None
    unsupported: tuple[str, ...] = ()


def open_scan(path: str, calibration: str | None = None) -> OpenedScan:
    """Open, check and describe a scan; takes seconds and belongs in a thread.

    Parameters
    ----------
    path : str
        File or Zarr folder, optionally with ``::/path/in/file``.
    calibration : str, optional
        TOML file whose values win over the file's.

    Raises
    ------
    DataError
        The file is missing, broken, of the wrong shape, or holds impossible counts.
    CalibrationError
        The TOML file has an unknown key or an impossible value.
    """
    from napari_mep.data.readers import open_patterns

    return check_scan(open_patterns(path, calibration))


def peek(path: str, calibration: str | None = None) -> OpenedScan:
    """Open a scan to look at it: sizes and memory are told, no pattern is read.

    Raises
    ------
    DataError, CalibrationError
        See `open_scan`.
    """
    import napari_mep.physics.optics  # noqa: F401  (loads torch here, not in the GUI thread)
    from napari_mep.data.readers import open_patterns

    opened = open_patterns(path, calibration)
    rows, columns, ky, kx = (int(n) for n in opened.patterns.shape)
    size = rows * columns * ky * kx * opened.patterns.dtype.itemsize
    return OpenedScan(
        None,
        "",
        (
            opened.format,
            f"{rows} × {columns} patterns of {ky} × {kx} pixels",
            f"{opened.patterns.dtype}, {_bytes(size)}",
        ),
        opened=opened,
        unsupported=_unsupported(opened),
    )


def check_scan(opened: Any) -> OpenedScan:
    """Check and describe patterns that have been opened; takes seconds and belongs in a thread.

    Parameters
    ----------
    opened : OpenedPatterns
        With the calibration that counts.

    Raises
    ------
    DataError, PlanError
        The patterns hold impossible counts, or the preprocessing does not fit them.
    """
    from napari_mep.data.info import describe, format_lines

    plan = _plan(opened)
    if plan is not None and opened.calibration.preprocessing is None:
        # What the plan does to the patterns first may be what makes counts of them.
        known = replace(opened.calibration, preprocessing=plan.preprocessing)
        opened = replace(opened, calibration=known)
    description = describe(opened)
    scan = OpenedScan(
        None,
        "",
        summary_lines(description),
        "\n".join(format_lines(description)),
        plan=plan,
        unsupported=_unsupported(opened),
    )
    if description["problems"]:
        return replace(scan, problem=description["problems"][0])
    dataset = opened.calibrated()
    dataset.validate()
    return replace(
        scan,
        dataset=dataset,
        fingerprint=dataset.fingerprint(),
        caution=_caution(description),
    )


def summary_lines(description: dict[str, Any]) -> tuple[str, ...]:
    """The few numbers by which one recognises a scan.

    Parameters
    ----------
    description : dict
        From `napari_mep.data.info.describe`.
    """
    scan_y, scan_x, ky, kx = description["shape"]
    known = {n: e["value"] for n, e in description["calibration"].items()}
    derived = {n: e["value"] for n, e in description["derived"].items()}
    beam = [
        f"{known[name]:.4g} {unit}"
        for name, unit in (
            ("beam_energy_keV", "keV"),
            ("convergence_semiangle_mrad", "mrad"),
        )
        if name in known
    ]
    if "defocus_A" in known:
        defocus = known["defocus_A"]
        side = "underfocus" if defocus > 0 else "overfocus"
        beam.append(f"{abs(defocus):.4g} Å {side}" if defocus else "in focus")
    scan = [f"step {_lengths(known['scan_step_A'])} Å"] if "scan_step_A" in known else []
    if "pixel_size" in derived:
        scan.append(f"pixel {_lengths(derived['pixel_size'])} Å")
    if "dose" in derived:
        scan.append(f"{derived['dose']:.2g} e/Å²".replace("e+0", "e").replace("e+", "e"))
    size = f"{scan_y} × {scan_x} patterns of {ky} × {kx} pixels"
    return tuple(" · ".join(line) for line in ([size], beam, scan) if line)


def _plan(opened: Any) -> Any:
    """What a file asks for that holds settings beside the scan, None for any other."""
    from napari_mep.reconstruction.ptyrad_plan import is_ptyrad_file, open_plan

    return open_plan(opened.path).plan if opened.path and is_ptyrad_file(opened.path) else None


def _unsupported(opened: Any) -> tuple[str, ...]:
    return tuple(opened.provenance.get("unsupported", ()))


def _caution(description: dict[str, Any]) -> str:
    """A disk in the data that is not where or as large as the calibration says."""
    derived = {n: e["value"] for n, e in description["derived"].items()}
    expected, measured = derived["bright_field_radius"], derived.get("measured_disk_radius")
    if measured is not None and abs(measured / expected - 1) > _DISK_TOLERANCE:
        return (
            f"the bright-field disk is {measured:.3g} pixels wide in radius, the calibration "
            f"expects {expected:.3g}: check semi-angle, detector step and beam energy"
        )
    return ""


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.3g} {unit}"


def _lengths(value: float | list[float]) -> str:
    values = value if isinstance(value, (list, tuple)) else [value]
    distinct = dict.fromkeys(f"{v:.3g}" for v in values)
    return " × ".join(distinct)
