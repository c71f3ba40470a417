"""What a solver without a prior makes of a crystal; that it is so is tested in reconstruction."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.fft import dct

from napari_mep.physics.depth_coupling import depth_coupling
from napari_mep.training.estimates import Estimates, LinearSolver, Optics, gradient_filter

OPTICS = {"slice_A": 1.6, "wavelength_A": 0.0197, "aperture_invA": 1.087}
K = np.linspace(0, 2.5, 26)
TILE, VOXEL_A = (4, 32, 32), (1.6, 0.2, 0.2)


def _pairs(volumes: torch.Tensor, share: float = 1.0, seed: int = 0, **kind: float):
    estimates = Estimates(TILE, VOXEL_A, share, **kind)
    draws = [np.random.default_rng([seed, i]) for i in range(len(volumes))]
    white = torch.randn(
        len(volumes), 2, *estimates.shape, generator=torch.Generator().manual_seed(seed)
    )
    return estimates(volumes, draws, white)


def _columns(count: int) -> torch.Tensor:
    """Bright columns through the whole depth, each in a slice of its own twice as bright."""
    volumes = torch.zeros(count, 10, 32, 32)
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    for i, (cy, cx) in enumerate([(8, 8), (8, 24), (24, 8), (24, 24)]):
        atom = torch.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 4.0)
        volumes += 0.2 * atom
        volumes[:, i::4] += 0.4 * atom
    return volumes


def test_depth_is_coupled_the_more_the_closer_and_the_coarser():
    coupling = depth_coupling(K, 8, **OPTICS)
    np.testing.assert_allclose(np.diagonal(coupling, axis1=1, axis2=2), 1.0)
    np.testing.assert_allclose(coupling, coupling.transpose(0, 2, 1))
    np.testing.assert_allclose(coupling[0], 1.0)  # a constant phase has no depth at all
    first_and_last = coupling[:, 0, 7]
    assert (np.diff(first_and_last[:15]) < 0).all()
    assert (coupling[10, 0, 1:] < coupling[10, 0, :-1]).all()
    # By hand: waves of 0.5 1/A, 3.2 A apart; the mean of exp(i ...) over the disk of the aperture.
    radius, angle = np.meshgrid(
        OPTICS["aperture_invA"] * np.sqrt((np.arange(400) + 0.5) / 400),
        2 * np.pi * np.arange(400) / 400,
    )
    phase = math.pi * 0.0197 * 3.2 * (0.5**2 + 2 * 0.5 * radius * np.cos(angle))
    assert coupling[5, 0, 2] == pytest.approx(np.exp(1j * phase).mean().real, abs=1e-5)


def test_steps_find_what_is_stiff_first_and_all_of_it_in_the_end():
    values = np.linalg.eigvalsh(depth_coupling(K, 8, **OPTICS)).clip(1e-9)
    few, many = (gradient_filter(values, K, n) for n in (24, 400))
    middle = np.s_[5:16]  # lateral detail that a crystal has
    assert (few[middle, -1] > 0.9).all()
    assert (few[middle, 0] < 0.02).all()
    assert (few[middle, -1] > 5 * few[middle, -4]).all()
    assert (few[middle] < 1.2).all()  # momentum may overshoot
    assert (many[middle, -4] > 5 * few[middle, -4]).all()


def test_columns_are_found_and_heights_are_not():
    volumes = _columns(40)
    tiles, found = _pairs(volumes)
    assert tiles.shape == found.shape == (40, *TILE)
    assert (found >= 0).all()
    whole = found.amin(dim=(2, 3)).isfinite().all() and found.flatten(2).amax(2).gt(0).all(1)
    errors, sums = [], []
    for tile, estimate in zip(tiles[whole], found[whole], strict=True):
        errors.append(float((estimate - tile).square().sum() / tile.var(0).sum() / len(tile)))
        sums.append(
            float(torch.corrcoef(torch.stack([estimate.sum(0).ravel(), tile.sum(0).ravel()]))[0, 1])
        )
    assert np.median(sums) > 0.9
    assert np.median(errors) > 0.5  # of what differs from slice to slice hardly anything


def _error_of_depth(tiles: torch.Tensor, found: torch.Tensor) -> float:
    whole = found.flatten(2).amax(2).gt(0).all(1)
    off = (found - tiles) - (found - tiles).mean(1, keepdim=True)
    return float((off[whole].square().sum((1, 2, 3)) / tiles[whole].var(1).sum((1, 2))).median())


def test_quasi_newton_steps_find_more_of_the_depth():
    volumes = _columns(60)
    errors = [_error_of_depth(*_pairs(volumes, quasi_newton_share=q)) for q in (0.0, 1.0)]
    assert errors[1] < errors[0]


def test_quasi_newton_steps_that_stop_early_leave_the_noise_of_soft_modes():
    shape = (8, 32, 32)
    optics = Optics.of(shape, VOXEL_A, wavelength_A=0.0197, aperture_invA=1.087)
    stiffness = np.full_like(optics.rings_invA, 0.8)
    noise = 0.005 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    columns = _columns(1)[0, :8]

    def moments(volume: torch.Tensor) -> np.ndarray:
        """Rms of each moment over depth."""
        return np.sqrt(np.mean(dct(volume.numpy(), axis=0, norm="ortho") ** 2, axis=(1, 2)))

    def left(steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Of a crystal, and of the noise on top of it."""
        solver = LinearSolver.after_quasi_newton_steps(optics, 0.005, stiffness, steps)
        crystal = solver(columns, torch.zeros_like(noise))
        return moments(crystal), moments(solver(columns, noise) - crystal)

    (few_crystal, few_noise), (all_crystal, all_noise) = left(5), left(1000)
    assert few_crystal[0] == pytest.approx(all_crystal[0], rel=0.05)  # the depth sum is found
    assert (few_noise[4:] < 0.5 * all_noise[4:]).all()


def test_a_precise_model_leaves_more_of_the_depth():
    volumes = _columns(40)
    kind = {"quasi_newton_share": 1.0}
    careless = _error_of_depth(*_pairs(volumes, error_rad=0.03, **kind))
    precise = _error_of_depth(*_pairs(volumes, error_rad=0.004, **kind))
    assert precise < careless  # with the same draws


def test_tiles_are_cut_out_of_the_volumes():
    volumes = torch.arange(10.0)[:, None, None].expand(30, 10, 32, 32)
    tiles, _ = _pairs(volumes)
    firsts = {int(tile[0, 0, 0]) for tile in tiles}
    assert all(torch.equal(t, volumes[0, int(t[0, 0, 0]) :][:4]) for t in tiles)
    assert 1 in firsts  # specimens as thick as the tile
    assert len(firsts) > 2  # and some that are thicker


def test_below_a_thin_specimen_there_is_no_estimate():
    _, found = _pairs(_columns(200))
    depths = {int(e.flatten(1).amax(1).gt(0).sum()) for e in found}
    assert max(depths) == 4
    assert min(depths) < 4


def test_without_an_estimate_there_are_zeros():
    _, found = _pairs(_columns(200), share=0.7)
    missing = (found.flatten(1) == 0).all(1).float().mean()
    assert float(missing) == pytest.approx(0.3, abs=0.08)


def test_a_pair_depends_on_its_own_draws_alone():
    volumes = _columns(6)
    tiles, found = _pairs(volumes)
    estimates = Estimates(TILE, VOXEL_A, 1.0)
    white = torch.randn(6, 2, *estimates.shape, generator=torch.Generator().manual_seed(0))
    one = estimates(volumes[4:5], [np.random.default_rng([0, 4])], white[4:5])
    assert torch.equal(one[0][0], tiles[4])
    assert torch.equal(one[1][0], found[4])
