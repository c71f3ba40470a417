"""The same reconstructions on a CUDA device: equal results, memory given back, plain refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_mep.errors import DeviceError
from napari_mep.reconstruction.engine import reconstruct

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


def _last(dataset, plan):
    *_, snapshot = reconstruct(dataset, plan)
    return snapshot


@pytest.mark.parametrize("method", ["gradient", "mep"])
def test_cuda_gives_what_the_cpu_gives(dataset, mep_plan, method):
    plan = mep_plan.replace(method=method)
    on_cpu = _last(dataset, plan)
    on_gpu = _last(dataset, plan.replace(device="cuda"))
    scale = float(np.abs(on_cpu.volume.data).max())
    assert np.abs(on_gpu.volume.data - on_cpu.volume.data).max() < 2e-3 * scale
    assert on_gpu.residual == pytest.approx(on_cpu.residual, rel=1e-3)


def test_memory_goes_back_after_the_end_and_after_a_stop(dataset, mep_plan):
    plan = mep_plan.replace(device="cuda")
    _last(dataset, plan)
    before = torch.cuda.memory_allocated()
    steps = reconstruct(dataset, plan)
    next(steps)
    assert torch.cuda.memory_allocated() > before
    steps.close()
    assert torch.cuda.memory_allocated() <= before
    assert torch.cuda.memory_reserved() <= before + 64 * 2**20


def test_out_of_memory_ends_in_a_sentence_with_numbers(dataset, mep_plan):
    wide = mep_plan.replace(device="cuda", object={"wave_oversampling": 3})
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(32 * 2**20 / total)
    try:
        with pytest.raises(DeviceError, match=r"out of memory on cuda.*GiB of .*GiB free; lower"):
            _last(dataset, wide)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert torch.cuda.memory_allocated() < 2**20
    assert _last(dataset, mep_plan.replace(device="cuda")).volume is not None
