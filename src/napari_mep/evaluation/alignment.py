"""What has to be settled before two reconstructions can be compared voxel by voxel.

Programs differ in signs of axes, and ptychography leaves a constant phase, a linear phase ramp and
a lateral shift undetermined. Each of these corrections is asked for by name and reported.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from napari_mep.evaluation.resample import common_grid, sample_on
from napari_mep.volume import PhaseVolume

__all__ = ["Adjusted", "Adjustments", "adjust", "flipped", "lateral_shift_A"]

_PASSES = 2  # the second starts from an overlap that the first has made right
_UPSAMPLING = 50  # parts of a pixel


@dataclass(frozen=True, slots=True)
class Adjustments:
    """Which corrections to make; none by default.

    Parameters
    ----------
    flip_z, flip_y, flip_x : bool
        Reverse an axis within the volume's own field.
    register : bool
        Move laterally onto the reference.
    offset, ramp : bool
        Take away the mean, and the linear ramp, of the difference to the reference.
    """

    flip_z: bool = False
    flip_y: bool = False
    flip_x: bool = False
    register: bool = False
    offset: bool = False
    ramp: bool = False

    @property
    def any(self) -> bool:
        """Whether anything at all is corrected."""
        return self != Adjustments()


@dataclass(frozen=True, slots=True, eq=False)
class Adjusted:
    """A corrected volume and what was done to it.

    Parameters
    ----------
    volume : PhaseVolume
        On its own voxels; a registered one has another origin.
    shift_A : tuple of 2 floats
        How far it was moved along (y, x), angstrom.
    offset_rad_per_A : float
        What was subtracted everywhere, rad per angstrom of thickness.
    ramp_rad_per_A2 : tuple of 2 floats
        Slope along (y, x) of the ramp that was subtracted, rad per angstrom of thickness and
        angstrom.
    """

    volume: PhaseVolume
    shift_A: tuple[float, float] = (0.0, 0.0)
    offset_rad_per_A: float = 0.0
    ramp_rad_per_A2: tuple[float, float] = (0.0, 0.0)


def adjust(volume: PhaseVolume, reference: PhaseVolume, wanted: Adjustments) -> Adjusted:
    """Flip, register and level a volume, in this order.

    Parameters
    ----------
    volume, reference : PhaseVolume
        Any grids. Nothing is resampled: the result keeps the voxels of `volume`.
    wanted : Adjustments
        Which corrections to make.

    Returns
    -------
    Adjusted

    Raises
    ------
    DataError
        The volumes have no field in common.
    """
    result = Adjusted(flipped(volume, wanted))
    if wanted.register:
        shift = lateral_shift_A(result.volume, reference)
        result = replace(result, volume=_moved(result.volume, shift), shift_A=shift)
    if wanted.offset or wanted.ramp:
        result = _level(result, reference, wanted)
    return result


def flipped(volume: PhaseVolume, wanted: Adjustments) -> PhaseVolume:
    """The volume with reversed axes and the same field of view."""
    flips = (wanted.flip_z, wanted.flip_y, wanted.flip_x)
    if not any(flips):
        return volume
    steps = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    return PhaseVolume(volume.data[steps], volume.voxel_size_A, volume.origin_A)


def lateral_shift_A(volume: PhaseVolume, reference: PhaseVolume) -> tuple[float, float]:
    """How far a volume has to move to lie on a reference.

    The depth sums are correlated, multiplied with a Hann window; depth itself is too poorly
    determined to be registered. In a perfect crystal the shift is only known up to a lattice
    vector; the window prefers small ones.

    Parameters
    ----------
    volume, reference : PhaseVolume
        Any grids.

    Returns
    -------
    tuple of 2 floats
        (y, x) in angstrom, to about a fiftieth of the reference's pixel.

    Raises
    ------
    DataError
        No common field.

    References
    ----------
    Guizar-Sicairos, Thurman and Fienup, Opt. Lett. 33, 156 (2008), as in scikit-image.
    """
    from skimage.registration import phase_cross_correlation

    total = np.zeros(2)
    for _ in range(_PASSES):
        moved = _moved(volume, (total[0], total[1]))
        grid = common_grid(reference, [moved])
        window = np.hanning(grid.shape[1] + 2)[1:-1, None] * np.hanning(grid.shape[2] + 2)[1:-1]
        target, moving = (
            (image - image.mean()) * window
            for image in (sample_on(v, grid).depth_sum() for v in (reference, moved))
        )
        pixels, _, _ = phase_cross_correlation(
            target, moving, upsample_factor=_UPSAMPLING, normalization=None
        )
        total += np.asarray(pixels) * np.array(grid.voxel_size_A[1:])
    return float(total[0]), float(total[1])


def _moved(volume: PhaseVolume, shift_A: tuple[float, float]) -> PhaseVolume:
    z, y, x = volume.origin_A
    return PhaseVolume(volume.data, volume.voxel_size_A, (z, y + shift_A[0], x + shift_A[1]))


def _level(result: Adjusted, reference: PhaseVolume, wanted: Adjustments) -> Adjusted:
    """Subtract a plane: the one that fits the difference of the mean phase densities."""
    volume = result.volume
    grid = common_grid(reference, [volume])
    thickness = grid.shape[0] * grid.voxel_size_A[0]
    difference = sample_on(volume, grid).depth_sum() - sample_on(reference, grid).depth_sum()
    y, x = (grid.origin_A[a] + grid.voxel_size_A[a] * np.arange(grid.shape[a]) for a in (1, 2))
    centre = y.mean(), x.mean()
    # About its centre the three terms on a rectangle are orthogonal: each is found by itself.
    y, x = y - centre[0], x - centre[1]
    density = difference.astype(np.float64) / thickness
    offset = float(density.mean()) if wanted.offset else 0.0
    slope_y = float((density * y[:, None]).mean() / (y**2).mean()) if wanted.ramp else 0.0
    slope_x = float((density * x[None, :]).mean() / (x**2).mean()) if wanted.ramp else 0.0

    dz, dy, dx = volume.voxel_size_A
    _, ny, nx = volume.data.shape
    rows = volume.origin_A[1] + dy * np.arange(ny) - centre[0]
    columns = volume.origin_A[2] + dx * np.arange(nx) - centre[1]
    plane = offset + slope_y * rows[:, None] + slope_x * columns[None, :]
    data = volume.data - (dz * plane).astype(np.float32)
    return replace(
        result,
        volume=PhaseVolume(data, volume.voxel_size_A, volume.origin_A),
        offset_rad_per_A=offset,
        ramp_rad_per_A2=(slope_y, slope_x),
    )
