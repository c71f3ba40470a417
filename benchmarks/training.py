"""Where the time of a training step goes, and how much of the machine it uses.

    python benchmarks/training.py LIBRARY.npz [--preset small] [--batch 16] [--device cpu]
                                  [--workers 15] [--loop-steps 100]

Prints a table of rendering (from the crystal's cell to the volume, one after the other), forward
pass, backward pass and the rest (clipping, optimiser, averaging); the whole training loop, whose
workers cut crystals, and on a GPU render, while the network computes; and the arithmetic of the
network in FLOP/s beside what a large matrix product reaches on the same device in the same
precision: the measured peak.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from napari_mep.crystals.library import CrystalLibrary
from napari_mep.prior.device import resolve_device
from napari_mep.prior.precision import resolve_precision
from napari_mep.prior.schedule import alpha_sigma
from napari_mep.prior.unet import PRESETS, UNet3D
from napari_mep.training.loop import train
from napari_mep.training.settings import TrainingSettings
from napari_mep.training.volumes import VolumeSource


def seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Shortest of a few times."""
    times = []
    for _ in range(repeats + 1):  # the first warms up
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def peak_flops(device: torch.device, precision: torch.dtype) -> float:
    """FLOP/s of the best of three matrix products."""
    best = 0.0
    for n in (4096, 8192, 16384) if device.type == "cuda" else (1024, 2048, 4096):
        a = torch.randn(n, n, device=device).to(precision)
        best = max(best, 2 * n**3 / seconds(lambda a=a: a @ a, device, 3))
    return best


def loop_seconds(
    library: CrystalLibrary,
    settings: TrainingSettings,
    device: torch.device,
    steps: int,
    *,
    compiled: bool,
    workers: int,
) -> float:
    """Median time of a step of the training loop, the first third left out."""
    settings = replace(settings, volumes=steps * settings.batch)
    options = {"device": device, "compiled": compiled, "workers": workers}
    with tempfile.TemporaryDirectory() as run_dir:
        records = train(library, settings, run_dir, log_every=1, **options)
        times = [settings.batch / record["volumes_per_second"] for record in records]
    return statistics.median(times[steps // 3 :])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library")
    parser.add_argument("--preset", default="small", choices=sorted(PRESETS))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=0, help="processes that cut crystals")
    parser.add_argument("--loop-steps", type=int, default=6)
    a = parser.parse_args()

    device = resolve_device(a.device)
    settings = TrainingSettings(preset=a.preset, batch=a.batch)
    precision = resolve_precision(settings.precision, device)
    library = CrystalLibrary.load(a.library)
    source = VolumeSource(library, settings, device)
    network = UNet3D(PRESETS[a.preset]).to(device, memory_format=torch.channels_last_3d)
    forward = torch.compile(network, dynamic=False) if a.compile else network
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    weights = [p.detach() for p in network.parameters()]
    average = [w.clone() for w in weights]

    first = 0

    def render() -> torch.Tensor:
        nonlocal first
        first += a.batch
        return source(first, a.batch)

    clean = render() * 20
    noise = torch.randn_like(clean)
    levels = torch.linspace(-10, 5, a.batch, device=device)

    def loss() -> torch.Tensor:
        alpha, sigma = (x[:, None, None, None] for x in alpha_sigma(levels))
        with torch.autocast(device.type, torch.bfloat16, precision == torch.bfloat16):
            v = forward(alpha * clean + sigma * noise, levels)
        return (v - alpha * noise + sigma * clean).square().mean()

    def both() -> None:
        optimizer.zero_grad()
        loss().backward()

    def whole() -> None:
        both()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        torch._foreach_lerp_(average, weights, 0.01)

    with FlopCounterMode(display=False) as counter:
        optimizer.zero_grad()
        alpha = torch.ones_like(levels)
        network(clean, alpha).square().mean().backward()
    flops = counter.get_total_flops()

    rendering = seconds(render, device, a.repeats)
    passes = seconds(loss, device, a.repeats)
    backward = seconds(both, device, a.repeats) - passes
    rest = seconds(whole, device, a.repeats) - passes - backward
    step = rendering + passes + backward + rest
    loop = loop_seconds(
        library, settings, device, a.loop_steps, compiled=a.compile, workers=a.workers
    )
    peak = peak_flops(device, precision)
    reached = flops / (passes + backward)

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    print(f"{name or device}, {torch.get_num_threads()} CPU threads, torch {torch.__version__}")
    parameters = sum(p.numel() for p in network.parameters()) / 1e6
    print(f"{a.preset}: {parameters:.1f} M parameters, batch {a.batch}, {precision}")
    print("| part | ms / step | volumes/s | share |\n|---|---|---|---|")
    parts = {"rendering": rendering, "forward": passes, "backward": backward, "rest": rest}
    for part, t in (parts | {"step": step}).items():
        print(f"| {part} | {1e3 * t:.1f} | {a.batch / t:.3g} | {100 * t / step:.1f} % |")
    network_alone = step - rendering
    print(
        f"whole loop, {a.workers} workers: {1e3 * loop:.1f} ms a step, {a.batch / loop:.3g} "
        f"volumes/s; network alone {a.batch / network_alone:.3g} volumes/s"
    )
    print(f"{flops / a.batch / 1e9:.1f} GFLOP a volume, forward and backward")
    print(f"{reached / 1e9:.0f} of {peak / 1e9:.0f} GFLOP/s: {100 * reached / peak:.0f} % of peak")


if __name__ == "__main__":
    main()
