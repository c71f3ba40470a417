"""Reading crystal structures from CIF files as they exist in the wild.

pymatgen does the parsing. Before it come what files lack or hide: their encoding, several data
blocks, cell parameters that are none, space groups given by name alone. After it comes what it
lets pass: atoms listed twice, atoms of a special position that its digits do not quite reach,
impossible densities. pymatgen is imported when a call needs it, not with this module.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_mep.crystals.soundness import sound
from napari_mep.crystals.structure import Crystal, cell_from_parameters
from napari_mep.crystals.symmetry import setting_operations, settings_by_name
from napari_mep.errors import CrystalError

__all__ = ["decoded", "read_cif", "read_structures"]

_log = logging.getLogger(__name__)

_LENGTHS = ("_cell_length_a", "_cell_length_b", "_cell_length_c")
_ANGLES = ("_cell_angle_alpha", "_cell_angle_beta", "_cell_angle_gamma")

_OPERATIONS = re.compile(
    r"^\s*_(symmetry_equiv_pos_as_xyz|space_group_symop_operation_xyz)",
    re.IGNORECASE | re.MULTILINE,
)
_SITES = re.compile(r"^\s*_atom_site_(fract|cartn)_x", re.IGNORECASE | re.MULTILINE)

_ZERO = re.compile(r"[+-]?0*\.?0*(\(\d+\))?")


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
    try:
        text = decoded(path.read_bytes())
    except FileNotFoundError:
        raise CrystalError(f"CIF file {path}: no such file") from None
    except OSError as err:
        raise CrystalError(f"CIF file {path}: cannot be read ({err.strerror})") from None
    except CrystalError as err:
        raise CrystalError(f"CIF file {path}: {err}") from None
    reasons = []
    for found in read_structures(text, path.stem):
        if isinstance(found, Crystal):
            return found
        reasons.append(str(found))
    raise CrystalError(f"CIF file {path}: no usable structure ({reasons[0]}); check the file")


def read_structures(text: str, name: str) -> Iterator[Crystal | CrystalError]:
    """Every structure of a CIF text, or the reason why there is none.

    Parameters
    ----------
    text : str
        See `decoded`.
    name : str
        Names the crystals, with the block's name where there are several.

    Yields
    ------
    Crystal or CrystalError
        One for every data block with atoms; at least one. Reasons are one line without the file's
        name. Blocks of bibliography and the like are passed over.
    """
    blocks = _blocks(text)
    with_atoms = [block for block in blocks if _SITES.search(block.text)]
    if not with_atoms:
        yield CrystalError("no atom sites" if blocks else "no data block (data_...)")
    for block in with_atoms:
        label = f"{name} {block.name}" if len(with_atoms) > 1 else name
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                crystal = _structure(block, label)
            for warning in caught:
                _log.info("%s: pymatgen warns: %s", label, _one_line(warning.message))
            yield crystal
        except CrystalError as err:
            yield err
        except Exception as err:  # noqa: BLE001 - parsers fail in countless ways
            yield CrystalError(_one_line(err))


def decoded(data: bytes) -> str:
    """The text of a CIF file, which is ASCII by definition and anything in practice.

    Raises
    ------
    CrystalError
        It is empty, binary or a web page.
    """
    if not data.strip():
        raise CrystalError("the file is empty")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = data.decode("utf-16", errors="replace")
    elif b"\0" in data:
        raise CrystalError("binary data, expected a CIF text file")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("latin-1")  # names of authors in old files
    if re.match(r"\s*<(!doctype|html|\?xml|head)", text, re.IGNORECASE):
        raise CrystalError("a web page, no CIF; download the file itself")
    return text.replace("\r\n", "\n").replace("\r", "\n")


# --- one data block -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Block:
    name: str
    text: str

    def value(self, *keys: str) -> str:
        """What stands behind the first of these names that the block has, without quotes."""
        for key in keys:
            found = re.search(
                rf"^\s*{re.escape(key)}[ \t]+(\S.*?)[ \t]*$",
                self.text,
                re.IGNORECASE | re.MULTILINE,
            )
            if found and found[1] not in ("?", "."):
                # The Hall symbol -P 3 2" ends in what elsewhere is a quote.
                quoted = re.match(r"(['\"])(.*)\1(\s+#.*)?$", found[1])
                return str(quoted[2] if quoted else found[1]).strip()
        return ""


def _blocks(text: str) -> list[_Block]:
    names: list[str] = []
    bodies: list[list[str]] = []
    in_text_field = False
    for line in text.split("\n"):
        if line.startswith(";"):
            in_text_field = not in_text_field
        elif not in_text_field and line.lstrip().lower().startswith("data_"):
            names.append(line.split()[0][len("data_") :])
            bodies.append([])
        if bodies:
            bodies[-1].append(line)
    return [_Block(n, "\n".join(body) + "\n") for n, body in zip(names, bodies, strict=True)]


def _structure(block: _Block, name: str) -> Crystal:
    block, cell_A = _completed(block)
    formula = block.value("_chemical_formula_sum")
    settings: list[int] = []
    if not _OPERATIONS.search(block.text):
        settings = settings_by_name(
            block.value("_symmetry_space_group_name_H-M", "_space_group_name_H-M_alt"),
            _whole(block.value("_symmetry_Int_Tables_number", "_space_group_IT_number")),
            block.value("_symmetry_space_group_name_Hall", "_space_group_name_Hall"),
            cell_A,
        )
    if not settings:
        return sound(_parsed(block.text, name), formula)
    refused: CrystalError | None = None
    for setting in settings:
        operations = "\n".join(f"'{text}'" for text in setting_operations(setting))
        text = f"{block.text}\nloop_\n_symmetry_equiv_pos_as_xyz\n{operations}\n"
        try:
            return sound(_parsed(text, name), formula)
        except CrystalError as err:
            refused = refused or err
    assert refused is not None
    raise refused


def _completed(block: _Block) -> tuple[_Block, np.ndarray]:
    """The block with the angles that it leaves out, which are 90 degrees, and its cell."""
    values, missing = [], []
    for key in (*_LENGTHS, *_ANGLES):
        text = block.value(key)
        if not text and key in _ANGLES:
            text = "90"
            missing.append(f"{key} 90\n")
        if not text:
            raise CrystalError(f"no {key}")
        number = re.match(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text)
        if number is None:
            raise CrystalError(f"{key} = {text}: no number")
        # Parsers only see cosines: to them 250 degrees are as good as 110.
        highest, unit = (180.0, "degrees") if key in _ANGLES else (1e4, "A")
        if not 0 < float(number[0]) < highest:
            raise CrystalError(f"{key} = {text}: must lie between 0 and {highest:g} {unit}")
        values.append(float(number[0]))
    head, _, rest = block.text.partition("\n")
    cell = cell_from_parameters(*values)
    return _Block(block.name, f"{head}\n{''.join(missing)}{rest}"), cell


def _parsed(text: str, name: str) -> Crystal:
    from pymatgen.io.cif import CifParser

    # Atoms that a file lists twice add up to two at one place: pymatgen makes them one.
    parser = CifParser.from_str(text, occupancy_tolerance=np.inf)
    for block in parser._cif.data.values():  # the only place between its parser and its builder
        _mend_atoms(block.data)
    try:
        structure = parser.parse_structures(primitive=False)[0]
    except ValueError:
        # Its last warning says what the exception does not: why the block could not be used.
        if parser.warnings:
            raise CrystalError(_one_line(parser.warnings[-1].split("CIF.\n")[-1])) from None
        raise
    atoms = [
        (_atomic_number(str(getattr(specie, "symbol", specie))), site.frac_coords, occupancy)
        for site in structure
        for specie, occupancy in site.species.items()
        if occupancy > 1e-6
    ]
    if not atoms:
        raise CrystalError("no atoms: every occupancy is zero")
    numbers, places, occupancy = zip(*atoms, strict=True)
    return Crystal(
        structure.lattice.matrix,
        np.array(numbers),
        np.array(places),
        np.minimum(np.array(occupancy), 1.0),
        name,
    )


def _mend_atoms(data: dict[str, Any]) -> None:
    """Drop the rows of the atom table that are no atoms; what is unknown has its default."""
    columns = {
        key.lower(): key
        for key, values in data.items()
        if key.lower().startswith("_atom_site_") and isinstance(values, list)
    }

    def column(name: str) -> list[str]:
        return data[columns[name]] if name in columns else []

    places = [column(f"_atom_site_fract_{axis}") for axis in "xyz"]
    atoms = len(places[0])
    if not atoms or any(len(values) != atoms for values in places):
        return
    real = [not any(row in ("?", ".") for row in rows) for rows in zip(*places, strict=True)]
    if not any(real):
        raise CrystalError("no atom has coordinates")
    if len(flags := column("_atom_site_calc_flag")) == atoms:
        real = [is_real and flag != "dum" for is_real, flag in zip(real, flags, strict=True)]
    if len(occupancies := column("_atom_site_occupancy")) == atoms:
        shares = ["1" if text in ("?", ".") else text for text in occupancies]
        data[columns["_atom_site_occupancy"]] = shares
        real = [r and not _ZERO.fullmatch(text) for r, text in zip(real, shares, strict=True)]
        if not any(real):
            raise CrystalError("no atoms: every occupancy is zero")
    for key in columns.values():
        if len(data[key]) == atoms:
            data[key] = [value for value, r in zip(data[key], real, strict=True) if r]


def _atomic_number(symbol: str) -> int:
    from ase.data import atomic_numbers

    symbol = {"D": "H", "T": "H"}.get(symbol, symbol)
    number = atomic_numbers.get(symbol, 0)
    if not number:
        raise CrystalError(f"'{symbol}' is no element")
    return int(number)


def _whole(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _one_line(error: object) -> str:
    text = " ".join(str(error).split())[:200]
    kind = type(error).__name__
    return text if text and not isinstance(error, KeyError) else f"{kind} {text}".strip()
