"""What the method leaves open in training, each choice tried alone: the table of docs/tuning.md.

    napari-mep crystals build builtin --part train -o train.npz
    napari-mep crystals build builtin --part validation -o validation.npz
    python benchmarks/tune_training.py train.npz validation.npz runs/tuning --volumes 8000
    python benchmarks/tune_training.py train.npz validation.npz runs/tuning --table

Every variant is trained for as long as the first one takes for its volumes: a network that costs
twice as much a volume sees half as many, by times measured in turns on this machine before. Then
it is judged on crystals whose families training never had: by the error of its x-prediction over
the variance of the data, and by what counts, reconstructions of four crystals that serve for
tuning only, started from the gradient solution at two noise levels. At logSNR -2 the prior decides
where atoms lie in depth, at 1 it only sharpens them.

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

import torch

from napari_mep.crystals.library import CrystalLibrary
from napari_mep.data import DiffractionDataset, open_dataset
from napari_mep.evaluation import compare_volumes
from napari_mep.prior.device import resolve_device
from napari_mep.prior.files import load_prior
from napari_mep.prior.precision import resolve_precision
from napari_mep.prior.unet import PRESETS, LevelConfig, UNet3D, UNetConfig
from napari_mep.reconstruction.engine import reconstruct
from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.training import loop
from napari_mep.training.export import export_prior
from napari_mep.training.run_directory import CHECKPOINT_NAME
from napari_mep.training.settings import TrainingSettings
from napari_mep.training.volumes import VolumeSource, data_scale

LEVELS = (-6, -5, -4, -3, -2, 0, 2)  # logSNR at which the x-prediction is judged
STARTS = (-2.0, 1.0)  # logSNR from which reconstructions start
STEPS = 20  # of both samples together

# `tiny` with two levels at full resolution in place of its stem of 1x4x4 patches.
PRESETS["plain"] = UNetConfig(
    (1, 1, 1),
    (LevelConfig(16, 1, (1, 2, 2)), LevelConfig(32, 1, (1, 2, 2)), *PRESETS["tiny"].levels),
)


@dataclass(frozen=True)
class Variant:
    """One row of the table: what differs from the first."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    scale: float = 1.0


VARIANTS = (
    Variant("tiny, weighting −2 ± 3, batch 16, lr 1e-3, EMA 0.1"),
    Variant("the same, another seed", {"seed": 1}),
    Variant("weighting −6 ± 3", {"logsnr_mean": -6.0}),
    Variant("weighting −4 ± 3", {"logsnr_mean": -4.0}),
    Variant("weighting 0 ± 3", {"logsnr_mean": 0.0}),
    Variant("weighting −2 ± 1.5", {"logsnr_width": 1.5}),
    Variant("data at half the scale", scale=0.5),
    Variant("data at twice the scale", scale=2.0),
    Variant("EMA 0.03", {"ema_relative_length": 0.03}),
    Variant("EMA 0.2", {"ema_relative_length": 0.2}),
    Variant("small", {"preset": "small"}),
    Variant("base", {"preset": "base"}),
    Variant("tiny without patches", {"preset": "plain"}),
    Variant("levels drawn by the weighting", {"noise_levels": "weighting"}),
    Variant("learning rate 3e-3", {"learning_rate": 3e-3}),
    Variant("learning rate 3e-4", {"learning_rate": 3e-4}),
    Variant("batch 4", {"batch": 4}),
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
        logsnr_mean=-2.0,
        logsnr_width=3.0,
    )
    return replace(first, **variant.settings)


def seconds_per_volume(device: torch.device) -> dict[str, float]:
    """A step of the network of every preset that is used, over its volumes; measured in turns."""
    names = sorted({settings_of(v, 1).preset for v in VARIANTS})
    low = resolve_precision("auto", device) == torch.bfloat16
    x, level = torch.randn(8, 8, 64, 64, device=device), torch.zeros(8, device=device)

    def step(network: UNet3D) -> float:
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, low):
            loss = network(x, level).square().mean()
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - began) / len(x)

    networks = {
        name: UNet3D(PRESETS[name]).to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        for name in names
    }
    rounds = [{name: step(network) for name, network in networks.items()} for _ in range(6)]
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


def denoising_errors(path: Path, clean: torch.Tensor, device: torch.device) -> dict[str, float]:
    """Mean square error of the x-prediction over the variance of the data, by logSNR."""
    prior = load_prior(str(path), device)
    x = clean.to(device) * prior.scale
    variance = (x - x.mean()).square().mean()
    found = {}
    for level in LEVELS:
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn(clean.shape, generator=generator).to(device) * math.exp(-level / 2)
        with torch.no_grad():
            guess = torch.cat([prior(part, level) for part in (x + noise).split(8)])
        found[str(level)] = float((guess - x).square().mean() / variance)
    return found


def reconstructions(
    path: Path, scans: dict[str, DiffractionDataset], device: torch.device
) -> dict[str, list[float]]:
    """Volume SSIM on each of the scans, by the logSNR where sampling starts."""
    found = {}
    for start in STARTS:
        plan = ReconstructionPlan(
            prior=str(path), steps=STEPS, samples=2, start_logsnr=start, finish_iterations=0,
            device=str(device),
        )  # fmt: skip
        found[f"{start:g}"] = [scored(scan, plan) for scan in scans.values()]
    return found


def scored(scan: DiffractionDataset, plan: ReconstructionPlan) -> float:
    *_, last = reconstruct(scan, plan)
    assert last.volume is not None
    assert scan.truth is not None
    return float(compare_volumes(last.volume, scan.truth).ssim)


def simulated(folder: Path, dose: float) -> dict[str, DiffractionDataset]:
    """Small scans of the crystals that are there for tuning."""
    from napari_mep.cli import main as command

    scans = {}
    for cif in sorted((Path(__file__).parent / "crystals").glob("*.cif")):
        path = folder / f"{cif.stem}.zarr"
        if not path.exists():
            command([
                "simulate", str(cif), "-o", str(path), "--dose", f"{dose:g}", "--scan", "16x16",
                "--seed", "7",
            ])  # fmt: skip
        scans[cif.stem] = open_dataset(path)
    return scans


def finished(folder: Path) -> Iterator[dict[str, Any]]:
    for variant in VARIANTS:
        path = folder / f"{slug(variant)}.json"
        if path.exists():
            yield json.loads(path.read_text(encoding="utf-8"))


def slug(variant: Variant) -> str:
    return f"{VARIANTS.index(variant):02d}"


def table(folder: Path) -> str:
    """Markdown of what is finished."""
    levels = " | ".join(f"{level}" for level in LEVELS)
    starts = " | ".join(f"SSIM from {start:g}" for start in STARTS)
    lines = [
        f"| | volumes | {levels} | {starts} |",
        "|---|" + "---|" * (1 + len(LEVELS) + len(STARTS)),
    ]
    for row in finished(folder):
        errors = " | ".join(f"{row['error'][str(level)]:.3f}" for level in LEVELS)
        scores = " | ".join(f"{statistics.mean(row['ssim'][f'{s:g}']):.3f}" for s in STARTS)
        lines.append(f"| {row['name']} | {row['volumes']:,} | {errors} | {scores} |")
    reference = folder / "gradient.json"
    if reference.exists():
        value = statistics.mean(json.loads(reference.read_text(encoding="utf-8")))
        lines.append(f"\n`gradient`, no prior: SSIM {value:.3f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", help="to train on")
    parser.add_argument("held_out", help="library of other families, to judge by")
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--volumes", type=int, default=8000, help="that the first variant trains on"
    )
    parser.add_argument("--dose", type=float, default=1e5, help="of the reconstructions, e/A2")
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
    held_out = VolumeSource(CrystalLibrary.load(a.held_out), settings_of(VARIANTS[0], 1))
    clean = held_out(0, 48)
    scans = simulated(a.folder, a.dose)
    reference = a.folder / "gradient.json"
    if not reference.exists():
        plan = ReconstructionPlan(method="gradient", device=a.device)
        reference.write_text(json.dumps([scored(scan, plan) for scan in scans.values()]))
    costs = a.folder / "seconds-per-volume.json"
    if not costs.exists():
        costs.write_text(json.dumps(seconds_per_volume(device)))
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
        prior = run / "prior.safetensors"
        export_prior(run, prior)
        row = {
            "name": variant.name,
            "volumes": settings.volumes,
            "error": denoising_errors(prior, clean, device),
            "ssim": reconstructions(prior, scans, device),
            "settings": settings.to_dict(),
        }
        path.write_text(json.dumps(row, indent=1), encoding="utf-8")
        print(table(a.folder), flush=True)


if __name__ == "__main__":
    main()
