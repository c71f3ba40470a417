"""spglib's tables and its symmetry finder, without its warning about its own error handling.

Since 2.7 every call warns that errors will become exceptions in 3.0; both ways are met here. The
switch that silences it is a global of spglib's, which is not ours to turn.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import numpy as np

__all__ = ["group_type", "operations", "symmetry_of"]


@lru_cache(maxsize=530)
def operations(hall: int) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (m, 3, 3) and translations (m, 3) of a setting; not to be written to."""
    found = _quietly("get_symmetry_from_database", hall)
    return found["rotations"], found["translations"]


@lru_cache(maxsize=530)
def group_type(hall: int) -> Any:
    """Names of a setting: ``number``, ``international``, ``hall_symbol``, ``choice``."""
    return _quietly("get_spacegroup_type", hall)


def symmetry_of(
    cell_A: np.ndarray, fractional: np.ndarray, kinds: np.ndarray, tolerance_A: float
) -> Any:
    """What spglib finds in a crystal: ``number``, ``std_lattice``, …; None if nothing."""
    with np.errstate(all="ignore"):
        return _quietly("get_symmetry_dataset", (cell_A, fractional, kinds), symprec=tolerance_A)


def _quietly(function: str, *args: Any, **options: Any) -> Any:
    import spglib

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Set OLD_ERROR_HANDLING", DeprecationWarning)
        try:
            return getattr(spglib, function)(*args, **options)
        except getattr(spglib, "SpglibError", ()):
            return None
