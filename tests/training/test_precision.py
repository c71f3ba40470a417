"""Training in bfloat16: the weights stay float32, and the card says what was used."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch

from napari_mep.training.checkpoint import read_checkpoint
from napari_mep.training.export import export_prior
from napari_mep.training.loop import train


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
