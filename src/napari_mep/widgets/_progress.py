"""What a snapshot says, in words."""

from __future__ import annotations

import math

from napari_mep.reconstruction.snapshot import Snapshot

__all__ = ["duration", "progress_line"]


def progress_line(
    snapshot: Snapshot, seconds_per_step: float = math.nan, *, ended: bool = False
) -> str:
    """One line on where a reconstruction stands.

    Parameters
    ----------
    snapshot : Snapshot
        State after the step.
    seconds_per_step : float
        Of the last steps; NaN leaves it out.
    ended : bool
        Whether the run is over, be it early: says how long it took.

    Returns
    -------
    str
        For example "step 12/30 · logSNR −1.2 · residual 0.034 (noise floor 0.031) · 1.2 s/step ·
        38 s left"; what is not known is left out.
    """
    parts = [f"step {snapshot.step}/{snapshot.total}"]
    if math.isfinite(snapshot.logsnr):
        parts.append(f"logSNR {snapshot.logsnr:.1f}".replace("-", "−"))
    if math.isfinite(snapshot.residual):
        floor = snapshot.residual_floor
        noise = f" (noise floor {floor:.3f})" if math.isfinite(floor) and floor > 0 else ""
        parts.append(f"residual {snapshot.residual:.3f}{noise}")
    if ended or snapshot.step >= snapshot.total:
        parts.append(f"{duration(snapshot.seconds)} in all")
    else:
        if math.isfinite(seconds_per_step) and seconds_per_step > 0:
            parts.append(f"{seconds_per_step:.2g} s/step")
        if math.isfinite(snapshot.eta_s):
            parts.append(f"{duration(snapshot.eta_s)} left")
    # Where the line must be broken, then between its parts.
    return " · ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts)


def duration(seconds: float) -> str:
    """Seconds as people say them: 4.2 s, 38 s, 12 min, 3.5 h."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 5940:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
