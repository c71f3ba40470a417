"""Rendering against abTEM, and what holds for any arrangement of atoms."""

from __future__ import annotations

from dataclasses import replace

import ase
import numpy as np
import pytest
import torch

from napari_mep.crystals.cut import cut_box
from napari_mep.crystals.perovskites import distorted_perovskite
from napari_mep.crystals.render import SliceRenderer, lobato_scattering_factor
from napari_mep.crystals.samples import sample
from napari_mep.crystals.structure import AtomBox, Crystal
from napari_mep.physics.optics import interaction_constant

VOXEL_A = (1.6, 0.2, 0.2)


def _box(renderer, numbers, positions) -> AtomBox:
    return AtomBox(np.array(numbers), np.array(positions, float), renderer.box_size_A)


def _abtem_phase(box: AtomBox, shape, finer: int, energy_keV=300.0):
    """(z, y, x) phase of abTEM's slices on pixels `finer` times finer, Fourier-cropped to ours."""
    import abtem

    z, y, x = box.size_A
    _, ny, nx = shape
    atoms = ase.Atoms(
        box.numbers, positions=box.positions_A[:, ::-1], cell=(x, y, z), pbc=(True, True, False)
    )
    potential = abtem.Potential(
        atoms,
        gpts=(finer * nx, finer * ny),
        slice_thickness=z / shape[0],
        parametrization="lobato",
        projection="infinite",
    )
    array = potential.build(lazy=False).array.swapaxes(1, 2)
    spectrum = np.fft.fftshift(np.fft.fft2(array), axes=(1, 2))
    y0, x0 = (array.shape[1] - ny) // 2, (array.shape[2] - nx) // 2
    cropped = np.fft.ifftshift(spectrum[:, y0 : y0 + ny, x0 : x0 + nx], axes=(1, 2))
    return interaction_constant(energy_keV) * np.fft.ifft2(cropped).real / finer**2


def _relative_difference(ours, theirs) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def test_phase_is_that_of_abtem():
    # abTEM places atoms by bilinear interpolation; on points of its fine grid that is exact.
    renderer = SliceRenderer((3, 32, 32), VOXEL_A, margin=0)
    rng = np.random.default_rng(0)
    positions = np.column_stack([rng.uniform(0.05, 4.75, 24), 0.05 * rng.integers(0, 128, (24, 2))])
    box = _box(renderer, rng.choice([8, 22, 38, 56, 82], 24), positions)
    ours = renderer([box])[0].numpy()
    theirs = _abtem_phase(box, (3, 32, 32), 4)
    assert ours.shape == theirs.shape == (3, 32, 32)
    # 6e-4 remain: abTEM divides by a sinc for its interpolation, which on grid points did nothing.
    assert _relative_difference(ours, theirs) < 2e-3


def _random_crystal(rng: np.random.Generator) -> Crystal:
    """Structure of a built-in sample or a distorted perovskite, elements drawn at random."""
    if rng.random() < 0.5:
        crystal = sample(str(rng.choice(["si", "gaas", "mos2", "tio2-rutile", "catio3"]))).crystal
        crystal = replace(crystal, cell_A=crystal.cell_A * rng.uniform(0.9, 1.2))
    else:
        sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
        cubic = Crystal(rng.uniform(3.7, 4.5) * np.eye(3), [20, 22, 8, 8, 8], sites)
        crystal = distorted_perovskite(cubic, rng)
    kinds, slot = np.unique(crystal.numbers, return_inverse=True)
    return replace(crystal, numbers=rng.choice(np.arange(1, 104), len(kinds), replace=False)[slot])


def test_fifty_random_crystals_are_those_of_abtem():
    # abTEM interpolates between its pixels, which at 0.025 A leaves 0.4 %; the whole table is in
    # docs/rendering.md.
    shape = (4, 32, 32)
    renderer = SliceRenderer(shape, VOXEL_A)
    padded = (shape[0], *(n + 2 * renderer.margin for n in shape[1:]))
    inner = slice(renderer.margin, -renderer.margin)
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(50):
        box = cut_box(
            _random_crystal(rng),
            renderer.box_size_A,
            zone_axis=rng.choice([[1, 0, 0], [1, 1, 0], [1, 1, 1]]).tolist(),
            in_plane_deg=rng.uniform(0, 360),
            offset_A=tuple(rng.uniform(0, 10, 3)),
            tilt_mrad=tuple(rng.normal(0, 3, 2)),
        )
        ours = renderer([box])[0].numpy()
        theirs = _abtem_phase(box, padded, 8)[:, inner, inner]
        differences.append(_relative_difference(ours, theirs))
    assert max(differences) < 0.01
    assert np.median(differences) < 0.005


def test_scattering_factors_are_those_of_abtem():
    from abtem.parametrizations import LobatoParametrization

    k = np.linspace(0, 3, 31)
    numbers = torch.tensor([1, 8, 22, 82, 103])
    ours = lobato_scattering_factor(numbers, torch.from_numpy(k**2)).numpy()
    for symbol, row in zip(("H", "O", "Ti", "Pb", "Lr"), ours, strict=True):
        theirs = LobatoParametrization().scattering_factor(symbol)(k**2)
        np.testing.assert_allclose(row, theirs, rtol=1e-5)


def test_total_phase_is_the_forward_scattering():
    # The sum over a slice is sigma h^2 / (2 pi m e) f(0) / pixel area, wherever atoms sit.
    renderer = SliceRenderer((2, 40, 40), VOXEL_A, margin=0)
    box = _box(renderer, [22, 8, 8], [[0.5, 3.111, 4.222], [1.0, 1.0, 6.05], [2.0, 7.9, 0.01]])
    total = renderer([box])[0].double().sum((1, 2)) * 0.04
    f = lobato_scattering_factor(torch.tensor([22, 8]), torch.zeros(1))[:, 0]
    expected = interaction_constant(300.0) * 47.87764 * torch.stack([f[0] + f[1], f[1]])
    torch.testing.assert_close(total, expected.double(), rtol=1e-5, atol=0)


def test_a_shift_is_a_phase_ramp():
    # Sub-pixel shifts are exact: the rendered spectrum turns by exp(-2 pi i k r), unblurred.
    renderer = SliceRenderer((1, 32, 48), VOXEL_A, margin=0)
    shift = np.array([0.0731, -1.2345])
    where = np.array([[0.8, 3.0, 4.0]])
    still, moved = (
        np.fft.fft2(
            renderer([_box(renderer, [22], where + np.array([0, *s]))])[0, 0].double().numpy()
        )
        for s in (np.zeros(2), shift)
    )
    ky, kx = np.fft.fftfreq(32, 0.2)[:, None], np.fft.fftfreq(48, 0.2)[None]
    ramp = np.exp(-2j * np.pi * (ky * shift[0] + kx * shift[1]))
    inner = np.ones((32, 48), bool)
    inner[16] = inner[:, 24] = False
    assert np.abs(moved - still * ramp)[inner].max() < 1e-5 * np.abs(still).max()


def test_y_and_x_are_alike():
    renderer = SliceRenderer((2, 32, 32), VOXEL_A, margin=0)
    rng = np.random.default_rng(0)
    numbers, positions = rng.choice([8, 22, 82], 9), rng.uniform(0, (3.2, 6.4, 6.4), (9, 3))
    one = renderer([_box(renderer, numbers, positions)])[0]
    other = renderer([_box(renderer, numbers, positions[:, [0, 2, 1]])])[0]
    torch.testing.assert_close(other.mT, one, rtol=1e-5, atol=1e-5)


def test_an_atom_peaks_on_its_pixel():
    renderer = SliceRenderer((2, 16, 20), VOXEL_A, margin=3)
    # position / pixel - margin
    box = _box(renderer, [38], [[1.7, (3 + 5) * 0.2, (3 + 11) * 0.2]])
    volume = renderer([box])[0]
    assert np.unravel_index(int(volume.argmax()), volume.shape) == (1, 5, 11)
    assert float(volume[0].abs().max()) == 0


def test_margin_hides_the_wrap():
    wide = SliceRenderer((1, 64, 64), VOXEL_A, margin=40)
    narrow = SliceRenderer((1, 64, 64), VOXEL_A, margin=8)
    rng = np.random.default_rng(0)
    inside = rng.uniform(8 * 0.2, 72 * 0.2, (30, 2))
    numbers = rng.choice([8, 22, 38], 30)
    pictures = [
        r([_box(r, numbers, np.column_stack([np.full(30, 0.8), inside + (r.margin - 8) * 0.2]))])
        for r in (wide, narrow)
    ]
    error = (pictures[0] - pictures[1]).norm() / pictures[0].norm()
    assert float(error) < 0.02


def test_a_plane_on_a_slice_boundary_stays_whole():
    # Rounding of sums of lattice vectors scatters such atoms by 1e-6 A to either side.
    renderer = SliceRenderer((3, 32, 32), VOXEL_A)
    rng = np.random.default_rng(0)
    z = 1.6 + rng.uniform(-1e-6, 1e-6, 50)
    box = _box(renderer, np.full(50, 8), np.column_stack([z, rng.uniform(0, 9.6, (50, 2))]))
    volume = renderer([box])[0]
    assert float(volume[0].abs().max()) == 0
    assert float(volume[1].max()) > 0


def test_volumes_of_a_batch_do_not_mix():
    renderer = SliceRenderer((2, 16, 16), VOXEL_A)
    rng = np.random.default_rng(0)
    size = renderer.box_size_A
    boxes = [
        _box(renderer, rng.choice([8, 22, 82], n), rng.uniform(0, size, (n, 3)))
        for n in (7, 1, 0, 12)
    ]
    batch = renderer(boxes)
    assert batch.shape == (4, 2, 16, 16)
    for box, volume in zip(boxes, batch, strict=True):
        torch.testing.assert_close(renderer([box])[0], volume, rtol=1e-4, atol=1e-6)
    assert float(batch[2].abs().max()) == 0


def test_many_atoms_of_an_element_are_the_sum_of_them():
    # They fill several rows of the packed arrays, the last one in part.
    renderer = SliceRenderer((2, 16, 16), VOXEL_A)
    rng = np.random.default_rng(0)
    numbers, positions = np.full(75, 22), rng.uniform(0, renderer.box_size_A, (75, 3))
    together = renderer([_box(renderer, numbers, positions)])[0]
    alone = renderer([_box(renderer, [22], [p]) for p in positions])
    torch.testing.assert_close(together, alone.sum(0), rtol=1e-4, atol=1e-5)


def test_phase_follows_the_interaction_constant():
    energies = (60.0, 300.0)
    volumes = []
    for energy in energies:
        renderer = SliceRenderer((1, 16, 16), VOXEL_A, energy_keV=energy)
        volumes.append(renderer([_box(renderer, [22], [[0.8, 3.2, 3.2]])]))
    ratio = interaction_constant(energies[0]) / interaction_constant(energies[1])
    torch.testing.assert_close(volumes[0], volumes[1] * ratio, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("z", [-0.5, 3.3])
def test_atoms_above_and_below_are_left_out(z):
    renderer = SliceRenderer((2, 16, 16), VOXEL_A)
    assert float(renderer([_box(renderer, [22], [[z, 3.2, 3.2]])]).abs().max()) == 0
