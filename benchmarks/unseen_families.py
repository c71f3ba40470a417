"""Write CIF files of structure types that no shipped prior was trained on, for `benchmark`.

    python benchmarks/unseen_families.py runs/unseen-cifs
    napari-mep benchmark -o runs/axes --crystals runs/unseen-cifs --zone-axes a,b,c \
        --doses 1e6,1e5,1e4 --methods gradient,mep --steps 25 --scan 16x16

The choice follows a rule, not a look at results: of the AFLOW prototypes that pymatgen ships, in
their order, those whose family is for test by its hash; compounds only; the first one of every
crystal system, and two more of the orthorhombic one, whose three axes differ.
All six systems that have a compound are there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ase import Atoms

from napari_mep.crystals.families import part_of
from napari_mep.crystals.prototypes import LONGEST_EDGE_A, aflow_prototypes
from napari_mep.crystals.structure import Crystal

_TAKEN = {"o": 3, "m": 1, "t": 1, "hR": 1, "hP": 1, "c": 1}  # by Pearson symbol


def chosen() -> list[Crystal]:
    """The crystals, in the order of pymatgen's list."""
    left, found = dict(_TAKEN), []
    for crystal in aflow_prototypes():
        pearson = crystal.family.split("_")[1] if "_" in crystal.family else ""
        system = pearson[:2] if pearson.startswith("h") else pearson[:1]
        edges = (crystal.cell_A**2).sum(1) ** 0.5
        if (
            # no elements, which the hash alone would decide, not their formula
            part_of(crystal.family, ()) == "test"
            and len(set(crystal.numbers.tolist())) > 1
            and edges.max() < LONGEST_EDGE_A
            and left.get(system, 0)
        ):
            left[system] -= 1
            found.append(crystal)
    return found


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for crystal in chosen():
        path = folder / f"{crystal.name}-{crystal.family.split('_')[1]}.cif"
        Atoms(
            crystal.numbers, cell=crystal.cell_A, scaled_positions=crystal.fractional, pbc=True
        ).write(path)
        print(path, crystal.family)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/unseen_families.py FOLDER")
    main(Path(sys.argv[1]))
