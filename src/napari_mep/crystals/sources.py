"""Crystals from whatever people keep them in: folders, CIF files, tables, archives, libraries.

Everything is read to its end whatever is broken on the way: what cannot be used is a `Refusal`
among the crystals, never an exception.
"""

from __future__ import annotations

import csv
import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from napari_mep.crystals.cif import decoded, read_structures
from napari_mep.crystals.library import CrystalLibrary
from napari_mep.crystals.structure import Crystal
from napari_mep.errors import CrystalError

__all__ = ["Refusal", "read_source", "source_files"]

_CIF = (".cif", ".mcif")
_TABLES = (".csv", ".tsv")
_TARS = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
_KNOWN = (*_CIF, *_TABLES, *_TARS, ".zip")

_BROKEN = (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError, RuntimeError)
_LONGEST_FIELD = 2**27  # of a table; a CIF file with reflections in it is long


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that is not in the library.

    Parameters
    ----------
    file : str
        The file, with the archive's member or the table's row.
    reason : str
        One line.
    """

    file: str
    reason: str


def source_files(source: str | Path) -> list[Path]:
    """The files of a source: itself, or all in the folder that may hold crystals, by name.

    Raises
    ------
    CrystalError
        It does not exist, or is a folder that holds none.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if _may_hold_crystals(p.name) and p.is_file())
        if not found:
            raise CrystalError(
                f"crystals {source}: the folder holds no CIF file, table (.csv) or archive "
                "(.zip, .tar); name one that does"
            )
        return found
    if not path.exists():
        raise CrystalError(f"crystals {source}: no such file or folder")
    return [path]


def read_source(path: Path) -> Iterator[Crystal | Refusal]:
    """Every crystal of a file, and why others are none.

    Parameters
    ----------
    path : Path
        CIF file, CSV table with a column ``cif``, zip or tar archive of these, each also
        compressed with gzip, or a crystal library (.npz). Any other file is read as CIF.

    Yields
    ------
    Crystal or Refusal
        In the order of the file.
    """
    if path.suffix.lower() == ".npz":
        try:
            library = CrystalLibrary.load(path)
        except CrystalError as err:
            yield Refusal(str(path), str(err).removeprefix(f"crystal library {path}: "))
        else:
            yield from (library[i] for i in range(len(library)))
        return
    try:
        data = path.read_bytes()
    except OSError as err:
        yield Refusal(str(path), f"cannot be read ({err.strerror})")
    else:
        yield from _contents(str(path), data)


def _may_hold_crystals(name: str) -> bool:
    # macOS leaves "._crystal.cif" beside "crystal.cif", which is none.
    return name.lower().removesuffix(".gz").endswith(_KNOWN) and not name.startswith("._")


def _contents(label: str, data: bytes) -> Iterator[Crystal | Refusal]:
    """Crystals of a file that may be an archive or a table; its label says which."""
    kind = label.lower()
    try:
        if kind.endswith(".zip"):
            members = _zip_members(data)
        elif kind.endswith(_TARS):
            members = _tar_members(data)
        elif kind.endswith(".gz"):
            yield from _contents(label[: -len(".gz")], gzip.decompress(data))
            return
        elif kind.endswith(_TABLES):
            yield from _rows(label, data)
            return
        else:
            yield from _structures(label, data)
            return
        found = False
        for name, content in members:
            found = True
            yield from _contents(f"{label}/{name}", content)
        if not found:
            yield Refusal(label, "the archive holds no CIF file")
    except _BROKEN as err:
        yield Refusal(label, f"damaged ({' '.join(str(err).split()) or type(err).__name__})")


def _zip_members(data: bytes) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in sorted(archive.namelist()):
            if _may_hold_crystals(PurePosixPath(name).name):
                yield name, archive.read(name)


def _tar_members(data: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            if member.isfile() and _may_hold_crystals(PurePosixPath(member.name).name):
                file = archive.extractfile(member)
                assert file is not None  # a regular file
                yield member.name, file.read()


def _structures(label: str, data: bytes) -> Iterator[Crystal | Refusal]:
    try:
        text = decoded(data)
    except CrystalError as err:
        yield Refusal(label, str(err))
        return
    for found in read_structures(text, PurePosixPath(label.replace("\\", "/")).stem):
        yield found if isinstance(found, Crystal) else Refusal(label, str(found))


def _rows(label: str, data: bytes) -> Iterator[Crystal | Refusal]:
    """Crystals of a table, named by their formula."""
    from napari_mep.crystals.chemistry import formula

    try:
        rows = _table(decoded(data))
    except (CrystalError, csv.Error) as err:
        yield Refusal(label, str(err))
        return
    for number, text in enumerate(rows):
        place = f"{label} row {number}"
        if not text.strip():
            yield Refusal(place, "empty")
            continue
        for found in read_structures(text, "row"):
            if isinstance(found, Crystal):
                yield replace(found, name=formula(found.numbers))
            else:
                yield Refusal(place, str(found))


def _table(text: str) -> list[str]:
    """The column ``cif`` of a table."""
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    with _long_fields():
        rows = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    names = [name.strip().lower() for name in rows[0]]
    if "cif" not in names:
        raise CrystalError(f"no column 'cif' (it has {', '.join(rows[0])[:80]})")
    column = names.index("cif")
    return [row[column] if column < len(row) else "" for row in rows[1:] if row]


@contextmanager
def _long_fields() -> Iterator[None]:
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)
