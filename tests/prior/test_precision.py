"""Precision: what "auto" means, and that a prior denoises in bfloat16 nearly as in float32."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from napari_mep.errors import PlanError
from napari_mep.prior import precision
from napari_mep.prior.files import load_prior
from napari_mep.prior.precision import resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize("fast", [True, False])
def test_auto_takes_bfloat16_where_it_is_fast(monkeypatch, fast):
    monkeypatch.setattr(precision, "_has_bfloat16", lambda device: fast)
    assert resolve_precision("auto", CPU) == (torch.bfloat16 if fast else torch.float32)
    assert resolve_precision("float32", CPU) == torch.float32
    assert resolve_precision("bfloat16", CPU) == torch.bfloat16


@pytest.mark.parametrize(
    ("processor", "fast"),
    [
        ({"cpu_name": "AMD Zen 5", "avx512_bf16": True, "amx_bf16": False}, True),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
        ({"cpu_name": "AMD Zen 3"}, False),
        ({"architecture": "aarch64"}, False),
    ],
)
def test_a_processor_takes_bfloat16_where_it_gains_by_it(monkeypatch, processor, fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor, raising=False)
    assert (resolve_precision("auto", CPU) == torch.bfloat16) == fast


def test_bfloat16_is_refused_where_there_is_none():
    with pytest.raises(PlanError, match="not on mps; use auto"):
        resolve_precision("bfloat16", torch.device("mps"))


@pytest.mark.parametrize("logsnr", [-6.0, 1.0, 4.0])
def test_shipped_prior_denoises_alike_in_bfloat16(logsnr):
    prior = load_prior("crystals")
    coarse = replace(prior, precision=torch.bfloat16)
    _, ny, nx = prior.tile_shape
    y, x = torch.arange(ny)[:, None] % 16 - 8, torch.arange(nx) % 16 - 8
    columns = 8 * torch.exp(-(y**2 + x**2) / 8).expand(1, *prior.tile_shape)  # rms 1.4
    noise = torch.randn(columns.shape, generator=torch.Generator().manual_seed(0))
    noisy = columns + noise * math.exp(-logsnr / 2)
    exact, rounded = prior(noisy, logsnr), coarse(noisy, logsnr)
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    # Small beside what the prior itself leaves open.
    rounding, error = (a.square().mean().sqrt() for a in (rounded - exact, exact - columns))
    assert rounding < 0.1 * error
