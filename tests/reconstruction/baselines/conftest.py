"""Jobs for children that are made here, and for those of the packages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_mep.data.dataset import DiffractionDataset
from napari_mep.reconstruction.baselines.catalogue import BaselineSettings
from napari_mep.reconstruction.baselines.job import Job, make_job
from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.reconstruction.problem import Problem, build_problem


@pytest.fixture
def problem_of(plan: ReconstructionPlan) -> Callable[..., Problem]:
    """The problem of a dataset, on a wave window of so many detector windows."""

    def build(dataset: DiffractionDataset, window: int = 1) -> Problem:
        one = plan.replace(object={"wave_oversampling": window})
        return build_problem(dataset, one, device=torch.device("cpu"))

    return build


@pytest.fixture
def job_of() -> Callable[..., Job]:
    """The job of a problem."""

    def make(problem: Problem, method: str = "ptyrad-adam", iterations: int = 3) -> Job:
        return make_job(
            problem,
            BaselineSettings(iterations, 0.01, 8),
            method=method,
            semiangle_mrad=21.4,
            seed=0,
            device="cpu",
            threads=1,
        )

    return make


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A module to run instead of a package's adapter: the body of ``run(job, report)``."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")

    def write(body: str) -> str:
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        (folder / "a_child.py").write_text(
            "import os, sys, time\n"
            "import numpy as np\n"
            "from napari_mep.reconstruction.baselines._child import main\n"
            f"def run(job, report):\n{lines}\n"
            "main(run)\n"
        )
        return "a_child"

    return write


@pytest.fixture
def job(job_of: Callable[..., Job], problem_of: Callable[..., Problem], make_dataset) -> Job:
    """A few patterns, three iterations."""
    return job_of(problem_of(make_dataset((2, 3))))


def canvas_of(job: Job, value: float) -> np.ndarray:
    """What a child would report for an object that is constant."""
    y0, y1, x0, x1 = job.canvas
    return np.full((job.object_shape[0], y1 - y0, x1 - x0), value, np.float32)
