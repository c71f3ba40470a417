"""Guidance schedules: how much of a full data step each noise level takes. Numpy only.

A weight of 1 is one preconditioned gradient step, as long as the stiffest direction of the data
term allows (the step that a Gauss-Newton solver takes in the depth sum).
"""

from __future__ import annotations

import contextlib

import numpy as np

from napari_mep.errors import WeightsError
from napari_mep.prior.catalogue import load_card
from napari_mep.reconstruction.plan import GuidancePlan, ReconstructionPlan

__all__ = ["guidance_weight", "logsnr_schedule", "preview_weights"]

# Stands in for the measured shift where only a picture is wanted before the data are seen: the
# curvature of the depth sum at 1e5 e/A^2 with the optics of the paper.
_TYPICAL_SHIFT = 5.3


def logsnr_schedule(plan: ReconstructionPlan) -> np.ndarray:
    """LogSNR of each sampling step, (steps,) float64: linear, as for poly-exponential rho = 1.

    Where the plan leaves the start open, that of a prior which sees no estimate; `settled` plans
    leave nothing open.
    """
    start = plan.settled(sees_estimate=False).start_logsnr
    return np.linspace(start, plan.end_logsnr, plan.steps)  # type: ignore[arg-type]


def guidance_weight(logsnr: np.ndarray, plan: GuidancePlan, shift: float) -> np.ndarray:
    """Weight g(logSNR) of the data step.

    ``shifted-sigmoid`` is g0 sigmoid((lambda0 - logsnr) / tau): for lambda0 = ln(curvature) and
    tau = 1 this is the exact guided mean C / (1 + C h) of a Gaussian prior in units of 1 / h, with
    C = exp(-logsnr). ``alpha`` grows with the signal amplitude, g0 sqrt(sigmoid(logsnr)), as in
    reconstruction guidance (Ho et al. 2022, eq. 8). ``constant`` is g0.

    Parameters
    ----------
    logsnr : ndarray
        Log signal-to-noise ratio.
    plan : GuidancePlan
        Form, strength and width.
    shift : float
        lambda0, used where the plan leaves it open.

    Returns
    -------
    ndarray
        Weights in preconditioned steps.
    """
    logsnr = np.asarray(logsnr, dtype=np.float64)
    if plan.schedule == "shifted-sigmoid":
        centre = shift if plan.shift_logsnr is None else plan.shift_logsnr
        return plan.strength * _sigmoid((centre - logsnr) / plan.width_logsnr)
    if plan.schedule == "alpha":
        return plan.strength * np.sqrt(_sigmoid(logsnr))
    return np.full_like(logsnr, plan.strength)


def preview_weights(
    plan: ReconstructionPlan, curvature: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The schedule as a picture: (logsnr, weight) of every step.

    Parameters
    ----------
    plan : ReconstructionPlan
        Settings.
    curvature : float, optional
        Measured curvature of the data term in units of the prior; a typical value when absent.
    """
    # Said where it is used; a name that is half typed has a picture, too.
    with contextlib.suppress(WeightsError):
        plan = plan.settled_for(load_card(plan.prior))
    logsnr = logsnr_schedule(plan)
    shift = _TYPICAL_SHIFT if curvature is None else float(np.log(curvature))
    return logsnr, guidance_weight(logsnr, plan.guidance, shift)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))
