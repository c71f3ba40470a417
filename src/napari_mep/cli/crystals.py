"""The command ``napari-mep crystals``."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from pathlib import Path

from napari_mep.cli._shared import (
    Commands,
    new_command,
    output_options,
    positive,
    progress,
    refuse_existing,
    refuse_inputs,
    seed,
    table,
    to_json,
    whole_number,
)

__all__ = ["add_command"]


def add_command(commands: Commands) -> None:
    """Describe the command and its options."""
    sub = new_command(
        commands, "crystals", _crystals_build, "Build a library of crystals to train on."
    )
    sub.add_argument("action", choices=("build",))
    sub.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="folder, CIF file, CSV table with a column 'cif', .zip or .tar of these (all also "
        "with .gz), another library, or 'builtin'; one named several times counts several times",
    )
    output_options(sub, "LIBRARY.npz")
    sub.add_argument(
        "--part",
        choices=("all", "train", "validation", "test"),
        default="all",
        help="structure families to keep, so that no prior is tested on what it was trained on",
    )
    sub.add_argument(
        "--longest-edge", type=float, default=20.0, metavar="A", help="of a cell, A; 20 by default"
    )
    sub.add_argument(
        "--family-limit",
        type=positive,
        metavar="N",
        help="crystals of one structure family that a source may give",
    )
    sub.add_argument(
        "--tilted",
        action="store_true",
        help="add a relative with tilted octahedra of every cubic perovskite",
    )
    sub.add_argument(
        "--decorations",
        type=_count,
        default=45,
        metavar="N",
        help="builtin: compositions of every AFLOW prototype; 45 by default",
    )
    sub.add_argument(
        "--random",
        type=_count,
        default=7500,
        metavar="N",
        help="builtin: symmetric random crystals; 7500 by default",
    )
    sub.add_argument("--seed", type=seed, default=0, help="of everything drawn")
    sub.add_argument("--json", action="store_true", help="machine-readable summary")


def _count(text: str) -> int:
    return whole_number(text, 0)


def _crystals_build(a: argparse.Namespace) -> None:
    from napari_mep.crystals.build import BuildOptions, build_library

    # A folder of CIF files may hold the library beside them.
    refuse_inputs([a.output], [source for source in a.sources if Path(source).is_file()])
    refuse_existing(a.output, a.overwrite)
    # spglib writes to standard error where it finds no symmetry, which is an answer, too.
    os.environ.setdefault("SPGLIB_WARNING", "OFF")
    options = BuildOptions(
        part=None if a.part == "all" else a.part,
        longest_edge_A=a.longest_edge,
        family_limit=a.family_limit,
        tilted=a.tilted,
        decorations=a.decorations,
        random=a.random,
        seed=a.seed,
    )
    with progress("reading", "files") as tell:
        library, report = build_library(a.sources, options, tell)
    library.save(a.output)
    if a.json:
        print(
            to_json(
                {
                    "read": sum(count.read for count in report.counts),
                    "kept": sum(count.kept for count in report.counts),
                    "refused": [asdict(refusal) for refusal in report.refused],
                    "sources": [asdict(count) for count in report.counts],
                    "crystals": len(library),
                    "atoms": len(library.numbers),
                    "families": len(set(library.families)),
                    "path": str(a.output),
                }
            )
        )
        return
    for refusal in report.refused:
        print(f"refused {refusal.file}: {refusal.reason}")
    print(table([asdict(count) for count in report.counts]))
    print(
        f"wrote {a.output}: {len(library)} crystals of {len(set(library.families))} structure "
        f"families, {len(library.numbers)} atoms, {a.output.stat().st_size / 1e6:.2f} MB"
    )
