"""The command ``napari-mep simulate``."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_mep.cli._experiment import experiment_options, experiment_settings
from napari_mep.cli._shared import (
    Commands,
    new_command,
    output_options,
    progress,
    refuse_inputs,
    seed,
)

__all__ = ["add_command"]


def add_command(commands: Commands) -> None:
    """Describe the command and its options."""
    sub = new_command(
        commands, "simulate", _simulate, "Simulate a 4D-STEM scan of a crystal with abTEM."
    )
    sub.add_argument("source", metavar="CIF|NAME", help="CIF file or built-in sample")
    output_options(sub, "DATA.zarr")
    sub.add_argument("--zone-axis", default="c", metavar="a|b|c|u,v,w", help="beam direction")
    sub.add_argument("--dose", type=float, default=1e5, metavar="e/A^2", help="dose, e/A^2")
    sub.add_argument("--noise-free", action="store_true", help="expected counts instead of counts")
    sub.add_argument("--seed", type=seed, default=0, help="of the counting noise")
    experiment_options(sub)


def _simulate(a: argparse.Namespace) -> None:
    from napari_mep.data.native import write_dataset
    from napari_mep.data.simulate import simulate_dataset
    from napari_mep.export.ome_zarr import check_target

    if Path(a.source).is_file():
        refuse_inputs([a.output], [a.source])
    check_target(a.output, overwrite=a.overwrite)
    with progress("simulating", "patterns") as bar:
        dataset = simulate_dataset(
            a.source,
            dose_e_per_A2=None if a.noise_free else a.dose,
            seed=a.seed,
            progress=bar,
            zone_axis=a.zone_axis,
            **experiment_settings(a),
        )
    write_dataset(a.output, dataset, overwrite=a.overwrite)
    print(f"wrote {a.output}")
