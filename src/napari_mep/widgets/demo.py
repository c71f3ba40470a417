"""The demo: one crystal from its CIF to a streamed reconstruction, through the real widget."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_mep.errors import DeviceError, ExportError
from napari_mep.prior.catalogue import load_card
from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.volume import PhaseVolume

if TYPE_CHECKING:
    from napari_mep.data.dataset import DiffractionDataset
    from napari_mep.evaluation import Scores
    from napari_mep.reconstruction.snapshot import Snapshot

__all__ = ["run_demo"]

log = logging.getLogger(__name__)

Bar = Callable[[str, str], AbstractContextManager[Callable[..., None]]]
"""``bar(title, unit)``: a context whose value is called as (done, total)."""

_CRYSTAL = "srtio3"
_DOSE_E_PER_A2 = 1e5
_SATURATION = 0.5  # of the brightest voxel: few are near it


def run_demo(
    output: str | Path,
    *,
    headless: bool,
    bar: Bar,
    scan_shape: tuple[int, int] = (26, 26),
    plan: ReconstructionPlan | None = None,
) -> str:
    """Simulate SrTiO3, reconstruct it in napari with the widget, export, compare.

    Writes ``srtio3.zarr`` (the scan), ``reconstruction.ome.zarr``, ``screenshot.png`` and
    ``table.md``, replacing those of an earlier demo.

    Parameters
    ----------
    output : str or Path
        Folder of the results, made if need be.
    headless : bool
        Close the window at the end. Otherwise it is there when this returns, for `napari.run`.
    bar : callable
        Shows the progress of the simulation; see `Bar`.
    scan_shape : tuple of 2 ints
        Scan positions (y, x).
    plan : ReconstructionPlan, optional
        How to reconstruct with the prior; the default plan if not given.

    Returns
    -------
    str
        ``mep`` against ``gradient`` on the same data, as a Markdown table.

    Raises
    ------
    MepError
        Some part failed; the message says which and why.
    """
    began = time.monotonic()
    plan = plan or ReconstructionPlan()
    output = Path(output)
    _check_display()
    volumes = load_card(plan.prior).trained_volumes  # missing weights are told before minutes pass
    _make_folder(output)

    scan = output / f"{_CRYSTAL}.zarr"
    dataset = _simulate(scan, scan_shape, bar)
    plain = _reconstruct_plain(dataset, plan.replace(method="gradient"))
    assert dataset.truth is not None
    assert plain.volume is not None

    log.info("reconstructing with the prior through the widget in napari")
    from napari_mep.evaluation import compare_volumes
    from napari_mep.widgets._demo_window import DemoWindow

    truth = dataset.truth
    brightest_rad = _SATURATION * float(truth.data.max())
    window = DemoWindow("napari-mep demo: SrTiO3")
    window.add("simulated truth", truth)
    window.add("gradient (no prior)", plain.volume)
    window.arrange(brightest_rad)
    volume, record = window.reconstruct(scan, plan)
    log.info("exporting through the widget")
    window.export(output / "reconstruction.ome.zarr")
    window.add("|mep − truth|", _difference(volume, truth))
    window.arrange(brightest_rad)
    window.save_picture(output / "screenshot.png")

    size = "×".join(str(n) for n in scan_shape)
    text = _table(
        [
            _Row(
                "mep",
                compare_volumes(volume, truth),
                record["residual"],
                record["residual_floor"],
                record["seconds"],
            ),
            _Row(
                "gradient",
                compare_volumes(plain.volume, truth),
                plain.residual,
                plain.residual_floor,
                plain.seconds,
            ),
        ],
        f"SrTiO3 from its CIF, simulated with abTEM: {size} positions, {_DOSE_E_PER_A2:,.0f} e/Å², "
        f"seed 0. Prior {plan.prior!r} after {volumes} training volumes. "
        f"{time.monotonic() - began:.0f} s in all{_peak_memory()}.",
    )
    (output / "table.md").write_text(text + "\n", encoding="utf-8")
    if headless:
        window.close()
    return text


@dataclass(frozen=True, slots=True)
class _Row:
    method: str
    scores: Scores
    residual: float
    floor: float
    seconds: float


def _check_display() -> None:
    """Without one, Qt would end the process with a message of its own."""
    names = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in names):
        raise DeviceError(
            "display: none found; use 'make demo' or 'xvfb-run -a napari-mep demo --headless'"
        )


def _make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise ExportError(f"output {output}: cannot be written ({err.strerror})") from None


def _simulate(path: Path, scan_shape: tuple[int, int], bar: Bar) -> DiffractionDataset:
    """Simulate the scan and read it back, as a user's own would be."""
    from napari_mep.data.native import write_dataset
    from napari_mep.data.readers import open_dataset
    from napari_mep.data.simulate import simulate_dataset

    log.info("simulating SrTiO3 with abTEM, %d × %d patterns", *scan_shape)
    source = files("napari_mep.crystals").joinpath("structures", f"{_CRYSTAL}.cif")
    with as_file(source) as cif, bar("simulating", "patterns") as advance:
        dataset = simulate_dataset(
            cif,
            scan_shape=scan_shape,
            dose_e_per_A2=_DOSE_E_PER_A2,
            workers=2,
            progress=advance,
        )
    write_dataset(path, dataset, overwrite=True)
    return open_dataset(path)


def _reconstruct_plain(dataset: DiffractionDataset, plan: ReconstructionPlan) -> Snapshot:
    """The last snapshot of a run without a window."""
    from napari_mep.reconstruction import reconstruct

    log.info("reconstructing without a prior, to compare with")
    *_, last = reconstruct(dataset, plan)
    return last


def _difference(volume: PhaseVolume, truth: PhaseVolume) -> PhaseVolume:
    from napari_mep.evaluation.metrics import common_volumes

    ours, theirs = common_volumes(volume, truth)
    return PhaseVolume(np.abs(ours - theirs), truth.voxel_size_A, truth.origin_A)


def _table(rows: Sequence[_Row], footer: str) -> str:
    lines = [
        "| method | PSNR dB | SSIM | PSNR sum dB | SSIM sum | residual (noise floor) | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        s = row.scores
        lines.append(
            f"| {row.method} | {s.psnr:.2f} | {s.ssim:.3f} | {s.psnr_sum:.2f} | {s.ssim_sum:.3f} "
            f"| {row.residual:.4f} ({row.floor:.4f}) | {row.seconds:.0f} |"
        )
    return "\n".join([*lines, "", footer])


def _peak_memory() -> str:
    """How much memory the process has held at most, in words; empty where nobody counts."""
    try:
        import resource
    except ImportError:  # Windows
        return ""
    unit = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, kilobytes elsewhere
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f", {peak / unit:.2f} GiB of memory at most"
