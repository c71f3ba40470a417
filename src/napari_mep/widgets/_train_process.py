"""Starts ``napari-mep train`` as a process of its own, and keeps what it says last.

The process belongs to no window: it goes on when napari is closed. What it prints goes to a file in
the run directory, whose first line names the process and its command, so that whoever looks later
finds out why it ended.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari_mep.errors import ExportError

__all__ = ["LOGS", "PROGRAM", "Started", "as_shell", "log_of", "reason_in", "start"]

PROGRAM = (sys.executable, "-m", "napari_mep.cli", "train")
LOGS = "logs"
_HEAD = "# process {pid}: "
_NICENESS = 10  # the window, and whatever else the user does, comes first
_RAISED = re.compile(r"[\w.]*(Error|Exception|Interrupt)\b.*")


class Started:
    """A training process that this program started.

    Parameters
    ----------
    process : subprocess.Popen
        The process.
    log : Path
        What it prints.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.log = log
        self.pid = process.pid
        self._process = process
        # Whoever starts a process has to wait for it, or it stays in the system's table.
        threading.Thread(target=process.wait, name="napari-mep train", daemon=True).start()

    @property
    def exit_code(self) -> int | None:
        """None while it lives; negative if a signal ended it."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask it to end: with a checkpoint once it trains, at once while it is still loading."""
        self._process.terminate()

    def reason(self) -> str:
        """Why it ended early, one line; empty if it did not."""
        code = self.exit_code
        if not code:
            return ""
        return reason_in(self.log) or ended_without_a_word(code)


def start(arguments: Sequence[str], run_dir: Path, program: Sequence[str] = PROGRAM) -> Started:
    """Start a process that fills a run directory, and outlives this one.

    Raises
    ------
    ExportError
        If the directory cannot be written or the program not be started.
    """
    command = [*program, *arguments]
    # Its own session: Ctrl-C in the terminal that runs napari is not meant for it.
    detached: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        detached = {"creationflags": flags}
    try:
        folder = run_dir / LOGS
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        with log.open("ab") as file:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, **detached
            )
            started = Started(process, log)
            file.write((_HEAD.format(pid=process.pid) + as_shell(arguments) + "\n").encode())
    except OSError as err:
        raise ExportError(f"run folder {run_dir}: cannot start there ({err.strerror})") from None
    if hasattr(os, "setpriority"):
        with suppress(OSError):  # it may have ended already
            os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
    return started


def as_shell(arguments: Sequence[str]) -> str:
    """The command as one would type it."""
    return shlex.join(["napari-mep", "train", *arguments])


def log_of(run_dir: Path, pid: int) -> Path | None:
    """What a process printed, if it was started from a widget."""
    head = _HEAD.format(pid=pid)
    for log in sorted((run_dir / LOGS).glob("*.log"), reverse=True):
        if any(line.startswith(head) for line in _lines(log)):
            return log
    return None


def reason_in(log: Path) -> str:
    """The line that says why a process ended early; empty if there is none."""
    for line in reversed(_lines(log)):
        if line.startswith("napari-mep: "):
            return line.removeprefix("napari-mep: ")
        if _RAISED.fullmatch(line):  # the end of a traceback
            return f"{line}; the full traceback is in {log}"
    return ""


def ended_without_a_word(code: int | None = None) -> str:
    """What can be said of a process that was killed."""
    how = "killed, or out of memory"
    if code is not None and code < 0:
        with suppress(ValueError):
            how = f"killed by {signal.Signals(-code).name}"
    elif code is not None:
        how = f"exit code {code}"
    return f"the training process ended without a word ({how})"


def _lines(log: Path) -> list[str]:
    try:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
