"""From atoms to phase slices: batched, exact in position, on any torch device.

The phase of slice s is sigma times the potential of the atoms inside it, each projected whole along
the beam (abTEM's ``projection="infinite"``), with the parametrisation of Lobato and Van Dyck (2014,
Acta Cryst. A 70, 636, eq. 16; abTEM's ``parametrization="lobato"``). Atoms are placed by their
phase factors exp(-2 pi i k r) and not by interpolation, so a rotated or shifted crystal is rendered
without any blur. `abtem.Potential` interpolates places of atoms between its pixels: on pixels eight
times finer, without the frequencies that ours cannot hold, it agrees to better than 1 %
(docs/rendering.md).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from napari_mep.crystals.structure import AtomBox

__all__ = ["PackedAtoms", "SliceRenderer", "lobato_scattering_factor", "pack_atoms"]

# h^2 / (2 pi m_e e) = 2 pi a_0 e / (4 pi eps_0): scattering factor in A to projected potential in
# V A^2 (Kirkland 2010, Advanced Computing in Electron Microscopy, eq. 5.9).
_VOLT_A2_PER_A = 47.87764

# A plane of atoms on a slice boundary belongs to the deeper slice, whole; cut_box rounds to 1e-6 A.
_EDGE_A = 2e-6

# Most atoms of a row of PackedAtoms. Rows are padded to the longest: long ones are mostly padding,
# of short ones there are many, and each costs a product.
_ROW = 16


@lru_cache(maxsize=1)
def _lobato_table() -> Tensor:
    """(104, 2, 5) coefficients a [A], b [A^2]; row 0 is unused."""
    rows = json.loads(files("napari_mep.crystals").joinpath("lobato.json").read_text("utf-8"))
    table = torch.zeros(len(rows) + 1, 2, 5, dtype=torch.float64)
    table[1:] = torch.tensor(list(rows.values()), dtype=torch.float64)
    return table


def lobato_scattering_factor(numbers: Tensor, k2: Tensor) -> Tensor:
    """Electron scattering factors of neutral atoms.

    Parameters
    ----------
    numbers : (n,) integer tensor
        Atomic numbers, 1 to 103.
    k2 : (...) tensor
        Squared spatial frequency, 1/A^2.

    Returns
    -------
    (n, ...) float64 tensor
        f(k) in A; multiply by 47.878 V A for the Fourier transform of the projected potential.
    """
    a, b = _lobato_table()[numbers.cpu()].to(k2.device).unbind(1)  # (n, 5) each
    shape = (len(numbers), 5) + (1,) * k2.ndim
    bk = b.view(shape) * k2.to(torch.float64)
    return (a.view(shape) * (2 + bk) / (1 + bk) ** 2).sum(1)


class PackedAtoms(NamedTuple):
    """Atoms of several boxes in rows of one slice and one element.

    Atoms of a row share a form factor, so their phase factors are summed first, by one matrix
    product per row.

    Parameters
    ----------
    volumes : int
        How many boxes.
    slice_of : (g,) int64 ndarray
        Slice of each row, counted through all boxes.
    numbers : (g,) int64 ndarray
        Atomic number of each row.
    yx_A : (g, n, 2) float64 ndarray
        Positions, angstrom; NaN where a row has fewer than n atoms.
    """

    volumes: int
    slice_of: np.ndarray
    numbers: np.ndarray
    yx_A: np.ndarray


def pack_atoms(boxes: Sequence[AtomBox], slices: int, slice_A: float) -> PackedAtoms:
    """Sort atoms into slices and elements: the part of rendering that is bookkeeping.

    Parameters
    ----------
    boxes : sequence of AtomBox
        Atoms; those before the first or behind the last slice are left out.
    slices : int
        Slices of a volume.
    slice_A : float
        Thickness of a slice, angstrom.
    """
    numbers = np.concatenate([box.numbers for box in boxes])
    positions = np.concatenate([box.positions_A for box in boxes])
    volume = np.repeat(np.arange(len(boxes)), [len(box.numbers) for box in boxes])
    z = np.floor((positions[:, 0] + _EDGE_A) / slice_A).astype(np.int64)
    inside = (z >= 0) & (z < slices)
    numbers, positions, volume, z = (a[inside] for a in (numbers, positions, volume, z))
    key = (volume * slices + z) * 128 + numbers
    order = np.argsort(key, kind="stable")
    keys, count = np.unique(key, return_counts=True)
    rows = -(-count // _ROW)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
    row = np.repeat(np.cumsum(rows) - rows, count) + rank // _ROW
    yx = np.full((rows.sum(), min(_ROW, count.max(initial=0)), 2), np.nan)
    yx[row, rank % _ROW] = positions[order, 1:]
    keys = np.repeat(keys, rows)
    return PackedAtoms(len(boxes), keys // 128, keys % 128, yx)


class SliceRenderer:
    """Renders boxes of atoms to phase volumes of one shape.

    Parameters
    ----------
    shape : (z, y, x) ints
        Voxels of the volumes.
    voxel_size_A : tuple of 3 floats
        (dz, dy, dx), angstrom.
    energy_keV : float
        Beam energy; sets the interaction constant.
    margin : int
        Pixels rendered beyond each lateral edge and cropped: atoms up to this far outside
        contribute their tails, and nothing wraps around visibly.
    device : torch.device or str
        Where to render.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        voxel_size_A: tuple[float, float, float],
        *,
        energy_keV: float = 300.0,
        margin: int = 8,
        device: torch.device | str = "cpu",
    ) -> None:
        from napari_mep.physics.optics import interaction_constant

        self.shape, self.voxel_size_A, self.margin = shape, voxel_size_A, margin
        self.device = torch.device(device)
        _, dy, dx = voxel_size_A
        self._grid = (shape[1] + 2 * margin, shape[2] + 2 * margin)
        self._ky = torch.fft.fftfreq(self._grid[0], dy, device=self.device, dtype=torch.float64)
        self._kx = torch.fft.rfftfreq(self._grid[1], dx, device=self.device, dtype=torch.float64)
        k2 = self._ky[:, None] ** 2 + self._kx[None] ** 2
        factor = interaction_constant(energy_keV) * _VOLT_A2_PER_A / (dy * dx)
        every = lobato_scattering_factor(torch.arange(1, 104), k2)
        self._form = torch.zeros(104, *k2.shape, dtype=torch.float32, device=self.device)
        self._form[1:] = (factor * every).float()

    @property
    def box_size_A(self) -> tuple[float, float, float]:
        """Size (z, y, x) of the boxes of atoms to hand in: the volume and its margin."""
        return (
            self.shape[0] * self.voxel_size_A[0],
            self._grid[0] * self.voxel_size_A[1],
            self._grid[1] * self.voxel_size_A[2],
        )

    def __call__(self, boxes: Sequence[AtomBox]) -> Tensor:
        """Render a batch.

        Parameters
        ----------
        boxes : sequence of AtomBox
            Atoms in boxes of `box_size_A`; a lateral position r lies on the centre of rendered
            pixel r / pixel size, so the cropped volume begins `margin` pixels later.

        Returns
        -------
        (B, z, y, x) float32 tensor
            Phase in radians.
        """
        return self.render(pack_atoms(boxes, self.shape[0], self.voxel_size_A[0]))

    def render(self, atoms: PackedAtoms) -> Tensor:
        """Render atoms that `pack_atoms` sorted, perhaps in another process."""
        shape = (atoms.volumes * self.shape[0], *self._form.shape[1:])
        out = torch.zeros(shape, dtype=torch.complex64, device=self.device)
        if len(atoms.slice_of):
            slice_of, numbers, yx = (self._on_device(a) for a in atoms[1:])
            present = ~torch.isnan(yx[..., 0])
            yx = torch.nan_to_num(yx)
            ey = self._phase_factor(yx[..., 0], self._ky) * present[..., None]
            if self._grid[0] % 2 == 0:
                # The highest frequency stands for both its signs; along x irfft2 sees to that.
                ey.imag[..., self._grid[0] // 2] = 0
            ex = self._phase_factor(yx[..., 1], self._kx)
            structure = torch.bmm(ey.transpose(1, 2), ex)
            structure *= self._form[numbers]
            out.index_add_(0, slice_of, structure)
        phase = torch.fft.irfft2(out, s=self._grid)
        m = self.margin
        phase = phase[:, m : m + self.shape[1], m : m + self.shape[2]]
        return phase.reshape(atoms.volumes, *self.shape)

    def _on_device(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":
            # A copy from ordinary memory would first wait for all that the device still has to do.
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    @staticmethod
    def _phase_factor(r: Tensor, k: Tensor) -> Tensor:
        """exp(-2 pi i k r) for (g, n) coordinates and (m,) frequencies: (g, n, m) complex64."""
        turns = r[..., None] * k
        angle = (turns - turns.round()).float() * (-2 * math.pi)
        return torch.complex(angle.cos(), angle.sin())  # torch.polar is three times slower on CPUs
