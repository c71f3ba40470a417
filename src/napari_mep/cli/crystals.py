"""The command ``napari-mep crystals``."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_mep.cli._shared import (
    Commands,
    new_command,
    output_options,
    refuse_existing,
    seed,
    to_json,
)

__all__ = ["add_command"]


def add_command(commands: Commands) -> None:
    """Describe the command and its options."""
    sub = new_command(
        commands, "crystals", _crystals_build, "Build a library of crystals to train on."
    )
    sub.add_argument("action", choices=("build",))
    sub.add_argument("tables", nargs="+", type=Path, metavar="TABLE.csv", help="column 'cif'")
    output_options(sub, "LIBRARY.npz")
    sub.add_argument("--seed", type=seed, default=0, help="of the distorted relatives")
    sub.add_argument("--json", action="store_true", help="machine-readable summary")


def _crystals_build(a: argparse.Namespace) -> None:
    from napari_mep.crystals.perovskites import perovskite_library

    refuse_existing(a.output, a.overwrite)
    library = perovskite_library(a.tables, seed=a.seed)
    library.save(a.output)
    summary = {"crystals": len(library), "atoms": len(library.numbers), "path": str(a.output)}
    print(to_json(summary) if a.json else f"wrote {a.output}: {len(library)} crystals")
