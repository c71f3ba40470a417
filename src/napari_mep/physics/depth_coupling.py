"""How the slices of a specimen hide behind each other: the Hessian of the data over depth.

A wave that lateral frequency k scatters out of the partial plane wave K of the probe picks up the
phase -pi lambda z (|K + k|^2 - |K|^2) on its way through depth z. Averaged over an aperture of
radius K_a, the Gauss-Newton Hessian of the amplitude misfit so couples slices z and z' by

    H(k; z - z') = cos(pi lambda (z - z') k^2) 2 J1(u) / u,    u = 2 pi lambda |z - z'| k K_a,

in units of its diagonal (single scattering; the caps of Ewald spheres that limit depth resolution
in any microscope). For every k that is a small matrix over depth, with one large eigenvalue close
to the depth sum and many small ones.
"""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["depth_coupling"]


def depth_coupling(
    k_invA: np.ndarray, slices: int, slice_A: float, wavelength_A: float, aperture_invA: float
) -> np.ndarray:
    """Hessian over depth for each lateral frequency, in units of its diagonal.

    Parameters
    ----------
    k_invA : (n,) ndarray
        Lateral frequencies, 1/A.
    slices : int
        Slices of the specimen.
    slice_A : float
        Slice thickness, A.
    wavelength_A : float
        Of the electrons, A.
    aperture_invA : float
        Radius of the probe-forming aperture, 1/A.

    Returns
    -------
    (n, slices, slices) float64 ndarray
    """
    depth = slice_A * np.arange(slices)
    apart = np.abs(depth[:, None] - depth)
    k = np.asarray(k_invA, float)[:, None, None]
    u = 2 * np.pi * wavelength_A * apart * k * aperture_invA
    bessel = torch.special.bessel_j1(torch.from_numpy(u)).numpy()
    spread = np.where(u > 1e-6, 2 * bessel / np.maximum(u, 1e-6), 1.0)
    return np.cos(np.pi * wavelength_A * apart * k**2) * spread
