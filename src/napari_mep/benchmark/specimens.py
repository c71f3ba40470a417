"""What is benchmarked: the project's own held-out crystals, or anyone's folder of CIF files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from napari_mep.crystals.cut import parse_zone_axis
from napari_mep.crystals.samples import list_samples
from napari_mep.errors import CrystalError

__all__ = ["Specimen", "find_specimens", "held_out", "zone_axis_text"]

PEROVSKITES = "Held-out perovskites"
STRANGERS = "No perovskites"
OTHERS = "Crystals"


@dataclass(frozen=True, slots=True)
class Specimen:
    """A crystal by name, not read yet.

    Parameters
    ----------
    name : str
        What tables call it.
    source : str or Path
        Built-in sample or CIF file.
    zone_axes : tuple of (u, v, w)
        Directions it is looked at along.
    group : str
        Specimens of a group are averaged over together.
    """

    name: str
    source: str | Path
    zone_axes: tuple[tuple[int, int, int], ...]
    group: str


# The cation pairs of all ten perovskites are held out of the shipped prior's training (a test
# says so); the others are no perovskites at all. Polar PbTiO3 and KNbO3 are seen along a, so that
# their off-centre atoms are spread over depth.
_HELD_OUT = (
    ("SrTiO3", "srtio3", "c", PEROVSKITES),
    ("BaTiO3", "batio3", "c", PEROVSKITES),
    ("CaTiO3", "catio3", "c", PEROVSKITES),
    ("PbTiO3", "pbtio3.cif", "a", PEROVSKITES),
    ("KNbO3", "knbo3.cif", "a", PEROVSKITES),
    ("KTaO3", "ktao3.cif", "c", PEROVSKITES),
    ("BaZrO3", "bazro3.cif", "c", PEROVSKITES),
    ("LaAlO3", "laalo3.cif", "c", PEROVSKITES),
    ("KMgF3", "kmgf3.cif", "c", PEROVSKITES),
    ("LaMnO3", "lamno3.cif", "c", PEROVSKITES),
    ("TiO2-rutile", "tio2-rutile", "c", STRANGERS),
    ("Si", "si", "c", STRANGERS),
    ("GaAs", "gaas", "c", STRANGERS),
    ("MgO", "mgo.cif", "c", STRANGERS),
    ("MoS2", "mos2", "c", STRANGERS),
)


def held_out() -> tuple[Specimen, ...]:
    """The crystals that ship with the benchmark and that the shipped prior never saw."""
    folder = Path(str(files("napari_mep.benchmark").joinpath("crystals")))
    return tuple(
        Specimen(
            name,
            folder / source if source.endswith(".cif") else source,
            (parse_zone_axis(axis),),
            group,
        )
        for name, source, axis, group in _HELD_OUT
    )


def find_specimens(
    sources: Sequence[str] = (),
    zone_axes: Sequence[str] = (),
    limit: int | None = None,
) -> tuple[Specimen, ...]:
    """The specimens that the user named.

    Parameters
    ----------
    sources : sequence of str
        Folders (searched for ``*.cif``, subfolders too), CIF files, names of the held-out set or
        built-in samples. Empty: the held-out set.
    zone_axes : sequence of str
        Directions for every crystal, such as ``"a"`` or ``"1,1,0"``. Empty: each crystal's own in
        the held-out set, c otherwise.
    limit : int, optional
        Take the first so many crystals.

    Returns
    -------
    tuple of Specimen
        In the order given, those of a folder by name.

    Raises
    ------
    CrystalError
        Nothing is there by a name, a folder without CIF files, one crystal named twice, or a zone
        axis that is none.
    """
    axes = tuple(dict.fromkeys(parse_zone_axis(axis) for axis in zone_axes))
    found = [s for source in sources for s in _resolve(source)] if sources else list(held_out())
    names = [specimen.name for specimen in found]
    for name in names:
        if names.count(name) > 1:
            raise CrystalError(f"crystal {name}: named twice; name every crystal once")
    return tuple(
        Specimen(s.name, s.source, axes or s.zone_axes, s.group) for s in found[: limit or None]
    )


def zone_axis_text(axis: Sequence[int]) -> str:
    """``"a"``, ``"b"``, ``"c"`` or ``"u,v,w"``."""
    named = {(1, 0, 0): "a", (0, 1, 0): "b", (0, 0, 1): "c"}
    return named.get((axis[0], axis[1], axis[2])) or ",".join(str(n) for n in axis)


def _resolve(source: str) -> list[Specimen]:
    path = Path(source)
    axes = (parse_zone_axis("c"),)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() == ".cif" and p.is_file())
        if not found:
            raise CrystalError(f"folder {path}: holds no .cif file; name one that does")
        # With their subfolders, so that equal file names stay apart.
        names = [p.relative_to(path).with_suffix("").as_posix() for p in found]
        return [Specimen(n, p, axes, OTHERS) for n, p in zip(names, found, strict=True)]
    if path.is_file():
        return [Specimen(path.stem, path, axes, OTHERS)]
    own = {specimen.name.lower(): specimen for specimen in held_out()}
    if source.lower() in own:
        return [own[source.lower()]]
    if source.lower() in list_samples():
        return [Specimen(source.lower(), source.lower(), axes, OTHERS)]
    raise CrystalError(
        f"crystal '{source}': neither a folder or file nor one of "
        f"{', '.join(dict.fromkeys([*own, *list_samples()]))}"
    )
