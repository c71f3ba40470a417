"""The multislice simulation itself: what is asked of abTEM, and in which units and axes.

abTEM's arrays and coordinates are (x, y); everything that enters or leaves this module is (y, x).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from napari_mep.crystals.structure import AtomBox
from napari_mep.data._simulation_grid import Block, SimulationGrid
from napari_mep.data.experiment import Experiment
from napari_mep.errors import DeviceError

__all__ = ["Progress", "abtem_settings", "fourier_crop", "projected_potential", "scan_patterns"]

Progress = Callable[[int, int], None]
"""Called with the number of patterns done and in all."""

# abTEM spreads an atom bilinearly over four pixels, so that its shape depends on where between them
# it lies. On pixels three times finer that matters little; the surplus frequencies are cut off.
_POTENTIAL_OVERSAMPLING = 3

_BATCH = 16  # waves in memory at once, 1.4 MB each in the paper's conditions


@contextmanager
def abtem_settings(device: str) -> Iterator[str]:
    """Set abTEM's global options for one simulation, put them back after it; gives its version.

    Parameters
    ----------
    device : str
        ``"cpu"`` or ``"auto"``, which is the same.

    Raises
    ------
    DeviceError
        Any other device.
    """
    if device not in ("cpu", "auto"):
        raise DeviceError(f"device '{device}': abTEM simulations run on the processor; use cpu")

    import abtem

    # FFTW_ESTIMATE: measured plans differ from run to run, and with them the last bits.
    with abtem.config.set(
        {
            "device": "cpu",
            "precision": "float32",
            "diagnostics.progress_bar": False,
            "dask.lazy": False,
            "fftw.threads": 1,
            "fftw.planning_effort": "FFTW_ESTIMATE",
        }
    ):
        yield str(abtem.__version__)


def projected_potential(atoms: AtomBox, n_slices: int, grid: SimulationGrid) -> NDArray[np.float32]:
    """Potential of the slices, each atom projected whole into the slice that holds it.

    Parameters
    ----------
    atoms : AtomBox
        Fills the simulated region.
    n_slices : int
        Slices of equal thickness.
    grid : SimulationGrid
        Pixels of the region.

    Returns
    -------
    (z, y, x) float32 ndarray
        V A, with the scattering factors of Lobato and Van Dyck (2014, Acta Cryst. A 70, 636).
    """
    import abtem
    from ase import Atoms

    depth, height, width = atoms.size_A
    model = Atoms(
        numbers=atoms.numbers,
        positions=atoms.positions_A[:, ::-1],
        cell=(width, height, depth),
        pbc=True,
    )
    potential = abtem.Potential(
        model,
        gpts=tuple(_POTENTIAL_OVERSAMPLING * n for n in reversed(grid.size_px)),
        slice_thickness=(depth / n_slices,) * n_slices,
        parametrization="lobato",
        projection="infinite",
    )
    slices = np.empty((n_slices, *grid.size_px), dtype=np.float32)
    for index, one in enumerate(potential.generate_slices()):
        slices[index] = fourier_crop(np.asarray(one.array[0]).T, grid.size_px)
    return slices


def scan_patterns(
    potential_VA: NDArray[np.float32],
    experiment: Experiment,
    grid: SimulationGrid,
    progress: Progress | None = None,
    workers: int = 1,
) -> NDArray[np.float32]:
    """Multislice simulation of every scan position.

    Parameters
    ----------
    potential_VA : (z, y, x) float32 ndarray
        From `projected_potential`.
    experiment : Experiment
        Beam, probe, scan and detector.
    grid : SimulationGrid
        Where each position's wave window lies.
    progress : callable or None
        Told after every batch, in the calling thread; what it raises ends the simulation.
    workers : int
        Batches computed at the same time; the result does not depend on it.

    Returns
    -------
    (n, ky, kx) float32 ndarray
        Chance of one electron per detector pixel, raster order, zero frequency at ``K // 2``.
    """
    pixels = experiment.detector_pixels
    total = math.prod(experiment.scan_shape)
    patterns = np.empty((total, pixels, pixels), dtype=np.float32)
    done = 0
    # FFTW releases the interpreter lock, and nearly all the time goes there.
    pool = ThreadPoolExecutor(workers, thread_name_prefix="multislice")
    try:
        for block in grid.blocks:
            simulate = _block_simulator(block, potential_VA, experiment, grid)
            parts = [block.indices[i : i + _BATCH] for i in range(0, len(block.indices), _BATCH)]
            for part, result in zip(parts, pool.map(simulate, parts), strict=True):
                patterns[part] = result
                done += len(part)
                if progress is not None:
                    progress(done, total)
    finally:
        pool.shutdown(cancel_futures=True)
    return patterns


def _block_simulator(
    block: Block,
    potential_VA: NDArray[np.float32],
    experiment: Experiment,
    grid: SimulationGrid,
) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
    """Function from raster indices of a block to their patterns (n, ky, kx)."""
    import abtem

    (top, left), width = block.corner_px, grid.window_px
    window = potential_VA[:, top : top + width, left : left + width]
    extent = width * grid.fine_A
    potential = abtem.PotentialArray(
        np.ascontiguousarray(window.swapaxes(1, 2)),
        slice_thickness=experiment.thickness_A / experiment.n_slices,
        extent=extent,
    )
    probe = abtem.Probe(
        energy=experiment.energy_keV * 1e3,
        semiangle_cutoff=experiment.semiangle_mrad,
        C10=-experiment.defocus_A,
        C30=experiment.spherical_aberration_A,
        gpts=width,
        extent=extent,
    )
    detector = abtem.PixelatedDetector(max_angle="full")
    first = np.array(grid.first_A) - np.array(block.corner_px) * grid.fine_A
    scan = experiment.positions_A()

    def simulate(indices: NDArray[np.int64]) -> NDArray[np.float32]:
        positions = scan[indices] + first
        fine = probe.scan(
            potential,
            scan=abtem.CustomScan(positions[:, ::-1]),
            detectors=detector,
            lazy=False,
        )
        return _bin(np.asarray(fine.array), experiment.detector_pixels, grid.windows)

    return simulate


def _bin(fine: NDArray[np.float32], pixels: int, windows: int) -> NDArray[np.float32]:
    """Sum abTEM's (n, kx, ky) intensities over detector pixels, (n, ky, kx).

    `windows` is odd, so fine frequencies lie symmetrically about each detector pixel's centre.
    """
    count, full, _ = fine.shape
    start = full // 2 - windows * (pixels // 2) - (windows - 1) // 2
    reach = slice(start, start + windows * pixels)
    cropped = fine[:, reach, reach].reshape(count, pixels, windows, pixels, windows)
    return cropped.sum(axis=(2, 4)).swapaxes(1, 2)


def fourier_crop(images: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Resample real periodic images (..., y, x) to `shape`, fewer pixels.

    Frequencies that the new pixels cannot hold are left out; values are kept, not sums.
    """
    rows, columns = images.shape[-2:]
    spectrum = np.fft.fftshift(np.fft.fft2(images), axes=(-2, -1))
    top, left = rows // 2 - shape[0] // 2, columns // 2 - shape[1] // 2
    spectrum = spectrum[..., top : top + shape[0], left : left + shape[1]]
    coarse = np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(-2, -1))).real
    return coarse * (shape[0] * shape[1] / (rows * columns))
