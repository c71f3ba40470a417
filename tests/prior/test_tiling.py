"""Tiles cover a canvas without holes or seams."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from napari_mep.prior.tiling import TiledDenoiser, tile_starts

TILE = (4, 8, 8)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("tile", [1, 4, 16])
def test_tiles_cover_every_axis_and_overlap_as_asked(tile, overlap):
    for length in range(tile, 5 * tile + 3):
        for shift in (0.0, 0.3, 0.5, 0.999):
            starts = tile_starts(length, tile, overlap, shift)
            assert starts[0] == 0
            assert starts[-1] == length - tile
            strides = [b - a for a, b in pairwise(starts)]
            assert min(strides, default=0) >= 0
            assert max(strides, default=0) <= max(1, math.floor(tile * (1 - overlap)))
            assert len(starts) == len(set(starts)) or overlap > 0


def test_shift_moves_inner_tiles_only():
    starts = {tuple(tile_starts(30, 8, 0.25, shift)) for shift in (0.0, 0.4, 0.9)}
    assert len(starts) > 1
    assert {(s[0], s[-1]) for s in starts} == {(0, 22)}


def test_axis_shorter_than_a_tile_is_refused():
    with pytest.raises(ValueError, match="axis of 7 voxels is shorter than a tile of 8"):
        tile_starts(7, 8, 0.25)


@pytest.mark.parametrize("canvas", [(4, 8, 8), (7, 19, 26), (4, 8, 30)])
@pytest.mark.parametrize("batch", [1, 5])
def test_pointwise_denoiser_does_not_notice_the_tiles(canvas, batch):
    x = torch.randn(canvas, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tiled = TiledDenoiser(lambda x, logsnr: logsnr * torch.tanh(x), TILE, canvas, batch=batch)
    for shift in (0.0, 0.37, 0.9):
        torch.testing.assert_close(tiled(x, 2.0, shift), 2.0 * torch.tanh(x))


def test_denoiser_sees_tiles_of_its_own_shape_in_batches():
    seen: list[tuple[int, ...]] = []

    def denoise(x: Tensor, logsnr: float) -> Tensor:
        seen.append(tuple(x.shape))
        return x

    TiledDenoiser(denoise, TILE, (6, 20, 20), batch=4)(torch.zeros(6, 20, 20), 0.0)
    assert {shape[1:] for shape in seen} == {TILE}
    assert max(shape[0] for shape in seen) == 4
    assert sum(shape[0] for shape in seen) == 2 * 3 * 3


def test_tiles_can_be_given_up_between_calls():
    calls = []

    def check() -> None:
        if len(calls) == 2:
            raise InterruptedError

    def denoise(x: Tensor, logsnr: float) -> Tensor:
        calls.append(len(x))
        return x

    tiled = TiledDenoiser(denoise, TILE, (6, 20, 20), batch=4, check=check)
    with pytest.raises(InterruptedError):
        tiled(torch.zeros(6, 20, 20), 0.0)
    assert calls == [4, 4]


def test_seams_are_blended():
    # Each tile answers with its own number; the canvas must go from one to the next smoothly.
    number = iter(range(100))

    def denoise(x: Tensor, logsnr: float) -> Tensor:
        return torch.stack([torch.full_like(tile, float(next(number))) for tile in x])

    canvas = TiledDenoiser(denoise, (1, 16, 16), (1, 16, 28), overlap=0.25)(
        torch.zeros(1, 16, 28), 0.0
    )
    profile = canvas[0, 8]
    assert torch.equal(profile[:12], torch.zeros(12))
    assert torch.equal(profile[16:], torch.ones(12))
    inner = profile[11:17].diff()
    assert float(inner.min()) >= 0
    assert float(inner.max()) < 0.6


def test_gradient_flows_through_the_tiles():
    canvas = (6, 19, 26)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(canvas, generator=generator, dtype=torch.float64, requires_grad=True)
    seed = torch.randn(canvas, generator=generator, dtype=torch.float64)
    tiled = TiledDenoiser(lambda x, logsnr: x**2, TILE, canvas)
    (gradient,) = torch.autograd.grad(tiled(x, 0.0, 0.3), x, seed)
    torch.testing.assert_close(gradient, 2 * x.detach() * seed)


@pytest.mark.parametrize("canvas", [(4, 8, 8), (7, 19, 26)])
def test_an_estimate_is_cut_like_the_canvas(canvas):
    estimate = torch.randn(canvas)

    def denoise(x, logsnr, seen):
        return 0.5 * x + seen

    tiled = TiledDenoiser(denoise, (4, 8, 8), canvas, estimate=estimate)
    x = torch.randn(canvas)
    torch.testing.assert_close(tiled(x, 0.0, 0.3), 0.5 * x + estimate)
