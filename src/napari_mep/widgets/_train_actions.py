"""What the buttons of the training widget do. Each runs in a thread; none knows Qt."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from napari_mep.errors import ExportError
from napari_mep.training.run_directory import TrainingProcess, request_stop
from napari_mep.widgets._train_look import LIBRARY_NAME
from napari_mep.widgets._train_process import PROGRAM, Started, start
from napari_mep.widgets._train_request import TrainRequest

__all__ = ["ask_to_stop", "check_device", "export", "launch"]


def check_device(name: str) -> None:
    """See whether a device is there.

    Raises
    ------
    DeviceError
        If it is not.
    """
    if name not in ("auto", "cpu"):  # which are, and need not load torch
        from napari_mep.prior.device import resolve_device

        resolve_device(name)


def launch(
    request: TrainRequest,
    library: Path,
    run_dir: Path,
    *,
    resume: bool,
    program: Sequence[str] = PROGRAM,
) -> Started:
    """Copy the library into the run directory, and start training there.

    Raises
    ------
    ExportError
        If the directory cannot be written, or the process not be started.
    """
    own = run_dir / LIBRARY_NAME
    partial = run_dir / f"{LIBRARY_NAME}.partial"
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        if not (own.exists() and own.samefile(library)):
            shutil.copyfile(library, partial)
            partial.replace(own)
    except OSError as err:
        partial.unlink(missing_ok=True)
        raise ExportError(
            f"run folder {run_dir}: the crystals cannot be copied there ({err.strerror or err}); "
            "make room or choose another folder"
        ) from None
    return start(request.arguments(own, run_dir, resume=resume), run_dir, program)


def ask_to_stop(run_dir: Path, process: TrainingProcess | None) -> None:
    """Ask the process that trains in a directory to save a checkpoint and end.

    By a file there, which works on every system and cannot hit another process; by SIGTERM where
    none can be written, be it that the disk is full or the directory gone.

    Raises
    ------
    ExportError
        If there is no way to reach it.
    """
    try:
        request_stop(run_dir)
    except OSError as err:
        if process is None or process.host != socket.gethostname():
            raise ExportError(
                f"run folder {run_dir}: cannot be written ({err.strerror}), so the process that "
                "trains there cannot be asked to end"
            ) from None
        try:
            os.kill(process.pid, signal.SIGTERM)
        except OSError as gone:
            raise ExportError(
                f"process {process.pid} cannot be asked to end ({gone.strerror})"
            ) from None


def export(run_dir: Path, target: Path, *, overwrite: bool = False) -> Path:
    """Write the averaged weights of the last checkpoint and their card; both or none.

    Parameters
    ----------
    run_dir : Path
        The run.
    target : Path
        The .safetensors file; the card gets the same name and .json.
    overwrite : bool
        Whether they may replace files that are there.

    Raises
    ------
    ExportError
        If they may not, or cannot be written.
    WeightsError
        If the run has no readable checkpoint.
    """
    from napari_mep.training.export import export_prior

    card = target.with_suffix(".json")
    there = [path.name for path in (target, card) if path.exists()]
    if there and not overwrite:
        raise ExportError(f"output {target}: {' and '.join(there)} exist; choose another name")
    export_prior(run_dir, target)
    return target
