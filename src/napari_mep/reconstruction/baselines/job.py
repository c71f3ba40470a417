"""What parent and child tell each other: a folder of arrays one way, a stream of frames back.

Arrays are plain ``.npy`` files that the child maps into memory, numbers are JSON. A frame is one
line of JSON and the bytes of a float32 canvas. No pickle: the child runs code of other people.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from napari_mep.data._pattern_operations import shift_patterns

if TYPE_CHECKING:
    from napari_mep.reconstruction.baselines.catalogue import BaselineSettings
    from napari_mep.reconstruction.problem import Problem

__all__ = ["Frame", "Job", "make_job", "read_frame", "write_frame"]

_ROOM = 2  # pixels beyond the outermost window, for windows that are rounded outwards
_ARRAYS = ("counts", "mask", "probe", "corners_px")
_NUMBERS = "job.json"


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One reconstruction in this project's conventions, wide enough for programs that never wrap.

    Parameters
    ----------
    counts : (N, K, K) float32 ndarray
        Electrons, zero frequency at K // 2, 0 where not measured.
    mask : (K, K) bool ndarray
        True where the detector measured.
    probe : (W, W) complex64 ndarray
        Wave in real space, centred at W // 2; the squared modulus sums to the electrons that a
        pattern of vacuum has. W is K, or a multiple of it.
    corners_px : (N, 2) float64 ndarray
        First pixel (y, x) of each window on the object.
    object_shape : (z, y, x) ints
        Canvas with a margin, so that every window lies within it.
    canvas : (y0, y1, x0, x1) ints
        Where the canvas lies on the object.
    pixel_size_A, slice_thickness_A, wavelength_A : float
        Angstrom.
    energy_keV, semiangle_mrad : float
        Beam energy in keV and convergence semi-angle in mrad.
    method : str
        Name of the baseline.
    iterations, batch : int
        Passes over all patterns, and patterns in a mini-batch.
    learning_rate : float
        See `BaselineSettings`.
    options : mapping
        In the package's own words.
    likelihood : str
        "amplitude" or "poisson".
    seed : int
        Of the package's random numbers.
    device : str
        ``"cpu"``, ``"cuda:0"``, ``"mps"``.
    threads : int
        That torch may use on the CPU.
    """

    counts: np.ndarray
    mask: np.ndarray
    probe: np.ndarray
    corners_px: np.ndarray
    object_shape: tuple[int, int, int]
    canvas: tuple[int, int, int, int]
    pixel_size_A: float
    slice_thickness_A: float
    wavelength_A: float
    energy_keV: float
    semiangle_mrad: float
    method: str
    iterations: int
    batch: int
    learning_rate: float
    options: Mapping[str, Any]
    likelihood: str
    seed: int
    device: str
    threads: int

    def crop(self, phase: np.ndarray) -> np.ndarray:
        """The canvas, cut out of an object (z, y, x)."""
        y0, y1, x0, x1 = self.canvas
        return phase[:, y0:y1, x0:x1]

    def save(self, folder: Path) -> None:
        """Write the job into an empty folder."""
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))
        numbers = {name: getattr(self, name) for name in self.__slots__ if name not in _ARRAYS}
        numbers["options"] = dict(self.options)
        (folder / _NUMBERS).write_text(json.dumps(numbers), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Job:
        """Read a job; the patterns stay on disk until they are used."""
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
        numbers = json.loads((folder / _NUMBERS).read_text(encoding="utf-8"))
        numbers["object_shape"] = tuple(numbers["object_shape"])
        numbers["canvas"] = tuple(numbers["canvas"])
        return cls(**arrays, **numbers)


def make_job(
    problem: Problem,
    settings: BaselineSettings,
    *,
    method: str,
    semiangle_mrad: float,
    seed: int,
    device: str,
    threads: int,
) -> Job:
    """Translate a problem.

    Parameters
    ----------
    problem : Problem
        Its wave window must be as wide as the settings say.
    settings : BaselineSettings
        Preset and plan, put together.
    method, semiangle_mrad, seed, device, threads
        See `Job`.

    Returns
    -------
    Job
    """
    from napari_mep.physics.optics import wavelength_A

    model = problem.model
    wave = np.fft.ifft2(model.probe_k.numpy().astype(np.complex128), norm="ortho")
    wave = np.fft.fftshift(wave) * math.sqrt(model.electrons)
    window = wave.shape[0]
    shape = tuple(model.detector_shape)
    mask = np.ones(shape, bool) if model.mask is None else model.mask.cpu().numpy()
    counts = np.where(mask, problem.counts.cpu().numpy(), np.float32(0))
    counts = np.fft.fftshift(counts, axes=(1, 2))
    if problem.shifts_px is not None:  # which the other packages' models do not know
        counts = shift_patterns(counts, -problem.shifts_px, subpixel=True)

    nz, ny, nx = problem.grid.measured_slices, *problem.grid.shape[1:]
    corners = problem.positions_px - window // 2
    before = np.maximum(0, _ROOM - np.floor(corners.min(axis=0))).astype(int)
    reach = np.ceil(corners.max(axis=0)).astype(int) + window + _ROOM
    after = np.maximum(0, reach - np.array([ny, nx]))
    y0, x0 = (int(n) for n in before)
    return Job(
        counts=counts,
        mask=np.fft.fftshift(mask),
        probe=wave.astype(np.complex64),
        corners_px=corners + before,
        object_shape=(nz, y0 + ny + int(after[0]), x0 + nx + int(after[1])),
        canvas=(y0, y0 + ny, x0, x0 + nx),
        pixel_size_A=model.pixel_size_A,
        slice_thickness_A=model.slice_thickness_A,
        wavelength_A=wavelength_A(model.energy_keV),
        energy_keV=model.energy_keV,
        semiangle_mrad=semiangle_mrad,
        method=method,
        iterations=settings.iterations,
        batch=settings.patterns_per_batch(len(corners)),
        learning_rate=settings.learning_rate,
        options=settings.options,
        likelihood=problem.likelihood,
        # numpy and Pty-Chi take no more than 32 bits
        seed=seed % 2**32,
        device=device,
        threads=threads,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """State after one iteration of a child.

    Parameters
    ----------
    iteration : int
        Counted from 1.
    residual : float
        Relative amplitude residual of all patterns, each taken when the package computed it.
    canvas : (z, y, x) float32 ndarray
        Phase in radians.
    """

    iteration: int
    residual: float
    canvas: np.ndarray


def write_frame(stream: IO[bytes], frame: Frame) -> None:
    """Send a frame."""
    canvas = np.ascontiguousarray(frame.canvas, dtype="<f4")
    head = {"iteration": frame.iteration, "residual": frame.residual, "shape": canvas.shape}
    stream.write(json.dumps(head).encode() + b"\n")
    stream.write(canvas.tobytes())
    stream.flush()


def read_frame(stream: IO[bytes]) -> Frame | None:
    """Receive a frame; None at the end of the stream, and where it breaks off within one."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    head = json.loads(line)
    wanted = 4 * math.prod(head["shape"])
    data = stream.read(wanted)
    if len(data) < wanted:
        return None
    canvas = np.frombuffer(data, "<f4").reshape(head["shape"]).astype(np.float32)
    return Frame(head["iteration"], head["residual"], canvas)
