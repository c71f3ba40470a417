"""EMPAD: raw float32 frames, with or without the XML file that the detector writes beside them.

The first EMPAD writes 130 rows of 128 pixels, of which the last two are no image; the second one,
and many converters, write 128 rows. The number of scan positions tells one from the other.
"""

from __future__ import annotations

import ast
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from napari_mep.data._store import one_line
from napari_mep.data.formats._frames import (
    SQUARE_ASSUMED,
    broken,
    map_frames,
    no_inner,
    not_one,
    with_remark,
)
from napari_mep.data.formats._units import from_file
from napari_mep.data.opened import OpenedPatterns
from napari_mep.errors import DataError

__all__ = ["open_raw", "open_xml"]

_log = logging.getLogger(__name__)

_SIZE = 128  # detector pixels along each axis
_FOOTERS = {2: "EMPAD", 0: "EMPAD, 128 rows"}
_XML_BYTES = 1 << 20  # a larger file is not the detector's


@dataclass(frozen=True, slots=True)
class _Header:
    """What an XML file says; empty without one."""

    raw: str = ""
    scan_shape: tuple[int, int] | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


def open_raw(
    path: Path, inner: str | None = None, scan_shape: tuple[int, int] | None = None
) -> OpenedPatterns:
    """Open a ``.raw`` file; the XML file beside it that names it is read too.

    The scan shape is the caller's, the XML file's or the one in the name (``scan_x128_y256.raw``);
    as a last resort a square scan is assumed, and the format's name says so.

    Raises
    ------
    DataError
        The size of the file fits no scan of 130 x 128 or 128 x 128 float32 frames.
    """
    no_inner(path, inner)
    return _open(path, path, _header_beside(path), scan_shape)


def open_xml(
    path: Path, inner: str | None = None, scan_shape: tuple[int, int] | None = None
) -> OpenedPatterns:
    """Open the scan that an EMPAD XML file describes.

    Raises
    ------
    DataError
        No XML file of an EMPAD, or its raw file is missing or of another size.
    """
    no_inner(path, inner)
    header = _read_header(path)
    raw = path.with_name(header.raw)
    if not raw.is_file():
        raise DataError(f"{path}: its raw file {header.raw} is missing; put it beside the XML file")
    return _open(path, raw, header, scan_shape)


def _open(path: Path, raw: Path, header: _Header, given: tuple[int, int] | None) -> OpenedPatterns:
    shape, footer, remark = _layout(raw, given or header.scan_shape or _shape_in_name(raw))
    fields: list[Any] = [("data", "<f4", (_SIZE, _SIZE))]
    if footer:
        fields.append(("footer", "<f4", (footer, _SIZE)))
    patterns = map_frames(raw, shape, np.dtype(fields), 0, "EMPAD")
    return OpenedPatterns(
        patterns=patterns,
        calibration=from_file(path, header.values),
        name=path.name,
        path=path,
        format=with_remark(_FOOTERS[footer], remark),
        provenance={"source": raw.name},
    )


def _layout(raw: Path, shape: tuple[int, int] | None) -> tuple[tuple[int, int], int, str]:
    """Scan shape, rows that are no image, and what was assumed."""
    size = raw.stat().st_size
    counts = {}  # rows that are no image -> patterns
    for footer in _FOOTERS:
        frames, rest = divmod(size, (_SIZE + footer) * _SIZE * 4)
        if frames and not rest:
            counts[footer] = frames
    if shape is not None:
        for footer, frames in counts.items():
            if frames == shape[0] * shape[1]:
                return shape, footer, ""
        wanted = shape[0] * shape[1]
        raise DataError(
            f"{raw}: {size} bytes are not {shape[0]} x {shape[1]} patterns of an EMPAD "
            f"({wanted * 130 * _SIZE * 4} or {wanted * _SIZE * _SIZE * 4} bytes); "
            "copy the file anew or give the right scan shape (rows x columns)"
        )
    squares = {f: math.isqrt(n) for f, n in counts.items() if math.isqrt(n) ** 2 == n and n > 1}
    if len(squares) != 1:
        raise DataError(
            f"{raw}: {size} bytes do not say the scan shape of an EMPAD scan; "
            f"give it as rows x columns, in a path as {raw.name}::YxX"
        )
    ((footer, side),) = squares.items()
    return (side, side), footer, SQUARE_ASSUMED


def _shape_in_name(raw: Path) -> tuple[int, int] | None:
    """(rows, columns) of ``scan_x128_y256.raw``."""
    found = re.search(r"x(\d+)_y(\d+)", raw.stem)
    return (int(found[2]), int(found[1])) if found else None


def _header_beside(raw: Path) -> _Header:
    """The XML file in the same folder that names this raw file, if there is one."""
    for path in sorted(raw.parent.glob("*.xml")):
        try:
            if path.stat().st_size < _XML_BYTES:
                header = _read_header(path)
                if header.raw == raw.name:
                    return header
        except (DataError, OSError) as err:
            _log.debug("%s does not belong to %s: %s", path.name, raw.name, one_line(err))
    return _Header()


def _read_header(path: Path) -> _Header:
    try:
        if path.stat().st_size >= _XML_BYTES:
            raise not_one(path, "EMPAD XML", "too large for a header")
        if path.read_bytes().lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"<", b""):
            raise not_one(path, "EMPAD XML", "no XML at all")
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError, ValueError) as err:
        raise broken(path, "EMPAD XML", err) from None
    first = root.find("raw_file")
    raw = _text(root, "rawfile/filename") if first is None else str(first.get("filename", ""))
    if not raw:
        raise DataError(f"{path}: an XML file, but none of an EMPAD scan (it names no raw file)")
    try:
        shape = _scan_shape(root)
        return _Header(Path(raw).name, shape, _values(root, shape))
    except (ValueError, SyntaxError, TypeError, ZeroDivisionError, RecursionError) as err:
        raise broken(path, "EMPAD XML", err) from None


def _scan_shape(root: ElementTree.Element) -> tuple[int, int] | None:
    for y, x in (
        ("pix_y", "pix_x"),
        (
            "scan_parameters[@mode='acquire']/scan_resolution_y",
            "scan_parameters[@mode='acquire']/scan_resolution_x",
        ),
    ):
        if _text(root, y) and _text(root, x):
            return int(_text(root, y)), int(_text(root, x))
    numbers = [int(n) for n in re.findall(r"\d+", _text(root, "scan/shape"))]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


def _values(root: ElementTree.Element, shape: tuple[int, int] | None) -> dict[str, Any]:
    """Calibration of both generations: they spell it differently."""
    iom = "iom_measurements/"
    values: dict[str, Any] = {}
    volts = _text(root, f"{iom}high_voltage") or _text(root, f"{iom}ColumnSourceHighVoltage")
    if volts:
        values["beam_energy_keV"] = float(volts) / 1e3
    if radians := _text(root, f"{iom}calibrated_diffraction_angle"):
        values["detector_step_mrad"] = float(radians) * 1e3
    elif pixel := _text(root, f"{iom}calibrated_pixelsize"):
        values["detector_step_invA"] = float(pixel) * 1e8  # the file's number is 1/nm / 1e9
    if shape is None:
        return values
    if fields := _text(root, f"{iom}optics.get_full_scan_field_of_view"):
        height, width = (float(metres) * 1e10 for metres in ast.literal_eval(fields))
        values["scan_step_A"] = (height / shape[0], width / shape[1])
    elif metres := _text(root, f"{iom}full_scan_field_of_view/x"):
        # The field of the longer side, multiplied with the factor.
        factor = float(_text(root, f"{iom}full_scan_field_of_view/scale_factor") or 1)
        values["scan_step_A"] = float(metres) * 1e10 / factor / max(shape)
    return values


def _text(root: ElementTree.Element, where: str) -> str:
    """Text of an element, which may have several parents of one name; empty if there is none."""
    return (root.findtext(where) or "").strip()
