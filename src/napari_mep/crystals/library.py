"""The compact file that training reads: unit cells and atoms of many crystals, a few megabytes."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_mep.crystals.structure import Crystal
from napari_mep.errors import CrystalError, ExportError

__all__ = ["CrystalLibrary"]

_FORMAT = 1


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
    sources : dict
        Where the crystals came from, for the model card.
    """

    cells_A: np.ndarray
    start: np.ndarray
    numbers: np.ndarray
    fractional: np.ndarray
    occupancy: np.ndarray
    names: tuple[str, ...]
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
        head = {"format": _FORMAT, "names": self.names, "sources": self.sources}
        partial = path.with_name(path.name + ".partial.npz")
        try:
            np.savez_compressed(
                partial,
                head=np.frombuffer(json.dumps(head).encode(), np.uint8),
                **{k: getattr(self, k) for k in _ARRAYS},
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
                if head["format"] != _FORMAT:
                    raise CrystalError(
                        f"crystal library {path}: format {head['format']}, this version reads "
                        f"{_FORMAT}"
                    )
                library = cls(
                    **{k: archive[k] for k in _ARRAYS},
                    names=tuple(head["names"]),
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
        if len(library.start) != count + 1 or library.start[-1] != atoms:
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
_ARRAYS = ("cells_A", "start", "numbers", "fractional", "occupancy")
