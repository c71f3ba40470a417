"""How settings of a baseline do after each number of passes, on scans whose specimen is known.

For every setting one run; the volume is scored after the passes that are named, so that one run
says what any smaller number of them would give. The tables in docs/baselines.md come from this:

    for crystal in yalo3 natao3 srruo3 cspbbr3; do for dose in 1e5 1e6; do
        napari-mep simulate benchmarks/crystals/$crystal.cif -o $crystal-$dose.zarr \
            --dose $dose --seed 7
    done; done
    python benchmarks/tune_baselines.py lsq-ml:tuned *-1e5.zarr *-1e6.zarr
    python benchmarks/tune_baselines.py ptyrad-lbfgs:tuned yalo3-1e5.zarr \
        --change '{"learning_rate": 0.5, "options": {"constraints": {}}}'
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch

from napari_mep.data import open_dataset
from napari_mep.errors import SolverError
from napari_mep.evaluation import compare_volumes
from napari_mep.reconstruction.baselines.catalogue import BASELINES, BaselineSettings
from napari_mep.reconstruction.baselines.job import make_job
from napari_mep.reconstruction.baselines.process import run_job
from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.reconstruction.problem import build_problem

PASSES = "1,2,3,5,8,10,12,15,20,25,30,40,50,75,100,150,200"


def scored(
    path: Path,
    method: str,
    settings: BaselineSettings,
    passes: set[int],
    likelihood: str,
    slice_thickness_A: float | None,
) -> Iterator[dict[str, Any]]:
    """Scores after each number of passes that is wanted, and after the last."""
    dataset = open_dataset(path)
    plan = ReconstructionPlan(
        method=method,
        likelihood=likelihood,
        object={
            "wave_oversampling": settings.window,
            "slice_thickness_A": slice_thickness_A,
        },
    )
    problem = build_problem(dataset, plan, device=torch.device("cpu"))
    job = make_job(
        problem,
        settings,
        method=method,
        semiangle_mrad=dataset.calibration.convergence_semiangle_mrad,
        seed=plan.seed,
        device="cpu",
        threads=torch.get_num_threads(),
    )
    baseline = BASELINES[method]
    began = time.perf_counter()
    for frame in run_job(job, baseline.module, baseline.title):
        seconds = time.perf_counter() - began
        if frame.iteration not in passes and frame.iteration != settings.iterations:
            continue
        volume = problem.grid.crop(torch.from_numpy(frame.canvas))
        yield {
            "passes": frame.iteration,
            **asdict(compare_volumes(volume, dataset.truth)),
            "residual": frame.residual,
            "floor": problem.residual_floor,
            "seconds": seconds,
        }


def changed(settings: BaselineSettings, change: Mapping[str, Any]) -> BaselineSettings:
    """The settings with some replaced; each of the options by itself."""
    unknown = set(change) - {field.name for field in fields(BaselineSettings)}
    if unknown:
        raise SystemExit(f"--change: no setting {', '.join(sorted(unknown))}")
    options = {**settings.options, **change.get("options", {})}
    return replace(settings, **{**change, "options": options})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", metavar="METHOD:PRESET")
    parser.add_argument("scans", nargs="+", type=Path, metavar="SCAN.zarr")
    parser.add_argument("--change", type=json.loads, default={}, help="settings, as JSON")
    parser.add_argument("--likelihood", default="amplitude")
    parser.add_argument("--slice-thickness-A", type=float)
    parser.add_argument("--passes", default=PASSES, help="after which to score")
    parser.add_argument("--log", type=Path, help="file that gets one line of JSON a score")
    a = parser.parse_args()
    method, _, preset = a.preset.partition(":")
    settings = changed(BASELINES[method].presets[preset or "paper"], a.change)
    passes = {int(n) for n in a.passes.split(",")}
    for scan in a.scans:
        said = json.dumps(a.change) if a.change else ""
        print(f"{scan.stem} {a.preset} {a.likelihood} {said}", flush=True)
        print("   n | volume PSNR, SSIM | sum PSNR, SSIM | residual (floor) | seconds", flush=True)
        try:
            for s in scored(scan, method, settings, passes, a.likelihood, a.slice_thickness_A):
                print(
                    f"{s['passes']:4d} | {s['psnr']:6.2f} {s['ssim']:.3f} | {s['psnr_sum']:6.2f} "
                    f"{s['ssim_sum']:.3f} | {s['residual']:.4f} ({s['floor']:.4f}) | "
                    f"{s['seconds']:.1f}",
                    flush=True,
                )
                if a.log:
                    row = {"scan": scan.stem, "preset": a.preset, "change": a.change, **s}
                    with a.log.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
        except SolverError as err:
            print(f"failed: {err}", flush=True)


if __name__ == "__main__":
    main()
