"""The command ``napari-mep evaluate``."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_mep.cli._shared import Commands, data_options, new_command, open_data, table, to_json

__all__ = ["add_command"]


def add_command(commands: Commands) -> None:
    """Describe the command and its options."""
    sub = new_command(commands, "evaluate", _evaluate, "Score reconstructions against a truth.")
    sub.add_argument(
        "reconstruction",
        nargs="+",
        type=Path,
        metavar="RECON",
        help="ours, PtyRAD's, phaser's, ...",
    )
    sub.add_argument("--truth", required=True, metavar="TRUTH", help="volume or simulated data")
    sub.add_argument("--data", metavar="DATA", help="measure the residual against these patterns")
    data_options(sub)
    sub.add_argument("--json", action="store_true", help="machine-readable")


def _evaluate(a: argparse.Namespace) -> None:
    from napari_mep.evaluation import compare_volumes, load_result, load_volume
    from napari_mep.reconstruction.plan import ReconstructionPlan
    from napari_mep.reconstruction.predicted import volume_residual

    truth = load_volume(a.truth)
    dataset = None if a.data is None else open_data(a)
    rows = []
    for path in a.reconstruction:
        volume, record = load_result(path)
        scores = compare_volumes(volume, truth)
        residual = record.get("residual")
        if dataset is not None:  # the same measure for every volume, wherever it comes from
            plan = ReconstructionPlan.parse(record.get("plan", {}), source=f"plan in {path}")
            residual = volume_residual(dataset, plan, volume)
        rows.append(
            {
                "path": str(path),
                "method": record.get("method"),
                "psnr": scores.psnr,
                "ssim": scores.ssim,
                "psnr_sum": scores.psnr_sum,
                "ssim_sum": scores.ssim_sum,
                "residual": residual,
                "seconds": record.get("seconds"),
            }
        )
    print(to_json(rows) if a.json else table(rows))
