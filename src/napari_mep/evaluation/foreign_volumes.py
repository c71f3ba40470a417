"""Phase volumes that PtyRAD, phaser and fold_slice wrote, in our world coordinates.

The world origin is where the probe stood first; each of these files knows its scan positions on its
object, so results of different programs lie on top of each other. A position is one of the array
index of the object (0 is the centre of the first pixel).
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_mep.data._store import READ_ERRORS, one_line
from napari_mep.errors import DataError
from napari_mep.volume import PhaseVolume

__all__ = ["FOREIGN_SUFFIXES", "is_foreign_volume", "read_foreign_volume"]

_log = logging.getLogger(__name__)

FOREIGN_SUFFIXES = (".h5", ".hdf5", ".mat")
"""Endings of the files that other programs write their reconstructions into."""

_SINGLE_SLICE_A = 1.0  # a projection has no thickness; its voxel needs one
_METRES = 1e-6  # pixel sizes below this are in metres: no pixel is a millionth of an angstrom


def is_foreign_volume(path: str | Path) -> bool:
    """Whether a file is a reconstruction by PtyRAD, phaser or fold_slice; False if it is broken."""
    path = Path(path)
    if path.suffix.lower() not in FOREIGN_SUFFIXES or not path.is_file():
        return False
    try:
        if _is_old_matlab(path):
            from scipy.io import whosmat

            return _has_object(name for name, _, _ in _old_matlab(whosmat, path))
        import h5py

        with h5py.File(path, "r") as file:
            return _kind(file) is not None
    except READ_ERRORS:
        return False


def read_foreign_volume(path: str | Path) -> PhaseVolume:
    """The phase of a reconstruction that another program wrote.

    Parameters
    ----------
    path : str or Path
        PtyRAD's ``model_iterNNNN.hdf5``, phaser's HDF5 state, or fold_slice's ``.mat`` (all
        versions) or ``.h5``. A mixed-state object gives the mean of its modes, weighted by their
        occupancy. Complex objects give their phase in (-pi, pi]; it is not unwrapped.

    Returns
    -------
    PhaseVolume
        (z, y, x) float32, radians.

    Raises
    ------
    DataError
        Missing, broken or unknown file, or slices that are not equally thick.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        if _is_old_matlab(path):
            from scipy.io import loadmat

            values = _old_matlab(loadmat, path, simplify_cells=True)
            if not _has_object(values):
                raise _nothing_in(path)
            return _fold_slice(path, _Old(values))
        import h5py

        with h5py.File(path, "r") as file:
            match _kind(file):
                case "ptyrad":
                    return _ptyrad(file)
                case "phaser":
                    return _phaser(path, file)
                case "fold_slice":
                    return _fold_slice(path, _New(file))
                case _:
                    raise _nothing_in(path)
    except READ_ERRORS as err:
        raise DataError(
            f"{path}: not a whole reconstruction ({one_line(err)}); copy it anew"
        ) from None


def _nothing_in(path: Path) -> DataError:
    return DataError(
        f"{path}: no reconstruction by PtyRAD, phaser or fold_slice in it, the only volumes that "
        f"are read from {path.suffix} files"
    )


def _old_matlab(read: Callable[..., Any], path: Path, **options: Any) -> Any:
    """What a function of scipy reads; its own kind of error, which has no base, as a ValueError."""
    from scipy.io.matlab import MatReadError

    try:
        return read(str(path), **options)
    except MatReadError as err:
        raise ValueError(one_line(err)) from None


def _has_object(names: Iterable[str]) -> bool:
    return not {"object", "outputs"}.isdisjoint(names)


def _kind(file: Any) -> str | None:
    if "optimizable_tensors/objp" in file:
        return "ptyrad"
    kind = file.get("type")
    if kind is not None and getattr(kind, "shape", None) == () and kind[()] == b"phaser_state":
        return "phaser"
    if any(name in file for name in ("reconstruction/object", "outputs/object")):
        return "fold_slice"
    # A MATLAB file with an array called object: fold_slice's, if the pixel size is there.
    return "fold_slice" if "object" in file and "p/dx_spec" in file else None


def _volume(
    phase: np.ndarray,
    slice_A: float,
    pixel_A: tuple[float, float],
    first_px: tuple[float, float],
) -> PhaseVolume:
    """A volume on the world grid; `first_px` is the first probe position, (y, x) in pixels."""
    origin = (slice_A / 2, -first_px[0] * pixel_A[0], -first_px[1] * pixel_A[1])
    return PhaseVolume(phase, (slice_A, *pixel_A), origin)


def _ptyrad(file: Any) -> PhaseVolume:
    """PtyRAD: phase (mode, z, y, x); positions are those of the corner of the probe's window."""
    attributes = file["model_attributes"]
    modes = np.asarray(file["optimizable_tensors/objp"][()], dtype=np.float64)
    occupancy = np.ones(len(modes))
    if "omode_occu" in attributes:
        given = np.asarray(attributes["omode_occu"][()], dtype=np.float64).ravel()
        occupancy = given if given.shape == occupancy.shape else occupancy
    phase = np.tensordot(occupancy / occupancy.sum(), modes, axes=1)
    pixel = _scalar(attributes["dx"])
    thickness = file.get("optimizable_tensors/slice_thickness", attributes["slice_thickness"])
    first = np.asarray(attributes["crop_pos"][0], dtype=np.float64)
    if "optimizable_tensors/probe_pos_shifts" in file:
        first = first + np.asarray(file["optimizable_tensors/probe_pos_shifts"][0])
    window = np.asarray(file["optimizable_tensors/probe"].shape[-2:])
    if file["optimizable_tensors/probe"].dtype.kind == "f" and window[-1] == 2:
        window = np.asarray(file["optimizable_tensors/probe"].shape[-3:-1])  # real and imaginary
    y, x = (first + window // 2).tolist()
    return _volume(phase, _scalar(thickness), (pixel, pixel), (y, x))


def _phaser(path: Path, file: Any) -> PhaseVolume:
    """phaser: complex object (z, y, x) with its corner in A; positions in the same coordinates."""
    group = file["object"]
    data = np.asarray(group["data"][()])
    thicknesses = np.asarray(group["thicknesses"][()], dtype=np.float64).ravel()
    pixel = tuple(float(v) for v in group["sampling"][()])
    scan = file["scan"] if hasattr(file["scan"], "dtype") else file["scan/data"]
    first = np.asarray(scan[()], dtype=np.float64).reshape(-1, 2)[0]
    y, x = (first - np.asarray(group["corner"][()])) / np.asarray(pixel)
    return _volume(
        np.angle(data), _equal_thickness(path, thicknesses), (pixel[0], pixel[1]), (y, x)
    )


def _fold_slice(path: Path, file: _Matlab) -> PhaseVolume:
    """fold_slice: complex object (y, x, z) or a cell of slices; positions (x, y) in pixels.

    Positions are relative to the object's centre; MATLAB counts pixels from 1.
    """
    slices = file.slices()
    phase = np.angle(np.stack(slices)) if np.iscomplexobj(slices[0]) else np.stack(slices)
    sizes = file.numbers("p/dx_spec", "outputs/pixel_size", "reconstruction/p/dx_spec")
    if sizes is None:
        raise DataError(f"{path}: pixel size (dx_spec) is missing; it is in the last file written")
    factor = 1e10 if sizes.min() < _METRES else 1.0
    pixel = float(sizes[0]) * factor, float(sizes[-1]) * factor
    name = "multi_slice_param/z_distance"
    distances = file.numbers(
        f"p/{name}", "outputs/z_distance", f"par/p/{name}", f"reconstruction/p/{name}"
    )
    # The last distance is the one to the detector; with one slice there is no other.
    between = np.empty(0) if distances is None or len(phase) == 1 else distances[: len(phase)]
    thickness = _equal_thickness(path, between[np.isfinite(between)] * factor)
    positions, window = file.positions()
    if positions is None or window is None:
        _log.warning("%s: no scan positions; its corner is taken for the origin", path.name)
        first = np.zeros(2)
    else:
        corner = np.ceil(np.array(phase.shape[1:]) / 2 - window / 2) - 1
        first = positions[[1, 0]] + corner + window // 2
    return _volume(phase, thickness, pixel, (float(first[0]), float(first[1])))


def _equal_thickness(path: Path, thicknesses: np.ndarray) -> float:
    """The thickness of all slices in A; a projection, which has none, gets one angstrom."""
    positive = thicknesses[thicknesses > 0]
    if not positive.size:
        _log.warning("%s: thickness of its slices unknown; %g A each", path.name, _SINGLE_SLICE_A)
        return _SINGLE_SLICE_A
    if not math.isclose(positive.min(), positive.max(), rel_tol=0.01):
        raise DataError(
            f"{path}: slices of {positive.min():g} to {positive.max():g} A; "
            "only slices of one thickness can be compared"
        )
    return float(positive.mean())


class _Matlab(ABC):
    """What `_fold_slice` asks a file of either version for; arrays in MATLAB's own axis order."""

    @abstractmethod
    def get(self, path: str) -> Any:
        """The array at a path, None if there is none."""

    @abstractmethod
    def cells(self, path: str) -> list[np.ndarray]:
        """The arrays of a cell array."""

    def numbers(self, *paths: str) -> np.ndarray | None:
        """The first of these arrays that is there, flat."""
        for path in paths:
            found = self.get(path)
            if found is not None and np.asarray(found).dtype.kind in "iuf":
                return np.asarray(found, dtype=np.float64).ravel()
        return None

    def slices(self) -> list[np.ndarray]:
        """The object, slice by slice (y, x)."""
        for path in ("object", "reconstruction/object"):
            array = self.get(path)
            if array is not None:
                array = np.asarray(array)
                if array.ndim not in (2, 3):
                    raise ValueError(f"object of shape {array.shape}")
                return [array] if array.ndim == 2 else list(np.moveaxis(array, 2, 0))
        return self.cells("outputs/object")

    def positions(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """First position (x, y) and size of the probe (y, x), in pixels."""
        found = self.get("outputs/probe_positions")
        probe = self.get("probe")
        if probe is None and found is not None:
            probes = self.cells("outputs/probe")
            probe = probes[0] if probes else None
        if found is None or probe is None:
            return None, None
        return np.asarray(found, dtype=np.float64)[0], np.asarray(np.asarray(probe).shape[:2])


class _Old(_Matlab):
    """Versions 4 to 7, as scipy reads them with simplified cells."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def get(self, path: str) -> Any:
        value: Any = self._values
        for name in path.split("/"):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def cells(self, path: str) -> list[np.ndarray]:
        value = self.get(path)
        if value is None:
            return []
        array = np.asarray(value)
        # A cell of equal arrays comes as a list or as one array with the cells first.
        return [array] if array.ndim == 2 else list(array)


class _New(_Matlab):
    """Version 7.3, which is HDF5 with all axes turned round, and fold_slice's own HDF5."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def get(self, path: str) -> Any:
        import h5py

        found = self._file.get(path)
        return _matlab_array(found) if isinstance(found, h5py.Dataset) else None

    def cells(self, path: str) -> list[np.ndarray]:
        found = self._file.get(path)
        if found is None:
            return []
        references = np.asarray(found[()]).ravel()
        return [_matlab_array(self._file[reference]) for reference in references]


def _matlab_array(dataset: Any) -> np.ndarray:
    """An array in MATLAB's axis order; complex numbers are stored as pairs."""
    array = np.asarray(dataset[()])
    names = array.dtype.names
    if names:
        real, imaginary = ("real", "imag") if "real" in names else names[:2]
        array = array[real] + 1j * array[imaginary]
    return array.transpose()


def _is_old_matlab(path: Path) -> bool:
    """Whether a ``.mat`` file is older than version 7.3."""
    if path.suffix.lower() != ".mat":
        return False
    with path.open("rb") as file:
        head = file.read(1024)
    return b"\x89HDF\r\n\x1a\n" not in head and b"MATLAB 7.3" not in head


def _scalar(dataset: Any) -> float:
    return float(np.asarray(dataset[()]).ravel()[0])
