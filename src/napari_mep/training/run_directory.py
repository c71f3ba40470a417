"""What a training run keeps on disk, and how other programs watch it, stop it and find it again.

A run is a directory. ``napari-mep train LIBRARY -o RUN_DIR`` (or ``python -m napari_mep.cli
train``) fills it; whoever wants to follow the run reads it and needs no connection to the process.

``settings.json``
    `TrainingSettings.to_dict()`.
``metrics.jsonl``
    One JSON object a line, appended every few steps. Keys: ``time`` (Unix, seconds), ``step``,
    ``volumes`` (seen so far), ``seconds`` (training time, all pieces of the run together),
    ``progress`` (0 to 1), ``eta_s`` (seconds left), ``volumes_per_second`` (since the previous
    record, but for the drawing of samples), ``loss`` (the weighted objective, mean since the
    previous record), ``band_edges`` (n + 1 values of logSNR) and ``band_loss`` (n running means of
    the unweighted v-loss, null where nothing was seen yet), ``learning_rate``, ``gradient_norm``. A
    resumed run first drops the lines that are newer than its checkpoint.
``tensorboard/``
    The same for TensorBoard, where it is installed: a file of events for each piece of the run.
``checkpoint.safetensors``
    All that resuming needs; replaced as a whole, so it is never half written.
``process.json``
    ``pid``, ``host`` and ``started`` (Unix, seconds) of the process that trains or trained last.
``lock``
    Held by the operating system for the training process as long as it lives, however it ends.
    `is_running` tests it, so a process id that was given to another program fools nobody, and two
    programs cannot train in one directory.
``stop``
    Whoever creates this file asks the run to save a checkpoint and end (SIGTERM and Ctrl-C do the
    same; the file works on every system). The run removes it.
``samples/000012800.npz``
    Unconditional samples of the averaged weights after that many volumes: ``phase_rad``
    (n, z, y, x) float16 and ``voxel_size_A`` (3,). The newest 24 files are kept.
``prior.safetensors``, ``prior.json``
    The exported prior, written when a piece of the run ends.

Nothing here loads torch.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from napari_mep.errors import ExportError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = [
    "CHECKPOINT_NAME",
    "METRICS_NAME",
    "SETTINGS_NAME",
    "TrainingProcess",
    "append_metrics",
    "claim",
    "forget_metrics_after",
    "is_running",
    "read_metrics",
    "read_process",
    "replace_text",
    "replacing",
    "request_stop",
    "sample_files",
    "stop_requested",
    "write_sample",
    "writing",
]

CHECKPOINT_NAME = "checkpoint.safetensors"
METRICS_NAME = "metrics.jsonl"
SETTINGS_NAME = "settings.json"
_SAMPLES_KEPT = 24
_LOCK, _PROCESS, _STOP, _SAMPLES = "lock", "process.json", "stop", "samples"


@dataclass(frozen=True, slots=True)
class TrainingProcess:
    """The process that trains in a run directory, or trained there last.

    Parameters
    ----------
    pid : int
        Its process id.
    host : str
        The machine it runs on.
    started : float
        When, in Unix seconds.
    """

    pid: int
    host: str
    started: float


@contextmanager
def claim(run_dir: Path) -> Iterator[None]:
    """Hold a run directory for this process; on entry an old request to stop is forgotten.

    Raises
    ------
    ExportError
        If another process trains there, or the directory cannot be written.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        lock = (run_dir / _LOCK).open("a+b")
    except OSError as err:
        raise ExportError(f"output {run_dir}: cannot be written ({err.strerror})") from None
    with lock:
        for attempt in range(10):  # a program that only looks holds the lock for an instant
            if _try_lock(lock, exclusive=True):
                break
            time.sleep(0.02 * attempt)
        else:
            other = read_process(run_dir)
            who = "another process" if other is None else f"process {other.pid} on {other.host}"
            raise ExportError(
                f"output {run_dir}: {who} is training there; stop it or choose another directory"
            )
        (run_dir / _STOP).unlink(missing_ok=True)
        about = {"pid": os.getpid(), "host": socket.gethostname(), "started": time.time()}
        with writing(run_dir):
            replace_text(run_dir / _PROCESS, json.dumps(about))
        try:
            yield
        finally:
            (run_dir / _STOP).unlink(missing_ok=True)


@contextmanager
def writing(run_dir: Path) -> Iterator[None]:
    """Tell in one line why the run directory cannot be written.

    Raises
    ------
    ExportError
        In place of the system's error.
    """
    try:
        yield
    except OSError as err:
        kept = (run_dir / CHECKPOINT_NAME).exists()
        remedy = (
            "the last checkpoint is intact, make room and give --resume" if kept else "make room"
        )
        raise ExportError(
            f"output {run_dir}: cannot be written ({err.strerror or err}); {remedy}"
        ) from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write a file that appears as a whole or, on a full disk, leaves the one there."""
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write a text file as a whole."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def append_metrics(run_dir: Path, record: dict[str, Any]) -> None:
    """Add a line to metrics.jsonl."""
    with writing(run_dir), (run_dir / METRICS_NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def forget_metrics_after(run_dir: Path, volumes: int) -> None:
    """Drop the lines of metrics.jsonl that are newer than the checkpoint after `volumes`."""
    records, _ = read_metrics(run_dir)
    lines = [json.dumps(r) + "\n" for r in records if r["volumes"] <= volumes]
    with writing(run_dir):
        replace_text(run_dir / METRICS_NAME, "".join(lines))


def write_sample(
    run_dir: Path, volumes: int, phase_rad: np.ndarray, voxel_size_A: tuple[float, float, float]
) -> None:
    """Keep samples (n, z, y, x) drawn after so many volumes; only the newest files stay."""
    folder = run_dir / _SAMPLES
    with writing(run_dir):
        folder.mkdir(exist_ok=True)
        with replacing(folder / f"{volumes:09d}.npz") as partial, partial.open("wb") as file:
            np.savez(
                file,
                phase_rad=phase_rad.astype(np.float16),
                voxel_size_A=np.array(voxel_size_A, np.float64),
            )
        for old in sample_files(run_dir)[:-_SAMPLES_KEPT]:
            old.unlink()


def is_running(run_dir: str | Path) -> bool:
    """Whether a process trains in this directory right now."""
    path = Path(run_dir) / _LOCK
    if not path.exists():
        return False
    with path.open("r+b") as lock:
        return not _try_lock(lock, exclusive=False)


def read_process(run_dir: str | Path) -> TrainingProcess | None:
    """Who trains or trained last in this directory; None if that is not known."""
    try:
        about = json.loads((Path(run_dir) / _PROCESS).read_text(encoding="utf-8"))
        return TrainingProcess(int(about["pid"]), str(about["host"]), float(about["started"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def request_stop(run_dir: str | Path) -> None:
    """Ask the run to save a checkpoint and end after its current step."""
    (Path(run_dir) / _STOP).touch()


def stop_requested(run_dir: str | Path) -> bool:
    """Whether somebody asked the run to end."""
    return (Path(run_dir) / _STOP).exists()


def read_metrics(run_dir: str | Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Records of metrics.jsonl from a byte offset on, and the offset to go on from.

    An unfinished last line is left for the next call. If the file is shorter than `offset` (the
    run was resumed from an earlier checkpoint), it is read from its beginning.
    """
    try:
        with (Path(run_dir) / METRICS_NAME).open("rb") as file:
            if file.seek(0, os.SEEK_END) < offset:
                offset = 0
            file.seek(offset)
            text = file.read()
    except FileNotFoundError:
        return [], 0
    whole = text[: text.rfind(b"\n") + 1]
    records = []
    for line in whole.splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:  # a line that a full disk or a kill left unfinished
            continue
    return records, offset + len(whole)


def sample_files(run_dir: str | Path) -> list[Path]:
    """Files of unconditional samples, the oldest first."""
    return sorted((Path(run_dir) / _SAMPLES).glob("*.npz"))


def _try_lock(file: IO[bytes], *, exclusive: bool) -> bool:
    """Lock an open file without waiting; the lock ends when the file is closed."""
    try:
        if sys.platform == "win32":
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
            fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
