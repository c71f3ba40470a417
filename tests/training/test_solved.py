"""Training pairs from a folder."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_mep.cli import main
from napari_mep.errors import PlanError, WeightsError
from napari_mep.training.checkpoint import read_checkpoint
from napari_mep.training.loop import train
from napari_mep.training.settings import TrainingSettings
from napari_mep.training.solved import SolvedViews, save_view, view_path

TILE = (2, 16, 16)


@pytest.fixture
def folder(tmp_path):
    """Two views, the estimate a tenth of the specimen."""
    rng = np.random.default_rng(0)
    for number, shape in enumerate([(4, 20, 24), (2, 16, 30)]):
        specimen = rng.random(shape)
        save_view(view_path(tmp_path, number), specimen, specimen / 10)
    return tmp_path


def _draws(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng([1, n]) for n in range(count)]


def test_pairs_stay_together_however_they_are_turned(folder):
    views = SolvedViews(folder, TILE)
    assert len(views) == 2
    tiles, estimates = torch.zeros(40, *TILE), torch.zeros(40, *TILE)
    views.put_among(tiles, estimates, 1.0, _draws(40))
    torch.testing.assert_close(estimates, tiles / 10, rtol=2e-3, atol=1e-4)
    with np.load(view_path(folder, 0)) as archive:
        specimen = archive["specimen"].astype(np.float32)
    corners = {
        turned[:2, :16, :16].tobytes()
        for z in range(3)
        for y in range(5)
        for x in range(9)
        for part in [specimen[z : z + 2, y : y + 16, x : x + 16]]
        for k in range(4)
        for turned in (np.rot90(part, k, (1, 2)), np.rot90(part[:, :, ::-1], k, (1, 2)))
    }
    first = [tile.numpy().tobytes() in corners for tile in tiles]
    assert 8 < sum(first) < 32  # the others are of the second view
    assert len({tile.numpy().tobytes() for tile in tiles}) > 30


def test_views_may_lie_in_folders_within(folder):
    inner = folder / "other-simulator"
    inner.mkdir()
    save_view(view_path(inner, 0), np.zeros(TILE), np.zeros(TILE))
    assert len(SolvedViews(folder, TILE)) == 3


def test_a_share_is_replaced_and_the_rest_stays(folder):
    views = SolvedViews(folder, TILE)
    tiles, estimates = torch.full((200, *TILE), -1.0), torch.full((200, *TILE), -2.0)
    views.put_among(tiles, estimates, 0.3, _draws(200))
    kept = (tiles == -1).flatten(1).all(1)
    assert torch.equal(kept, (estimates == -2).flatten(1).all(1))
    assert 0.6 < float(kept.float().mean()) < 0.8
    assert bool((tiles[~kept] >= 0).all())


def test_folders_that_do_not_serve_are_told(tmp_path):
    with pytest.raises(WeightsError, match="holds none; make some with `napari-mep solve`"):
        SolvedViews(tmp_path, TILE)
    path = view_path(tmp_path, 3)
    save_view(path, np.zeros((2, 16, 16)), np.zeros((2, 16, 16)))
    with pytest.raises(PlanError, match=r"has \(2, 16, 16\) voxels, a training volume"):
        SolvedViews(tmp_path, (4, 16, 16))
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"text", b""):
        path.write_bytes(broken)
        with pytest.raises(WeightsError, match="not readable") as info:
            SolvedViews(tmp_path, TILE)
        assert "\n" not in str(info.value)


@pytest.mark.usefixtures("small_network")
def test_a_run_learns_from_them_and_resumes_bit_for_bit(library, settings, folder, tmp_path):
    views = SolvedViews(folder, settings.tile_shape)
    settings = replace(settings, estimate_share=0.9)

    def losses(name, share, steps=None, **options):
        stop, records = threading.Event(), []
        solved = views if share else None
        for record in train(
            library,
            replace(settings, solved_share=share),
            tmp_path / name,
            log_every=1,
            stop=stop,
            solved=solved,
            **options,
        ):
            records.append(record["loss"])
            if len(records) == steps:
                stop.set()
        return records

    straight = losses("straight", 0.6)
    cut = losses("cut", 0.6, steps=4) + losses("cut", 0.6, resume=True)
    assert cut == straight
    assert losses("without", 0.0) != straight
    assert read_checkpoint(tmp_path / "cut")[1]["settings"]["solved_share"] == 0.6


@pytest.mark.usefixtures("small_network")
def test_views_and_their_share_belong_together(library, settings, folder, tmp_path):
    views = SolvedViews(folder, settings.tile_shape)
    seeing = replace(settings, estimate_share=0.9)
    with pytest.raises(PlanError, match="leaves them unused; give both or neither"):
        next(train(library, seeing, tmp_path / "a", solved=views))
    with pytest.raises(PlanError, match="no folder of solved views is given"):
        next(train(library, replace(seeing, solved_share=0.5), tmp_path / "b"))
    with pytest.raises(PlanError, match="takes no estimate; set estimate_share too"):
        TrainingSettings(solved_share=0.5)


@pytest.mark.usefixtures("small_network")
def test_the_command_takes_half_from_the_folder_and_asks_for_it_again(
    library, settings, folder, tmp_path, capsys
):
    library.save(tmp_path / "library.npz")
    seeing = replace(settings, estimate_share=0.9, volumes=8)
    (tmp_path / "settings.json").write_text(json.dumps(seeing.to_dict()))
    run = tmp_path / "run"
    command = ["train", str(tmp_path / "library.npz"), "-o", str(run), "--device", "cpu"]
    views = ["--solved-views", str(folder)]
    assert main([*command, "--settings", str(tmp_path / "settings.json"), *views]) == 0
    assert json.loads((run / "settings.json").read_text())["solved_share"] == 0.5
    capsys.readouterr()

    longer = [*command, "--resume", "--volumes", "12"]
    assert main(longer) == 2
    error = capsys.readouterr().err
    assert "no folder of solved views is given" in error
    assert error.count("\n") == 1
    assert main([*longer, *views]) == 0
    assert read_checkpoint(run)[1]["volumes"] == 12
