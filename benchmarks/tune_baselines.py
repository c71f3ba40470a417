"""How settings of a baseline do after each number of passes, on simulated crystals.

For every setting one run; the volume is scored after the passes that are named, so that one run
says what any smaller number of them would give. The table in docs/baselines.md is what this prints.

    python benchmarks/tune_baselines.py lsq-ml:tuned ptyrad-adam:paper [--doses 1e5,1e6]
    python benchmarks/tune_baselines.py ptyrad-lbfgs:tuned --change '{"learning_rate": 0.5}'
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from napari_mep.data.simulate import ExpectedPatterns, Experiment, apply_dose, simulate_expected
from napari_mep.errors import SolverError
from napari_mep.evaluation import compare_volumes
from napari_mep.reconstruction.baselines.catalogue import BASELINES, BaselineSettings
from napari_mep.reconstruction.baselines.job import make_job
from napari_mep.reconstruction.baselines.process import run_job
from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.reconstruction.problem import build_problem

CRYSTALS = {
    "rutile": "tio2-rutile",
    "YAlO3": Path(__file__).parent / "crystals" / "yalo3.cif",
}


def simulated(name: str, scan: tuple[int, int], cache: Path) -> ExpectedPatterns:
    experiment = Experiment(scan_shape=scan)
    digest = hashlib.sha256(repr((CRYSTALS[name], experiment)).encode()).hexdigest()[:8]
    file = cache / f"{name}-{scan[0]}x{scan[1]}-{digest}.pickle"
    if file.exists():
        return pickle.loads(file.read_bytes())
    expected = simulate_expected(CRYSTALS[name], experiment)
    cache.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(expected))
    return expected


def scored(
    expected: ExpectedPatterns,
    dose: float,
    seed: int,
    method: str,
    settings: BaselineSettings,
    at: list[int],
) -> list[str]:
    """One line for each number of passes."""
    dataset = apply_dose(expected, dose, seed=seed)
    plan = ReconstructionPlan(method=method, object={"wave_oversampling": settings.window})
    problem = build_problem(dataset, plan, device=torch.device("cpu"))
    job = make_job(
        problem,
        settings,
        method=method,
        semiangle_mrad=dataset.calibration.convergence_semiangle_mrad,
        seed=seed,
        device="cpu",
        threads=torch.get_num_threads(),
    )
    lines = []
    began = time.perf_counter()
    baseline = BASELINES[method]
    try:
        for frame in run_job(job, baseline.module, baseline.title):
            if frame.iteration not in at and frame.iteration != settings.iterations:
                continue
            seconds = time.perf_counter() - began
            volume = problem.grid.crop(torch.from_numpy(frame.canvas))
            s = compare_volumes(volume, dataset.truth)
            lines.append(
                f"{frame.iteration:4d} | {s.psnr:6.2f} {s.ssim:.3f} | {s.psnr_sum:6.2f} "
                f"{s.ssim_sum:.3f} | {frame.residual:.4f} ({problem.residual_floor:.4f}) | "
                f"{seconds:.1f}"
            )
    except SolverError as err:
        lines.append(f"failed: {err}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="+", metavar="METHOD:PRESET")
    parser.add_argument("--change", type=json.loads, default={}, help="settings, as JSON")
    parser.add_argument("--crystals", default=",".join(CRYSTALS))
    parser.add_argument("--doses", default="1e5,1e6")
    parser.add_argument("--scan", default="26x26")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at", default="1,2,3,5,8,10,12,15,20,25,30,40,50,75,100,150,200,300")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "mep-tune")
    a = parser.parse_args()
    rows, columns = (int(n) for n in a.scan.split("x"))
    at = [int(n) for n in a.at.split(",")]
    for crystal in a.crystals.split(","):
        expected = simulated(crystal, (rows, columns), a.cache)
        for dose in map(float, a.doses.split(",")):
            for preset in a.presets:
                method, _, name = preset.partition(":")
                change: dict[str, Any] = dict(a.change)
                settings = replace(BASELINES[method].presets[name or "paper"], **change)
                print(f"{crystal}, {dose:.0e} e/A^2, {preset} {json.dumps(change)}", flush=True)
                print("   n | volume PSNR, SSIM | sum PSNR, SSIM | residual (floor) | seconds")
                for line in scored(expected, dose, a.seed, method, settings, at):
                    print(line, flush=True)


if __name__ == "__main__":
    main()
