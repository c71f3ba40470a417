"""The command ``napari-mep demo``."""

from __future__ import annotations

import argparse
import logging

from napari_mep.cli._shared import Commands, new_command, progress

__all__ = ["add_command"]


def add_command(commands: Commands) -> None:
    """Describe the command and its options."""
    sub = new_command(commands, "demo", _demo, "Simulate, reconstruct and show SrTiO3 in napari.")
    sub.add_argument("-o", "--output", default="demo", metavar="DIR", help="where results go")
    sub.add_argument("--headless", action="store_true", help="close the window when done")


def _demo(a: argparse.Namespace) -> None:
    from napari_mep.widgets import demo

    logging.getLogger(demo.__name__).setLevel(logging.INFO)  # minutes of silence would worry
    print(demo.run_demo(a.output, headless=a.headless, bar=progress))
    if not a.headless:
        import napari

        napari.run()
