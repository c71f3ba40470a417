"""Reconstructions as OME-Zarr 0.5 (Zarr v3), readable by napari, Fiji, BigDataViewer, vizarr, ...

Axes z y x in angstrom, the entrance face first. Each resolution level carries a scale and then a
translation (the order that the specification asks for), so a volume lies where its scan was. Only
y and x are halved: the few slices of a specimen are never merged. What produced the volume is kept
under the attribute ``napari-mep``, outside ``ome``. (napari-ome-zarr 0.10 reads the scale and drops
the translation; this package's own napari reader keeps both.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_mep.data._store import (
    READ_ERRORS,
    atomic_directory,
    check_target,
    missing_chunks,
    one_line,
    to_json,
)
from napari_mep.errors import ExportError
from napari_mep.volume import PhaseVolume

__all__ = [
    "check_image_target",
    "check_target",
    "is_reconstruction",
    "read_reconstruction",
    "write_reconstruction",
]

ATTRIBUTE = "napari-mep"
_AXES = ("z", "y", "x")
_SMALLEST_SPLIT = 128  # y and x from which a coarser level pays
_CHUNK = 1024  # pixels along y and x
_UNITS_A = {"angstrom": 1.0, "nanometer": 10.0, "micrometer": 1e4, "picometer": 1e-2}


def write_reconstruction(
    path: str | Path,
    volume: PhaseVolume,
    provenance: Mapping[str, Any],
    *,
    name: str,
    overwrite: bool = False,
) -> Path:
    """Write a phase volume as OME-Zarr 0.5, atomically.

    Parameters
    ----------
    path : str or Path
        Directory to write, usually ``NAME.ome.zarr``; missing parent folders are created.
    volume : PhaseVolume
        (z, y, x) float32, radians.
    provenance : mapping
        What produced it (plan, versions, seed, data fingerprint, residual); kept as JSON, where
        NaN and infinity become null. A ``dataset_path`` is kept as seen from the image's folder:
        so it holds when both are moved, and tells nobody the owner's other folders.
    name : str
        Name of the image.
    overwrite : bool
        Replace an existing Zarr store. Anything else that exists is never replaced.

    Returns
    -------
    Path
        The directory written.

    Raises
    ------
    ExportError
        The target exists, cannot be written or has the name of another kind of file.

    References
    ----------
    OME-Zarr specification 0.5, https://ngff.openmicroscopy.org/0.5/
    """
    import zarr

    levels = _pyramid(volume.data)
    with atomic_directory(check_image_target(path, overwrite), overwrite) as folder:
        root = zarr.open_group(folder, mode="w", zarr_format=3)
        for index, data in enumerate(levels):
            array = root.create_array(
                str(index),
                shape=data.shape,
                dtype="float32",
                chunks=(1, min(_CHUNK, data.shape[1]), min(_CHUNK, data.shape[2])),
                dimension_names=list(_AXES),
                # Zarr takes a missing chunk for zeros; written ones tell truncation from emptiness.
                config={"write_empty_chunks": True},
            )
            array[...] = data
        root.attrs["ome"] = _ome_metadata(volume, len(levels), name)
        root.attrs[ATTRIBUTE] = to_json(_with_path(provenance, Path(path).parent, _seen_from))
    return Path(path)


def check_image_target(path: str | Path, overwrite: bool = False) -> Path:
    """Refuse a place where no OME-Zarr image can or must be written; touches nothing.

    Parameters
    ----------
    path : str or Path
        The folder to be written.
    overwrite : bool
        See `check_target`.

    Returns
    -------
    Path
        The same path, absolute.

    Raises
    ------
    ExportError
        See `check_target`; also where the name ends otherwise than in ``.zarr``, because programs
        choose by it how to open a file.
    """
    path = Path(path)
    if path.suffix.lower() != ".zarr":
        stem = path.with_suffix("") if path.suffix else path
        raise ExportError(f"output {path}: an OME-Zarr image is written; name it {stem}.ome.zarr")
    return check_target(path, overwrite)


def read_reconstruction(path: str | Path) -> tuple[PhaseVolume, dict[str, Any]]:
    """Read the full resolution of an OME-Zarr image with axes z y x, and its provenance.

    Parameters
    ----------
    path : str or Path
        OME-Zarr 0.4 or 0.5; lengths in angstrom, nanometer, micrometer or picometer.

    Returns
    -------
    volume : PhaseVolume
        World coordinates in A.
    provenance : dict
        Empty if another program wrote the file. Its ``dataset_path`` is absolute.

    Raises
    ------
    ExportError
        Missing, broken or truncated store, or not a z y x image in units of length.
    """
    path = Path(path)
    root, image = _open_image(path)
    try:
        axes = image["axes"]
        if tuple(axis["name"] for axis in axes) != _AXES:
            raise ExportError(
                f"{path}: axes {' '.join(str(axis['name']) for axis in axes)}, expected z y x"
            )
        factors = [_UNITS_A[axis["unit"]] for axis in axes]
        dataset = image["datasets"][0]
        transforms = {t["type"]: t for t in dataset["coordinateTransformations"]}
        scale = transforms["scale"]["scale"]
        origin = transforms.get("translation", {}).get("translation", (0.0, 0.0, 0.0))
        array = root[dataset["path"]]
        missing = missing_chunks(array)
        if missing:
            raise ExportError(
                f"{path}: {missing} of {array.nchunks} chunks are missing; the store is truncated"
            )
        volume = PhaseVolume(array[...], _scaled(scale, factors), _scaled(origin, factors))
    except READ_ERRORS as err:
        raise ExportError(f"{path}: not a readable OME-Zarr image ({one_line(err)})") from None
    provenance = root.attrs.get(ATTRIBUTE, {})
    if not isinstance(provenance, Mapping):
        return volume, {}
    return volume, _with_path(provenance, path.parent, _found_from)


def is_reconstruction(path: str | Path) -> bool:
    """Whether `path` is an OME-Zarr image; False if it is broken or missing."""
    try:
        return bool(_open_image(Path(path)))
    except ExportError:
        return False


def _open_image(path: Path) -> tuple[Any, Mapping[str, Any]]:
    """The root group and its first multiscale image."""
    import zarr.errors

    if not path.exists():
        raise ExportError(f"{path}: no such file")
    try:
        root: Any = zarr.open_group(path, mode="r")
        attributes = dict(root.attrs)
        images = attributes.get("ome", attributes).get("multiscales")  # 0.4 has no "ome" around it
        if not images:
            held = ", ".join(sorted(root)) or "nothing"
            raise ExportError(
                f"{path}: not an OME-Zarr image but a Zarr group that holds {held}; expected an "
                "image z y x"
            )
        return root, images[0]
    except (FileNotFoundError, zarr.errors.ContainsArrayError):
        raise ExportError(
            f"{path}: not an OME-Zarr image, which is a Zarr group with an image z y x in it"
        ) from None
    except READ_ERRORS as err:
        raise ExportError(f"{path}: not an OME-Zarr image ({one_line(err)})") from None


def _ome_metadata(volume: PhaseVolume, n_levels: int, name: str) -> dict[str, Any]:
    dz, dy, dx = volume.voxel_size_A
    oz, oy, ox = volume.origin_A
    datasets = []
    for level in range(n_levels):
        factor = 2**level
        # A coarse voxel is centred on the group of fine ones that it stands for.
        shift = (factor - 1) / 2
        datasets.append(
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [dz, dy * factor, dx * factor]},
                    {"type": "translation", "translation": [oz, oy + dy * shift, ox + dx * shift]},
                ],
            }
        )
    return {
        "version": "0.5",
        "multiscales": [
            {
                "name": name,
                "axes": [{"name": axis, "type": "space", "unit": "angstrom"} for axis in _AXES],
                "datasets": datasets,
                "type": "mean",
            }
        ],
        "omero": {
            "channels": [
                {
                    "label": "phase (rad)",
                    "color": "FFFFFF",  # napari-ome-zarr 0.10 fails on a channel without a colour
                    "active": True,
                    "window": _contrast_window(volume.data),
                }
            ],
            "rdefs": {"model": "greyscale"},
        },
    }


def _contrast_window(data: np.ndarray) -> dict[str, float]:
    """Contrast limits that show a volume at once: the 0.5 to 99.8 percentile."""
    finite = data[np.isfinite(data)]
    if not finite.size:
        finite = np.zeros(1, dtype=np.float32)
    low, high = (float(v) for v in np.percentile(finite, (0.5, 99.8)))
    if high <= low:
        high = low + 1.0  # a constant volume; viewers divide by the width
    return {
        "min": min(float(finite.min()), low),
        "max": max(float(finite.max()), high),
        "start": low,
        "end": high,
    }


def _pyramid(data: np.ndarray) -> list[np.ndarray]:
    """Full resolution and 2 x 2 means of it, halved while y and x have 128 pixels or more."""
    levels = [data]
    while min(levels[-1].shape[1:]) >= _SMALLEST_SPLIT:
        fine = levels[-1]
        z, y, x = fine.shape[0], fine.shape[1] // 2, fine.shape[2] // 2
        blocks = fine[:, : 2 * y, : 2 * x].reshape(z, y, 2, x, 2)
        levels.append(blocks.mean(axis=(2, 4), dtype=np.float32))
    return levels


def _scaled(values: Sequence[float], factors: Sequence[float]) -> tuple[float, float, float]:
    z, y, x = (float(v) * f for v, f in zip(values, factors, strict=True))
    return z, y, x


def _with_path(
    provenance: Mapping[str, Any], folder: Path, changed: Callable[[str, Path], str]
) -> dict[str, Any]:
    """The same with the path of the scan changed, if there is one."""
    path = provenance.get("dataset_path")
    change = {"dataset_path": changed(path, folder)} if isinstance(path, str) and path else {}
    return {**provenance, **change}


def _seen_from(path: str, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # on another drive of a Windows machine
        return path


def _found_from(path: str, folder: Path) -> str:
    return os.path.abspath(folder / path)
