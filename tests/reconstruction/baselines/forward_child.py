# Run as a program: the patterns that an adapter's package computes for a given object.
# The packages change the state of torch, so not even a test loads them where others run.

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from napari_mep.reconstruction.baselines._child import mend_torchvision
from napari_mep.reconstruction.baselines.job import Job


def ptychi(job: Job, phase: np.ndarray) -> np.ndarray:
    import torch

    from napari_mep.reconstruction.baselines._ptychi_child import make_task

    task = make_task(job)
    with torch.no_grad():
        specimen = torch.from_numpy(np.exp(1j * phase).astype(np.complex64))
        task.reconstructor.parameter_group.object.set_data(specimen)
        patterns = task.reconstructor.forward_model(torch.arange(len(job.counts)))
    return np.fft.fftshift(patterns.numpy(), axes=(1, 2))


def ptyrad(job: Job, phase: np.ndarray) -> np.ndarray:
    import torch

    from napari_mep.reconstruction.baselines._ptyrad_child import make_model, mend_plotting

    mend_plotting()
    _, model = make_model(job)
    with torch.no_grad():
        model.opt_objp[0] = torch.from_numpy(phase)
        patterns = model(torch.arange(len(job.counts)))
    measured = model.get_measurements(torch.arange(len(job.counts)))
    return (patterns * float(job.counts.sum()) / measured.sum()).numpy()


if __name__ == "__main__":
    package, *folders = sys.argv[1:]
    mend_torchvision()
    for folder in map(Path, folders):
        job, phase = Job.load(folder), np.load(folder / "phase.npy")
        np.save(folder / "patterns.npy", {"ptychi": ptychi, "ptyrad": ptyrad}[package](job, phase))
