"""How well expected intensities explain counted electrons: value and derivative per pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

__all__ = ["LikelihoodKind", "LikelihoodResult", "PixelTerms", "pixel_terms"]

# Electrons added to model and data alike. Both terms have an infinite slope at I = 0, and far below
# the mean of a pattern intensities are the rounding of complex64 (about 1e-13), whose random phases
# must not enter the gradient. The amplitude's slope grows as sqrt(y / I): a billionth of the mean
# does. The Poisson term's grows as y / I and would blow up where vacuum scatters nothing, so it
# takes half an electron, or half the mean where that is less.
_AMPLITUDE_DARK = 1e-9
_POISSON_DARK = 0.5

LikelihoodKind = Literal["amplitude", "poisson"]
"""``"amplitude"`` (Gaussian in the square root of the counts) or ``"poisson"``."""


@dataclass(frozen=True, slots=True, eq=False)
class LikelihoodResult:
    """Negative log-likelihood of the counts of some patterns and its gradient.

    Parameters
    ----------
    value : scalar real tensor
        Negative log-likelihood in nats, summed over patterns and measured pixels; 0 for a model
        that reproduces the counts.
    gradient : (nz, Y, X) real tensor
        Derivative of ``value`` with respect to the phase, 1/radian.
    misfit : scalar real tensor
        Sum over measured pixels of (sqrt(I) - sqrt(y))^2, electrons.
    signal : scalar real tensor
        Sum over measured pixels of the counts y, electrons.
    """

    value: torch.Tensor
    gradient: torch.Tensor
    misfit: torch.Tensor
    signal: torch.Tensor

    @property
    def residual(self) -> float:
        """Relative amplitude residual ||sqrt(I) - sqrt(y)|| / ||sqrt(y)||; NaN without counts."""
        signal = float(self.signal)
        return (float(self.misfit) / signal) ** 0.5 if signal > 0 else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class PixelTerms:
    """Sums over the pixels of a batch of patterns, and the derivative of each pixel's term.

    Parameters
    ----------
    value, misfit, signal : scalar real tensors
        As in `LikelihoodResult`.
    slope : (B, Ky, Kx) real tensor
        d value / d intensity.
    """

    value: torch.Tensor
    misfit: torch.Tensor
    signal: torch.Tensor
    slope: torch.Tensor


def pixel_terms(
    intensities: torch.Tensor,
    counts: torch.Tensor,
    mask: torch.Tensor | None,
    mean_electrons: float,
    kind: LikelihoodKind,
) -> PixelTerms:
    """Evaluate a likelihood on the detector.

    Amplitude: 2 sum (sqrt(I) - sqrt(y))^2, since the variance of sqrt(y) is 1/4 for all but the
    faintest counts. Poisson: sum I - y + (y + b) ln((y + b) / (I + b)), for b = 0 minus the
    logarithm of the Poisson distribution less its value at I = y. Both after Thibault &
    Guizar-Sicairos, "Maximum-likelihood refinement for coherent diffractive imaging", New J. Phys.
    14, 063004 (2012).

    They differ where counts are few. A pixel that counted nothing costs I in the Poisson term and
    2 I in the amplitude term, which so asks for less scattering than there is. The slope of the
    Poisson term, 1 - (y + b) / (I + b), is zero on average at the true I for any b; b > 0 only
    gives pixels below b less weight than they deserve.

    Parameters
    ----------
    intensities : (B, Ky, Kx) real tensor
        Expected electrons I.
    counts : (B, Ky, Kx) real tensor
        Counted electrons y, not negative on measured pixels; anything elsewhere.
    mask : (Ky, Kx) bool tensor or None
        True where the detector measured; None: everywhere.
    mean_electrons : float
        Electrons per pixel of a mean pattern; sets b: half an electron or half of this, what is
        less (amplitude: a billionth of this is added to I and y alike).
    kind : {"amplitude", "poisson"}
        Which likelihood.

    Returns
    -------
    PixelTerms
        Sums in double precision where the device has it.

    Raises
    ------
    ValueError
        ``kind`` is unknown.
    """
    if kind not in ("amplitude", "poisson"):
        raise ValueError(f"kind: {kind!r}, must be 'amplitude' or 'poisson'")
    if mask is not None:
        # Unmeasured pixels may hold NaN, which multiplication by zero would keep.
        counts = counts.masked_fill(~mask, 0.0)
        intensities = intensities.masked_fill(~mask, 0.0)
    faint = _AMPLITUDE_DARK * mean_electrons
    root_model, root_data = (intensities + faint).sqrt(), (counts + faint).sqrt()
    precise = torch.float32 if intensities.device.type == "mps" else torch.float64
    misfit = (root_model - root_data).square().sum(dtype=precise)
    if kind == "amplitude":
        value = 2.0 * misfit
        slope = 2.0 - 2.0 * root_data.div_(root_model)
    else:
        dark = _POISSON_DARK * min(1.0, mean_electrons)
        model, data = intensities + dark, counts + dark
        ratio = data / model
        # Never negative but for rounding: clamping keeps a perfect model at exactly zero.
        value = (model - data).addcmul_(data, ratio.log()).clamp_(min=0.0).sum(dtype=precise)
        slope = 1.0 - ratio
    return PixelTerms(value, misfit, counts.sum(dtype=precise), slope)
