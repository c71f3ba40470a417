"""Symmetry operations for CIF files that give no more than the name of a space group.

One name may mean several settings: two origins, a rhombohedral or hexagonal cell, another unique
axis. pymatgen takes the first, which puts atoms where none are; here the name yields all settings
that fit the cell, so that the reader can try them. The tables are spglib's (530 settings).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from napari_mep.crystals._spglib import group_type, operations

__all__ = ["setting_operations", "settings_by_name"]

_LAST_HALL_NUMBER = 530


def settings_by_name(
    name: str, number: int | None, hall_symbol: str, cell_A: np.ndarray
) -> list[int]:
    """Hall numbers of the settings that a CIF file's words allow, likeliest first.

    Parameters
    ----------
    name : str
        Hermann-Mauguin name as written, old ones (F d 3 m) and marks of the setting (:1, :2, :H,
        :R, S, Z) included; "" if there is none.
    number : int or None
        Of the International Tables.
    hall_symbol : str
        Decides by itself where it is known.
    cell_A : (3, 3) ndarray
        Lattice vectors as rows; settings whose operations it does not have are left out.

    Returns
    -------
    list of int
        Empty if the name is not known.
    """
    by_hall, by_name, by_number = _tables()
    if found := by_hall.get(_plain(hall_symbol)):
        return [found]
    base, _, mark = name.strip().partition(":")
    base, mark = _modern(base), mark.strip().lower()
    halls = by_name.get(base, [])
    if not halls and base[-1:] in ("s", "z", "r", "h"):
        halls, mark = by_name.get(base[:-1], []), {"s": "1", "z": "2"}.get(base[-1], base[-1])
    if not halls and number:
        halls = by_number.get(number, [])
    halls = [hall for hall in halls if _fits(hall, cell_A)]
    marked = [hall for hall in halls if mark and _choice(hall) == mark]
    # Where nothing says so, the second origin, at a centre of inversion, is the modern habit.
    return marked or sorted(halls, key=lambda hall: _choice(hall) == "1")


def setting_operations(hall: int) -> list[str]:
    """Operations of a setting as CIF writes them: ``x,-y,z+1/2``."""
    return [
        ",".join(_row(row, shift) for row, shift in zip(rotation, translation, strict=True))
        for rotation, translation in zip(*operations(hall), strict=True)
    ]


def _row(row: np.ndarray, shift: float) -> str:
    text = "".join(
        ("+" if factor > 0 else "-") + axis
        for factor, axis in zip(row, "xyz", strict=True)
        if factor
    )
    twelfths = round(12 * float(shift)) % 12
    return text + (f"+{twelfths}/12" if twelfths else "")


@lru_cache(maxsize=1)
def _tables() -> tuple[Mapping[str, int], Mapping[str, list[int]], Mapping[int, list[int]]]:
    """Hall numbers by Hall symbol, by Hermann-Mauguin name and by number."""
    by_hall: dict[str, int] = {}
    by_name: dict[str, list[int]] = {}
    by_short: dict[str, list[int]] = {}
    by_number: dict[int, list[int]] = {}
    for hall in range(1, _LAST_HALL_NUMBER + 1):
        kind = group_type(hall)
        by_hall[_plain(kind.hall_symbol)] = hall
        by_number.setdefault(kind.number, []).append(hall)
        by_short.setdefault(_modern(kind.international_short), []).append(hall)
        for name in _spellings([*kind.international.split("="), kind.international_full]):
            by_name.setdefault(name, []).append(hall)
    # P 21/c means its standard setting; the short name of another group's is no better than that.
    return by_hall, by_short | by_name, by_number


def _spellings(names: list[str]) -> list[str]:
    """Full names as people shorten them and as they were written before 1992."""
    spelt = []
    for name in names:
        spelt.append(_modern(name))
        words = name.split()
        if words.count("1") == 2 and len(words) == 4:  # P 1 21/n 1 is P 21/n
            spelt.append(_modern("".join(word for word in words if word != "1")))
        if "e" in words and words[0] in _E_GLIDES:  # C m c e was C m c a
            spelt += [_modern("".join(words).replace("e", old)) for old in _E_GLIDES[words[0]]]
    return list(dict.fromkeys(spelt))


_E_GLIDES = {"A": "bc", "B": "ac", "C": "ab"}


def _choice(hall: int) -> str:
    return str(group_type(hall).choice).lower()


def _plain(text: str) -> str:
    return re.sub(r"[\s_]", "", text).lower()


def _modern(name: str) -> str:
    """A Hermann-Mauguin name without blanks; cubic ones without the bar that old ones lack."""
    return re.sub(r"^([pfi][mnabd])-3", r"\g<1>3", _plain(name).strip("'\""))


def _fits(hall: int, cell_A: np.ndarray) -> bool:
    """Whether the operations leave lengths and angles of the cell as they are, within 2 %."""
    metric = cell_A @ cell_A.T
    edge = np.sqrt(np.diag(metric))
    rotations = operations(hall)[0].astype(float)
    # Columns of a rotation act on coordinates: x' = R x, so the metric becomes R^T G R.
    turned = np.einsum("nki,kl,nlj->nij", rotations, metric, rotations)
    return bool((np.abs(turned - metric) / np.outer(edge, edge)).max() < 0.02)
