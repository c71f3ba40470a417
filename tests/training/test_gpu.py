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


def test_volumes_made_ahead_are_ready_when_they_are_used(library, settings):
    source = VolumeSource(library, settings, "cuda", workers=2)
    stream = source.stream(0, 64, 64)
    totals = [next(stream).sum((1, 2, 3)) for _ in range(20)]  # nothing waits for the device
    for step, total in enumerate(totals):
        expected = source(64 * step, 64).sum((1, 2, 3))
        torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-2)


def test_a_run_learns_resumes_and_exports(library, settings, tmp_path):
    settings = replace(settings, volumes=settings.batch * 60)
    first = list(train(library, settings, tmp_path, device="cuda", log_every=10))
    longer = replace(settings, volumes=settings.batch * 70)
    more = list(train(library, longer, tmp_path, device="cuda", log_every=10, resume=True))
    assert more[-1]["volumes"] == settings.batch * 70
    assert first[-1]["loss"] < first[0]["loss"]
    card = export_prior(tmp_path, tmp_path / "prior.safetensors")
    assert card.trained_volumes == settings.batch * 70
