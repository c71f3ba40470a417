"""The metrics of a run for TensorBoard, where it is installed (the extra ``train``)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from napari_mep.training.run_directory import writing

__all__ = ["BOARD_NAME", "open_board"]

BOARD_NAME = "tensorboard"
_SCALARS = ("loss", "learning_rate", "gradient_norm", "volumes_per_second")


@contextmanager
def open_board(run_dir: Path, volumes: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Somewhere to put records of ``metrics.jsonl``; nowhere without TensorBoard.

    Parameters
    ----------
    run_dir : Path
        Gets a file of events in the folder ``tensorboard``, one for each piece of the run.
    volumes : int
        Seen so far. TensorBoard hides what earlier pieces wrote after it, as a resumed run drops
        such lines from ``metrics.jsonl``.

    Yields
    ------
    callable
        Takes a record; each is on the disk when it returns. Steps are volumes.

    Raises
    ------
    ExportError
        The run directory cannot be written.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError:
        yield lambda record: None
        return
    # Not torch's SummaryWriter: it writes in a thread, which tells of a full disk in a traceback.
    name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
    with writing(run_dir):
        folder = run_dir / BOARD_NAME
        folder.mkdir(exist_ok=True)
        file = (folder / name).open("wb", buffering=0)
    events = RecordWriter(file)

    def put(event: Any) -> None:
        with writing(run_dir):
            events.write(event.SerializeToString())

    def put_record(record: dict[str, Any]) -> None:
        bands = zip(pairwise(record["band_edges"]), record["band_loss"], strict=True)
        values = {name: record[name] for name in _SCALARS} | {
            f"v-loss/logSNR {low:g} to {high:g}": loss for (low, high), loss in bands
        }
        summary = Summary(
            value=[
                Summary.Value(tag=tag, simple_value=value)
                for tag, value in values.items()
                if value is not None  # a band where nothing was seen yet
            ]
        )
        put(Event(wall_time=record["time"], step=record["volumes"], summary=summary))

    with file:
        put(Event(wall_time=time.time(), file_version="brain.Event:2"))
        began = SessionLog(status=SessionLog.START)
        put(Event(wall_time=time.time(), step=volumes + 1, session_log=began))
        yield put_record
