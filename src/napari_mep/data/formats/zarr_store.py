"""Zarr stores: our own, abTEM's diffraction patterns, and plain arrays."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from napari_mep.data._arrays import only_candidate
from napari_mep.data._store import READ_ERRORS, missing_chunks, one_line
from napari_mep.data.formats._frames import no_inner
from napari_mep.data.formats._units import Axis, axes_calibration, from_file
from napari_mep.data.formats._views import Reordered
from napari_mep.data.native import is_native, read_native
from napari_mep.data.opened import OpenedPatterns
from napari_mep.errors import DataError

__all__ = ["open_zarr"]

_RELATIVE = "shares of the beam, give dose_e_per_A2"


def open_zarr(
    path: Path, inner: str | None = None, scan_shape: tuple[int, int] | None = None
) -> OpenedPatterns | tuple[Any, str]:
    """Open a Zarr store; chunks are read as they are wanted.

    abTEM's axes (x, y, kx, ky) are turned into ours. Its noise-free patterns are shares of the
    beam and no electrons, which the format's name says.

    Raises
    ------
    DataError
        Broken store, missing chunks, a wrong inner path, or several or no arrays that could be
        meant.
    """
    if not any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray")):
        raise DataError(f"{path}: a folder, but not a Zarr store (no zarr.json); check its name")
    if is_native(path):
        no_inner(path, inner)
        return read_native(path)
    import zarr

    try:
        root: Any = zarr.open(path, mode="r")
        if isinstance(root, zarr.Array):
            no_inner(path, inner)
            _check_complete(root, path)
            return root, ""
        if inner is None and ("ome" in root.attrs or "multiscales" in root.attrs):
            raise DataError(
                f"{path}: an OME-Zarr image, no 4D-STEM; name the patterns as {path.name}::/NAME"
            )
        metadata = root.attrs.get("metadata0")
        if inner is None and isinstance(metadata, dict):
            if metadata.get("type") != "DiffractionPatterns":
                raise DataError(f"{path}: abTEM's {metadata.get('type')}, no diffraction patterns")
            return _abtem(path, root["array0"], metadata)
        if root.attrs.get("napari-mep") is not None:
            return read_native(path)  # says what is wrong with it
        arrays = {f"/{name}": array for name, array in _walk(root)}
        name = inner or only_candidate(
            path, {n: a.shape for n, a in arrays.items()}, scan_shape is not None
        )
        array = arrays.get(f"/{name.strip('/')}")
        if array is None:
            raise DataError(f"{path}: no array '{name}'; it holds {', '.join(arrays) or 'nothing'}")
        _check_complete(array, path)
    except READ_ERRORS as err:
        raise DataError(f"{path}: not a whole Zarr store ({one_line(err)}); copy it anew") from None
    return array, f"/{name.strip('/')}"


def _walk(group: Any) -> list[tuple[str, Any]]:
    """All arrays of a group and the groups in it, with their paths."""
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of files that are no part of the store
        members = group.members(max_depth=4)
    return [(name, member) for name, member in members if isinstance(member, zarr.Array)]


def _check_complete(array: Any, path: Path) -> None:
    """Zarr fills chunks that are gone with zeros, which would pass for a dark detector."""
    missing = missing_chunks(array)
    if missing:
        raise DataError(
            f"{path}: {missing} of {array.nchunks} chunks are missing; "
            "the store is truncated, copy or write it anew"
        )


def _abtem(path: Path, array: Any, metadata: dict[str, Any]) -> OpenedPatterns:
    _check_complete(array, path)
    entries = metadata["axes"]
    axes = [entries[f"axis_{index}"] for index in range(len(entries))]
    labels = [str(axis.get("label", "")) for axis in axes]
    if labels != ["x", "y", "kx", "ky"]:
        raise DataError(
            f"{path}: axes {' '.join(labels) or 'without names'}; expected x y kx ky, "
            "a grid scan without further axes (average frozen phonons first)"
        )
    if not axes[2].get("fftshift", True):
        raise DataError(f"{path}: zero frequency at the corner; save the patterns with fftshift")
    order = (1, 0, 3, 2)
    steps = [Axis(axes[index].get("sampling"), axes[index].get("units")) for index in order]
    energy = metadata.get("energy")
    return OpenedPatterns(
        patterns=Reordered(array, order),
        calibration=from_file(
            path,
            {
                "beam_energy_keV": float(energy) / 1e3 if energy else None,
                "convergence_semiangle_mrad": metadata.get("semiangle_cutoff"),
                **axes_calibration(steps),
            },
        ),
        name=path.name,
        path=path,
        format="abTEM" if metadata.get("units") == "electrons" else f"abTEM; {_RELATIVE}",
        provenance={"source": path.name, "program": str(metadata.get("data_origin", "abTEM"))},
    )
