"""From the pixels of a canvas to finer ones for the waves, and back."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch

__all__ = ["FinerPixels", "finer_pixels"]


@dataclass(frozen=True, slots=True, eq=False)
class FinerPixels:
    """Band-limited interpolation across the beam, one matrix an axis.

    Behind a phase grating a wave reaches as far in reciprocal space as both together; on pixels
    that just hold the grating the rest folds back onto the detector. Pixel [0, 0] stays.

    Parameters
    ----------
    along_y, along_x : (Y', Y), (X', X) float32 tensors
        From a column or row of the canvas to the same on fine pixels.
    """

    along_y: torch.Tensor
    along_x: torch.Tensor

    def finer(self, canvas: torch.Tensor) -> torch.Tensor:
        """Canvas (nz, Y, X) on fine pixels, (nz, Y', X'); same unit."""
        return self.along_y @ canvas @ self.along_x.T

    def transpose(self, fine: torch.Tensor) -> torch.Tensor:
        """Gradient on the canvas (nz, Y, X) from that on fine pixels (nz, Y', X')."""
        return self.along_y.T @ fine @ self.along_x


def finer_pixels(
    shape: tuple[int, int], ratio: Fraction, *, device: torch.device | str = "cpu"
) -> FinerPixels:
    """Set up the interpolation of a canvas.

    Parameters
    ----------
    shape : (Y, X)
        Canvas in pixels.
    ratio : Fraction
        Pixel of the canvas over fine pixel, at least 1.
    device : torch.device or str
        Where canvases lie.

    Returns
    -------
    FinerPixels
        The fine canvas is a little larger than `shape` times `ratio`: both grids end together,
        with vacuum up to there.
    """
    along = [_matrix(n, ratio).to(torch.float32).to(device) for n in shape]
    return FinerPixels(along[0], along[1])


def _matrix(n: int, ratio: Fraction) -> torch.Tensor:
    """Zero-pad the spectrum of each unit vector; real, because so is what is interpolated."""
    period = -(-n // ratio.denominator) * ratio.denominator
    fine = int(period * ratio)
    spectrum = torch.fft.fft(torch.eye(period, n, dtype=torch.float64), dim=0)
    padded = spectrum.new_zeros(fine, n)
    low = (period + 1) // 2
    padded[:low] = spectrum[:low]
    padded[fine - (period - low) :] = spectrum[low:]
    return torch.fft.ifft(padded, dim=0).real * float(ratio)
