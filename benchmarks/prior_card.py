"""What a prior has learned, for its model card: denoising error, samples, nearest neighbours.

    python benchmarks/prior_card.py PRIOR LIBRARY.npz HELD_OUT.cif... [-o docs/images]

Denoising error: views of crystals that were kept out of training, noised to each logSNR; the error
of the prior's prediction over the variance of the data, which is what the best constant predictor
leaves. Samples: drawn from noise alone, without any data. Nearest neighbours: for each sample the
most similar of many training views, by the largest normalised cross-correlation over all lateral
shifts; beside it the same for views of held-out crystals, which cannot have been copied.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch

from napari_mep.crystals.cif import read_cif
from napari_mep.crystals.library import CrystalLibrary
from napari_mep.prior.denoiser import Denoiser
from napari_mep.prior.files import load_card, load_prior
from napari_mep.prior.unconditional import sample_prior
from napari_mep.training.estimates import Estimates
from napari_mep.training.settings import TrainingSettings
from napari_mep.training.volumes import VolumeSource

mpl.use("Agg")

from matplotlib import pyplot as plt

LEVELS = range(-12, 7)


def denoising_error(
    prior: Denoiser, clean: torch.Tensor, *estimates: torch.Tensor
) -> list[tuple[int, float]]:
    """(logSNR, error over variance); `clean` are scaled volumes."""
    rows = []
    seen = [e.split(8) for e in estimates]
    variance = (clean - clean.mean()).square().mean()
    generator = torch.Generator().manual_seed(1)
    for level in LEVELS:
        noise = torch.randn(clean.shape, generator=generator) * math.exp(-level / 2)
        with torch.no_grad():
            parts = zip((clean + noise).split(8), *seen, strict=True)
            guess = torch.cat([prior(x, level, *e) for x, *e in parts])
        rows.append((level, float((guess - clean).square().mean() / variance)))
    return rows


def estimated(
    library: CrystalLibrary, settings: TrainingSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """64 views in radians, and what a solver without a prior would make of them."""
    estimates = Estimates(
        settings.tile_shape,
        settings.voxel_size_A,
        1.0,
        quasi_newton_share=settings.quasi_newton_share,
    )
    deep = VolumeSource(library, replace(settings, tile_shape=estimates.shape))(0, 64)
    white = torch.randn(64, 2, *estimates.shape, generator=torch.Generator().manual_seed(2))
    return estimates(deep, [np.random.default_rng([3, i]) for i in range(64)], white)


def nearest(samples: torch.Tensor, views: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Largest normalised cross-correlation of each sample with any view, and which view it is."""
    a, b = (torch.fft.rfft2(unit - unit.mean((1, 2, 3), keepdim=True)) for unit in (samples, views))
    size = samples[0].numel()
    # Some views are vacuum: they resemble nothing.
    spread = [x.flatten(1).std(1).clamp(min=1e-6) for x in (samples, views)]
    best = torch.zeros(len(samples), len(views))
    for i, one in enumerate(a):
        shifted = torch.fft.irfft2((one * b.conj()).sum(1), s=samples.shape[-2:])
        best[i] = shifted.flatten(1).amax(1) / (size * spread[0][i] * spread[1])
    value, index = best.max(1)
    return value.numpy(), index.numpy()


def picture(rows: list[torch.Tensor], titles: list[str], path: Path) -> None:
    """Rows of 2D images, each row one kind square root, with a brightness of its own."""
    columns = len(rows[0])
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(1.3 * columns, 1.5 * len(rows)), layout="constrained"
    )
    # Room for the titles, also above the first row.
    figure.get_layout_engine().set(h_pad=0.1, rect=(0, 0, 1, 0.98))
    for line, row, title in zip(axes, rows, titles, strict=True):
        shown = row.clamp(min=0).sqrt()
        for ax, image in zip(line, shown, strict=True):
            ax.imshow(image, cmap="magma", vmin=0, vmax=float(shown.max()), aspect="auto")
            ax.set_axis_off()
        text = line[0].text(0, 1.04, title, transform=line[0].transAxes, fontsize=8)
        text.set_in_layout(False)  # longer than the image it stands over
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prior")
    parser.add_argument("library", type=Path)
    parser.add_argument("held_out", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/images"))
    parser.add_argument("--views", type=int, default=2048, help="training views compared with")
    parser.add_argument("--steps", type=int, default=50)
    a = parser.parse_args()

    prior, card = load_prior(a.prior), load_card(a.prior)
    settings = TrainingSettings.from_dict(card.settings)
    held_out = CrystalLibrary.from_crystals([read_cif(path) for path in a.held_out])
    unseen = VolumeSource(held_out, settings)(0, 64)
    columns = {"error over variance, held out": denoising_error(prior, unseen * prior.scale)}
    if prior.sees_estimate:
        views, seen = estimated(held_out, settings)
        columns["the same, estimate seen"] = denoising_error(
            prior, views * prior.scale, seen * prior.scale
        )
        print(f"estimate alone: {float((seen - views).square().mean() / views.var()):.3f}")
        drawn = sample_prior(prior, range(10), steps=a.steps, estimates=seen[:10])
        sides = [v[:10].sum(axis) for v in (views, seen, drawn) for axis in (1, 2)]
        what = ("crystals held out", "estimates of them", "samples of the prior that sees those")
        titles = [f"{w}, {way}" for w in what for way in ("along the beam", "from the side")]
        a.output.mkdir(parents=True, exist_ok=True)
        picture(sides, titles, a.output / f"prior-{card.name}-seen.png")
    print("| logSNR |", " | ".join(columns), "|\n|---|" + "---|" * len(columns))
    for i, level in enumerate(LEVELS):
        print(f"| {level} |", " | ".join(f"{rows[i][1]:.3f}" for rows in columns.values()), "|")

    samples = sample_prior(prior, range(10), steps=a.steps)
    print(f"samples: standard deviation {samples.std():.4f} rad, data {1 / prior.scale:.4f} rad")
    source = VolumeSource(CrystalLibrary.load(a.library), settings)
    views = torch.cat([source(i, 64) for i in range(0, a.views, 64)])
    near, which = nearest(samples, views)
    reference, _ = nearest(unseen[:10], views)
    print(f"nearest of {a.views} training views, correlation of the volumes:")
    print("samples   ", " ".join(f"{v:.2f}" for v in near))
    print("held out  ", " ".join(f"{v:.2f}" for v in reference))
    a.output.mkdir(parents=True, exist_ok=True)
    along, across = 1, 2  # sums over depth, and over y: depth runs downwards there
    picture(
        [
            samples.sum(along),
            samples.sum(across),
            views[which].sum(along),
            views[which].sum(across),
            unseen[:10].sum(along),
            unseen[:10].sum(across),
        ],
        [
            "samples of the prior, along the beam",
            "the same from the side",
            "nearest training views, unshifted, along the beam",
            "the same from the side",
            "crystals held out, along the beam",
            "the same from the side",
        ],
        a.output / f"prior-{card.name}.png",
    )


if __name__ == "__main__":
    main()
