"""Fourier spectra of slices, on frequencies in 1/A."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_mep.errors import DataError

__all__ = ["Spectrum", "fft_magnitude"]


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """Magnitude of a Fourier transform with the zero frequency at index ``n // 2``.

    Parameters
    ----------
    magnitude : (ky, kx) float32 ndarray
        A cosine of amplitude 1 within the image makes two peaks of 0.5.
    step_invA : tuple of 2 floats
        Distance of neighbouring samples (ky, kx) in 1/A.
    """

    magnitude: np.ndarray
    step_invA: tuple[float, float]


def fft_magnitude(
    image: np.ndarray,
    pixel_size_A: tuple[float, float],
    *,
    window: bool = True,
    padding: int = 1,
) -> Spectrum:
    """Spectrum of an image without its mean.

    Parameters
    ----------
    image : (y, x) ndarray
        Real values.
    pixel_size_A : tuple of 2 floats
        Pixel (y, x) in angstrom.
    window : bool
        Multiply with a Hann window, so that the edges make no cross.
    padding : int
        The image is padded with zeros to this multiple of its size, which samples the same
        spectrum more finely.

    Returns
    -------
    Spectrum

    Raises
    ------
    DataError
        Less than 4 x 4 pixels, or values that are not finite.
    """
    if image.ndim != 2 or min(image.shape) < 4:
        raise DataError(f"image of {image.shape} pixels: at least 4 x 4 are needed; widen the ROI")
    if not np.isfinite(image).all():
        raise DataError("image has values that are not finite, no spectrum")
    height, width = image.shape
    weights = np.ones((height, width))
    if window:  # without its zeros at the ends, which would waste two rows
        weights = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[None, 1:-1]
    # The weighted mean, so that nothing is left at the zero frequency.
    free = (image - np.average(image, weights=weights)) * weights
    size = (padding * height, padding * width)
    spectrum = np.fft.fftshift(np.abs(np.fft.fft2(free, s=size))) / weights.sum()
    dy, dx = pixel_size_A
    return Spectrum(spectrum.astype(np.float32), (1 / (size[0] * dy), 1 / (size[1] * dx)))
