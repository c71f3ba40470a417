"""What the user asks of a training run, and the command that does it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from napari_mep.training.settings import TrainingSettings

__all__ = ["TrainRequest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """Settings of a run, and how it is run here.

    Parameters
    ----------
    settings : TrainingSettings
        What is trained. A positive ``minutes`` is the budget; else ``volumes`` is.
    device : str
        auto, cpu, cuda, cuda:N or mps.
    sample_minutes : float
        Training time between unconditional samples; 0 draws none.
    checkpoint_minutes : float
        Training time between checkpoints.
    compiled : bool
        Whether the network runs through torch.compile.
    initial : str
        Name or path of the prior to start from; empty: random weights.
    solved_views : str
        Folder of ``napari-mep solve``; empty: every volume is rendered.
    """

    settings: TrainingSettings = field(default_factory=TrainingSettings)
    device: str = "auto"
    sample_minutes: float = 5.0
    checkpoint_minutes: float = 5.0
    compiled: bool = False
    initial: str = ""
    solved_views: str = ""

    def arguments(self, library: Path, run_dir: Path, *, resume: bool) -> list[str]:
        """Arguments of ``napari-mep train``.

        A run that is resumed keeps what is not named here, so each of these is named.
        """
        s = self.settings
        options = {
            "-o": run_dir,
            "--preset": s.preset,
            "--volumes": s.volumes,
            "--minutes": f"{s.minutes:.12g}",
            "--batch": s.batch,
            "--precision": s.precision,
            "--schedule": s.schedule,
            "--learning-rate": f"{s.learning_rate:.12g}",
            "--estimate-share": f"{s.estimate_share:.12g}",
            "--seed": s.seed,
            "--device": self.device,
            "--checkpoint-minutes": f"{self.checkpoint_minutes:.12g}",
        }
        if self.sample_minutes > 0:
            options["--sample-minutes"] = f"{self.sample_minutes:.12g}"
        if self.initial and not resume:
            options["--initial"] = self.initial
        if self.solved_views:
            options["--solved-views"] = self.solved_views
        words = [str(library), *(str(word) for pair in options.items() for word in pair)]
        return words + ["--compile"] * self.compiled + ["--resume"] * resume
