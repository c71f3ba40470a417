"""Training on a CUDA device."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from napari_mep.training.export import export_prior
from napari_mep.training.loop import train
from napari_mep.training.volumes import VolumeSource

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


def test_volumes_are_those_of_the_cpu(library, settings):
    on_cpu = VolumeSource(library, settings)(0, 20)
    on_gpu = VolumeSource(library, settings, "cuda")(0, 20).cpu()
    assert (on_gpu - on_cpu).abs().max() < 1e-4 * on_cpu.abs().max()


def test_a_run_learns_resumes_and_exports(library, settings, tmp_path):
    settings = replace(settings, volumes=settings.batch * 60)
    first = list(train(library, settings, tmp_path, device="cuda", log_every=10))
    longer = replace(settings, volumes=settings.batch * 70)
    more = list(train(library, longer, tmp_path, device="cuda", log_every=10, resume=True))
    assert more[-1]["volumes"] == settings.batch * 70
    assert first[-1]["loss"] < first[0]["loss"]
    card = export_prior(tmp_path, tmp_path / "prior.safetensors")
    assert card.trained_volumes == settings.batch * 70
