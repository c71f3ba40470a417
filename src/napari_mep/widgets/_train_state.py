"""Where a training run stands, as far as a widget can know."""

from __future__ import annotations

import signal
from enum import Enum

from napari_mep.training.schedules import run_progress
from napari_mep.training.settings import TrainingSettings
from napari_mep.widgets._train_look import RunLook
from napari_mep.widgets._train_process import Started

__all__ = ["Phase", "early_end", "is_complete", "phase_of"]


class Phase(Enum):
    """Where a run stands."""

    NONE = "no run"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    COMPLETE = "complete"
    FAILED = "failed"

    @property
    def busy(self) -> bool:
        """Whether a process is at work."""
        return self in (Phase.STARTING, Phase.RUNNING, Phase.STOPPING)


def phase_of(
    look: RunLook | None, *, alive: bool, ran: bool, stopping: bool, failure: str
) -> Phase:
    """Where the run in a directory stands.

    Parameters
    ----------
    look : RunLook or None
        The newest look at its directory.
    alive : bool
        Whether a process that was started here lives, or is being started.
    ran : bool
        Whether that process has been seen training: until then it loads, afterwards it exports.
    stopping : bool
        Whether the run was asked to end.
    failure : str
        Why the last process ended early; empty if it did not.
    """
    running = look is not None and look.running
    if running or alive:
        if stopping:
            return Phase.STOPPING
        return Phase.RUNNING if running or ran else Phase.STARTING
    if failure:
        return Phase.FAILED
    if look is None or look.checkpoint is None:
        return Phase.NONE
    complete = look.settings is not None and is_complete(look, look.settings)
    return Phase.COMPLETE if complete else Phase.STOPPED


def is_complete(look: RunLook, settings: TrainingSettings) -> bool:
    """Whether a run's checkpoint has used up the budget of these settings."""
    reached = look.checkpoint
    return reached is not None and run_progress(reached.volumes, reached.seconds, settings) >= 1


def early_end(started: Started, *, stopping: bool) -> str:
    """Why a process that was started here ended early; empty if it did not.

    One that is asked to end while it is still loading has nothing to save and dies of the signal.
    """
    if stopping and started.exit_code == -signal.SIGTERM:
        return ""
    return started.reason()
