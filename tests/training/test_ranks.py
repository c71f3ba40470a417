"""Several processes train as one does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from napari_mep.errors import PlanError
from napari_mep.training.loop import train
from napari_mep.training.ranks import Ranks, join_ranks
from napari_mep.training.run_directory import METRICS_NAME

# What torchrun does, without its agent: two processes find each other by the environment.
_PROGRAM = """
import json, sys, torch
from pathlib import Path
from napari_mep.crystals.library import CrystalLibrary
from napari_mep.prior.unet import PRESETS, UNetConfig
from napari_mep.training.loop import train
from napari_mep.training.ranks import join_ranks
from napari_mep.training.settings import TrainingSettings

library, run_dir, network, settings = sys.argv[1:]
torch.set_num_threads(1)
PRESETS["tiny"] = UNetConfig.from_dict(json.loads(network))
settings = TrainingSettings.from_dict(json.loads(settings))
with join_ranks(torch.device("cpu")) as ranks:
    assert ranks.count == 2
    for _ in train(CrystalLibrary.load(library), settings, run_dir, ranks=ranks, log_every=1):
        pass
"""


def test_a_batch_is_shared_equally():
    assert [Ranks(r, 4).share(8) for r in range(4)] == [slice(2 * r, 2 * r + 2) for r in range(4)]
    with pytest.raises(PlanError, match="batch 7: must be a multiple of 2 processes"):
        Ranks(0, 2).share(7)


def test_several_processes_need_accelerate(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)  # importing it fails
    with join_ranks(torch.device("cpu")) as ranks:
        assert ranks == Ranks(0, 1)
    monkeypatch.setenv("WORLD_SIZE", "4")
    message = "^training on 4 processes: needs accelerate.*; pip install accelerate, or .*torchrun$"
    with pytest.raises(PlanError, match=message), join_ranks(torch.device("cpu")):
        pass


@pytest.mark.usefixtures("small_network")
@pytest.mark.parametrize("share", [0.0, 0.8])
def test_two_processes_give_the_loss_of_one(library, settings, tmp_path, repository, share):
    from napari_mep.prior.unet import PRESETS

    settings = replace(settings, estimate_share=share)
    alone = list(train(library, settings, tmp_path / "alone", log_every=1))
    library.save(tmp_path / "library.npz")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [
        str(tmp_path / "library.npz"),
        str(tmp_path / "both"),
        json.dumps(PRESETS["tiny"].to_dict()),
        json.dumps(settings.to_dict()),
    ]
    processes = []
    for rank in range(2):
        environment = os.environ | {
            "PYTHONPATH": str(repository / "src"),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "WORLD_SIZE": "2",
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
        }
        command = [sys.executable, "-c", _PROGRAM, *arguments]
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE))
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    lines = (tmp_path / "both" / METRICS_NAME).read_text().splitlines()
    together = [json.loads(line) for line in lines]
    assert len(together) == len(alone) == 10  # only the leading process writes
    # float32 sums in another order
    assert [r["loss"] for r in together] == pytest.approx([r["loss"] for r in alone], rel=1e-4)
