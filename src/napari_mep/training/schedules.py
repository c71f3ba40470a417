"""How the learning rate and the averaging of the weights change over a run."""

from __future__ import annotations

import math

import numpy as np

from napari_mep.training.settings import TrainingSettings

__all__ = ["ema_decay", "learning_rate", "run_progress"]


def run_progress(seen: int, seconds: float, settings: TrainingSettings) -> float:
    """Share of the run that is done, 0 to 1.

    Parameters
    ----------
    seen : int
        Volumes so far.
    seconds : float
        Training time so far, all pieces of the run together.
    settings : TrainingSettings
        Its `minutes` are the budget if above zero, otherwise its `volumes`.
    """
    budget = 60 * settings.minutes
    return min(1.0, seconds / budget if budget else seen / settings.volumes)


def learning_rate(seen: int, progress: float, settings: TrainingSettings) -> float:
    """Learning rate after `seen` volumes, at a share `progress` of the run.

    ``linear`` stays on a plateau and falls to zero over the last `decay_fraction` of the run, so a
    run can be extended: a longer budget given on resume continues the same curve. ``cosine`` falls
    from the beginning. ``inverse-sqrt`` falls with 1 / sqrt(volumes / reference_volumes) (Karras et
    al. 2024, EDM2, eq. 67) and to zero as ``linear`` does. All begin with a linear warm-up.
    """
    warm = min(1.0, (seen + 1) / settings.warmup_volumes)
    if settings.schedule == "cosine":
        return settings.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * progress))
    rate = settings.learning_rate * warm
    if settings.schedule == "inverse-sqrt":
        rate /= math.sqrt(max(1.0, seen / settings.reference_volumes))
    return rate * min(1.0, (1 - progress) / max(1e-12, settings.decay_fraction))


def ema_decay(step: int, relative_length: float) -> float:
    """Decay of the power-function EMA at step n: (1 - 1/n)^(gamma + 1).

    Karras et al. 2024 (EDM2, arXiv 2312.02696), eq. 123; gamma solves
    relative_length^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)).
    """
    roots = np.roots(
        [1, 7, 16 - relative_length**-2, 12 - relative_length**-2]
    )  # (g+2)^2 (g+3) - (g+1)/s^2
    gamma = float(roots.real.max())
    return (1 - 1 / max(1, step)) ** (gamma + 1)
