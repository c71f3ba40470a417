"""One library from many sources: read, classified, filtered, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from napari_mep.crystals.families import Part, classified, part_of
from napari_mep.crystals.library import CrystalLibrary
from napari_mep.crystals.perovskites import distorted_perovskite
from napari_mep.crystals.prototypes import aflow_prototypes, decorations
from napari_mep.crystals.sources import Refusal, read_source, source_files
from napari_mep.crystals.structure import Crystal
from napari_mep.crystals.symmetric import random_crystals
from napari_mep.errors import CrystalError

__all__ = ["BUILTIN", "BuildOptions", "BuildReport", "SourceCount", "build_library"]

BUILTIN = "builtin"

_PROTOTYPES = 288  # of AFLOW in pymatgen; for the progress bar only


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What goes into a library.

    Parameters
    ----------
    part : {"train", "validation", "test"} or None
        Keep the structure families of one part only; None keeps all.
    longest_edge_A : float
        Cells with an edge as long as this or longer are refused.
    family_limit : int or None
        Crystals of one structure family that one source may give.
    tilted : bool
        Add a tilted, strained relative (2x2x2) of every cubic perovskite.
    decorations : int
        Of the built-in library: with how many other compositions each prototype is taken.
    random : int
        Of the built-in library: how many symmetric random crystals are drawn.
    seed : int
        Of everything drawn.
    """

    part: Part | None = None
    longest_edge_A: float = 20.0
    family_limit: int | None = None
    tilted: bool = False
    decorations: int = 45
    random: int = 7500
    seed: int = 0


@dataclass(frozen=True, slots=True)
class SourceCount:
    """What became of one source.

    Parameters
    ----------
    name : str
        As it was given, or which part of the built-in library.
    read : int
        Structures found, usable or not.
    kept : int
        Crystals in the library, before relatives and repetition.
    refused : int
        Not usable.
    other_part : int
        Left out for their structure family's part.
    family_full : int
        Left out because their family had its share.
    """

    name: str
    read: int
    kept: int
    refused: int
    other_part: int
    family_full: int


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What was read, kept and refused; the library's size is its own business.

    Parameters
    ----------
    counts : tuple of SourceCount
        By source, each once.
    refused : tuple of Refusal
        One for each structure that is not usable.
    """

    counts: tuple[SourceCount, ...]
    refused: tuple[Refusal, ...]


def build_library(
    sources: Sequence[str],
    options: BuildOptions | None = None,
    tell: Callable[[int, int, str], None] | None = None,
) -> tuple[CrystalLibrary, BuildReport]:
    """Make a library.

    Parameters
    ----------
    sources : sequence of str
        Folders and files (see `napari_mep.crystals.sources`) or ``"builtin"``. One that is named
        several times counts several times.
    options : BuildOptions, optional
        What is kept.
    tell : callable, optional
        ``tell(done, total, remark)`` as files are read.

    Raises
    ------
    CrystalError
        A source does not exist, or nothing usable was found.
    """
    options = options or BuildOptions()
    inputs = {
        name: [name] if name == BUILTIN else source_files(name) for name in dict.fromkeys(sources)
    }
    total = sum(
        _PROTOTYPES + options.random if name == BUILTIN else len(files)
        for name, files in inputs.items()
    )
    done = 0
    counts: list[SourceCount] = []
    refused: list[Refusal] = []
    kept: dict[str, list[Crystal]] = {}
    descriptions: dict[str, str] = {}
    for name, files in inputs.items():
        if name == BUILTIN:
            parts = _builtin(options)
        else:
            parts = {name: _tagged(files)}
        kept[name] = []
        for label, found in parts.items():
            sieve = _Sieve(label, options)
            for step, crystal in found:
                done += step
                if crystal is not None:
                    sieve.take(crystal)
                if tell is not None and step:
                    tell(done, total, label)
            counts.append(sieve.count())
            refused += sieve.refused
            kept[name] += sieve.kept
            descriptions[label] = sieve.description()
    crystals = list(chain.from_iterable(kept[name] for name in sources))
    if not crystals:
        raise CrystalError(_nothing(counts, refused, options))
    return CrystalLibrary.from_crystals(crystals, descriptions), BuildReport(
        tuple(counts), tuple(refused)
    )


_Found = Iterator[tuple[int, Crystal | Refusal | None]]


def _tagged(files: Sequence) -> _Found:
    """Crystals of files, with 1 at the end of each for the progress."""
    for path in files:
        for found in read_source(path):
            yield 0, found
        yield 1, None


def _builtin(options: BuildOptions) -> dict[str, _Found]:
    """The sources that the built-in library is made of."""
    prototypes = aflow_prototypes()

    def plain() -> _Found:
        for crystal in prototypes:
            yield 0, crystal

    def decorated() -> _Found:
        for index, prototype in enumerate(prototypes):
            rng = np.random.default_rng([options.seed, index])
            for crystal in decorations(prototype, options.decorations, rng):
                yield 0, crystal
            yield 1, None

    def random() -> _Found:
        for crystal in random_crystals(options.random, options.seed):
            yield 1, crystal

    return {
        "AFLOW prototypes": plain(),
        "AFLOW prototypes, decorated": decorated(),
        "symmetric random crystals": random(),
    }


class _Sieve:
    """Sorts the crystals of one source."""

    def __init__(self, label: str, options: BuildOptions) -> None:
        self.label, self.options = label, options
        self.kept: list[Crystal] = []
        self.refused: list[Refusal] = []
        self._of_family: Counter[str] = Counter()
        self._read = self._taken = self._other_part = self._full = 0

    def take(self, found: Crystal | Refusal) -> None:
        self._read += 1
        if isinstance(found, Refusal):
            self.refused.append(found)
            return
        o = self.options
        crystal = found if found.family else classified(found)
        edge = np.linalg.norm(crystal.cell_A, axis=1).max()
        if edge >= o.longest_edge_A:
            reason = f"cell edge of {edge:.1f} A, the limit is {o.longest_edge_A:g} A"
            self.refused.append(Refusal(f"{self.label}: {crystal.name}", reason))
        elif o.part is not None and part_of(crystal.family, crystal.numbers) != o.part:
            self._other_part += 1
        elif o.family_limit is not None and self._of_family[crystal.family] >= o.family_limit:
            self._full += 1
        else:
            self._of_family[crystal.family] += 1
            self._taken += 1
            self.kept.append(crystal)
            if o.tilted:
                rng = np.random.default_rng([o.seed, self._taken])
                relative = distorted_perovskite(crystal, rng)
                self.kept += [] if relative is None else [relative]

    def count(self) -> SourceCount:
        return SourceCount(
            self.label,
            self._read,
            self._taken,
            len(self.refused),
            self._other_part,
            self._full,
        )

    def description(self) -> str:
        """For the model card."""
        relatives = len(self.kept) - self._taken
        return f"{self._taken} crystals" + (f", {relatives} tilted relatives" if relatives else "")


def _nothing(
    counts: Sequence[SourceCount], refused: Sequence[Refusal], options: BuildOptions
) -> str:
    read = sum(c.read for c in counts)
    if any(c.other_part for c in counts):
        why = f"none of their structure families is in the {options.part} part; leave out --part"
    elif refused:
        why = f"the first: {refused[0].file}: {refused[0].reason}"
    else:
        why = "they hold none"
    return f"crystals: none of the {read} structures read can be used; {why}"
