"""Rendering of training volumes beside `abtem.Potential`: how close, and how fast.

    python benchmarks/rendering.py LIBRARY.npz [--crystals 50] [-o table.md]

Draws views of random crystals as training does, without defects, and prints the tables of
docs/rendering.md: the relative L2 difference from abTEM on the same atoms, what the atoms beyond
the margin change, and volumes per second. Set OMP_NUM_THREADS=1 for rates of one core. Ends with 1
if one of the crystals differs by more than 1 % from abTEM on pixels eight times finer.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import abtem
import ase
import numpy as np
import torch

from napari_mep.crystals.cut import cut_box
from napari_mep.crystals.library import CrystalLibrary
from napari_mep.crystals.render import SliceRenderer, pack_atoms
from napari_mep.crystals.structure import AtomBox
from napari_mep.data._abtem_multislice import abtem_settings, fourier_crop
from napari_mep.physics.optics import interaction_constant

SHAPE, VOXEL_A, ENERGY_KEV = (8, 64, 64), (1.6, 0.2, 0.2), 300.0
ENDLESS = 64  # pixels: a margin beyond which nothing is seen
LIMIT = 0.01

# (label, times finer pixels, crystals of the 50 that are compared, settings of abtem.Potential)
COMPARISONS = (
    ("infinite, Lobato, 0.2 Å", 1, 50, {}),
    ("infinite, Lobato, 0.05 Å", 4, 50, {}),
    ("infinite, Lobato, 0.025 Å", 8, 50, {}),
    ("infinite, Lobato, 0.0125 Å", 16, 10, {}),
    ("infinite, Kirkland, 0.025 Å", 8, 10, {"parametrization": "kirkland"}),
    ("finite, Lobato, 0.025 Å", 8, 10, {"projection": "finite"}),
)


def views(library: CrystalLibrary, count: int, margin: int) -> Iterator[AtomBox]:
    """Boxes of atoms: a tile and a margin, random crystal, orientation, shift and tilt."""
    size = (SHAPE[0] * VOXEL_A[0], *((n + 2 * margin) * VOXEL_A[1] for n in SHAPE[1:]))
    for seed in range(count):
        rng = np.random.default_rng([0, seed])
        yield cut_box(
            library[int(rng.integers(len(library)))],
            size,
            zone_axis=rng.choice([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]).tolist(),
            in_plane_deg=rng.uniform(0, 360),
            offset_A=tuple(rng.uniform(0, s) for s in size),
            tilt_mrad=tuple(rng.normal(0, 3, 2)),
        )


def abtem_phase(box: AtomBox, finer: int, **settings: str) -> np.ndarray:
    """(z, y, x) phase of abTEM's potential, on finer pixels, then Fourier-cropped to ours."""
    z, y, x = box.size_A
    shape = (round(y / VOXEL_A[1]), round(x / VOXEL_A[2]))
    atoms = ase.Atoms(
        box.numbers, positions=box.positions_A[:, ::-1], cell=(x, y, z), pbc=(True, True, False)
    )
    settings = {"parametrization": "lobato", "projection": "infinite"} | settings
    potential = abtem.Potential(
        atoms,
        gpts=(finer * shape[1], finer * shape[0]),
        slice_thickness=(z / SHAPE[0],) * SHAPE[0],
        **settings,
    )
    slices = [
        fourier_crop(np.asarray(one.array[0]).T, shape) for one in potential.generate_slices()
    ]
    return float(interaction_constant(ENERGY_KEV)) * np.array(slices)


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def row(label: str, values: list[float]) -> str:
    return (
        f"| {label} | {len(values)} | {100 * np.median(values):.2f} % | {100 * max(values):.2f} % |"
    )


def closeness(library: CrystalLibrary, count: int) -> tuple[list[str], bool]:
    """The table of differences from abTEM on the same atoms, and whether the limit is kept."""
    renderer = SliceRenderer(SHAPE, VOXEL_A, energy_keV=ENERGY_KEV)
    tile = (slice(None), *2 * (slice(renderer.margin, -renderer.margin),))
    boxes = list(views(library, count, renderer.margin))
    ours = [renderer([box])[0].numpy() for box in boxes]
    lines = ["| abTEM | crystals | median | largest |", "|---|---|---|---|"]
    kept = True
    for label, finer, most, settings in COMPARISONS:
        pairs = list(zip(ours, boxes, strict=True))[:most]
        found = [difference(o, abtem_phase(b, finer, **settings)[tile]) for o, b in pairs]
        lines.append(row(label, found))
        if finer >= 8 and not settings:
            kept &= max(found) <= LIMIT
    return lines, kept


def margins(library: CrystalLibrary, count: int) -> list[str]:
    """What the atoms beyond the margin would change in a volume."""
    lines = ["| margin, pixels | crystals | median | largest |", "|---|---|---|---|"]
    endless = SliceRenderer(SHAPE, VOXEL_A, margin=ENDLESS)
    boxes = list(views(library, count, ENDLESS))
    wanted = [endless([box])[0].numpy() for box in boxes]
    for margin in (4, 8, 16, 32):
        renderer = SliceRenderer(SHAPE, VOXEL_A, margin=margin)
        size = renderer.box_size_A
        found = []
        for box, truth in zip(boxes, wanted, strict=True):
            places = box.positions_A - np.array([0, 1, 1]) * (ENDLESS - margin) * VOXEL_A[1]
            inside = ((places[:, 1:] >= 0) & (places[:, 1:] < size[1:])).all(1)
            part = AtomBox(box.numbers[inside], places[inside], size)
            found.append(difference(renderer([part])[0].numpy(), truth))
        lines.append(row(str(margin), found))
    return lines


def per_second(work: Callable[[], object], volumes: int, repeats: int = 5) -> float:
    """Volumes per second of processor time, best of a few."""
    work()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return volumes / min(times)


def rates(library: CrystalLibrary, count: int) -> list[str]:
    """Volumes per second, processor time, on the same views."""
    renderer = SliceRenderer(SHAPE, VOXEL_A)
    boxes = list(views(library, count, renderer.margin))
    batches = [boxes[i : i + 16] for i in range(0, count, 16)]
    packed = [pack_atoms(batch, SHAPE[0], VOXEL_A[0]) for batch in batches]
    few = boxes[:8]
    works: dict[str, tuple[Callable[[], object], int]] = {
        "atoms of a view (`cut_box`)": (
            lambda: list(views(library, count, renderer.margin)),
            count,
        ),
        "sorting (`pack_atoms`)": (
            lambda: [pack_atoms(batch, SHAPE[0], VOXEL_A[0]) for batch in batches],
            count,
        ),
        "rendering (`SliceRenderer.render`), 16 at a time": (
            lambda: [renderer.render(atoms) for atoms in packed],
            count,
        ),
        "abTEM, 0.2 Å": (lambda: [abtem_phase(box, 1) for box in few], len(few)),
        "abTEM, 0.025 Å, cropped": (lambda: [abtem_phase(box, 8) for box in few], len(few)),
    }
    lines = ["| | volumes / s |", "|---|---|"]
    for label, (work, volumes) in works.items():
        lines.append(f"| {label} | {per_second(work, volumes):.3g} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library")
    parser.add_argument("--crystals", type=int, default=50)
    parser.add_argument("-o", "--output", type=Path)
    a = parser.parse_args()

    library = CrystalLibrary.load(a.library)
    with abtem_settings("cpu") as version:
        table, kept = closeness(library, a.crystals)
        parts = [table, margins(library, a.crystals), rates(library, a.crystals)]
    head = f"abTEM {version}, torch {torch.__version__}, {torch.get_num_threads()} thread"
    text = "\n\n".join([head, *("\n".join(lines) for lines in parts)])
    print(text)
    if a.output:
        a.output.write_text(text + "\n", encoding="utf-8")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
