"""The command ``napari-mep evaluate``."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_mep.cli._shared import Commands, data_options, new_command, open_data, table, to_json

__all__ = ["add_command"]


def add_command(commands: Commands) -> None:
    """Describe the command and its options."""
    sub = new_command(commands, "evaluate", _evaluate, "Score reconstructions against a truth.")
    sub.add_argument("reconstruction", nargs="+", type=Path, metavar="RECON")
    sub.add_argument("--truth", required=True, metavar="TRUTH", help="volume or simulated data")
    sub.add_argument("--data", metavar="DATA", help="data that the residual must belong to")
    data_options(sub)
    sub.add_argument("--json", action="store_true", help="machine-readable")


def _evaluate(a: argparse.Namespace) -> None:
    from napari_mep.evaluation import compare_volumes, load_volume
    from napari_mep.export.ome_zarr import read_reconstruction

    truth = load_volume(a.truth)
    fingerprint = None
    if a.data is not None:
        fingerprint = open_data(a).fingerprint()
    rows = []
    for path in a.reconstruction:
        volume, record = read_reconstruction(path)
        scores = compare_volumes(volume, truth)
        # The residual of a run belongs to the data it was made from.
        own_data = fingerprint in (None, record.get("data", {}).get("fingerprint"))
        rows.append(
            {
                "path": str(path),
                "method": record.get("method"),
                "psnr": scores.psnr,
                "ssim": scores.ssim,
                "psnr_sum": scores.psnr_sum,
                "ssim_sum": scores.ssim_sum,
                "residual": record.get("residual") if own_data else None,
                "seconds": record.get("seconds"),
            }
        )
    print(to_json(rows) if a.json else table(rows))
