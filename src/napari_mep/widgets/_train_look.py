"""What a run directory tells about its run. Read in a thread; knows neither Qt nor torch."""

from __future__ import annotations

import json
import os
import shutil
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_mep.errors import MepError
from napari_mep.training.run_directory import (
    CHECKPOINT_NAME,
    METRICS_NAME,
    SETTINGS_NAME,
    TrainingProcess,
    is_running,
    read_metrics,
    read_process,
    sample_files,
)
from napari_mep.training.settings import TrainingSettings
from napari_mep.widgets._train_process import LOGS, ended_without_a_word, log_of, reason_in

__all__ = ["LIBRARY_NAME", "Reached", "RunLook", "look_at"]

LIBRARY_NAME = "library.npz"
"""The crystals that a widget's run trains on: a copy, so that the run can always be resumed."""

_EXPORTED = "prior.json"
_EXPORT_SECONDS = 10.0  # between the last checkpoint of a process and the prior that it exports
_OURS = (SETTINGS_NAME, CHECKPOINT_NAME, METRICS_NAME, "lock", LOGS)


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a checkpoint is.

    Parameters
    ----------
    volumes : int
        Volumes seen.
    seconds : float
        Training time.
    """

    volumes: int
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class RunLook:
    """One look at a run directory.

    Parameters
    ----------
    path : Path
        The directory.
    problem : str
        Why nothing can be trained there, one line; empty if it can.
    exists : bool
        Whether there is a run in it.
    running : bool
        Whether a process trains there right now.
    process : TrainingProcess or None
        The one that does, or did last.
    settings : TrainingSettings or None
        Of the run.
    checkpoint : Reached or None
        How far the checkpoint is; None if there is none.
    library : Path or None
        The run's own crystals.
    records : tuple of dict
        New lines of metrics.jsonl.
    offset : int
        Where the next look goes on in metrics.jsonl.
    samples : tuple of Path
        Files of unconditional samples, the oldest first.
    failure : str
        Why the last process ended early, one line; empty if it did not.
    """

    path: Path
    problem: str = ""
    exists: bool = False
    running: bool = False
    process: TrainingProcess | None = None
    settings: TrainingSettings | None = None
    checkpoint: Reached | None = None
    library: Path | None = None
    records: tuple[dict[str, Any], ...] = ()
    offset: int = 0
    samples: tuple[Path, ...] = ()
    failure: str = ""


def look_at(path: Path, offset: int = 0) -> RunLook:
    """Look at a directory; metrics are read from a byte offset on."""
    try:
        return _look(path, offset)
    except OSError as err:
        return RunLook(path, f"run folder {path}: not readable ({err.strerror or err})")


def _look(path: Path, offset: int) -> RunLook:
    if not path.exists():
        return RunLook(path, _unwritable(path))
    if not path.is_dir():
        return RunLook(path, f"run folder {path}: is a file; choose a folder")
    if not any((path / name).exists() for name in _OURS):
        # Training would strew its files among them.
        other = next(path.iterdir(), None)
        problem = f"run folder {path}: holds other files; choose an empty or a new folder"
        return RunLook(path, problem if other else _unwritable(path))
    running = is_running(path)
    process = read_process(path)
    records, offset = read_metrics(path, offset)
    library = path / LIBRARY_NAME
    problem = "" if running else _unwritable(path)
    settings = checkpoint = None
    try:
        settings = _settings(path)
        checkpoint = _checkpoint(path)
    except (MepError, ValueError, TypeError, KeyError, struct.error) as err:
        problem = f"run folder {path}: {' '.join(str(err).split())}; choose another one"
    return RunLook(
        path,
        problem,
        exists=True,
        running=running,
        process=process,
        settings=settings,
        checkpoint=checkpoint,
        library=library if library.exists() else None,
        records=tuple(records),
        offset=offset,
        samples=tuple(sample_files(path)),
        failure="" if running or process is None else _failure(path, process),
    )


def _unwritable(path: Path) -> str:
    """Why nothing can be written there, or an empty text."""
    there = path
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        return f"run folder {path}: {there} is a file"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"run folder {path}: {there} cannot be written; choose another folder"
    return ""


def _settings(path: Path) -> TrainingSettings | None:
    try:
        text = (path / SETTINGS_NAME).read_text(encoding="utf-8")
    except FileNotFoundError:  # its process is still loading
        return None
    try:
        values = json.loads(text)
    except ValueError:
        raise ValueError(f"{SETTINGS_NAME} is damaged") from None
    return TrainingSettings.from_dict(values)


def _checkpoint(path: Path) -> Reached | None:
    """What the head of the checkpoint says; its tensors are not read."""
    try:
        with (path / CHECKPOINT_NAME).open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > file.seek(0, os.SEEK_END):
                raise ValueError(f"{CHECKPOINT_NAME} is damaged")
            file.seek(8)
            state = json.loads(json.loads(file.read(length))["__metadata__"]["state"])
        return Reached(int(state["volumes"]), float(state.get("seconds", 0.0)))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, struct.error):
        raise ValueError(f"{CHECKPOINT_NAME} is damaged") from None


def _failure(path: Path, process: TrainingProcess) -> str:
    """Why the last process did not come to its end, where it exports the prior."""
    exported = path / _EXPORTED
    if exported.exists() and exported.stat().st_mtime >= process.started:
        return ""
    checkpoint = path / CHECKPOINT_NAME
    if checkpoint.exists() and time.time() - checkpoint.stat().st_mtime < _EXPORT_SECONDS:
        return ""  # perhaps it is exporting just now
    log = log_of(path, process.pid)
    return (reason_in(log) if log else "") or f"{ended_without_a_word()}{_little_room(path)}"


def _little_room(path: Path) -> str:
    """A full disk may swallow the very line that would tell of it."""
    checkpoint = path / CHECKPOINT_NAME
    needed = checkpoint.stat().st_size if checkpoint.exists() else 0
    free = shutil.disk_usage(path).free
    if free > needed + 2**20:
        return ""
    return f"; the disk has {free / 1e6:.0f} MB left, a checkpoint needs {needed / 1e6:.0f} MB"
