"""The compact file that training reads: unit cells and atoms of many crystals, a few megabytes."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from napari_mep.crystals.families import Part, part_of
from napari_mep.crystals.structure import Crystal
from napari_mep.errors import CrystalError, ExportError

__all__ = ["CrystalLibrary"]

_FORMAT = 2
# Coordinates on disk are whole steps of 1 / 65536 of the cell edge: below 0.2 mA in any cell.
_STEPS = 2**16


@dataclass(frozen=True, slots=True, eq=False)
class CrystalLibrary:
    """Crystals as flat arrays.

    Parameters
    ----------
    cells_A : (m, 3, 3) float32 ndarray
        Lattice vectors as rows, angstrom.
    start : (m + 1,) int64 ndarray
        Atoms of crystal i are rows start[i]:start[i + 1].
    numbers : (n,) uint8 ndarray
        Atomic numbers.
    fractional : (n, 3) float32 ndarray
        Fractional coordinates.
    occupancy : (n,) float32 ndarray
        Site occupancies.
    names : tuple of str
        One per crystal.
    families : tuple of str
        One per crystal, see `napari_mep.crystals.families`; "" in files of format 1.
    sources : dict
        Where the crystals came from, for the model card.
    """

    cells_A: np.ndarray
    start: np.ndarray
    numbers: np.ndarray
    fractional: np.ndarray
    occupancy: np.ndarray
    names: tuple[str, ...]
    families: tuple[str, ...]
    sources: dict[str, str]

    def __len__(self) -> int:
        return len(self.cells_A)

    def __getitem__(self, index: int) -> Crystal:
        atoms = slice(self.start[index], self.start[index + 1])
        return Crystal(
            self.cells_A[index],
            self.numbers[atoms],
            self.fractional[atoms],
            self.occupancy[atoms],
            self.names[index],
            self.families[index],
        )

    def split(self, part: Part) -> CrystalLibrary:
        """The crystals of one part; no structure family is in two of them.

        Parameters
        ----------
        part : {"train", "validation", "test"}
            See `napari_mep.crystals.families.part_of`.

        Raises
        ------
        CrystalError
            The part is empty, or there is none of this name.
        """
        if part not in get_args(Part):
            raise CrystalError(f"part {part!r}: must be one of {', '.join(get_args(Part))}")
        kept = [
            i
            for i, family in enumerate(self.families)
            if part_of(family, self.numbers[self.start[i] : self.start[i + 1]]) == part
        ]
        if not kept:
            raise CrystalError(
                f"crystal library: none of its {len(self)} crystals is in the {part} part; "
                "build it from more structure families"
            )
        return self.subset(kept)

    def subset(self, indices: Sequence[int] | np.ndarray) -> CrystalLibrary:
        """The crystals of these indices, in this order.

        Parameters
        ----------
        indices : sequence of int
            At least one.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        sizes = np.diff(self.start)[chosen]
        atoms = np.concatenate([np.arange(self.start[i], self.start[i + 1]) for i in chosen])
        return CrystalLibrary(
            self.cells_A[chosen],
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            self.numbers[atoms],
            self.fractional[atoms],
            self.occupancy[atoms],
            tuple(self.names[i] for i in chosen),
            tuple(self.families[i] for i in chosen),
            self.sources,
        )

    @classmethod
    def from_crystals(
        cls, crystals: Iterable[Crystal], sources: dict[str, str] | None = None
    ) -> CrystalLibrary:
        """Gather crystals.

        Raises
        ------
        CrystalError
            If there is none.
        """
        kept = list(crystals)
        if not kept:
            raise CrystalError("crystal library: no usable crystal; nothing to train on")
        sizes = [len(c.numbers) for c in kept]
        return cls(
            np.stack([c.cell_A for c in kept]).astype(np.float32),
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            np.concatenate([c.numbers for c in kept]).astype(np.uint8),
            np.concatenate([c.fractional for c in kept]).astype(np.float32),
            np.concatenate([c.occupancy for c in kept]).astype(np.float32),
            tuple(c.name for c in kept),
            tuple(c.family for c in kept),
            dict(sources or {}),
        )

    def save(self, path: str | Path) -> None:
        """Write a compressed .npz without pickled objects, atomically.

        Raises
        ------
        ExportError
            If the file cannot be written.
        """
        path = Path(path)
        families = list(dict.fromkeys(self.families))
        index = {family: i for i, family in enumerate(families)}
        head = {
            "format": _FORMAT,
            "names": self.names,
            "families": families,
            "sources": self.sources,
        }
        arrays = {
            "cells_A": self.cells_A,
            "start": self.start,
            "numbers": self.numbers,
            "fractional": (np.rint(self.fractional * _STEPS) % _STEPS).astype(np.uint16),
            "occupancy": self.occupancy,
            "family": np.array([index[family] for family in self.families], dtype=np.int32),
        }
        partial = path.with_name(path.name + ".partial.npz")
        try:
            np.savez_compressed(
                partial, head=np.frombuffer(json.dumps(head).encode(), np.uint8), **arrays
            )
            partial.replace(path)
        except OSError as err:
            raise ExportError(f"output {path}: cannot be written ({err.strerror or err})") from None

    @classmethod
    def load(cls, path: str | Path) -> CrystalLibrary:
        """Read a library.

        Raises
        ------
        CrystalError
            If the file is missing, is no library, or is of a newer format.
        """
        try:
            # Opened here: np.load leaves the file open when the archive is broken.
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
                head = json.loads(archive["head"].tobytes())
                if head["format"] not in (1, _FORMAT):
                    raise CrystalError(
                        f"crystal library {path}: format {head['format']}, this version reads "
                        f"1 and {_FORMAT}; update the program"
                    )
                fractional = archive["fractional"]
                if head["format"] == 1:
                    families = ("",) * len(archive["cells_A"])
                else:
                    fractional = fractional.astype(np.float32) / _STEPS
                    families = tuple(head["families"][i] for i in archive["family"])
                library = cls(
                    cells_A=archive["cells_A"],
                    start=archive["start"],
                    numbers=archive["numbers"],
                    fractional=fractional,
                    occupancy=archive["occupancy"],
                    names=tuple(head["names"]),
                    families=families,
                    sources=head["sources"],
                )
        except FileNotFoundError:
            raise CrystalError(f"crystal library {path}: no such file") from None
        except _BROKEN as err:
            reason = " ".join(str(err).split())
            raise CrystalError(
                f"crystal library {path}: not readable ({reason}); make it with "
                "'napari-mep crystals build'"
            ) from None
        count, atoms = len(library), len(library.numbers)
        fits = len(library.start) == count + 1 and library.start[-1] == atoms
        fits &= len(library.fractional) == len(library.occupancy) == atoms
        fits &= len(library.names) == len(library.families) == count
        if not fits:
            raise CrystalError(
                f"crystal library {path}: damaged, {count} cells and {atoms} atoms do not fit "
                "together; make it with 'napari-mep crystals build'"
            )
        return library


# What NumPy and json raise on files that are truncated or no library.
_BROKEN = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    zlib.error,
    zipfile.BadZipFile,
)
