"""What the cores of atoms do to the beam between the pixels of a canvas.

Frequencies above 1 / (2 pixel) of the potential scatter beyond what the pixels hold. With d the
phase that they miss, exp(i phase) is to second order and on average exp(i phase - <d^2> / 2): an
absorption. Heavy atoms hide more of themselves, and with the power 2.5 of the phase that the pixels
show, c |phase|^2.5, one c does for all: on pixels of 0.2 A, from the scattering factors of Lobato
and Van Dyck (2014), c = 0.069 (C), 0.079 (O), 0.060 (Ti), 0.066 (Sr), 0.056 (La), 0.070 (Pb).

That is single scattering of one atom, on average. Which c leaves the depth of a specimen right is
measured (docs/method.md): a quarter more than these.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Cores"]


@dataclass(frozen=True, slots=True)
class Cores:
    """A slice acts as exp(i phase - c |phase|^2.5).

    Parameters
    ----------
    absorption : float
        c, per radian^2.5.
    """

    absorption: float

    @classmethod
    def hidden_by(cls, pixel_size_A: float) -> Cores:
        """Of atoms that are seen on pixels of a given size, angstrom.

        c = 0.085 for 0.2 A; with the pixel it falls as the mean square of the phase does that is
        missed (over elements, to a tenth, from 0.1 to 0.3 A).
        """
        return cls(0.085 * (pixel_size_A / 0.2) ** 1.6)

    def transmission(self, phase: Tensor) -> Tensor:
        """Complex transmission of a real phase in radians, the same shape."""
        return torch.polar(torch.exp(-self.absorption * phase.abs().pow(2.5)), phase)

    def slope(self, phase: Tensor) -> Tensor:
        """Derivative of the logarithm of the modulus with respect to the phase."""
        return -2.5 * self.absorption * phase.sign() * phase.abs().pow(1.5)
