"""What several commands share: progress, output, options, argument types."""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_mep.errors import ExportError

if TYPE_CHECKING:
    from napari_mep.data.dataset import DiffractionDataset
    from napari_mep.data.preprocessing import PreprocessingPlan

Commands = Any  # argparse names the type of its subparsers with an underscore


def new_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], None], text: str
) -> argparse.ArgumentParser:
    """Add a command; `run` gets the parsed arguments."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.set_defaults(run=run)
    return command


def open_data(
    a: argparse.Namespace, preprocessing: PreprocessingPlan | None = None
) -> DiffractionDataset:
    """The dataset; its patterns must be sound after the preprocessing that will follow."""
    from napari_mep.data.preprocessing import preprocess
    from napari_mep.data.readers import open_dataset

    dataset = open_dataset(a.data, a.calibration, scan_shape=a.scan_shape)
    (dataset if preprocessing is None else preprocess(dataset, preprocessing)).validate()
    return dataset


def beside(path: Path, suffix: str) -> Path:
    stem, dot, rest = path.name.partition(".")
    return path.with_name(f"{stem}{suffix}{dot}{rest}")


def refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise ExportError(f"output {path}: exists; choose another name or give --overwrite")


@contextmanager
def ctrl_c_sets(stop: threading.Event) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def progress(title: str, unit: str) -> Iterator[Callable[..., None]]:
    """A bar on standard error, advanced by calls (done, total, remark); only on a terminal.

    In a log file it would be noise, and an error would not be the only line there.
    """
    try:
        from tqdm import tqdm
    except ImportError:  # a node that only trains
        yield lambda *_: None
        return
    bar = tqdm(desc=title, unit=f" {unit}", leave=False, file=sys.stderr, disable=None)
    with bar:

        def advance(done: int, total: int, remark: str = "") -> None:
            bar.total = total
            bar.set_postfix_str(remark, refresh=False)
            bar.update(done - bar.n)

        yield advance


def to_json(value: Any) -> str:
    """JSON with null for what is not a finite number."""

    def clean(v: Any) -> Any:
        if isinstance(v, dict):
            return {k: clean(x) for k, x in v.items()}
        if isinstance(v, (list, tuple)):
            return [clean(x) for x in v]
        if isinstance(v, float) and not math.isfinite(v):
            return None
        return v

    return json.dumps(clean(value), indent=2)


def table(rows: list[dict[str, Any]]) -> str:
    def text(value: Any) -> str:
        if value is None:
            return "-"
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    head = list(rows[0])
    cells = [head, *([text(row[k]) for k in head] for row in rows)]
    widths = [max(len(r[i]) for r in cells) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in cells)


def pair(text: str) -> tuple[int, int]:
    try:
        y, x = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected YxX, for instance 26x26") from None
    if min(y, x) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: both numbers must be at least 1")
    return y, x


def positive(text: str) -> int:
    return whole_number(text, 1)


def seed(text: str) -> int:
    return whole_number(text, 0)


def whole_number(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"{text}: must be at least {least}")
    return value


def data_options(command: argparse.ArgumentParser) -> None:
    """Options of every command that opens a scan."""
    command.add_argument("--calibration", type=Path, metavar="CAL.toml", help="calibration file")
    command.add_argument("--scan-shape", type=pair, metavar="YxX", help="for stacks of patterns")


def output_options(command: argparse.ArgumentParser, metavar: str) -> None:
    """Options of every command that writes."""
    command.add_argument("-o", "--output", type=Path, required=True, metavar=metavar)
    command.add_argument("--overwrite", action="store_true", help="replace an existing output")
