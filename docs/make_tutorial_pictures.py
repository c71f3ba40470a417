"""Runs docs/tutorial.md: every command in it, and makes its pictures of what came out.

    python docs/make_tutorial_pictures.py

The raw detector file is simulated first. Then each ``toml`` block of the page that begins with a
file name becomes that file, each line of its ``sh`` blocks that calls napari-mep is run, and each
``text`` block is replaced by what the commands before it printed. So neither the pictures nor what
the page shows of the terminal can go stale. Takes about ten minutes of one core.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from napari_mep.data import open_patterns
from napari_mep.data.formats._disk import disk, disk_mask
from napari_mep.data.imperfections import Imperfections, record
from napari_mep.data.simulate import Experiment, simulate_expected
from napari_mep.data.virtual import VirtualDetector, scan_images
from napari_mep.evaluation import load_volume
from napari_mep.export import write_reconstruction

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorial.md"
IMAGES = ROOT / "docs" / "images"
WORK = ROOT / "runs" / "tutorial"
RAW = "scan_x26_y26.raw"
EMPAD_PIXELS, EMPAD_ROWS = 128, 130
COLOURS = 128


def main() -> None:
    """Make the scan, run the page, draw the pictures."""
    WORK.mkdir(parents=True, exist_ok=True)
    for stale in WORK.glob("*.toml"):
        stale.unlink()
    if not (WORK / RAW).exists():
        make_scan()
    PAGE.write_text(run(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    draw_look()
    smaller(WORK / "proof.png", "tutorial-proof")
    draw_results()


def make_scan() -> None:
    """SrTiO3 as a wrongly mounted EMPAD sees it; nobody tells the tutorial what is wrong."""
    expected = simulate_expected("srtio3", Experiment(scan_rotation_deg=23.0))
    faults = Imperfections(
        flip_y=True,
        dead_share=0.03,
        hot_share=0.001,
        centre_px=(0.7, -1.3),
        descan_px=(0.06, 0.02, -0.03, 0.08),
    )
    patterns = record(expected, faults, 1e5, seed=1).patterns
    write_reconstruction(WORK / "truth.ome.zarr", expected.truth, {}, name="truth")
    ky, kx = patterns.shape[2:]
    frames = np.zeros((patterns.shape[0] * patterns.shape[1], EMPAD_ROWS, EMPAD_PIXELS), "<f4")
    y, x = (EMPAD_PIXELS - ky) // 2, (EMPAD_PIXELS - kx) // 2
    frames[:, y : y + ky, x : x + kx] = patterns.reshape(-1, ky, kx)
    (WORK / RAW).write_bytes(frames.tobytes())


def run(page: str) -> str:
    """The page with what its commands print now."""
    printed: list[str] = []

    def block(match: re.Match[str]) -> str:
        language, body = match[1], match[2]
        if language == "toml":
            (WORK / body.splitlines()[0].removeprefix("# ")).write_text(body, encoding="utf-8")
        elif language == "sh":
            lines = body.replace("\\\n", " ").splitlines()
            printed[:] = [command(line) for line in lines if line.startswith("napari-mep")]
        elif language == "text":
            return f"```text\n{''.join(printed).rstrip()}\n```"
        return match[0]

    return re.sub(r"```(\w+)\n(.*?)\n?```", block, page, flags=re.DOTALL)


def command(line: str) -> str:
    """What one command prints; it must succeed."""
    words = shlex.split(line)[1:]
    if "-o" in words:
        words.append("--overwrite")
    sys.stderr.write(f"{line}\n")
    done = subprocess.run(
        [sys.executable, "-m", "napari_mep.cli", *words],
        cwd=WORK, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def draw_look() -> None:
    """Mean pattern and virtual bright field of the raw file, as napari shows them."""
    opened = open_patterns(WORK / RAW)
    mean = scan_images(opened.patterns).mean_pattern
    mask = disk_mask(mean.shape, *disk(mean))
    field = scan_images(opened.patterns, [VirtualDetector("BF", mask=mask)]).virtual["BF"]
    figure = Figure(figsize=(7.4, 3.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.imshow(np.sqrt(mean), vmax=float(np.quantile(np.sqrt(mean), 0.998)), cmap="gray")
    left.set_title("mean pattern (square root)")
    left.set_xlabel("kx (detector pixels)")
    left.set_ylabel("ky (detector pixels)")
    right.imshow(field, cmap="gray")
    right.set_title("virtual bright field")
    right.set_xlabel("scan column")
    right.set_ylabel("scan row")
    keep(figure, "tutorial-look")


def draw_results() -> None:
    """Depth sums of what the page reconstructed, on one scale, in world coordinates."""
    titles = {
        "uncalibrated": "as stored, gradient",
        "gradient": "calibrated, gradient",
        "mep": "calibrated, mep",
        "truth": "truth",
    }
    figure = Figure(figsize=(12.4, 3.2), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(titles), sharex=True, sharey=True)
    for panel, (name, title) in zip(axes, titles.items(), strict=True):
        volume = load_volume(WORK / f"{name}.ome.zarr")
        total = volume.depth_sum()
        (_, dy, dx), (_, oy, ox) = volume.voxel_size_A, volume.origin_A
        edges = (ox - dx / 2, ox + (total.shape[1] - 0.5) * dx, oy + (total.shape[0] - 0.5) * dy)
        shown = panel.imshow(
            total - np.quantile(total, 0.02), extent=(*edges, oy - dy / 2), cmap="gray", vmin=0
        )
        panel.set_title(title)
        panel.set_xlabel("x (Å)")
        figure.colorbar(shown, ax=panel, label="phase (rad)" if name == "truth" else "")
    axes[0].set_ylabel("y (Å)")
    keep(figure, "tutorial-result")


def keep(figure: Figure, name: str) -> None:
    """A figure among the pictures of the pages."""
    figure.savefig(WORK / f"{name}.png")
    smaller(WORK / f"{name}.png", name)


def smaller(source: Path, name: str) -> None:
    """The same picture in few colours."""
    picture = Image.open(source).convert("RGB").quantize(COLOURS, kmeans=2)
    picture.save(IMAGES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
