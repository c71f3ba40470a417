"""Training pairs from a folder."""

from __future__ import annotations

import json
import math
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_mep.cli import main
from napari_mep.crystals.render import SliceRenderer
from napari_mep.crystals.samples import sample
from napari_mep.crystals.structure import AtomBox
from napari_mep.errors import PlanError, WeightsError
from napari_mep.training import solved
from napari_mep.training.checkpoint import read_checkpoint
from napari_mep.training.loop import train
from napari_mep.training.settings import TrainingSettings
from napari_mep.training.solved import SolvedView, SolvedViews, load_view, save_view, view_path

TILE = (2, 16, 16)
SMALL = TrainingSettings(tile_shape=TILE)


@pytest.fixture
def folder(tmp_path):
    """Two views, the estimate a tenth of the specimen."""
    rng = np.random.default_rng(0)
    for number, shape in enumerate([(4, 20, 24), (2, 16, 30)]):
        specimen = rng.random(shape)
        save_view(view_path(tmp_path, number), SolvedView(specimen, specimen / 10))
    return tmp_path


def _draws(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng([1, n]) for n in range(count)]


def test_pairs_stay_together_however_they_are_turned(folder):
    views = SolvedViews(folder, SMALL)
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
    save_view(view_path(inner, 0), SolvedView(np.zeros(TILE), np.zeros(TILE)))
    assert len(SolvedViews(folder, SMALL)) == 3


def test_a_share_is_replaced_and_the_rest_stays(folder):
    views = SolvedViews(folder, SMALL)
    tiles, estimates = torch.full((200, *TILE), -1.0), torch.full((200, *TILE), -2.0)
    views.put_among(tiles, estimates, 0.3, _draws(200))
    kept = (tiles == -1).flatten(1).all(1)
    assert torch.equal(kept, (estimates == -2).flatten(1).all(1))
    assert 0.6 < float(kept.float().mean()) < 0.8
    assert bool((tiles[~kept] >= 0).all())


@pytest.fixture
def crystal_folder(tmp_path):
    """One view with its atoms, a solution that found them."""
    settings = TrainingSettings(tile_shape=(2, 32, 32))
    shape, margin = (2, 56, 60), 12
    size_A = (3.2, *((n + 2 * margin) * 0.2 for n in shape[1:]))
    atoms = sample("srtio3").box(size_A, zone_axis="c", seed=0)
    render = SliceRenderer(shape, settings.voxel_size_A, energy_keV=300.0)
    first = (margin - render.margin) * np.array([0.0, 0.2, 0.2])
    cut = replace(atoms, positions_A=atoms.positions_A - first, size_A=render.box_size_A)
    inside = ((cut.positions_A >= 0) & (cut.positions_A < cut.size_A)).all(1)
    specimen = render([AtomBox(cut.numbers[inside], cut.positions_A[inside], cut.size_A)])[0]
    on_canvas = atoms.positions_A - margin * np.array([0.0, 0.2, 0.2])
    volume = specimen.numpy()
    view = SolvedView(volume, volume, replace(atoms, positions_A=on_canvas))
    save_view(view_path(tmp_path, 0), view)
    return tmp_path, settings, view


def test_views_are_kept_with_their_atoms(crystal_folder):
    folder, _, view = crystal_folder
    found = load_view(view_path(folder, 0))
    np.testing.assert_allclose(found.specimen, view.specimen, atol=1e-3)
    assert np.array_equal(found.atoms.numbers, view.atoms.numbers)
    np.testing.assert_allclose(found.atoms.positions_A, view.atoms.positions_A, atol=1e-5)
    assert found.atoms.size_A == view.atoms.size_A


@pytest.mark.parametrize("turned", [0.0, 1.0])
def test_turned_atoms_lie_where_the_turned_solution_has_them(crystal_folder, monkeypatch, turned):
    monkeypatch.setattr(solved, "_TURNED_SHARE", turned)
    folder, settings, _ = crystal_folder
    tiles, estimates = torch.zeros(2, 30, *settings.tile_shape)
    SolvedViews(folder, settings).put_among(tiles, estimates, 1.0, _draws(30))
    inner = (slice(None), slice(4, -4), slice(4, -4))
    angles = []
    for tile, estimate in zip(tiles, estimates, strict=True):
        apart = (tile - estimate)[inner].norm() / tile[inner].norm()
        # Between the corners of the square of frequencies, which no other square has, they differ.
        assert apart < (0.25 if turned else 1e-3)
        spectrum = torch.fft.rfft2(tile.sum(0) - tile.sum(0).mean()).abs()[:, 1:]
        row, column = divmod(int(spectrum.argmax()), spectrum.shape[1])
        angles.append(math.atan2((row + 16) % 32 - 16, column + 1) % (math.pi / 4))
    assert (len({round(angle, 2) for angle in angles}) > 3) == bool(turned)


def test_folders_that_do_not_serve_are_told(tmp_path):
    with pytest.raises(WeightsError, match="holds none; make some with `napari-mep solve`"):
        SolvedViews(tmp_path, SMALL)
    path = view_path(tmp_path, 3)
    save_view(path, SolvedView(np.zeros(TILE), np.zeros(TILE)))
    with pytest.raises(PlanError, match=r"has \(2, 16, 16\) voxels, a training volume"):
        SolvedViews(tmp_path, replace(SMALL, tile_shape=(4, 16, 16)))
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"text", b""):
        path.write_bytes(broken)
        with pytest.raises(WeightsError, match="not readable") as info:
            SolvedViews(tmp_path, SMALL)
        assert "\n" not in str(info.value)


@pytest.mark.usefixtures("small_network")
def test_a_run_learns_from_them_and_resumes_bit_for_bit(library, settings, folder, tmp_path):
    views = SolvedViews(folder, settings)
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
    views = SolvedViews(folder, settings)
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
