"""The command line. Every command ends with 0, or with 2 and one line that says what to mend."""

from __future__ import annotations

import argparse
import json
import logging
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from napari_mep import __version__
from napari_mep.errors import ExportError, MepError

if TYPE_CHECKING:
    from napari_mep.data.dataset import DiffractionDataset
    from napari_mep.reconstruction.plan import ReconstructionPlan
    from napari_mep.reconstruction.snapshot import Snapshot

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; the process's own by default.
    """
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.INFO if arguments.verbose else logging.ERROR, format="%(message)s"
    )
    try:
        arguments.run(arguments)
    except MepError as err:
        print(f"napari-mep: {err}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("napari-mep: interrupted", file=sys.stderr)
        return 130
    return 0


# --- commands -------------------------------------------------------------------------------------


def _simulate(a: argparse.Namespace) -> None:
    from napari_mep.data.native import write_dataset
    from napari_mep.data.simulate import simulate_dataset
    from napari_mep.export.ome_zarr import check_target

    check_target(a.output, overwrite=a.overwrite)
    with _progress("simulating", "patterns") as bar:
        dataset = simulate_dataset(
            a.source,
            dose_e_per_A2=None if a.noise_free else a.dose,
            seed=a.seed,
            progress=bar,
            zone_axis=a.zone_axis,
            thickness_A=a.thickness,
            scan_shape=a.scan,
            scan_step_A=a.scan_step,
            energy_keV=a.energy,
            semiangle_mrad=a.semiangle,
            defocus_A=a.defocus,
            spherical_aberration_A=a.spherical_aberration,
            detector_pixels=a.detector_pixels,
            detector_step_invA=a.detector_step,
        )
    write_dataset(a.output, dataset, overwrite=a.overwrite)
    print(f"wrote {a.output}")


def _info(a: argparse.Namespace) -> None:
    from napari_mep.data.info import describe, format_lines
    from napari_mep.data.readers import open_patterns

    description = describe(open_patterns(a.data, a.calibration, scan_shape=a.scan_shape))
    print(_json(description) if a.json else "\n".join(format_lines(description)))


def _reconstruct(a: argparse.Namespace) -> None:
    from napari_mep.export.ome_zarr import check_target, write_reconstruction
    from napari_mep.reconstruction.provenance import provenance

    plan = _plan(a)
    check_target(a.output, overwrite=a.overwrite)
    target = _beside(a.output, "-spread")
    if plan.method == "mep" and plan.samples > 1:
        check_target(target, overwrite=a.overwrite)
    dataset = _open(a)
    last = _run_to_end(dataset, plan)
    assert last.volume is not None  # a run without one has raised
    record = provenance(dataset, plan, last)
    write_reconstruction(a.output, last.volume, record, name=dataset.name, overwrite=a.overwrite)
    written = [str(a.output)]
    if last.spread is not None:
        write_reconstruction(
            target, last.spread, record, name=f"{dataset.name} spread", overwrite=a.overwrite
        )
        written.append(str(target))
    summary = {
        "path": written[0],
        "spread": written[1] if last.spread is not None else None,
        "method": plan.method,
        "residual": last.residual,
        "residual_floor": last.residual_floor,
        "samples": last.samples,
        "seconds": last.seconds,
        "steps": last.step,
        "total": last.total,
    }
    if a.json:
        print(_json(summary))
    else:
        print(
            f"wrote {' and '.join(written)} ({last.step} of {last.total} steps, residual "
            f"{last.residual:.4f}, noise floor {last.residual_floor:.4f}, "
            f"{last.seconds:.0f} s)"
        )


def _evaluate(a: argparse.Namespace) -> None:
    from napari_mep.evaluation import compare_volumes, load_volume
    from napari_mep.export.ome_zarr import read_reconstruction

    truth = load_volume(a.truth)
    fingerprint = None
    if a.data is not None:
        fingerprint = _open(a).fingerprint()
    rows = []
    for path in a.reconstruction:
        volume, record = read_reconstruction(path)
        scores = compare_volumes(volume, truth)
        # The residual of a run belongs to the data it was made from.
        own_data = fingerprint in (None, record.get("data", {}).get("fingerprint"))
        rows.append(
            {
                "path": str(path),
                "method": record.get("method"),
                "psnr": scores.psnr,
                "ssim": scores.ssim,
                "psnr_sum": scores.psnr_sum,
                "ssim_sum": scores.ssim_sum,
                "residual": record.get("residual") if own_data else None,
                "seconds": record.get("seconds"),
            }
        )
    print(_json(rows) if a.json else _table(rows))


def _crystals_build(a: argparse.Namespace) -> None:
    from napari_mep.crystals.perovskites import perovskite_library

    _refuse_existing(a.output, a.overwrite)
    library = perovskite_library(a.tables, seed=a.seed)
    library.save(a.output)
    summary = {"crystals": len(library), "atoms": len(library.numbers), "path": str(a.output)}
    print(_json(summary) if a.json else f"wrote {a.output}: {len(library)} crystals")


def _train(a: argparse.Namespace) -> None:
    from napari_mep.crystals.library import CrystalLibrary
    from napari_mep.reconstruction.engine import resolve_device
    from napari_mep.training.checkpoint import CHECKPOINT_NAME
    from napari_mep.training.export import export_prior
    from napari_mep.training.loop import train
    from napari_mep.training.settings import TrainingSettings

    given = {"preset": a.preset, "volumes": a.volumes, "batch": a.batch, "seed": a.seed}
    settings = TrainingSettings(**{k: v for k, v in given.items() if v is not None})
    device = resolve_device(a.device)
    library = CrystalLibrary.load(a.library)
    if (a.output / CHECKPOINT_NAME).exists() and not a.resume:
        raise ExportError(f"output {a.output}: holds a run; give --resume or another directory")
    try:
        a.output.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise ExportError(f"output {a.output}: cannot be written ({err.strerror})") from None
    stop = threading.Event()
    with _ctrl_c_sets(stop), _progress("training", "volumes") as bar:
        records = train(library, settings, a.output, resume=a.resume, device=device, stop=stop)
        for record in records:
            bar(
                int(record["volumes"]),
                settings.volumes,
                f"v-loss {record['loss']:.3f}, {record['volumes_per_second']:.1f} volumes/s",
            )
    target = a.output / "prior.safetensors"
    card = export_prior(a.output, target)
    print(f"wrote {target} after {card.trained_volumes} volumes")


def _demo(a: argparse.Namespace) -> None:
    from napari_mep.widgets import demo

    logging.getLogger(demo.__name__).setLevel(logging.INFO)  # minutes of silence would worry
    print(demo.run_demo(a.output, headless=a.headless, bar=_progress))
    if not a.headless:
        import napari

        napari.run()


# --- pieces of commands ---------------------------------------------------------------------------


def _open(a: argparse.Namespace) -> DiffractionDataset:
    from napari_mep.data.readers import open_dataset

    dataset = open_dataset(a.data, a.calibration, scan_shape=a.scan_shape)
    dataset.validate()
    return dataset


def _plan(a: argparse.Namespace) -> ReconstructionPlan:
    """The plan file, if any, overridden by what the command line gives."""
    from napari_mep.reconstruction.plan import ReconstructionPlan

    plan = ReconstructionPlan.from_toml(a.plan) if a.plan else ReconstructionPlan()
    values = plan.model_dump()
    for name in ("method", "prior", "steps", "samples", "start", "device", "seed"):
        if getattr(a, name) is not None:
            values[name] = getattr(a, name)
    if a.guidance is not None:
        values["guidance"]["schedule"] = a.guidance
    if a.thickness is not None:
        values["object"]["thickness_A"] = a.thickness
    if a.iterations is not None:
        values["gradient"]["iterations"] = a.iterations
    return ReconstructionPlan.parse(values, source="settings")


def _run_to_end(dataset: DiffractionDataset, plan: ReconstructionPlan) -> Snapshot:
    """Reconstruct with a progress bar; Ctrl-C gives up the current step and keeps the result."""
    from napari_mep.reconstruction import reconstruct

    stop = threading.Event()
    last: Snapshot | None = None
    with _ctrl_c_sets(stop), _progress(plan.method, "steps") as bar:
        for snapshot in reconstruct(dataset, plan, stop, preview_seconds=math.inf):
            last = snapshot
            bar(
                snapshot.step,
                snapshot.total,
                f"{snapshot.stage}, residual {snapshot.residual:.4f}"
                f" (noise floor {snapshot.residual_floor:.4f})",
            )
    if last is None or last.volume is None:
        raise ExportError("reconstruction stopped before its first step; nothing to write")
    return last


def _beside(path: Path, suffix: str) -> Path:
    stem, dot, rest = path.name.partition(".")
    return path.with_name(f"{stem}{suffix}{dot}{rest}")


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise ExportError(f"output {path}: exists; choose another name or give --overwrite")


@contextmanager
def _ctrl_c_sets(stop: threading.Event) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def _progress(title: str, unit: str) -> Iterator[Callable[..., None]]:
    """A bar on standard error, advanced by calls (done, total, remark); only on a terminal.

    In a log file it would be noise, and an error would not be the only line there.
    """
    from tqdm import tqdm

    bar = tqdm(desc=title, unit=f" {unit}", leave=False, file=sys.stderr, disable=None)
    with bar:

        def advance(done: int, total: int, remark: str = "") -> None:
            bar.total = total
            bar.set_postfix_str(remark, refresh=False)
            bar.update(done - bar.n)

        yield advance


def _json(value: Any) -> str:
    """JSON with null for what is not a finite number."""

    def clean(v: Any) -> Any:
        if isinstance(v, dict):
            return {k: clean(x) for k, x in v.items()}
        if isinstance(v, (list, tuple)):
            return [clean(x) for x in v]
        if isinstance(v, float) and not math.isfinite(v):
            return None
        return v

    return json.dumps(clean(value), indent=2)


def _table(rows: list[dict[str, Any]]) -> str:
    def text(value: Any) -> str:
        if value is None:
            return "-"
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    head = list(rows[0])
    cells = [head, *([text(row[k]) for k in head] for row in rows)]
    widths = [max(len(r[i]) for r in cells) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in cells)


# --- arguments ------------------------------------------------------------------------------------


class _OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _pair(text: str) -> tuple[int, int]:
    try:
        y, x = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected YxX, for instance 26x26") from None
    if min(y, x) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: both numbers must be at least 1")
    return y, x


def _parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(
        prog="napari-mep",
        description="Multislice electron ptychography with a learned crystal prior.",
    )
    parser.add_argument("--version", action="version", version=f"napari-mep {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="log what is being done")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], None], text: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    def data_options(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--calibration", type=Path, metavar="CAL.toml", help="calibration file")
        sub.add_argument("--scan-shape", type=_pair, metavar="YxX", help="for stacks of patterns")

    def output(sub: argparse.ArgumentParser, metavar: str) -> None:
        sub.add_argument("-o", "--output", type=Path, required=True, metavar=metavar)
        sub.add_argument("--overwrite", action="store_true", help="replace an existing output")

    sub = command("simulate", _simulate, "Simulate a 4D-STEM scan of a crystal with abTEM.")
    sub.add_argument("source", metavar="CIF|NAME", help="CIF file or built-in sample")
    output(sub, "DATA.zarr")
    sub.add_argument("--zone-axis", default="c", metavar="a|b|c|u,v,w", help="beam direction")
    sub.add_argument("--thickness", type=float, default=12.8, metavar="A", help="thickness, A")
    sub.add_argument("--dose", type=float, default=1e5, metavar="e/A^2", help="dose, e/A^2")
    sub.add_argument("--noise-free", action="store_true", help="expected counts instead of counts")
    sub.add_argument("--scan", type=_pair, default=(26, 26), metavar="YxX", help="positions")
    sub.add_argument("--scan-step", type=float, default=0.512, metavar="A", help="step, A")
    sub.add_argument("--energy", type=float, default=300.0, metavar="keV", help="beam energy, keV")
    sub.add_argument(
        "--semiangle", type=float, default=21.4, metavar="mrad", help="convergence semi-angle, mrad"
    )
    sub.add_argument(
        "--defocus", type=float, default=-200.0, metavar="A", help="A, positive is underfocus"
    )
    sub.add_argument(
        "--spherical-aberration", type=float, default=5000.0, metavar="A", help="Cs, A"
    )
    sub.add_argument("--detector-pixels", type=int, default=64, metavar="N", help="along each axis")
    sub.add_argument(
        "--detector-step", type=float, default=0.078125, metavar="1/A", help="pixel, 1/A"
    )
    sub.add_argument("--seed", type=_seed, default=0, help="of the counting noise")

    sub = command("info", _info, "What a file holds, what is calibrated and what is missing.")
    sub.add_argument("data", metavar="DATA")
    data_options(sub)
    sub.add_argument("--json", action="store_true", help="machine-readable")

    sub = command("reconstruct", _reconstruct, "Reconstruct the specimen's phase in 3D.")
    sub.add_argument("data", metavar="DATA")
    output(sub, "OUT.ome.zarr")
    data_options(sub)
    sub.add_argument("--plan", type=Path, metavar="PLAN.toml", help="settings; options override it")
    sub.add_argument("--method", choices=("mep", "gradient"), help="with or without the prior")
    sub.add_argument("--prior", metavar="NAME|PATH", help="shipped prior or .safetensors file")
    sub.add_argument("--steps", type=int, help="sampling steps")
    sub.add_argument("--start", choices=("noise", "gradient"), help="where sampling starts")
    sub.add_argument(
        "--guidance",
        choices=("shifted-sigmoid", "alpha", "constant"),
        help="schedule of the data's weight",
    )
    sub.add_argument("--iterations", type=int, help="steps of the gradient solver")
    sub.add_argument("--thickness", type=float, metavar="A", help="specimen thickness, A")
    sub.add_argument("--samples", type=_positive, metavar="K", help="mean of K samples")
    sub.add_argument("--device", metavar="auto|cpu|cuda[:N]|mps", help="where to compute")
    sub.add_argument("--seed", type=int, help="of all random numbers")
    sub.add_argument("--json", action="store_true", help="machine-readable summary")

    sub = command("evaluate", _evaluate, "Score reconstructions against a truth.")
    sub.add_argument("reconstruction", nargs="+", type=Path, metavar="RECON")
    sub.add_argument("--truth", required=True, metavar="TRUTH", help="volume or simulated data")
    sub.add_argument("--data", metavar="DATA", help="data that the residual must belong to")
    data_options(sub)
    sub.add_argument("--json", action="store_true", help="machine-readable")

    sub = command("crystals", _crystals_build, "Build a library of crystals to train on.")
    sub.add_argument("action", choices=("build",))
    sub.add_argument("tables", nargs="+", type=Path, metavar="TABLE.csv", help="column 'cif'")
    output(sub, "LIBRARY.npz")
    sub.add_argument("--seed", type=_seed, default=0, help="of the distorted relatives")
    sub.add_argument("--json", action="store_true", help="machine-readable summary")

    sub = command("train", _train, "Train a prior on a crystal library.")
    sub.add_argument("library", type=Path, metavar="LIBRARY.npz")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="RUN_DIR")
    sub.add_argument("--preset", choices=("tiny", "base", "paper"), help="size of the network")
    sub.add_argument("--volumes", type=_positive, help="length of the run, rendered volumes")
    sub.add_argument("--batch", type=_positive, help="volumes per step")
    sub.add_argument("--resume", action="store_true", help="continue from the last checkpoint")
    sub.add_argument("--device", default="auto", metavar="auto|cpu|cuda[:N]|mps")
    sub.add_argument("--seed", type=_seed, help="of all random numbers")

    sub = command("demo", _demo, "Simulate, reconstruct and show SrTiO3 in napari.")
    sub.add_argument("-o", "--output", default="demo", metavar="DIR", help="where results go")
    sub.add_argument("--headless", action="store_true", help="close the window when done")
    return parser


def _positive(text: str) -> int:
    return _whole_number(text, 1)


def _seed(text: str) -> int:
    return _whole_number(text, 0)


def _whole_number(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"{text}: must be at least {least}")
    return value
