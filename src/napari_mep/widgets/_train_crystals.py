"""Crystals to train on: a library file, or one built by ``napari-mep crystals build``.

Everything here runs in a thread; nothing knows Qt.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_mep.errors import CrystalError
from napari_mep.training.settings import TrainingSettings
from napari_mep.widgets._watched import Watch

__all__ = ["BUILTIN", "Library", "Refusal", "build", "find", "is_library", "render"]

BUILTIN = "builtin"
"""What ``napari-mep crystals build`` calls the library that needs no files."""

_BUILDER = (sys.executable, "-m", "napari_mep.cli", "crystals", "build")
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Refusal:
    """A crystal that is not in the library, and why."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class Library:
    """A library that is there and can be read.

    Parameters
    ----------
    path : Path
        The .npz file.
    crystals, atoms : int
        How many.
    sources : mapping
        Where they come from.
    built : float or None
        When it was built from something else, Unix seconds.
    refusals : tuple of Refusal
        What was left out when it was built just now.
    """

    path: Path
    crystals: int
    atoms: int
    sources: Mapping[str, str]
    built: float | None = None
    refusals: tuple[Refusal, ...] = ()


def is_library(source: str) -> bool:
    """Whether a source is used as it is; anything else has to be built into a library first."""
    return source.endswith(".npz")


def find(source: str, _watch: Watch) -> Library | None:
    """The library of a source, None if it has yet to be built.

    Raises
    ------
    CrystalError
        If the source is not there, or a library is not readable.
    """
    if is_library(source):
        return _read(Path(source).expanduser())
    if source != BUILTIN and not Path(source).expanduser().exists():
        raise CrystalError(f"crystals {source}: no such file or folder")
    built = _built(source)
    if not built.exists():
        return None
    return _read(built, built.stat().st_mtime)


def build(source: str, watch: Watch, builder: Sequence[str] = _BUILDER) -> Library:
    """Build a source into a library; kept, so that `find` finds it the next time.

    Raises
    ------
    CrystalError
        If the builder refuses the source.
    """
    target = _built(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    name = source if source == BUILTIN else str(Path(source).expanduser().absolute())
    command = [*builder, name, "-o", str(target), "--overwrite", "--json"]
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        while True:
            try:
                output, errors = process.communicate(timeout=_POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                watch.tell(0, 0, f"building the library… {time.monotonic() - began:.0f} s")
                if watch.stop.is_set():
                    raise CrystalError("building the library was cancelled") from None
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate()
    if process.returncode:
        raise CrystalError(_last_line(errors) or f"crystals {source}: the library was not built")
    return _read(target, time.time(), _refusals(output))


def render(
    library: Library, settings: TrainingSettings, first: int, count: int
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Training volumes as the network will see them.

    Parameters
    ----------
    library : Library
        Crystals to draw from.
    settings : TrainingSettings
        Voxels, tile and augmentation.
    first, count : int
        Which volumes of the endless row.

    Returns
    -------
    (count, z, y, x) float32 ndarray
        Phase of each slice in radians.
    tuple of 3 floats
        Voxel size (z, y, x) in angstrom.
    """
    from napari_mep.crystals.library import CrystalLibrary
    from napari_mep.training.volumes import VolumeSource

    source = VolumeSource(CrystalLibrary.load(library.path), settings)
    return source(first, count).cpu().numpy(), settings.voxel_size_A


def _read(path: Path, built: float | None = None, refusals: tuple[Refusal, ...] = ()) -> Library:
    from napari_mep.crystals.library import CrystalLibrary

    library = CrystalLibrary.load(path)
    return Library(
        path.absolute(), len(library), len(library.numbers), library.sources, built, refusals
    )


def _built(source: str) -> Path:
    """Where the library of a source is kept."""
    # Reading crystal structures loads pymatgen, but finding the cache folder loads nothing.
    import platformdirs

    chosen = os.environ.get("NAPARI_MEP_CACHE")
    base = Path(chosen) if chosen else platformdirs.user_cache_path("napari-mep")
    place = source if source == BUILTIN else str(Path(source).expanduser().absolute())
    digest = hashlib.sha256(place.encode()).hexdigest()[:10]
    return base / "crystals" / f"{Path(place).name.partition('.')[0]}-{digest}.npz"


def _refusals(output: str) -> tuple[Refusal, ...]:
    """What the builder's JSON says about crystals that it left out."""
    with suppress(ValueError, TypeError, AttributeError, KeyError):
        refused: list[Any] = json.loads(output).get("refused", [])
        return tuple(Refusal(str(r["file"]), str(r["reason"])) for r in refused)
    return ()


def _last_line(errors: str) -> str:
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return lines[-1].removeprefix("napari-mep: ") if lines else ""
