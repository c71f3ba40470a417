"""`mep` against `gradient` on perovskites that the shipped prior never saw, and on strangers.

Writes one JSON line per case and method (a second run continues where the first stopped) and, with
``--table``, the Markdown table of docs/benchmark-perovskites.md:

    .venv/bin/python benchmarks/perovskites.py --table docs/benchmark-perovskites.md
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from napari_mep.data.calibration import Calibration
from napari_mep.data.dataset import DiffractionDataset
from napari_mep.data.simulate import ExpectedPatterns, Experiment, apply_dose, simulate_expected
from napari_mep.evaluation import compare_volumes, paired_bootstrap
from napari_mep.prior.files import load_card
from napari_mep.reconstruction import ReconstructionPlan, reconstruct
from napari_mep.volume import PhaseVolume

HERE = Path(__file__).parent / "crystals"

# Name, specimen, zone axis. The cation pairs of all ten perovskites are held out of training.
PEROVSKITES = [
    ("SrTiO3", "srtio3", "c"),
    ("BaTiO3", "batio3", "c"),
    ("CaTiO3", "catio3", "c"),
    ("PbTiO3", HERE / "pbtio3.cif", "a"),
    ("KNbO3", HERE / "knbo3.cif", "a"),
    ("KTaO3", HERE / "ktao3.cif", "c"),
    ("BaZrO3", HERE / "bazro3.cif", "c"),
    ("LaAlO3", HERE / "laalo3.cif", "c"),
    ("KMgF3", HERE / "kmgf3.cif", "c"),
    ("LaMnO3", HERE / "lamno3.cif", "c"),
]
STRANGERS = [
    ("TiO2 rutile", "tio2-rutile", "c"),
    ("Si", "si", "c"),
    ("GaAs", "gaas", "c"),
    ("MgO", HERE / "mgo.cif", "c"),
    ("MoS2", "mos2", "c"),
]
DOSES = (1e5, 1e6)
METHODS = {
    "gradient": ReconstructionPlan(method="gradient"),
    "mep": ReconstructionPlan(method="mep"),
}
Row = dict[str, Any]
SCORES = ("ssim", "psnr", "ssim_sum", "psnr_sum")


def expected_patterns(run: Path, name: str, specimen: object, zone: str) -> ExpectedPatterns:
    """Noise-free simulation, from the cache where there is one."""
    cache = run / f"{name.replace(' ', '-')}-{zone}.npz"
    if not cache.exists():
        result = simulate_expected(specimen, Experiment(zone_axis=zone))
        np.savez(
            cache,
            patterns=result.patterns,
            phase=result.specimen.data,
            voxel=result.specimen.voxel_size_A,
            origin=result.specimen.origin_A,
            calibration=result.calibration.model_dump_json(),
        )
    with np.load(cache) as file:
        return ExpectedPatterns(
            file["patterns"],
            PhaseVolume(file["phase"], tuple(file["voxel"]), tuple(file["origin"])),
            Calibration.model_validate_json(str(file["calibration"])),
            name,
        )


def run_case(dataset: DiffractionDataset, method: str, prior: str | None) -> Row:
    plan = METHODS[method]
    if prior is not None:
        plan = plan.replace(prior=prior)
    began = time.perf_counter()
    *_, last = reconstruct(dataset, plan, preview_seconds=math.inf)
    scores = compare_volumes(last.volume, dataset.truth)
    return {
        **{key: getattr(scores, key) for key in SCORES},
        "residual": last.residual,
        "residual_floor": last.residual_floor,
        "seconds": time.perf_counter() - began,
    }


def key_of(row: Row) -> tuple[object, ...]:
    return row["crystal"], row["dose"], row["method"], row["volumes"]


HEADER = """\
| crystal | dose e/Å² | SSIM gradient | SSIM mep | PSNR gradient | PSNR mep | SSIM sum gradient \
| SSIM sum mep | PSNR sum gradient | PSNR sum mep | residual gradient / mep (floor) | seconds |
|---|---|---|---|---|---|---|---|---|---|---|---|"""


def table(rows: list[Row], volumes: int) -> str:
    """All comparisons as Markdown."""
    parts = []
    for title, group in (("Held-out perovskites", PEROVSKITES), ("No perovskites", STRANGERS)):
        names = [name for name, _, _ in group]
        pairs = paired(rows, volumes, names)
        parts.append(f"## {title}\n\n{HEADER}\n" + "\n".join(map(table_row, pairs)))
        parts += [
            summary(pairs, dose) for dose in DOSES if any(g["dose"] == dose for g, _ in pairs)
        ]
    return "\n\n".join([*parts, trend(rows)]) + "\n"


def paired(rows: list[Row], volumes: int, names: list[str]) -> list[tuple[Row, Row]]:
    """(gradient, mep) rows of the same crystal and dose, mep by the prior of so many volumes."""
    by_case = {(r["crystal"], r["dose"], r["method"], r["volumes"]): r for r in rows}
    cases = [(name, dose) for name in names for dose in DOSES]
    both = [(by_case.get((*c, "gradient", None)), by_case.get((*c, "mep", volumes))) for c in cases]
    return [(g, m) for g, m in both if g is not None and m is not None]


def table_row(pair: tuple[Row, Row]) -> str:
    g, m = pair
    cells = [g["crystal"], f"{g['dose']:.0e}"]
    for key in SCORES:
        digits = 3 if key.startswith("ssim") else 2
        cells += [f"{g[key]:.{digits}f}", f"{m[key]:.{digits}f}"]
    cells.append(f"{g['residual']:.4f} / {m['residual']:.4f} ({m['residual_floor']:.4f})")
    cells.append(f"{g['seconds']:.0f} / {m['seconds']:.0f}")
    return "| " + " | ".join(cells) + " |"


def summary(pairs: list[tuple[Row, Row]], dose: float) -> str:
    some = [(g, m) for g, m in pairs if g["dose"] == dose]
    wins = sum(m["ssim"] > g["ssim"] for g, m in some)
    gains = []
    for key in SCORES:
        gain = paired_bootstrap([m[key] - g[key] for g, m in some])
        gains.append(f"{key} {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]")
    return (
        f"At {dose:.0e} e/Å²: `mep` has the higher volume SSIM on {wins} of {len(some)}; mean "
        f"difference mep - gradient with 95 % paired bootstrap interval: {'; '.join(gains)}."
    )


def trend(rows: list[Row]) -> str:
    """How mep comes on with the number of volumes its prior was trained on."""
    lines = [
        "## Trend over training",
        "",
        "| volumes | perovskites | dose e/Å² | mean SSIM gradient | mean SSIM mep | mep wins |",
        "|---|---|---|---|---|---|",
    ]
    names = [name for name, _, _ in PEROVSKITES]
    for volumes in sorted({r["volumes"] for r in rows if r["volumes"] is not None}):
        pairs = paired(rows, volumes, names)
        for dose in DOSES:
            ssim = np.array([(g["ssim"], m["ssim"]) for g, m in pairs if g["dose"] == dose])
            if len(ssim):
                g, m = ssim.mean(0)
                wins = int((ssim[:, 1] > ssim[:, 0]).sum())
                lines.append(
                    f"| {volumes} | {len(ssim)} | {dose:.0e} | {g:.3f} | {m:.3f} | {wins} |"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/benchmark"))
    parser.add_argument("--table", type=Path, help="write the Markdown table here")
    parser.add_argument("--prior", help="weights to test instead of the shipped ones")
    parser.add_argument("--only-simulate", action="store_true")
    parser.add_argument("--crystals", nargs="*", help="names to restrict the run to")
    parser.add_argument("--doses", nargs="*", type=float, default=list(DOSES))
    parser.add_argument("--part", default="0/1", help="i/n: every n-th crystal, for two processes")
    a = parser.parse_args()
    warnings.simplefilter("ignore")
    a.run.mkdir(parents=True, exist_ok=True)
    log = a.run / "results.jsonl"
    if a.only_simulate:
        for name, specimen, zone in PEROVSKITES + STRANGERS:
            expected_patterns(a.run, name, specimen, zone)
            print("simulated", name, flush=True)
        return
    volumes = load_card(a.prior or ReconstructionPlan().prior).trained_volumes
    part, parts = (int(v) for v in a.part.split("/"))
    for name, specimen, zone in (PEROVSKITES + STRANGERS)[part::parts]:
        if a.crystals and name not in a.crystals:
            continue
        expected = expected_patterns(a.run, name, specimen, zone)
        for dose in a.doses:
            dataset = apply_dose(expected, dose, seed=1)
            for method in METHODS:
                head = {
                    "crystal": name,
                    "dose": dose,
                    "method": method,
                    "volumes": volumes if method == "mep" else None,
                }
                done = [json.loads(line) for line in log.open()] if log.exists() else []
                if key_of(head) in {key_of(row) for row in done}:
                    continue
                row = {**head, **run_case(dataset, method, a.prior)}
                with log.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(
                    {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()},
                    flush=True,
                )
    if a.table:
        rows = [json.loads(line) for line in log.open()]
        head = a.table.read_text().split("<!-- results -->")[0] if a.table.exists() else ""
        machine = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
        said = f"Prior trained on {volumes} volumes; on the CPU ({machine})."
        a.table.write_text(f"{head}<!-- results -->\n\n{said}\n\n{table(rows, volumes)}")


if __name__ == "__main__":
    main()
