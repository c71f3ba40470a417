"""The command ``napari-mep info``."""

from __future__ import annotations

import argparse

from napari_mep.cli._shared import Commands, data_options, new_command, to_json

__all__ = ["add_command"]


def add_command(commands: Commands) -> None:
    """Describe the command and its options."""
    sub = new_command(
        commands, "info", _info, "What a file holds, what is calibrated and what is missing."
    )
    sub.add_argument("data", metavar="DATA")
    data_options(sub)
    sub.add_argument("--json", action="store_true", help="machine-readable")


def _info(a: argparse.Namespace) -> None:
    from napari_mep.data.info import describe, format_lines
    from napari_mep.data.readers import open_patterns

    description = describe(open_patterns(a.data, a.calibration, scan_shape=a.scan_shape))
    print(to_json(description) if a.json else "\n".join(format_lines(description)))
