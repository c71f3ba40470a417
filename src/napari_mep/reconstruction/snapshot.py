"""What a running reconstruction reports after every step."""

from __future__ import annotations

from dataclasses import dataclass

from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.volume import PhaseVolume

__all__ = ["Snapshot"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of a reconstruction after one step; numpy only, safe to hand to another thread.

    Parameters
    ----------
    plan : ReconstructionPlan
        What is being done, nothing left open.
    step, total : int
        Steps done so far and steps planned; ``step == total`` marks the last snapshot.
    stage : str
        What the step belongs to, for people: ``"gradient start"``, ``"sampling"``, ...
    volume : PhaseVolume or None
        The current estimate (the guided x-prediction when sampling), a fresh copy; None where the
        preview was skipped. The last snapshot always carries it.
    residual : float
        Relative amplitude residual ||sqrt(I_model) - sqrt(I)|| / ||sqrt(I)|| over the patterns
        used in this step; where these are taken in mini-batches, each before its own update.
    residual_floor : float
        What counting noise alone leaves in ``residual``; below it, noise is being fitted.
    guidance_weight : float
        Weight g(logSNR) of the data term in this step, in preconditioned steps (1 = a full step);
        NaN for the solvers of other packages.
    logsnr : float
        Log signal-to-noise ratio of the diffusion state; NaN for solvers without a prior.
    seconds : float
        Wall time since the reconstruction began.
    eta_s : float
        Expected seconds until the end.
    samples : int
        Posterior samples whose mean `volume` is; 0 while the first one is under way.
    spread : PhaseVolume or None
        Standard deviation over the samples; only in the last snapshot of several.
    """

    plan: ReconstructionPlan
    step: int
    total: int
    stage: str
    volume: PhaseVolume | None
    residual: float
    residual_floor: float
    guidance_weight: float
    logsnr: float
    seconds: float
    eta_s: float
    samples: int = 0
    spread: PhaseVolume | None = None

    @property
    def method(self) -> str:
        """``"mep"``, ``"gradient"``, or the name of an outside baseline."""
        return self.plan.method
