"""The training loop: v-prediction on rendered crystals, in pieces that resume exactly."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from napari_mep.crystals.library import CrystalLibrary
from napari_mep.errors import PlanError, SolverError, WeightsError
from napari_mep.prior.denoiser import Denoiser
from napari_mep.prior.precision import resolve_precision
from napari_mep.prior.schedule import alpha_sigma
from napari_mep.prior.unconditional import sample_prior
from napari_mep.prior.unet import UNet3D
from napari_mep.training.board import open_board
from napari_mep.training.checkpoint import load_checkpoint, save_checkpoint
from napari_mep.training.estimates import Estimates
from napari_mep.training.noise_levels import NoiseLevels
from napari_mep.training.ranks import Ranks
from napari_mep.training.run_directory import (
    SETTINGS_NAME,
    append_metrics,
    claim,
    forget_metrics_after,
    replace_text,
    stop_requested,
    write_sample,
    writing,
)
from napari_mep.training.schedules import ema_decay, learning_rate, run_progress
from napari_mep.training.settings import TrainingSettings
from napari_mep.training.solved import SolvedViews
from napari_mep.training.structure import structural_similarity
from napari_mep.training.volumes import VolumeSource, data_scale

__all__ = ["train"]

_SAMPLES, _SAMPLE_STEPS = 4, 30
_STOP_FILE_SECONDS = 1.0  # how often the run directory is asked
_RESULT_LOGSNR = -8.0  # a reconstruction predicts its result at -10
# Depth sums of estimates vary by 0.03 to 0.6 rad rms across the beam. The typical one has a weight
# near 1, and a volume with nothing but noise four times that.
_TYPICAL_SUM_RAD, _LEAST_SUM_RAD = 0.2, 0.1


def train(
    library: CrystalLibrary,
    settings: TrainingSettings,
    run_dir: str | Path,
    *,
    resume: bool = False,
    device: torch.device | str = "cpu",
    ranks: Ranks | None = None,
    initial: Denoiser | None = None,
    solved: SolvedViews | None = None,
    compiled: bool = False,
    workers: int = 0,
    checkpoint_seconds: float = 300.0,
    sample_seconds: float | None = None,
    log_every: int = 20,
    stop: threading.Event | None = None,
) -> Iterator[dict[str, Any]]:
    """Train a prior; yields a record of metrics every `log_every` steps.

    Parameters
    ----------
    library : CrystalLibrary
        Crystals to learn from.
    settings : TrainingSettings
        What to train and how.
    run_dir : path
        Receives what `napari_mep.training.run_directory` lists.
    resume : bool
        Continue from the checkpoint in `run_dir`.
    device : torch.device or str
        Where this process trains.
    ranks : Ranks, optional
        The processes that share the run; this one alone by default.
    initial : Denoiser, optional
        A prior to start from instead of random weights, of the same architecture but for the
        input of an estimate, which it may lack. Not looked at when a run is resumed.
    solved : SolvedViews, optional
        Where ``settings.solved_share`` of the volumes comes from.
    compiled : bool
        Run the network through ``torch.compile``: a minute or two to start, faster steps on a GPU.
    workers : int
        Processes that prepare crystals ahead of the network; 0 leaves that to this process.
    checkpoint_seconds : float
        Training time between checkpoints; SIGTERM, `stop`, the file ``stop`` and the end of the
        run save one too.
    sample_seconds : float, optional
        Training time between unconditional samples, not counting the drawing of them; none are
        drawn by default.
    log_every : int
        Steps between records.
    stop : threading.Event, optional
        Ends the run after the current step.

    Yields
    ------
    dict
        A line of ``metrics.jsonl``.

    Raises
    ------
    SolverError
        If the loss is not finite; the last checkpoint stays as it was.
    WeightsError
        If there is nothing to resume, the run directory or `initial` has another architecture, or
        `initial` other voxels or another beam energy.
    ExportError
        If the run directory cannot be written or another process trains there.
    PlanError
        If the batch does not divide among the processes, or one of `solved` and its share is
        given without the other.
    """
    device = torch.device(device)
    ranks = ranks or Ranks()
    precision = resolve_precision(settings.precision, device)
    run_dir = Path(run_dir)
    stop = stop or threading.Event()
    mine = ranks.share(settings.batch)
    if (solved is None) != (settings.solved_share == 0):
        raise PlanError(
            f"training solved_share {settings.solved_share:g}: "
            + ("no folder of solved views is given" if solved is None else "leaves them unused")
            + "; give both or neither"
        )
    with (
        claim(run_dir) if ranks.leads else nullcontext(),
        _sigterm_sets(stop),
        ExitStack() as kept_open,
    ):
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(settings.seed)
            network = UNet3D(settings.architecture)
        if initial is not None and not resume:
            _take_over(network, initial, settings)
        network = network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        forward: Callable[..., Tensor] = network
        if compiled:
            forward = torch.compile(network, dynamic=False)
        ema = {name: p.detach().clone() for name, p in network.named_parameters()}
        optimizer = torch.optim.AdamW(
            _parameter_groups(network, settings.weight_decay), betas=(0.9, 0.99), lr=0.0
        )
        source = VolumeSource(library, settings, device, workers)
        estimates = None
        if settings.estimate_share:
            estimates = Estimates(
                settings.tile_shape,
                settings.voxel_size_A,
                settings.estimate_share,
                quasi_newton_share=settings.quasi_newton_share,
                error_rad=settings.estimate_error_rad,
                device=device,
            )
            deep = replace(settings, tile_shape=estimates.shape)
            source = VolumeSource(library, deep, device, workers)
        levels = NoiseLevels(settings)
        step, seen, seconds = 0, 0, 0.0
        if resume:
            state = load_checkpoint(run_dir, network, ema, optimizer)
            step, seen, scale = int(state["step"]), int(state["volumes"]), float(state["scale"])
            seconds = float(state.get("seconds", 0.0))  # older checkpoints do not know it
            levels.restore(state)
        else:
            scale = data_scale(source) if initial is None else initial.scale
        if ranks.leads:
            forget_metrics_after(run_dir, seen)
            with writing(run_dir):
                text = json.dumps(settings.to_dict(), indent=2)
                replace_text(run_dir / SETTINGS_NAME, text)
            show = kept_open.enter_context(open_board(run_dir, seen))

        def save() -> None:
            if not ranks.leads:
                return
            state: dict[str, Any] = {
                "step": step,
                "volumes": seen,
                "seconds": seconds,
                "scale": scale,
            }
            state["settings"] = settings.to_dict()
            state["precision"] = str(precision).removeprefix("torch.")
            state["sources"] = library.sources
            save_checkpoint(run_dir, network, ema, optimizer, state | levels.state())

        def sample() -> None:
            if not ranks.leads:
                return

            def averaged(z: Tensor, level: Tensor) -> Tensor:
                return functional_call(network, ema, (z, level))

            prior = Denoiser(
                averaged,  # type: ignore[arg-type]
                scale,
                settings.voxel_size_A,
                settings.tile_shape,
                (settings.logsnr_low, settings.logsnr_high),
                settings.energy_keV,
            )
            volumes = sample_prior(prior, range(_SAMPLES), steps=_SAMPLE_STEPS, device=device)
            write_sample(run_dir, seen, volumes.cpu().numpy(), settings.voxel_size_A)

        recent: list[float] = []
        last = time.monotonic()
        saved = logged = looked = sampled = seconds
        logged_at = seen
        volumes = source.stream(seen + mine.start, mine.stop - mine.start, settings.batch)
        while (progress := run_progress(seen, seconds, settings)) < 1:
            rate = learning_rate(seen, progress, settings)
            for group in optimizer.param_groups:
                group["lr"] = rate
            rng = np.random.default_rng([settings.seed, 1, step])
            logsnr, importance = levels.draw(settings.batch, rng)
            clean, estimate = next(volumes), None
            relative: Tensor | float = 1.0
            # Drawn for the whole batch, so that the number of processes changes nothing.
            generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
            noise = torch.randn(
                settings.batch, *settings.tile_shape, generator=generator, device=device
            )[mine]
            if estimates is not None:
                white = torch.randn(
                    settings.batch, 2, *estimates.shape, generator=generator, device=device
                )[mine]
                numbers = range(seen + mine.start, seen + mine.stop)
                draws = [np.random.default_rng([settings.seed, 2, n]) for n in numbers]
                clean, estimate = estimates(clean, draws, white)
                if solved is not None:
                    solved.put_among(clean, estimate, settings.solved_share, draws)
                if settings.loss == "relative":
                    relative = _relative(estimate)
                estimate = estimate * scale
            clean = clean * scale
            level = torch.from_numpy(logsnr[mine]).float().to(device)
            with torch.autocast(device.type, torch.bfloat16, precision == torch.bfloat16):
                loss, prediction = _v_loss(forward, clean, noise, level, estimate)
            losses = ranks.gather(loss.detach()).double().cpu().numpy()
            if not np.isfinite(losses).all():
                raise _diverged(seen, settings, run_dir)
            wanted = relative * loss
            if settings.structure_weight:
                results = settings.structure_weight * (level < _RESULT_LOGSNR)
                wanted = wanted + results * (1 - structural_similarity(prediction, clean))
            weight = torch.from_numpy(importance[mine]).float().to(device)
            optimizer.zero_grad()
            (weight * wanted).mean().backward()
            gradients = [p.grad for p in network.parameters() if p.grad is not None]
            ranks.average(gradients)
            norm = nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
            if not bool(torch.isfinite(norm)):
                raise _diverged(seen, settings, run_dir)
            optimizer.step()
            step, seen = step + 1, seen + settings.batch
            decay = ema_decay(step, settings.ema_relative_length)
            torch._foreach_lerp_(list(ema.values()), _detached(network), 1 - decay)
            levels.update(logsnr, losses)
            recent.append(float((importance * losses).mean()))

            now = time.monotonic()
            seconds, last = seconds + now - last, now
            asked = stop.is_set()
            if ranks.leads and seconds - looked > _STOP_FILE_SECONDS:
                asked, looked = asked or stop_requested(run_dir), seconds
            asked, seconds = ranks.agree(asked, seconds, device)
            if step % log_every == 0:
                speed = (seen - logged_at) / max(1e-9, seconds - logged)
                edges, band_loss = levels.bands()
                record = {
                    "time": time.time(),
                    "step": step,
                    "volumes": seen,
                    "seconds": seconds,
                    "progress": run_progress(seen, seconds, settings),
                    "eta_s": _seconds_left(seen, seconds, speed, settings),
                    "volumes_per_second": speed,
                    "loss": float(np.mean(recent)),
                    "band_edges": edges,
                    "band_loss": band_loss,
                    "learning_rate": rate,
                    "gradient_norm": float(norm),
                }
                recent.clear()
                logged, logged_at = seconds, seen
                if ranks.leads:
                    append_metrics(run_dir, record)
                    show(record)
                yield record
                asked = ranks.agree(asked or stop.is_set(), seconds, device)[0]
            if asked:
                break
            if seconds - saved > checkpoint_seconds:
                save()
                saved = seconds
            if sample_seconds is not None and seconds - sampled > sample_seconds:
                sample()
                # From its end on: where drawing takes long, training still has its share.
                spent = time.monotonic() - last
                sampled, logged = seconds + spent, logged + spent
        save()


def _diverged(seen: int, settings: TrainingSettings, run_dir: Path) -> SolverError:
    return SolverError(
        f"training: loss is not finite after {seen} volumes; lower learning_rate "
        f"({settings.learning_rate:g}) and resume from the checkpoint in {run_dir}"
    )


def _seconds_left(seen: int, seconds: float, speed: float, settings: TrainingSettings) -> float:
    if settings.minutes:
        return max(0.0, 60 * settings.minutes - seconds)
    return max(0.0, (settings.volumes - seen) / speed)


def _v_loss(
    network: Callable[..., Tensor],
    clean: Tensor,
    noise: Tensor,
    logsnr: Tensor,
    estimate: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Mean squared error of v for each volume, (B,), and the x that it predicts, (B, z, y, x)."""
    alpha, sigma = (a[:, None, None, None] for a in alpha_sigma(logsnr))
    noisy, v = alpha * clean + sigma * noise, alpha * noise - sigma * clean
    seen = () if estimate is None else (estimate,)
    predicted = network(noisy, logsnr, *seen)
    return (predicted - v).square().mean((1, 2, 3)), alpha * noisy - sigma * predicted


def _relative(estimate: Tensor) -> Tensor:
    """Weight of each volume's squared error, (B,), by the estimates, (B, z, y, x) rad.

    Scores of a reconstruction are relative to the range of its specimen, a squared error of phase
    is not: of 54 solved views the heaviest quarter holds half of it. The weight depends on what
    the network is shown and on nothing else, so that the best prediction is the same. Without an
    estimate, zeros, it is 1.
    """
    variance = estimate.sum(1).var((1, 2))
    weight = _TYPICAL_SUM_RAD**2 / (variance + _LEAST_SUM_RAD**2)
    return torch.where(variance > 0, weight, 1.0)


def _take_over(network: UNet3D, initial: Denoiser, settings: TrainingSettings) -> None:
    """Weights of a prior; an input that it lacks keeps its zeros."""
    for field, unit in (("voxel_size_A", "A"), ("energy_keV", "keV")):
        old, new = getattr(initial, field), getattr(settings, field)
        if old != new:
            raise WeightsError(
                f"initial prior: has {field} = {old} {unit}, the settings {new} {unit}; train from "
                "one that fits or from random weights"
            )
    try:
        missing, unknown = network.load_state_dict(initial.network.state_dict(), strict=False)
    except RuntimeError as err:
        missing, unknown = [], [str(err).splitlines()[-1].strip()]
    wrong = [name for name in missing if not name.startswith("estimate_stem.")] + unknown
    if wrong:
        raise WeightsError(
            f"initial prior: has another architecture than the preset ({wrong[0]}); train from "
            "one of the same preset"
        )


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
