# What both children do: keep standard output for frames, die with the parent, mend imports, report.
# Only ever imported in a child, so global state of torch and of the interpreter may be changed.

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

import numpy as np

from napari_mep.reconstruction.baselines.job import Frame, Job, write_frame

if TYPE_CHECKING:
    from torch import Tensor


class Report(Protocol):
    """Called after each iteration with its number, the residual and the whole object's phase."""

    def __call__(self, iteration: int, residual: float, phase: np.ndarray) -> None: ...


def main(adapter: Callable[[Job, Report], None]) -> None:
    """Run an adapter on the job in the folder that the command line names."""
    frames = _private_stdout()
    _die_with_the_parent()
    # Neither a display nor a writable home is needed for figures that nobody sees.
    os.environ["MPLBACKEND"] = "Agg"
    job = Job.load(Path(sys.argv[1]))

    def report(iteration: int, residual: float, phase: np.ndarray) -> None:
        write_frame(frames, Frame(iteration, residual, job.crop(phase)))

    adapter(job, report)


class Residual:
    """Relative amplitude residual ||sqrt(I) - sqrt(y)|| / ||sqrt(y)|| of one iteration.

    A package may compute a mini-batch more than once, in a line search for instance: the first
    time counts, which is before the step that the mini-batch leads to.

    Parameters
    ----------
    mask : (K, K) bool tensor
        True where the detector measured, in the order of the patterns that are added.
    """

    def __init__(self, mask: Tensor) -> None:
        self._mask = mask
        self._seen: set[int] = set()
        self._misfit = self._signal = 0.0

    def add(self, batch: int, model: Tensor, measured: Tensor) -> None:
        """Count the patterns (n, K, K) of a mini-batch, known by any number of its own."""
        if batch in self._seen:
            return
        self._seen.add(batch)
        mask = self._mask
        data = measured.detach() * mask
        difference = (model.detach() * mask).sqrt() - data.sqrt()
        self._misfit += float(difference.square().sum())
        self._signal += float(data.sum())

    def take(self) -> float:
        """The residual; starts the next iteration."""
        value = (self._misfit / self._signal) ** 0.5 if self._signal > 0 else float("nan")
        self._seen.clear()
        self._misfit = self._signal = 0.0
        return value


def mend_torchvision() -> None:
    """Make ``import torchvision`` work beside a torch without CUDA.

    PyPI's torchvision is built for CUDA; beside torch for the CPU its import ends in "operator
    torchvision::nms does not exist". Both packages want it for a Gaussian blur alone, so declaring
    the operator is enough.
    """
    try:
        import_module("torchvision")
    except RuntimeError:
        import torch

        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        global _operators
        _operators = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            _operators.define(
                f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        import_module("torchvision")


_operators: object = None  # a declared operator lives as long as its library


def _private_stdout() -> IO[bytes]:
    """The pipe to the parent; what anything prints from now on goes to standard error."""
    sys.stdout.flush()
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(pipe.fileno(), os.O_BINARY)
    return pipe


def _die_with_the_parent() -> None:
    """Standard input is a pipe that nobody writes to: it ends when the parent does."""

    def watch() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
