"""Reading crystal structures from CIF files, partial occupancies included.

pymatgen does the parsing; where it gives up, ASE has a second try (each reads files that the other
refuses). Both import when the call needs them, not with this module.
"""

from __future__ import annotations

import logging
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_mep.crystals.structure import Crystal
from napari_mep.errors import CrystalError

__all__ = ["draw_occupancy", "read_cif"]

_log = logging.getLogger(__name__)

# Refined occupancies exceed one by their error bars, and mixed sites by several of them.
_OCCUPANCY_TOLERANCE = 1.2

# Volume per atom in A^3. Solids lie between 5 (diamond) and 115 (caesium); beyond these limits the
# cell is given in another unit or most of its atoms are missing.
_VOLUME_PER_ATOM_A3 = (2.0, 500.0)

_CELL_PARAMETER = re.compile(
    r"^\s*(_cell[_.](length|angle)_\w+)\s+(-?\d+(?:\.\d*)?)", re.IGNORECASE | re.MULTILINE
)

_SAME_SITE_A = 0.05  # atoms closer than this share one site and exclude each other


def read_cif(path: str | Path) -> Crystal:
    """First usable crystal structure of a CIF file.

    Parameters
    ----------
    path : str or Path
        The file; of several data blocks the first with a complete structure counts.

    Returns
    -------
    Crystal
        The conventional cell as written. A mixed site is several atoms at one place with
        occupancies that sum to at most 1; deuterium is hydrogen.

    Raises
    ------
    CrystalError
        The file is missing, no CIF, holds no usable structure or a cell that no solid has.
    """
    path = Path(path)
    text = _read_text(path)
    _check_cell_parameters(text, path)
    reasons: list[str] = []
    for name, parse in (("pymatgen", _parse_pymatgen), ("ASE", _parse_ase)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                crystal = parse(text, path.stem)
                _check_density(crystal)
                reason = ""
            except CrystalError as err:
                reason = str(err).removeprefix(f"{path.stem}: ")
            except Exception as err:  # noqa: BLE001 - parsers fail in countless ways
                reason = _one_line(err)
        for warning in caught:
            _log.info("%s: %s warns: %s", path, name, _one_line(warning.message))
        if not reason:
            return crystal
        _log.info("%s: %s refuses: %s", path, name, reason)
        reasons.append(reason)
    # pymatgen's reason is the more telling one: ASE only had the second try.
    raise CrystalError(f"CIF file {path}: no usable structure ({reasons[0]}); check the file")


def draw_occupancy(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    """Decide for every partially occupied site which atom sits there, if any.

    Parameters
    ----------
    crystal : Crystal
        Atoms within 0.05 A of each other are alternatives on one site.
    rng : numpy Generator
        Source of the draws.

    Returns
    -------
    Crystal
        Full occupancies; the crystal itself where nothing had to be drawn.

    Raises
    ------
    CrystalError
        The draw left no atom at all.
    """
    occupancy = crystal.occupancy
    assert occupancy is not None  # filled in by Crystal
    partial = np.flatnonzero(occupancy < 1.0 - 1e-6)
    if not len(partial):
        return crystal
    keep = np.ones(len(crystal.numbers), dtype=bool)
    keep[partial] = False
    for site in _group_sites(crystal, partial):
        # The last outcome is the vacancy.
        chances = np.append(occupancy[site], max(0.0, 1.0 - occupancy[site].sum()))
        drawn = rng.choice(len(chances), p=chances / chances.sum())
        if drawn < len(site):
            keep[site[drawn]] = True
    if not keep.any():
        raise CrystalError(f"{crystal.name}: no site is occupied in this draw; use another seed")
    return replace(
        crystal,
        numbers=crystal.numbers[keep],
        fractional=crystal.fractional[keep],
        occupancy=None,
    )


def _group_sites(crystal: Crystal, atoms: np.ndarray) -> list[np.ndarray]:
    """Indices of atoms that share a site, in order of first appearance."""
    fractional = crystal.fractional[atoms]
    free = np.ones(len(atoms), dtype=bool)
    groups = []
    for first in range(len(atoms)):
        if not free[first]:
            continue
        delta = fractional - fractional[first]
        delta -= np.round(delta)
        together = free & (np.linalg.norm(delta @ crystal.cell_A, axis=1) < _SAME_SITE_A)
        free[together] = False
        groups.append(atoms[together])
    return groups


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise CrystalError(f"CIF file {path}: no such file") from None
    except OSError as err:
        raise CrystalError(f"CIF file {path}: cannot be read ({err.strerror})") from None
    if not data.strip():
        raise CrystalError(f"CIF file {path}: the file is empty")
    if b"\0" in data:
        raise CrystalError(f"CIF file {path}: binary data, expected a CIF text file")
    # CIF is ASCII by definition; author names in old files are Latin-1.
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    if "data_" not in text.lower():
        raise CrystalError(f"CIF file {path}: no data block (data_...), expected a CIF file")
    return text


def _check_cell_parameters(text: str, path: Path) -> None:
    """The parsers only see cosines: to them 250 degrees are as good as 110."""
    for name, kind, value in _CELL_PARAMETER.findall(text):
        highest, unit = (180.0, "degrees") if kind.lower() == "angle" else (1e4, "A")
        if not 0 < float(value) < highest:
            raise CrystalError(
                f"CIF file {path}: {name} = {value}: must lie between 0 and {highest:g} {unit}"
            )


def _parse_pymatgen(text: str, name: str) -> Crystal:
    from pymatgen.io.cif import CifParser

    parser = CifParser.from_str(text, occupancy_tolerance=_OCCUPANCY_TOLERANCE)
    try:
        structure = parser.parse_structures(primitive=False)[0]
    except ValueError:
        # Its last warning says what the exception does not: why no block could be used.
        if parser.warnings:
            raise CrystalError(_one_line(parser.warnings[-1].split("CIF.\n")[-1])) from None
        raise
    atoms = [
        (_element_number(str(getattr(specie, "symbol", specie))), site.frac_coords, occupancy)
        for site in structure
        for specie, occupancy in site.species.items()
    ]
    return _crystal(structure.lattice.matrix, atoms, name)


def _parse_ase(text: str, name: str) -> Crystal:
    from io import StringIO

    from ase.io.cif import parse_cif

    failure: Exception | None = None
    for block in parse_cif(StringIO(text)):
        try:
            atoms = block.get_atoms()
            if not len(atoms):
                continue
            fractional = atoms.get_scaled_positions(wrap=True)
            kinds = atoms.arrays.get("spacegroup_kinds", np.arange(len(atoms)))
            occupancy = atoms.info.get("occupancy") or {}
            sites = []
            for number, place, kind in zip(atoms.numbers, fractional, kinds, strict=True):
                shares = occupancy.get(str(kind)) or {int(number): 1.0}
                for element, share in shares.items():
                    z = element if isinstance(element, int) else _element_number(str(element))
                    sites.append((z, place, float(share)))
            return _crystal(np.asarray(atoms.cell), sites, name)
        except Exception as err:  # noqa: BLE001 - the next block may be complete
            failure = err
    raise failure or CrystalError("no data block with atoms")


def _crystal(cell: np.ndarray, atoms: list[tuple[int, np.ndarray, float]], name: str) -> Crystal:
    atoms = [atom for atom in atoms if atom[2] > 1e-6]
    if not atoms:
        raise CrystalError("no atoms")
    numbers, places, occupancy = zip(*atoms, strict=True)
    return Crystal(
        cell, np.array(numbers), np.array(places), np.minimum(np.array(occupancy), 1.0), name
    )


def _element_number(symbol: str) -> int:
    from ase.data import atomic_numbers

    symbol = {"D": "H", "T": "H"}.get(symbol, symbol)
    number = atomic_numbers.get(symbol, 0)
    if not number:
        raise CrystalError(f"'{symbol}' is no element")
    return int(number)


def _check_density(crystal: Crystal) -> None:
    assert crystal.occupancy is not None
    volume = abs(np.linalg.det(crystal.cell_A)) / crystal.occupancy.sum()
    low, high = _VOLUME_PER_ATOM_A3
    if not low <= volume <= high:
        raise CrystalError(
            f"{volume:.3g} A^3 per atom, possible are {low:g} to {high:g}: cell lengths must be in "
            "A and angles in degrees"
        )


def _one_line(error: object) -> str:
    text = " ".join(str(error).split())[:200]
    kind = type(error).__name__
    return text if text and not isinstance(error, KeyError) else f"{kind} {text}".strip()
