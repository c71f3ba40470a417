"""Views turned in the plane by any angle: atoms exactly, volumes as their Fourier series says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from napari_mep.crystals.structure import AtomBox

__all__ = ["turned_atoms", "turned_volume"]

_FADED_PX = 4  # at the edges: beyond them there is nothing, and a step would ring


def turned_atoms(atoms: AtomBox, angle_rad: float, middle_A: tuple[float, float]) -> AtomBox:
    """Turn atoms about an axis along the beam.

    Parameters
    ----------
    atoms : AtomBox
        Their box stays what it is, also where they leave it.
    angle_rad : float
        From x towards y.
    middle_A : (y, x)
        Where the axis is, angstrom.
    """
    sin, cos = math.sin(angle_rad), math.cos(angle_rad)
    z, y, x = atoms.positions_A.T
    y, x = y - middle_A[0], x - middle_A[1]
    y, x = cos * y + sin * x + middle_A[0], cos * x - sin * y + middle_A[1]
    return replace(atoms, positions_A=np.stack([z, y, x], 1))


def turned_volume(volume: Tensor, angle_rad: float) -> Tensor:
    """Turn a volume with square pixels about its middle, along the beam.

    Three shears, each a shift of rows by its Fourier series: what does not reach the Nyquist
    frequency is turned without loss, where splines would blur. Faded out at its edges; nothing
    comes in from beyond them.

    Parameters
    ----------
    volume : (z, y, x) float32 tensor
        Any unit.
    angle_rad : float
        At most pi / 4 either way, as in `turned_atoms`.

    Returns
    -------
    (z, y, x) float32 tensor

    References
    ----------
    Unser, Thevenaz and Yaroslavsky, "Convolution-based interpolation for fast, high-quality
    rotation of images", IEEE Trans. Image Process. 4, 1371 (1995).
    """
    height, width = volume.shape[-2:]
    fade = (_fade(n, volume) for n in (height, width))
    # Shears move the corners outwards on their way.
    room = math.ceil(0.25 * max(height, width))
    out = pad(volume * next(fade)[:, None] * next(fade), (room,) * 4)
    half, sin = math.tan(angle_rad / 2), math.sin(angle_rad)
    for axis, shear in ((-2, half), (-1, -sin), (-2, half)):
        out = _sheared(out, axis, shear)
    return out[..., room : room + height, room : room + width]


def _fade(pixels: int, like: Tensor) -> Tensor:
    """From 0 beyond the edges to 1."""
    edge = torch.arange(pixels, device=like.device, dtype=like.dtype)
    inwards = torch.minimum(edge, pixels - 1 - edge) + 0.5
    return torch.sin((inwards / _FADED_PX).clamp(max=1) * (math.pi / 2)) ** 2


def _sheared(volume: Tensor, axis: int, shear: float) -> Tensor:
    """Displace along an axis by `shear` times the distance from the middle along the other."""
    pixels, others = volume.shape[axis], volume.shape[-3 - axis]
    k = torch.fft.rfftfreq(pixels, device=volume.device)
    shift = shear * (torch.arange(others, device=volume.device) - (others - 1) / 2)
    turns = k[:, None] * shift if axis == -2 else shift[:, None] * k
    angle = -2 * math.pi * turns
    spectrum = torch.fft.rfft(volume, dim=axis) * torch.complex(angle.cos(), angle.sin())
    return torch.fft.irfft(spectrum, n=pixels, dim=axis)
