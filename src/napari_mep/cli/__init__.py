"""The command line. Every command ends with 0, or with 2 and one line that says what to mend.

A module for each command: its options, and what it does with the library.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from napari_mep import __version__
from napari_mep.errors import MepError

__all__ = ["main"]

_COMMANDS = (
    "simulate",
    "info",
    "reconstruct",
    "evaluate",
    "benchmark",
    "crystals",
    "solve",
    "train",
    "demo",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; the process's own by default.
    """
    given = sys.argv[1:] if argv is None else list(argv)
    arguments = _parser(given).parse_args(given)
    logging.basicConfig(
        level=logging.INFO if arguments.verbose else logging.ERROR, format="%(message)s"
    )
    try:
        arguments.run(arguments)
        sys.stdout.flush()  # a pipe that nobody reads any more is found out here, not at exit
    except MepError as err:
        return _refuse(str(err))
    except KeyboardInterrupt:
        print("napari-mep: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read has seen enough, as in ``| head``; the rest goes nowhere.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return 141  # what a shell says of a program that SIGPIPE ended
    except OSError as err:
        where = "" if err.filename is None else f"{err.filename}: "
        return _refuse(f"{where}{err.strerror or err}; check the file and its disk")
    except MemoryError as err:
        return _refuse(f"out of memory ({err}); take a part of the scan (scan_rows, scan_columns)")
    return 0


def _refuse(line: str) -> int:
    print(f"napari-mep: {line}", file=sys.stderr)
    return 2


class _OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = _OneLineParser(
        prog="napari-mep",
        description="Multislice electron ptychography with a learned crystal prior.",
    )
    parser.add_argument("--version", action="version", version=f"napari-mep {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="log what is being done")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    # Only the command asked for is loaded: a node that trains has not what the others import.
    asked = next((word for word in given if not word.startswith("-")), None)
    for name in [asked] if asked in _COMMANDS else _COMMANDS:
        import_module(f"napari_mep.cli.{name}").add_command(commands)
    return parser
