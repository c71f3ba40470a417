"""What the method leaves open in training, each choice tried alone: the table of docs/tuning.md.

    napari-mep crystals build builtin --part train -o train.npz
    napari-mep crystals build builtin --part validation -o validation.npz
    napari-mep solve validation.npz -o views --views 32 --settings docs/recipes/crystals-depth.json
    python benchmarks/tune_training.py train.npz views runs/tuning --volumes 4000
    python benchmarks/tune_training.py train.npz views runs/tuning --table

Every variant is a prior that sees what a solver without a prior makes of the data, and is trained
for as long as the first one takes for its volumes: a network that costs twice as much a volume sees
half as many, by times measured in turns on this machine before. Then it is judged on `views`:
crystals whose families training never had, simulated with abTEM and solved. The error of its
x-prediction over the variance of the data tells what it has learned at each noise level; SSIM and
PSNR are of the mean of four predictions from nearly pure noise, which is the result of a
reconstruction before the data have their last word.

What is finished is not done again, so several processes may share the work (`--share 0/2`, `1/2`),
and a run that was cut goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from napari_mep.crystals.library import CrystalLibrary
from napari_mep.evaluation import compare_volumes, paired_bootstrap
from napari_mep.prior.denoiser import Denoiser
from napari_mep.prior.device import resolve_device
from napari_mep.prior.files import load_prior
from napari_mep.prior.orientation import Orientation
from napari_mep.prior.precision import resolve_precision
from napari_mep.prior.tiling import TiledDenoiser
from napari_mep.prior.unet import PRESETS, LevelConfig, UNet3D
from napari_mep.reconstruction.plan import START_LOGSNR
from napari_mep.training import loop
from napari_mep.training.estimates import Estimates
from napari_mep.training.export import export_prior
from napari_mep.training.run_directory import CHECKPOINT_NAME
from napari_mep.training.settings import TrainingSettings
from napari_mep.training.solved import load_view
from napari_mep.training.volumes import VolumeSource, data_scale
from napari_mep.volume import PhaseVolume

LEVELS = (-10, -6, -4, -2, 0, 2)  # logSNR at which the x-prediction is judged
ORIENTATIONS = 4
JUDGED_PX = 32  # in the middle of a view: what its scan covers

# `tiny` with two levels at full resolution in place of its stem of 1x4x4 patches.
PRESETS["plain"] = replace(
    PRESETS["tiny"],
    patch=(1, 1, 1),
    levels=(
        LevelConfig(16, 1, (1, 2, 2)),
        LevelConfig(32, 1, (1, 2, 2)),
        *PRESETS["tiny"].levels,
    ),
)


@dataclass(frozen=True)
class Variant:
    """One row of the table: what differs from the first."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    scale: float = 1.0


VARIANTS = (
    Variant("tiny, weighting −6 ± 5, batch 4, lr 1e-3, EMA 0.1"),
    Variant("the same, another seed", {"seed": 1}),
    Variant("weighting −10 ± 2", {"logsnr_mean": -10.0, "logsnr_width": 2.0}),
    Variant("weighting −2 ± 2.5", {"logsnr_mean": -2.0, "logsnr_width": 2.5}),
    Variant("levels drawn where the loss is", {"noise_levels": "adaptive"}),
    Variant("batch 16", {"batch": 16}),
    Variant("batch 16, lr 3e-3", {"batch": 16, "learning_rate": 3e-3}),
    Variant("lr 3e-3", {"learning_rate": 3e-3}),
    Variant("lr 3e-4", {"learning_rate": 3e-4}),
    Variant("small", {"preset": "small"}),
    Variant("base", {"preset": "base"}),
    Variant("tiny without patches", {"preset": "plain"}),
    Variant("data at half the scale", scale=0.5),
    Variant("data at twice the scale", scale=2.0),
    Variant("EMA 0.03", {"ema_relative_length": 0.03}),
    Variant("EMA 0.2", {"ema_relative_length": 0.2}),
    Variant("estimates only as gradient steps leave them", {"quasi_newton_share": 0.0}),
    Variant("perfect crystals", {
        "vacancy_fraction": 0.0, "substitution_fraction": 0.0, "grain_boundary_share": 0.0,
        "surface_share": 0.0, "stacking_fault_share": 0.0, "amorphous_share": 0.0,
        "low_index_share": 0.0, "misaligned_share": 0.0,
    }),
)  # fmt: skip


def settings_of(variant: Variant, volumes: int) -> TrainingSettings:
    first = TrainingSettings(
        preset="tiny",
        volumes=volumes,
        warmup_volumes=max(1, volumes // 20),
        logsnr_mean=-6.0,
        logsnr_width=5.0,
        uniform_fraction=0.2,
        noise_levels="weighting",
        batch=4,
        estimate_share=0.9,
        quasi_newton_share=0.6,
    )
    return replace(first, **variant.settings)


def seconds_per_volume(library: CrystalLibrary, device: torch.device) -> dict[str, float]:
    """A step of every preset over its volumes, and what these cost to make; in turns."""
    settings = settings_of(VARIANTS[0], 1)
    names = sorted({settings_of(v, 1).preset for v in VARIANTS})
    low = resolve_precision("auto", device) == torch.bfloat16
    count, tile = settings.batch, settings.tile_shape
    x, level = torch.randn(count, *tile, device=device), torch.zeros(count, device=device)
    estimates = Estimates(
        tile,
        settings.voxel_size_A,
        settings.estimate_share,
        quasi_newton_share=settings.quasi_newton_share,
        device=device,
    )
    source = VolumeSource(library, replace(settings, tile_shape=estimates.shape), device)

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def made() -> float:
        began = time.perf_counter()
        rngs = [np.random.default_rng(i) for i in range(count)]
        white = torch.randn(count, 2, *estimates.shape, device=device)
        estimates(source(0, count), rngs, white)
        wait()
        return (time.perf_counter() - began) / count

    def step(network: UNet3D) -> float:
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, low):
            loss = network(x, level, x).square().mean()
        loss.backward()
        wait()
        return (time.perf_counter() - began) / count

    networks = {
        name: UNet3D(replace(PRESETS[name], estimate=True)).to(
            device, memory_format=torch.channels_last_3d  # type: ignore[call-overload]
        )
        for name in names
    }  # fmt: skip
    rounds = [
        {name: step(network) + made() for name, network in networks.items()} for _ in range(6)
    ]
    # The first round warms up.
    return {name: statistics.median(times[name] for times in rounds[1:]) for name in names}


def trained(
    variant: Variant, settings: TrainingSettings, library: CrystalLibrary, folder: Path,
    device: torch.device,
) -> None:  # fmt: skip
    """Train, or go on with what is there."""

    def scaled(source: VolumeSource) -> float:
        return variant.scale * data_scale(source)

    with mock.patch.object(loop, "data_scale", scaled):
        resume = (folder / CHECKPOINT_NAME).exists()
        for record in loop.train(
            library, settings, folder, resume=resume, device=device, checkpoint_seconds=60
        ):
            print(f"  {record['volumes']} volumes, loss {record['loss']:.3f}", flush=True)


@dataclass(frozen=True)
class View:
    """A crystal and what the solver made of its patterns, (z, y, x) tensors in radians."""

    specimen: torch.Tensor
    estimate: torch.Tensor

    @classmethod
    def read(cls, path: Path, device: torch.device) -> View:
        """From a file of `napari-mep solve`."""
        view = load_view(path)
        volumes = (torch.from_numpy(v) for v in (view.specimen, view.estimate))
        return cls(*(v.to(device, torch.float32) for v in volumes))

    def middle(self, canvas: torch.Tensor) -> torch.Tensor:
        """The part of a canvas that is judged."""
        first = [(n - JUDGED_PX) // 2 for n in canvas.shape[1:]]
        y, x = (slice(f, f + JUDGED_PX) for f in first)
        return canvas[:, y, x]

    def prediction(
        self, prior: Denoiser, canvas: torch.Tensor, logsnr: float, seed: int
    ) -> torch.Tensor:
        """What the prior makes of a canvas with noise on top, in one of the orientations."""
        turn = Orientation(seed)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(self.specimen.shape, generator=generator).to(self.specimen)
        noisy = canvas * prior.scale + math.exp(-logsnr / 2) * noise
        seen = turn(self.estimate * prior.scale)
        depth, height, width = seen.shape
        tiled = TiledDenoiser(prior, prior.tile_shape, (depth, height, width), estimate=seen)
        with torch.no_grad():
            return turn.back(tiled(turn(noisy), logsnr)) / prior.scale

    def scores(self, guess: torch.Tensor) -> tuple[float, float]:
        """SSIM and PSNR of the middle."""
        volumes = [
            PhaseVolume(self.middle(canvas).cpu().numpy(), (1.6, 0.2, 0.2), (0.0, 0.0, 0.0))
            for canvas in (guess, self.specimen)
        ]
        found = compare_volumes(*volumes)
        return float(found.ssim), float(found.psnr)


def denoising_errors(prior: Denoiser, views: list[View]) -> dict[str, float]:
    """Mean square error of the x-prediction over the variance of the data, by logSNR."""
    variance = statistics.mean(float(v.middle(v.specimen).var()) for v in views)
    found = {}
    for level in LEVELS:
        errors = [
            v.middle(v.prediction(prior, v.specimen, level, 0) - v.specimen).square().mean()
            for v in views
        ]
        found[str(level)] = statistics.mean(float(e) for e in errors) / variance
    return found


def expected(prior: Denoiser, view: View) -> torch.Tensor:
    """Mean of what the prior predicts from nearly pure noise, knowing the estimate only."""
    level = START_LOGSNR["expectation"]
    guesses = [view.prediction(prior, view.estimate, level, i) for i in range(ORIENTATIONS)]
    return torch.stack(guesses).mean(0).clamp(min=0.0)


def finished(folder: Path) -> Iterator[dict[str, Any]]:
    for variant in VARIANTS:
        path = folder / f"{slug(variant)}.json"
        if path.exists():
            yield json.loads(path.read_text(encoding="utf-8"))


def slug(variant: Variant) -> str:
    return f"{VARIANTS.index(variant):02d}"


def table(folder: Path) -> str:
    """Markdown of what is finished."""
    rows = list(finished(folder))
    levels = " | ".join(f"{level}" for level in LEVELS)
    lines = [
        f"| | volumes | {levels} | SSIM | PSNR, dB | SSIM more than the first |",
        "|---|" + "---|" * (4 + len(LEVELS)),
    ]
    for row in rows:
        errors = " | ".join(f"{row['error'][str(level)]:.3f}" for level in LEVELS)
        ssim, psnr = (statistics.mean(column) for column in zip(*row["scores"], strict=True))
        lines.append(
            f"| {row['name']} | {row['volumes']:,} | {errors} | {ssim:.3f} | {psnr:.2f} "
            f"| {_gain(row, rows[0])} |"
        )
    reference = folder / "estimates.json"
    if reference.exists():
        scores = json.loads(reference.read_text(encoding="utf-8"))
        ssim, psnr = (statistics.mean(column) for column in zip(*scores, strict=True))
        lines.append(f"\nThe solver without a prior: SSIM {ssim:.3f}, PSNR {psnr:.2f} dB.")
    return "\n".join(lines)


def _gain(row: dict[str, Any], first: dict[str, Any]) -> str:
    """Mean difference in SSIM over the views, with the interval of a paired bootstrap."""
    if row["name"] == first["name"] or first["name"] != VARIANTS[0].name:
        return ""
    pairs = zip(row["scores"], first["scores"], strict=True)
    gain = paired_bootstrap([ssim - base for (ssim, _), (base, _) in pairs])
    return f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", help="to train on")
    parser.add_argument("views", type=Path, help="solved views of other families, to judge by")
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--volumes", type=int, default=4000, help="that the first variant trains on"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--share", default="0/1", help="n/m: every m-th variant, from the n-th on")
    parser.add_argument("--table", action="store_true", help="only print what is finished")
    a = parser.parse_args()
    if a.table:
        print(table(a.folder))
        return
    a.folder.mkdir(parents=True, exist_ok=True)
    device = resolve_device(a.device)
    library = CrystalLibrary.load(a.library)
    views = [View.read(path, device) for path in sorted(a.views.glob("view-*.npz"))]
    reference = a.folder / "estimates.json"
    if not reference.exists():
        reference.write_text(json.dumps([view.scores(view.estimate) for view in views]))
    costs = a.folder / "seconds-per-volume.json"
    if not costs.exists():
        costs.write_text(json.dumps(seconds_per_volume(library, device)))
    cost = json.loads(costs.read_text())

    first, every = (int(n) for n in a.share.split("/"))
    for variant in VARIANTS[first::every]:
        path = a.folder / f"{slug(variant)}.json"
        if path.exists():
            continue
        preset = settings_of(variant, 1).preset
        settings = settings_of(variant, round(a.volumes * cost["tiny"] / cost[preset]))
        print(f"{variant.name}: {settings.volumes} volumes", flush=True)
        run = a.folder / slug(variant)
        trained(variant, settings, library, run, device)
        weights = run / "prior.safetensors"
        export_prior(run, weights)
        prior = load_prior(str(weights), device)
        row = {
            "name": variant.name,
            "volumes": settings.volumes,
            "error": denoising_errors(prior, views),
            "scores": [view.scores(expected(prior, view)) for view in views],
            "settings": settings.to_dict(),
        }
        path.write_text(json.dumps(row, indent=1), encoding="utf-8")
        print(table(a.folder), flush=True)


if __name__ == "__main__":
    main()
