"""Endless training volumes, drawn from a crystal library and rendered on the fly."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count as count_from
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from napari_mep.crystals.cut import fill_box, oriented_cell
from napari_mep.crystals.defects import (
    amorphous_patch,
    grain_boundary,
    stacking_fault,
    substitutions,
    surface,
    vacancies,
)
from napari_mep.crystals.library import CrystalLibrary
from napari_mep.crystals.render import PackedAtoms, SliceRenderer, pack_atoms
from napari_mep.crystals.structure import AtomBox
from napari_mep.training.settings import TrainingSettings

__all__ = ["AtomBoxes", "VolumeSource", "data_scale"]

# The paper views crystals along a, b and c; a share along face diagonals adds orientations in
# which columns of different elements separate.
_ZONE_AXES = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]])
_ZONE_WEIGHTS = np.array([0.28, 0.28, 0.28, 0.16 / 3, 0.16 / 3, 0.16 / 3])
# <111>, <210> and <211>, one of each pair of opposite directions.
_LOW_INDEX_AXES = np.array(
    [
        axis
        for axis in itertools.product(range(-2, 3), repeat=3)
        if sorted(map(abs, axis)) in ([1, 1, 1], [0, 1, 2], [1, 1, 2]) and axis > (0, 0, 0)
    ]
)

_CHUNK = 16  # volumes packed at a time: the groups of a chunk are padded to its largest


class VolumeSource:
    """Random views of random crystals.

    Volume n depends on the seed and n alone, so a run can be cut and resumed anywhere and split
    over processes.

    Parameters
    ----------
    library : CrystalLibrary
        Crystals to draw from, uniformly.
    settings : TrainingSettings
        Voxels, tile and augmentation.
    device : torch.device or str
        Where volumes are rendered.
    workers : int
        Processes that cut boxes of atoms ahead of time; 0 cuts them in this process. One keeps up
        with about a thousand volumes a second.
    """

    def __init__(
        self,
        library: CrystalLibrary,
        settings: TrainingSettings,
        device: torch.device | str = "cpu",
        workers: int = 0,
    ) -> None:
        self.settings, self.workers = settings, workers
        self.renderer = SliceRenderer(
            settings.tile_shape,
            settings.voxel_size_A,
            energy_keV=settings.energy_keV,
            device=device,
        )
        self._boxes = AtomBoxes(library, settings, self.renderer.box_size_A)

    def __call__(self, first: int, count: int) -> Tensor:
        """Volumes first, ..., first + count - 1 as a (count, z, y, x) float32 tensor, radians."""
        chunks = (self._boxes[span] for span in _spans(first, count))
        return torch.cat([self.renderer.render(atoms) for atoms in chunks])

    def stream(self, first: int, count: int, stride: int) -> Iterator[Tensor]:
        """The volumes first ... first + count - 1, then those `stride` further on, without end.

        On a GPU the next ones are made while the network is busy with the last.
        """
        loader = DataLoader(
            self._boxes,
            batch_size=None,
            collate_fn=_unchanged,  # arrays travel through pipes; tensors would need shared memory
            sampler=_Spans(first, count, stride),
            num_workers=self.workers,
            prefetch_factor=8 if self.workers else None,
            generator=torch.Generator(),  # the global one is not ours to advance
            worker_init_fn=_leave_ctrl_c_to_parent,
        )
        chunks, parts = iter(loader), range(len(_spans(first, count)))
        batches = (
            torch.cat([self.renderer.render(next(chunks)) for _ in parts]) for _ in count_from()
        )
        device = self.renderer.device
        return batches if device.type == "cpu" else _ahead(batches, device)


def _ahead(batches: Iterator[Tensor], device: torch.device) -> Iterator[Tensor]:
    """The same batches, one of them always under way in a thread, on a CUDA stream of its own."""
    stream = None
    if device.type == "cuda":
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))  # for the tables of the renderer

    def make() -> tuple[Tensor, Any]:
        with torch.cuda.stream(stream):  # None changes nothing
            return next(batches), None if stream is None else stream.record_event()

    with ThreadPoolExecutor(1, "volumes") as pool:
        upcoming = pool.submit(make)
        while True:
            batch, made = upcoming.result()
            upcoming = pool.submit(make)
            if made is not None:
                here = torch.cuda.current_stream(device)
                here.wait_event(made)
                batch.record_stream(here)
            yield batch


class AtomBoxes(Dataset[PackedAtoms]):
    """The atoms of volumes, by their numbers: all that a worker process needs.

    Parameters
    ----------
    library : CrystalLibrary
        Crystals to draw from, uniformly.
    settings : TrainingSettings
        Defects and orientations.
    size_A : (z, y, x)
        Of each box, A.
    """

    def __init__(
        self,
        library: CrystalLibrary,
        settings: TrainingSettings,
        size_A: tuple[float, float, float],
    ) -> None:
        self.library, self.settings, self.size_A = library, settings, size_A

    def __getitem__(self, span: range) -> PackedAtoms:
        slices, slice_A = self.settings.tile_shape[0], self.settings.voxel_size_A[0]
        return pack_atoms([self.box(index) for index in span], slices, slice_A)

    def box(self, index: int) -> AtomBox:
        """A view of a crystal, defects included; depends on the seed and the number alone."""
        s = self.settings
        rng = np.random.default_rng([s.seed, index])
        box = self._view(rng)
        box = vacancies(box, s.vacancy_fraction, rng)
        # Nothing is drawn for a share of zero, so runs made without defects are repeated exactly.
        if s.substitution_fraction:
            box = substitutions(box, s.substitution_fraction, rng)
        if s.grain_boundary_share and rng.random() < s.grain_boundary_share:
            box = grain_boundary(box, self._view(rng), rng)
        if s.surface_share and rng.random() < s.surface_share:
            box = surface(box, rng)
        if s.amorphous_share and rng.random() < s.amorphous_share:
            box = amorphous_patch(box, rng)
        return box

    def _view(self, rng: np.random.Generator) -> AtomBox:
        """A crystal of the library as it fills the box in a random orientation."""
        s = self.settings
        crystal = self.library[int(rng.integers(len(self.library)))]
        strain = rng.normal(0, s.strain, (3, 3))
        deform = np.eye(3) + 0.5 * (strain + strain.T)
        zone_axis = _ZONE_AXES[rng.choice(len(_ZONE_AXES), p=_ZONE_WEIGHTS)]
        in_plane_deg = rng.uniform(0, 360)
        z, y, x = (rng.uniform(0, length) for length in self.size_A)
        tilt_mrad = rng.normal(0, s.tilt_mrad, 2)
        if s.low_index_share and rng.random() < s.low_index_share:
            zone_axis = _LOW_INDEX_AXES[rng.integers(len(_LOW_INDEX_AXES))]
        if s.misaligned_share and rng.random() < s.misaligned_share:
            tilt_mrad = rng.normal(0, s.misaligned_mrad, 2)
        cell = oriented_cell(
            crystal.cell_A @ deform, zone_axis.tolist(), in_plane_deg, tuple(tilt_mrad)
        )
        box = fill_box(crystal, cell, self.size_A, (z, y, x), rng)
        if s.stacking_fault_share and rng.random() < s.stacking_fault_share:
            box = stacking_fault(box, crystal, cell, (z, y, x), rng)
        return box


class _Spans:
    """Numbers of volumes, a chunk at a time, in the order in which training asks for them."""

    def __init__(self, first: int, count: int, stride: int) -> None:
        self.first, self.count, self.stride = first, count, stride

    def __iter__(self) -> Iterator[range]:
        for start in count_from(self.first, self.stride):
            yield from _spans(start, self.count)


def _spans(first: int, count: int) -> list[range]:
    end = first + count
    return [range(a, min(a + _CHUNK, end)) for a in range(first, end, _CHUNK)]


def _unchanged(atoms: Any) -> Any:
    return atoms


def _leave_ctrl_c_to_parent(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def data_scale(source: VolumeSource, volumes: int = 256) -> float:
    """1 / standard deviation of training volumes, per radian: what makes the data unit variance."""
    chunks = [source(2**40 + i, min(32, volumes - i)) for i in range(0, volumes, 32)]
    return float(1 / torch.cat(chunks).std())
