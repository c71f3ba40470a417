"""A baseline in a process of its own, seen from the parent: start it, listen, end it."""

from __future__ import annotations

import logging
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from napari_mep.errors import SolverError
from napari_mep.reconstruction.baselines.job import Frame, Job, read_frame

__all__ = ["run_job"]

_log = logging.getLogger(__name__)

_LISTEN_S = 0.1  # between two looks at the stop flag
_LAST_LINES = 3
_SIGKILL = 9  # what Linux sends when memory runs out; Windows has no name for it
_LAST_BYTES = 16_384


def run_job(
    job: Job, module: str, title: str, check_stop: Callable[[], None] = lambda: None
) -> Iterator[Frame]:
    """Run a job in a child process.

    The child never outlives the generator: it is killed when the generator is closed, when
    `check_stop` raises and when anything fails; and it ends by itself when this process does.
    A caller that takes its time holds the child after a few iterations.

    Parameters
    ----------
    job : Job
        What to do.
    module : str
        Module that the child runs, with a folder as its argument.
    title : str
        Of the solver, for messages.
    check_stop : callable
        Called ten times a second; what it raises reaches the caller.

    Yields
    ------
    Frame
        One for each of the job's iterations.

    Raises
    ------
    SolverError
        The child ended early; with the last lines that it wrote.
    """
    with tempfile.TemporaryDirectory(prefix="napari-mep-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        job.save(folder)
        errors = folder / "stderr.txt"
        with errors.open("wb") as sink:
            child = _start(module, folder, job.threads, sink)
        frames: queue.Queue[Frame | None] = queue.Queue(maxsize=2)
        assert child.stdout is not None
        reader = threading.Thread(target=_read, args=(child.stdout, frames), daemon=True)
        reader.start()
        done = 0
        try:
            while done < job.iterations:
                check_stop()
                try:
                    frame = frames.get(timeout=_LISTEN_S)
                except queue.Empty:
                    continue
                if frame is None:
                    check_stop()
                    raise SolverError(_failure(title, done, job.iterations, child, errors))
                done = frame.iteration
                yield frame
        finally:
            _end(child, reader, frames)


def _start(module: str, folder: Path, threads: int, sink: IO[bytes]) -> subprocess.Popen[bytes]:
    # Torch takes its number of threads from OpenMP, which reads this when it is loaded.
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONIOENCODING": "utf-8"}
    return subprocess.Popen(
        [sys.executable, "-m", module, str(folder)],
        stdin=subprocess.PIPE,  # never written to: its end tells the child that we are gone
        stdout=subprocess.PIPE,
        stderr=sink,
        cwd=folder,  # what packages write beside them goes when the folder goes
        env=environment,
        start_new_session=True,  # Ctrl-C in the terminal is for us: we stop and keep the result
    )


def _read(stream: IO[bytes], frames: queue.Queue[Frame | None]) -> None:
    """Body of the reader's thread: frames, then None."""
    try:
        while (frame := read_frame(stream)) is not None:
            frames.put(frame)
    except (OSError, ValueError):
        _log.debug("the stream of a baseline broke off", exc_info=True)
    frames.put(None)


def _end(
    child: subprocess.Popen[bytes],
    reader: threading.Thread,
    frames: queue.Queue[Frame | None],
) -> None:
    child.kill()  # harmless where it has ended; there is nothing in it that is worth waiting for
    child.wait()
    while reader.is_alive():
        try:
            frames.get(timeout=_LISTEN_S)
        except queue.Empty:
            continue
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()


def _failure(
    title: str, done: int, total: int, child: subprocess.Popen[bytes], errors: Path
) -> str:
    code = child.wait()
    text = errors.read_bytes()[-_LAST_BYTES:].decode("utf-8", errors="replace")
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    _log.warning("%s ended with exit code %d:\n%s", title, code, "\n".join(lines))
    said = " | ".join(lines[-_LAST_LINES:]) or "it wrote nothing"
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    if code == -_SIGKILL:
        how += " (out of memory? then lower baseline.batch)"
    return f"{title} {how} after {done} of {total} iterations; its last lines: {said}"
