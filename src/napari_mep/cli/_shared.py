"""What several commands share: progress, output, options, argument types."""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_mep.errors import ExportError, WeightsError

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
    tell_unsupported(dataset.provenance)
    (dataset if preprocessing is None else preprocess(dataset, preprocessing)).validate()
    return dataset


def tell_unsupported(provenance: Mapping[str, Any]) -> None:
    """What a parameter file of another program asks for and is not done, a line each."""
    for line in provenance.get("unsupported", ()):
        print(line, file=sys.stderr)


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[str | Path | None]) -> None:
    """Refuse an output that is an input, lies in one that is a folder, or holds one.

    What was measured cannot be measured again: not even --overwrite may replace it.

    Raises
    ------
    ExportError
        Names the output and the input.
    """
    sources = [_file(name) for name in inputs if name is not None]
    for output in outputs:
        target = output.expanduser().resolve()
        for source in sources:
            place = source.resolve()
            inside = place.is_dir() and target.is_relative_to(place)
            same = target.exists() and place.exists() and target.samefile(place)
            if inside or same or (target.is_dir() and place.is_relative_to(target)):
                raise ExportError(
                    f"output {output}: would replace or change {source}, which is read; "
                    "choose another name"
                )


def data_files(data: str) -> list[Path]:
    """The files that hold the patterns: a parameter file of PtyRAD names another one."""
    from napari_mep.data.formats.ptyrad import measurement
    from napari_mep.reconstruction.ptyrad_plan import is_ptyrad_file

    path = _file(data)
    return [path, measurement(path)] if is_ptyrad_file(path) and path.is_file() else [path]


def _file(name: str | Path) -> Path:
    """The file of ``scan.h5::/path/in/file``."""
    return Path(str(name).split("::")[0]).expanduser()


def beside(path: Path, suffix: str) -> Path:
    """``out-spread.ome.zarr`` of ``out.ome.zarr``.

    Raises
    ------
    ExportError
        The path is a folder without a name of its own, such as ``.``.
    """
    if not path.name:
        raise ExportError(f"output {path}: no name; give one such as OUT.ome.zarr")
    stem, dot, rest = path.name.partition(".")
    return path.with_name(f"{stem}{suffix}{dot}{rest}")


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Refuse a file that exists or cannot be written, before anything is computed.

    Raises
    ------
    ExportError
        It exists and must stay, is a folder, or its folder is missing.
    """
    if path.is_dir():
        raise ExportError(f"output {path}: is a folder; name a file")
    if path.exists() and not overwrite:
        raise ExportError(f"output {path}: exists; choose another name or give --overwrite")
    if not path.parent.is_dir():
        raise ExportError(f"output {path}: no folder {path.parent}; make it first")


@contextmanager
def ctrl_c_sets(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C sets the flag, and so does SIGTERM, by which schedulers of clusters end a job."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in signals}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


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


def training_settings(path: Path) -> dict[str, Any]:
    """Training settings from a JSON file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise WeightsError(f"settings {path}: not readable ({err})") from None
    if not isinstance(values, dict):
        raise WeightsError(f"settings {path}: holds no table of settings")
    return values


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
