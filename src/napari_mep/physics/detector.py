"""From the fine intensities of a wide wave window to the pixels of the detector, and back."""

from __future__ import annotations

import torch

__all__ = ["add_beyond", "bin_intensities", "centred_resize", "crop_beyond", "spread_to_fine"]


def bin_intensities(fine: torch.Tensor, oversampling: int) -> torch.Tensor:
    """Collect what falls on each detector pixel.

    A wave window that is ``oversampling`` times as wide as 1 / (detector step) samples reciprocal
    space that much finer. Detector pixel j covers the fine samples around ``oversampling * j``;
    with an even factor its borders pass through samples, which then count half for either side.
    The grid is periodic, so the total is conserved.

    Parameters
    ----------
    fine : (..., s * Ky, s * Kx) real tensor
        Intensities, zero frequency at the corner.
    oversampling : int
        s, at least 1.

    Returns
    -------
    (..., Ky, Kx) real tensor
        Binned intensities, zero frequency at the corner.
    """
    return _bin(_bin(fine, oversampling, -2), oversampling, -1)


def spread_to_fine(coarse: torch.Tensor, oversampling: int) -> torch.Tensor:
    """Transpose of `bin_intensities`: hand each detector pixel's value to its fine samples.

    Parameters
    ----------
    coarse : (..., Ky, Kx) real tensor
        Values on the detector, zero frequency at the corner.
    oversampling : int
        s, at least 1.

    Returns
    -------
    (..., s * Ky, s * Kx) real tensor
        Values on the fine grid.
    """
    return _spread(_spread(coarse, oversampling, -1), oversampling, -2)


def crop_beyond(patterns: torch.Tensor, pixels: int) -> torch.Tensor:
    """Leave out what falls beside the detector.

    Parameters
    ----------
    patterns : (..., Ky + 2 * pixels, Kx + 2 * pixels) real tensor
        Zero frequency at the corner.
    pixels : int
        How many rows and columns on each side are not detector.

    Returns
    -------
    (..., Ky, Kx) real tensor
        Zero frequency at the corner.
    """
    for axis in (-2, -1):
        if pixels:
            size = patterns.shape[axis] - 2 * pixels
            first = patterns.narrow(axis, 0, (size + 1) // 2)
            last = patterns.narrow(axis, patterns.shape[axis] - size // 2, size // 2)
            patterns = torch.cat((first, last), axis)
    return patterns


def add_beyond(patterns: torch.Tensor, pixels: int) -> torch.Tensor:
    """Transpose of `crop_beyond`: zeros where there is no detector."""
    for axis in (-2, -1):
        if pixels:
            size = patterns.shape[axis]
            shape = list(patterns.shape)
            shape[axis] = 2 * pixels
            first = patterns.narrow(axis, 0, (size + 1) // 2)
            last = patterns.narrow(axis, size - size // 2, size // 2)
            patterns = torch.cat((first, patterns.new_zeros(shape), last), axis)
    return patterns


def centred_resize(array: torch.Tensor, size: int) -> torch.Tensor:
    """Crop or zero-pad the last two axes, keeping index K // 2 at the new K // 2."""
    for axis in (-2, -1):
        old = array.shape[axis]
        before = size // 2 - old // 2
        if before < 0 or size - old - before < 0:
            array = array.narrow(axis, max(0, -before), min(old, size))
            before, old = max(0, before), array.shape[axis]
        after = size - old - before
        if before or after:
            pad = [0, 0, 0, 0]
            pad[(0 if axis == -1 else 2) : (2 if axis == -1 else 4)] = [before, after]
            array = torch.nn.functional.pad(array, pad)
    return array


def _bin(fine: torch.Tensor, s: int, axis: int) -> torch.Tensor:
    """Bin one axis: pixel j takes samples s j - s / 2 to s j + s / 2."""
    if s == 1:
        return fine
    # offset[i] holds the samples s j + i of all pixels j; rolled, s j - (s - i)
    offset = fine.unflatten(axis, (-1, s)).unbind(axis)
    binned = offset[0].clone()
    for i in range(1, (s + 1) // 2):
        binned += offset[i]
        binned += offset[s - i].roll(1, axis)
    if s % 2 == 0:
        border = offset[s // 2]
        binned += 0.5 * (border + border.roll(1, axis))
    return binned


def _spread(coarse: torch.Tensor, s: int, axis: int) -> torch.Tensor:
    if s == 1:
        return coarse
    above = coarse.roll(-1, axis)
    below_border = [coarse] * ((s + 1) // 2)
    on_border = [0.5 * (coarse + above)] if s % 2 == 0 else []
    beyond_border = [above] * ((s - 1) // 2)
    fine = torch.stack(below_border + on_border + beyond_border, axis)
    return fine.flatten(axis - 1, axis)
