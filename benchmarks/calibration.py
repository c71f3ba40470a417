"""Calibration helpers on simulated experiments with everything wrong.

Specimens of different symmetry are simulated with abTEM at a scan rotation of 23 degrees, recorded
with a flipped detector, 3 % dead pixels, descan drift and 1e5 e/A^2, written in five formats and
handed to ``napari-mep info --fix -o CAL.toml`` with a defocus that is 20 % wrong, rotation and
flips unknown. What the calibration file then says is held against the truth; the table in
docs/calibration.md is what it prints. Ends with 1 if anything lies outside its limit.

    python benchmarks/calibration.py [-o table.md] [--seeds 2] [--scan 26x26] [--cache DIR]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import pickle
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_mep.cli import main as napari_mep
from napari_mep.data.imperfections import Imperfections, record
from napari_mep.data.simulate import ExpectedPatterns, Experiment, simulate_expected

# Cubic (p4mm in projection), three-fold without an inversion, monoclinic (p2: no mirror at all).
SPECIMENS = ("srtio3", "mos2", "zirconia")
FORMATS = ("HDF5", "hspy", "py4DSTEM", "EMPAD", "mib")
IMPERFECTIONS = Imperfections(
    flip_y=True,
    dead_share=0.03,
    hot_share=0.001,
    centre_px=(0.7, -1.3),
    descan_px=(0.06, 0.02, -0.03, 0.08),
)
ROTATION_DEG = 23.0
LIMITS = {"scan_rotation_deg": 0.5, "defocus_A": 15.0, "detector_step_percent": 1.0}

# Baddeleyite, C. J. Howard et al., Acta Cryst. B 44 (1988) 116.
ZIRCONIA = """data_ZrO2
_cell_length_a 5.1505
_cell_length_b 5.2116
_cell_length_c 5.3173
_cell_angle_alpha 90
_cell_angle_beta 99.230
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 21/c'
_symmetry_Int_Tables_number 14
loop_
_symmetry_equiv_pos_as_xyz
 'x, y, z'
 '-x, y+1/2, -z+1/2'
 '-x, -y, -z'
 'x, -y+1/2, z+1/2'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
 Zr1 Zr 0.2754 0.0395 0.2083
 O1 O 0.0700 0.3317 0.3447
 O2 O 0.4496 0.7569 0.4792
"""


def simulated(name: str, scan: tuple[int, int], cache: Path) -> ExpectedPatterns:
    file = cache / f"{name}-{scan[0]}x{scan[1]}.pickle"
    if file.exists():
        return pickle.loads(file.read_bytes())
    source: str | Path = name
    if name == "zirconia":
        source = cache / "zirconia.cif"
        source.write_text(ZIRCONIA)
    experiment = Experiment(
        scan_shape=scan,
        scan_rotation_deg=ROTATION_DEG,
        zone_axis="b" if name == "zirconia" else "c",
    )
    expected = simulate_expected(source, experiment)
    file.write_bytes(pickle.dumps(expected))
    return expected


def write(format_: str, patterns: np.ndarray, folder: Path) -> list[str]:
    """Write the scan in a format that is not ours; gives the arguments that open it."""
    rows, columns, ky, kx = patterns.shape
    if format_ == "HDF5":
        import h5py

        with h5py.File(folder / "scan.h5", "w") as file:
            file["data/patterns"] = patterns
        return [str(folder / "scan.h5")]
    if format_ == "hspy":
        from rsciio.hspy import file_writer

        file_writer(str(folder / "scan.hspy"), _signal(patterns))
        return [str(folder / "scan.hspy")]
    if format_ == "py4DSTEM":
        import h5py

        with h5py.File(folder / "cube.h5", "w") as file:
            file.attrs.update({"emd_group_type": "file", "version_major": 1, "version_minor": 0})
            root = file.create_group("datacube_root")
            root.attrs.update({"emd_group_type": "root", "python_class": "Root"})
            cube = root.create_group("datacube")
            cube.attrs.update({"emd_group_type": "array", "python_class": "DataCube"})
            cube["data"] = patterns
        return [str(folder / "cube.h5")]
    if format_ == "EMPAD":
        # The detector has 128 x 128 pixels, and two rows more in the file.
        frames = np.zeros((rows * columns, 130, 128), "<f4")
        y, x = 64 - ky // 2, 64 - kx // 2
        frames[:, y : y + ky, x : x + kx] = patterns.reshape(-1, ky, kx)
        (folder / f"scan_x{columns}_y{rows}.raw").write_bytes(frames.tobytes())
        return [str(folder / f"scan_x{columns}_y{rows}.raw")]
    frames = []
    for index, frame in enumerate(patterns.reshape(-1, ky, kx)):
        head = f"MQ1,{index + 1:06},00384,01,{kx:04},{ky:04},U16,   1x1,01,"
        stamp = np.datetime64("2024-05-01T10:00:00", "ns") + np.timedelta64(index, "ms")
        head += f"{stamp}Z,1000000ns,0,"
        # Merlin writes the lowest row first, big-endian.
        frames.append(head.encode().ljust(384, b"\0") + frame[::-1].astype(">u2").tobytes())
    (folder / "scan.mib").write_bytes(b"".join(frames))
    return [str(folder / "scan.mib"), "--scan-shape", f"{rows}x{columns}"]


def _signal(data: np.ndarray) -> dict[str, Any]:
    axes = [
        {
            "name": name,
            "size": size,
            "scale": 1.0,
            "units": "",
            "offset": 0.0,
            "navigate": name in "yx",
            "index_in_array": index,
            "_type": "UniformDataAxis",
            "is_binned": False,
        }
        for index, (name, size) in enumerate(zip(("y", "x", "ky", "kx"), data.shape, strict=True))
    ]
    return {
        "data": data,
        "axes": axes,
        "metadata": {"General": {"title": "scan"}, "Signal": {"signal_type": ""}},
        "original_metadata": {},
        "attributes": {"_lazy": False, "ragged": False},
        "learning_results": {},
        "package_info": {"package": "benchmark", "package_version": "0"},
        "models": None,
        "tmp_parameters": {},
    }


def fixed(
    arguments: list[str], known: dict[str, Any], folder: Path
) -> tuple[dict[str, Any], float]:
    """The calibration file that ``info --fix`` writes, and the CPU time that it took."""
    toml = folder / "known.toml"
    toml.write_text("".join(f"{name} = {value}\n" for name, value in known.items()))
    began = time.process_time()
    written = folder / "cal.toml"
    with contextlib.redirect_stdout(io.StringIO()):
        status = napari_mep(
            ["info", *arguments, "--fix", "--calibration", str(toml), "-o", str(written)]
        )
    if status != 0:
        raise SystemExit(f"info --fix {arguments[0]} ended with {status}")
    seconds = time.process_time() - began
    return tomllib.loads(written.read_text()), seconds


@dataclass(frozen=True)
class Outcome:
    """Errors of one experiment."""

    specimen: str
    format: str
    seed: int
    defocus_given: float
    errors: dict[str, float]
    oriented: bool
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether all errors lie within their limits."""
        # A value that was not found is NaN, which is below no limit.
        within = all(abs(self.errors[name]) <= limit for name, limit in LIMITS.items())
        return within and self.oriented

    def cells(self) -> list[str]:
        """A row of the table."""
        return [
            self.specimen,
            self.format,
            str(self.seed),
            f"{100 * (self.defocus_given - 1):+.0f} %",
            f"{self.errors['scan_rotation_deg']:+.2f}",
            "right" if self.oriented else "WRONG",
            f"{self.errors['defocus_A']:+.1f}",
            f"{self.errors['detector_step_percent']:+.2f}",
            f"{self.seconds:.0f}",
            "pass" if self.passed else "FAIL",
        ]


HEAD = (
    "specimen",
    "format",
    "seed",
    "defocus given",
    f"rotation error (deg, limit {LIMITS['scan_rotation_deg']:g})",
    "orientation",
    f"defocus error (A, limit {LIMITS['defocus_A']:g})",
    f"mrad/px error (%, limit {LIMITS['detector_step_percent']:g})",
    "CPU s",
    "verdict",
)


def outcome(
    name: str, format_: str, expected: ExpectedPatterns, wrong: float, seed: int
) -> Outcome:
    """Record, write, calibrate, compare."""
    true = expected.calibration
    recording = record(expected, IMPERFECTIONS, 1e5, seed=seed)
    known = {
        "beam_energy_keV": true.beam_energy_keV,
        "convergence_semiangle_mrad": true.convergence_semiangle_mrad,
        "spherical_aberration_A": true.spherical_aberration_A,
        "scan_step_A": true.scan_step_A,
        "specimen_thickness_A": true.specimen_thickness_A,
        "defocus_A": wrong * true.defocus_A,
    }
    with tempfile.TemporaryDirectory() as folder:
        arguments = write(format_, recording.patterns, Path(folder))
        found, seconds = fixed(arguments, known, Path(folder))
    flags = [bool(found.get(f"detector_{flag}")) for flag in ("transpose", "flip_y", "flip_x")]
    step = found.get("detector_step_mrad", float("nan"))
    return Outcome(
        specimen=name,
        format=format_,
        seed=seed,
        defocus_given=wrong,
        errors={
            "scan_rotation_deg": found.get("scan_rotation_deg", float("nan")) - ROTATION_DEG,
            "defocus_A": found["defocus_A"] - true.defocus_A,
            "detector_step_percent": 100 * (step / true.detector_step_mrad - 1),
        },
        oriented=flags == [False, True, False],
        seconds=seconds,
    )


def line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def worst(outcomes: list[Outcome]) -> list[str]:
    """For each specimen, the largest errors of all formats and seeds."""
    lines = [line(("specimen", "runs", "passed", *LIMITS)), "|" + "---|" * (3 + len(LIMITS))]
    for name in dict.fromkeys(o.specimen for o in outcomes):
        some = [o for o in outcomes if o.specimen == name]
        errors = [max(abs(o.errors[key]) for o in some) for key in LIMITS]
        passed = sum(o.passed for o in some)
        lines.append(line((name, str(len(some)), str(passed), *(f"{e:.2f}" for e in errors))))
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, help="Markdown table")
    parser.add_argument("--scan", default="26x26", help="positions")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each format")
    parser.add_argument("--specimens", nargs="+", default=SPECIMENS, metavar="NAME")
    parser.add_argument("--cache", type=Path, default=Path("runs/calibration"))
    a = parser.parse_args()
    rows, columns = (int(n) for n in a.scan.split("x"))
    a.cache.mkdir(parents=True, exist_ok=True)
    lines = [line(HEAD), "|" + "---|" * len(HEAD)]
    print("\n".join(lines), flush=True)
    outcomes = []
    for name in a.specimens:
        expected = simulated(name, (rows, columns), a.cache)
        for seed in range(a.seeds * len(FORMATS)):  # no two runs see the same noise
            repeat, index = divmod(seed, len(FORMATS))
            wrong = 1.2 if (index + repeat) % 2 == 0 else 0.8
            outcomes.append(outcome(name, FORMATS[index], expected, wrong, seed))
            lines.append(line(outcomes[-1].cells()))
            print(lines[-1], flush=True)
    lines += ["", *worst(outcomes)]
    print("\n".join(["", *worst(outcomes)]))
    if a.output is not None:
        a.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0 if all(o.passed for o in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
