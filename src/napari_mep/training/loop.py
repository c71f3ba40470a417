"""The training loop: v-prediction on rendered crystals, in pieces that resume exactly."""

from __future__ import annotations

import json
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from napari_mep.crystals.library import CrystalLibrary
from napari_mep.errors import SolverError
from napari_mep.prior.schedule import alpha_sigma
from napari_mep.prior.unet import PRESETS, UNet3D
from napari_mep.training.checkpoint import load_checkpoint, save_checkpoint
from napari_mep.training.precision import resolve_precision
from napari_mep.training.settings import TrainingSettings
from napari_mep.training.volumes import VolumeSource, data_scale

__all__ = ["LossCurve", "ema_decay", "learning_rate", "sample_logsnr", "train"]

_log = logging.getLogger(__name__)


def learning_rate(seen: int, settings: TrainingSettings) -> float:
    """Warm-up, a plateau, then linear decay to zero over the last part of the run.

    The plateau makes a run extendable: a longer budget given on resume continues the same curve.
    """
    warm = min(1.0, (seen + 1) / settings.warmup_volumes)
    left = (settings.volumes - seen) / max(1.0, settings.decay_fraction * settings.volumes)
    return settings.learning_rate * warm * min(1.0, max(0.0, left))


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


def sample_logsnr(count: int, settings: TrainingSettings, rng: np.random.Generator) -> Tensor:
    """Stratified draws from the logSNR weighting: a Gaussian plus a uniform floor.

    The weighting of the loss is realised by the density of the draws, so each draw counts one.

    Returns
    -------
    (count,) float32 tensor
    """
    low, high = settings.logsnr_low, settings.logsnr_high
    grid = np.linspace(low, high, 1025)
    gauss = np.exp(-0.5 * ((grid - settings.logsnr_mean) / settings.logsnr_width) ** 2)
    density = (1 - settings.uniform_fraction) * gauss / gauss.mean() + settings.uniform_fraction
    cumulative = np.concatenate([[0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    quantiles = (rng.permutation(count) + rng.random(count)) / count
    values = np.interp(quantiles, cumulative / cumulative[-1], grid)
    return torch.from_numpy(values).float()


class LossCurve:
    """Running mean of the v-loss per unit of logSNR.

    Times sigmoid(-logsnr) it is the denoiser's own mean squared error in scaled units.
    """

    def __init__(self, settings: TrainingSettings) -> None:
        self.edges = np.arange(math.floor(settings.logsnr_low), math.ceil(settings.logsnr_high) + 1)
        self.value = np.full(len(self.edges) - 1, np.nan)
        self._rate = 0.02

    def update(self, logsnr: Tensor, loss: Tensor) -> None:
        """Take in the losses (B,) of volumes noised to logsnr (B,)."""
        bins = np.digitize(logsnr.numpy(), self.edges[1:-1])
        for i, value in zip(bins, loss.numpy(), strict=True):
            old = self.value[i]
            self.value[i] = value if np.isnan(old) else old + self._rate * (value - old)


def train(
    library: CrystalLibrary,
    settings: TrainingSettings,
    run_dir: str | Path,
    *,
    resume: bool = False,
    device: torch.device | str = "cpu",
    checkpoint_seconds: float = 300.0,
    log_every: int = 20,
    stop: threading.Event | None = None,
) -> Iterator[dict[str, float]]:
    """Train a prior; yields a record of metrics every `log_every` steps.

    Parameters
    ----------
    library : CrystalLibrary
        Crystals to learn from.
    settings : TrainingSettings
        What to train and how.
    run_dir : path
        Receives ``checkpoint.safetensors``, ``metrics.jsonl`` and ``settings.json``.
    resume : bool
        Continue from the checkpoint in `run_dir`.
    device : torch.device or str
        Where to train.
    checkpoint_seconds : float
        Wall time between checkpoints; SIGTERM, `stop` and the end of the run save one too.
    log_every : int
        Steps between records.
    stop : threading.Event, optional
        Ends the run after the current step.

    Yields
    ------
    dict
        volumes, loss (mean v-loss since the last record), volumes_per_second, learning_rate.

    Raises
    ------
    SolverError
        If the loss is not finite; the last checkpoint stays as it was.
    WeightsError
        If there is nothing to resume, or the run directory holds another architecture.
    """
    device = torch.device(device)
    precision = resolve_precision(settings.precision, device)
    run_dir = Path(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    stop = stop or threading.Event()
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(settings.seed)
        network = UNet3D(PRESETS[settings.preset])
    network = network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    ema = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = torch.optim.AdamW(
        _parameter_groups(network, settings.weight_decay), betas=(0.9, 0.99), lr=0.0
    )
    source = VolumeSource(library, settings, device)
    curve = LossCurve(settings)
    step = seen = 0
    if resume:
        state = load_checkpoint(run_dir, network, ema, optimizer)
        step, seen, scale = int(state["step"]), int(state["volumes"]), float(state["scale"])
        curve.value = np.array([np.nan if v is None else v for v in state["loss_curve"]])
    else:
        scale = data_scale(source)
    (run_dir / "settings.json").write_text(
        json.dumps(settings.to_dict(), indent=2), encoding="utf-8"
    )

    def save() -> None:
        state = {"step": step, "volumes": seen, "scale": scale, "settings": settings.to_dict()}
        state["precision"] = str(precision).removeprefix("torch.")
        state["loss_curve"] = [None if np.isnan(v) else float(v) for v in curve.value]
        state["loss_curve_edges"] = curve.edges.tolist()
        state["sources"] = library.sources
        save_checkpoint(run_dir, network, ema, optimizer, state)

    recent: list[float] = []
    saved = began = time.monotonic()
    began_at = seen
    with _sigterm_sets(stop), (run_dir / "metrics.jsonl").open("a", encoding="utf-8") as log:
        while seen < settings.volumes and not stop.is_set():
            rate = learning_rate(seen, settings)
            for group in optimizer.param_groups:
                group["lr"] = rate
            rng = np.random.default_rng([settings.seed, 1, step])
            clean = source(seen, settings.batch) * scale
            logsnr = sample_logsnr(settings.batch, settings, rng)
            noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
            with torch.autocast(device.type, torch.bfloat16, precision == torch.bfloat16):
                loss = _v_loss(network, clean, noise.to(device), logsnr.to(device))
            if not bool(torch.isfinite(loss).all()):
                raise SolverError(
                    f"training: loss is not finite after {seen} volumes; lower learning_rate "
                    f"({settings.learning_rate:g}) and resume from the checkpoint in {run_dir}"
                )
            optimizer.zero_grad()
            loss.mean().backward()
            nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
            optimizer.step()
            step, seen = step + 1, seen + settings.batch
            decay = ema_decay(step, settings.ema_relative_length)
            torch._foreach_lerp_(list(ema.values()), _detached(network), 1 - decay)
            curve.update(logsnr, loss.detach().cpu())
            recent.append(float(loss.detach().mean()))
            if step % log_every == 0:
                now = time.monotonic()
                record = {
                    "volumes": seen,
                    "loss": float(np.mean(recent)),
                    "volumes_per_second": (seen - began_at) / (now - began),
                    "learning_rate": rate,
                }
                recent.clear()
                log.write(json.dumps(record) + "\n")
                log.flush()
                yield record
                if now - saved > checkpoint_seconds:
                    save()
                    saved = now
        save()


def _v_loss(network: nn.Module, clean: Tensor, noise: Tensor, logsnr: Tensor) -> Tensor:
    """Mean squared error of v for each volume, (B,)."""
    alpha, sigma = (a[:, None, None, None] for a in alpha_sigma(logsnr))
    v = alpha * noise - sigma * clean
    return (network(alpha * clean + sigma * noise, logsnr) - v).square().mean((1, 2, 3))


def _detached(network: nn.Module) -> list[Tensor]:
    return [p.detach() for p in network.parameters()]


def _parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight matrices decay; norms and biases do not."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    free = [p for p in network.parameters() if p.ndim <= 1]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]


@contextmanager
def _sigterm_sets(stop: threading.Event) -> Iterator[None]:
    """SIGTERM ends the run after the current step, with a checkpoint (main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous: Callable[..., object] | int | None = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)  # type: ignore[arg-type]
