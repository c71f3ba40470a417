"""Opening 4D-STEM files of any known format.

``file.h5::/path/in/file`` (also for ``.npz`` and Zarr) names an array inside a file, and a last
``::256x256`` the scan shape (rows x columns) of a stack. Each format is one `Reader`; a new one is
added to the tuple that `readers` returns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_mep.data._arrays import open_npy, open_npz
from napari_mep.data._store import one_line
from napari_mep.data.calibration import Calibration, PartialCalibration, as_partial
from napari_mep.data.dataset import DiffractionDataset, PatternArray
from napari_mep.data.formats import arina, empad, gatan, hdf5, merlin, ptyrad, simple, zarr_store
from napari_mep.data.formats._views import StackAsScan
from napari_mep.data.opened import OpenedPatterns
from napari_mep.errors import DataError

__all__ = ["Reader", "open_dataset", "open_patterns", "readers"]


@dataclass(frozen=True, slots=True)
class Reader:
    """How one file format is recognised and opened.

    Parameters
    ----------
    format : str
        Name shown to people.
    suffixes : tuple of str
        Lower-case file name endings.
    open : callable
        (path, inner path or None, scan shape or None) -> `OpenedPatterns`, or the bare array and
        its inner path where the format knows nothing else.
    is_folder : bool
        Whether it is a folder of files.
    """

    format: str
    suffixes: tuple[str, ...]
    open: Callable[[Path, str | None, tuple[int, int] | None], OpenedPatterns | tuple[Any, str]]
    is_folder: bool = False

    def matches(self, path: Path) -> bool:
        """Whether the file name belongs to this format."""
        return path.name.lower().endswith(self.suffixes)


def readers() -> tuple[Reader, ...]:
    """All formats, in the order in which they are tried."""
    return (
        Reader("Zarr", (".zarr",), zarr_store.open_zarr, is_folder=True),
        Reader("NumPy", (".npy",), open_npy),
        Reader("NumPy archive", (".npz",), open_npz),
        Reader("Dectris ARINA", ("_master.h5",), arina.open_master),
        Reader("HDF5", (".h5", ".hdf5", ".hdf", ".he5", ".nxs", ".cxi"), hdf5.open_hdf5),
        Reader("EMD", (".emd",), hdf5.open_hdf5),
        Reader("HyperSpy", (".hspy",), hdf5.open_hdf5),
        Reader("EMPAD", (".raw",), empad.open_raw),
        Reader("EMPAD header", (".xml",), empad.open_xml),
        Reader("Merlin", (".mib",), merlin.open_mib),
        Reader("Gatan DigitalMicrograph", (".dm3", ".dm4"), gatan.open_dm),
        Reader("ASTAR blockfile", (".blo",), simple.open_blo),
        Reader("TVIPS", (".tvips",), simple.open_tvips),
        Reader("MRC", (".mrc", ".mrcs"), simple.open_mrc),
        Reader("PtyRAD parameters", (".yml", ".yaml", ".toml", ".json"), ptyrad.open_params),
    )


def open_patterns(
    source: str | Path,
    calibration: str | Path | Mapping[str, Any] | Calibration | PartialCalibration | None = None,
    scan_shape: tuple[int, int] | None = None,
) -> OpenedPatterns:
    """Open a file without asking for a complete calibration.

    Parameters
    ----------
    source : str or Path
        The file, optionally with ``::/path/in/file`` and ``::YxX``, the scan shape.
    calibration : path of a TOML file, mapping, Calibration or PartialCalibration, optional
        What the user knows; wins over what the file says.
    scan_shape : tuple of 2 ints, optional
        Scan positions (y, x), needed for a stack (n, ky, kx) in raster order.

    Returns
    -------
    OpenedPatterns
        Patterns stay on disk (except for ``.npz``).

    Raises
    ------
    DataError
        Missing, broken or unknown file, wrong number of axes, or a scan shape that does not fit.
    CalibrationError
        The calibration has an unknown key or an impossible value.
    """
    path, inner, named_shape = _split(str(source))
    scan_shape = scan_shape or named_shape
    if not path.exists():
        raise DataError(f"{path}: no such file")
    user = as_partial(calibration)
    reader = next((r for r in readers() if r.matches(path)), None)
    if reader is None:
        known = ", ".join(suffix for r in readers() for suffix in r.suffixes)
        raise DataError(f"{path}: format not recognised; known file names end in {known}")
    if path.is_dir() != reader.is_folder:
        kinds = ("a folder", "a file") if path.is_dir() else ("a file", "a folder")
        raise DataError(
            f"{path}: {kinds[0]}, but {reader.format} data are {kinds[1]}; check its name"
        )
    try:
        opened = reader.open(path, inner, scan_shape)
    except OSError as err:  # no permission, or a folder or nothing in the place of a file beside it
        where = "" if err.filename in (None, str(path)) else f" {err.filename}"
        raise DataError(
            f"{path}: cannot be read ({err.strerror or one_line(err)}{where}); "
            "check permissions and the disk"
        ) from None
    if isinstance(opened, OpenedPatterns):
        _check_scan_shape(opened.patterns, scan_shape, opened.name)
        return replace(opened, calibration=opened.calibration.merge(user))
    patterns, inner_path = opened
    name = f"{path.name}::{inner_path}" if inner_path else path.name
    return OpenedPatterns(
        patterns=_as_scan(patterns, scan_shape, name),
        calibration=user,
        name=name,
        path=path,
        format=reader.format,
        provenance={"source": name},
    )


def open_dataset(
    source: str | Path,
    calibration: str | Path | Mapping[str, Any] | Calibration | PartialCalibration | None = None,
    scan_shape: tuple[int, int] | None = None,
) -> DiffractionDataset:
    """Open a file whose calibration, together with `calibration`, is complete.

    Parameters and errors are those of `open_patterns`; in addition:

    Raises
    ------
    CalibrationError
        Required values are missing, or the detector does not reach the bright-field disk.
    """
    return open_patterns(source, calibration, scan_shape).calibrated()


def _split(source: str) -> tuple[Path, str | None, tuple[int, int] | None]:
    """File, path in the file and scan shape of ``file.h5::/path::256x128``."""
    text, *inner = source.split("::")
    shape = None
    if inner and (found := re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", inner[-1])):
        shape = int(found[1]), int(found[2])
        inner.pop()
    return Path(text).expanduser(), "::".join(inner) or None, shape


def _as_scan(patterns: Any, scan_shape: tuple[int, int] | None, name: str) -> PatternArray:
    if len(patterns.shape) != 3:
        _check_scan_shape(patterns, scan_shape, name)
        return patterns
    stack = tuple(int(n) for n in patterns.shape)
    if scan_shape is None:
        raise DataError(
            f"{name}: 3 axes of shape {stack}, expected 4 (scan_y, scan_x, ky, kx); for a stack "
            "of patterns give the scan shape (rows x columns)"
        )
    rows, columns = scan_shape
    if rows < 1 or columns < 1 or rows * columns != stack[0]:
        raise DataError(
            f"{name}: scan shape {rows} x {columns} = {rows * columns} positions does not fit "
            f"{stack[0]} patterns; give rows and columns whose product is {stack[0]}"
        )
    if isinstance(patterns, np.ndarray):
        return patterns.reshape(rows, columns, *stack[1:])
    return StackAsScan(patterns, (rows, columns))


def _check_scan_shape(
    patterns: PatternArray, scan_shape: tuple[int, int] | None, name: str
) -> None:
    """A scan shape is not needed for 4D data; if given, it must be theirs."""
    own = tuple(int(n) for n in patterns.shape[:2])
    if scan_shape is not None and tuple(scan_shape) != own:
        raise DataError(
            f"{name}: scan shape {scan_shape[0]} x {scan_shape[1]} does not fit patterns of shape "
            f"{tuple(int(n) for n in patterns.shape)}; leave it out"
        )
