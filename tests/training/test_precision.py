"""Precision: what "auto" means, and that bfloat16 trains."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch

from napari_mep.errors import PlanError
from napari_mep.training import precision
from napari_mep.training.checkpoint import read_checkpoint
from napari_mep.training.export import export_prior
from napari_mep.training.loop import train
from napari_mep.training.precision import resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize("fast", [True, False])
def test_auto_takes_bfloat16_where_it_is_fast(monkeypatch, fast):
    monkeypatch.setattr(precision, "_has_bfloat16", lambda device: fast)
    assert resolve_precision("auto", CPU) == (torch.bfloat16 if fast else torch.float32)
    assert resolve_precision("float32", CPU) == torch.float32
    assert resolve_precision("bfloat16", CPU) == torch.bfloat16


def test_bfloat16_is_refused_where_there_is_none():
    with pytest.raises(PlanError, match="not on mps; use auto"):
        resolve_precision("bfloat16", torch.device("mps"))


@pytest.mark.usefixtures("small_network")
def test_bfloat16_trains_float32_weights_and_is_told_on_the_card(library, settings, tmp_path):
    losses = {}
    for name in ("float32", "bfloat16"):
        run_dir = tmp_path / name
        chosen = replace(settings, precision=name, tile_shape=(8, 32, 32))
        records = train(library, chosen, run_dir, log_every=1, stop=threading.Event())
        losses[name] = torch.tensor([r["loss"] for r in records])
        tensors, _ = read_checkpoint(run_dir)
        assert {t.dtype for t in tensors.values()} == {torch.float32}
        card = export_prior(run_dir, run_dir / "prior.safetensors")
        assert card.settings["precision"] == name
    # the same run to the rounding of bfloat16, but not the same arithmetic
    assert not torch.equal(losses["float32"], losses["bfloat16"])
    torch.testing.assert_close(losses["float32"], losses["bfloat16"], rtol=0.02, atol=0)
