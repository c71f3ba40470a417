"""Calibration helpers on simulated experiments with everything wrong.

Three specimens are simulated with abTEM at a scan rotation of 23 degrees, recorded with a flipped
detector, 3 % dead pixels, descan drift and 1e5 e/A^2, written in five formats and handed to
``napari-mep info --fix`` with a defocus that is 20 % wrong, rotation and flips unknown. The table
in docs/calibration.md is what it prints.

    python benchmarks/calibration.py [-o table.md] [--scan 26x26] [--cache DIR]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import pickle
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from napari_mep.cli import main as napari_mep
from napari_mep.data.imperfections import Imperfections, record
from napari_mep.data.simulate import ExpectedPatterns, Experiment, simulate_expected

SPECIMENS = ("srtio3", "tio2-rutile", "mos2")
FORMATS = ("HDF5", "hspy", "py4DSTEM", "EMPAD", "mib")
IMPERFECTIONS = Imperfections(
    flip_y=True,
    dead_share=0.03,
    hot_share=0.001,
    centre_px=(0.7, -1.3),
    descan_px=(0.06, 0.02, -0.03, 0.08),
)
ROTATION_DEG = 23.0


def simulated(name: str, scan: tuple[int, int], cache: Path) -> ExpectedPatterns:
    file = cache / f"{name}-{scan[0]}x{scan[1]}.pickle"
    if file.exists():
        return pickle.loads(file.read_bytes())
    expected = simulate_expected(name, Experiment(scan_shape=scan, scan_rotation_deg=ROTATION_DEG))
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


def fixed(arguments: list[str], known: dict[str, Any], folder: Path) -> tuple[dict, float]:
    toml = folder / "known.toml"
    toml.write_text("".join(f"{name} = {value}\n" for name, value in known.items()))
    out = io.StringIO()
    began = time.process_time()
    with contextlib.redirect_stdout(out):
        status = napari_mep(
            [
                "info", *arguments, "--fix", "--json", "--calibration", str(toml),
                "-o", str(folder / "cal.toml"), "--picture", str(folder / "proof.png"),
            ]
        )  # fmt: skip
    if status != 0:
        raise SystemExit(f"info --fix {arguments[0]} ended with {status}")
    return json.loads(out.getvalue())["calibration"], time.process_time() - began


def row(name: str, format_: str, expected: ExpectedPatterns, wrong: float, seed: int) -> list[str]:
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
    flags = [found[f"detector_{flag}"] for flag in ("transpose", "flip_y", "flip_x")]
    return [
        name,
        format_,
        f"{100 * (wrong - 1):+.0f} %",
        f"{found['scan_rotation_deg'] - true.scan_rotation_deg:+.2f}",
        "right" if flags == [False, True, False] else "WRONG",
        f"{found['defocus_A'] - true.defocus_A:+.1f}",
        f"{100 * (found['detector_step_mrad'] / true.detector_step_mrad - 1):+.2f}",
        f"{seconds:.0f}",
    ]


HEAD = (
    "specimen",
    "format",
    "defocus given",
    "rotation error (deg)",
    "orientation",
    "defocus error (A)",
    "mrad/px error (%)",
    "CPU s",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, help="Markdown table")
    parser.add_argument("--scan", default="26x26", help="positions")
    parser.add_argument("--cache", type=Path, default=Path("runs/calibration"))
    a = parser.parse_args()
    rows_, columns = (int(n) for n in a.scan.split("x"))
    a.cache.mkdir(parents=True, exist_ok=True)
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    print("\n".join(lines), flush=True)
    for i, name in enumerate(SPECIMENS):
        expected = simulated(name, (rows_, columns), a.cache)
        for j, format_ in enumerate(FORMATS):
            wrong = 1.2 if (i + j) % 2 == 0 else 0.8
            lines.append("| " + " | ".join(row(name, format_, expected, wrong, 10 * i + j)) + " |")
            print(lines[-1], flush=True)
    if a.output is not None:
        a.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
