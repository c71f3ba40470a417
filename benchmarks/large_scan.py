"""A 16 GB scan: how long it takes to open and to be seen, how much memory, how fast it streams.

    python benchmarks/large_scan.py [--folder DIR] [--gigabytes 16] [--stream-gigabytes 1] [--json]

The large files are sparse: they take no room on the disk, and reading their holes is as fast as
memory. So opening, memory and bytes touched are real, the speed of the disk is not in these times.
What exceeds the limits is marked, and the process then ends with 1.
The streaming part writes a file of its own size with real values and drops it from the page cache
before each reading; there the disk counts. Each measurement of memory has a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FORMATS = ("EMPAD raw", "Merlin mib", "HDF5", "py4DSTEM HDF5", "Zarr")
LIMITS = {"open_s": 2.0, "mean_pattern_s": 5.0, "peak_GB": 2.0}
PIXELS = 128
CALIBRATION = {
    "beam_energy_keV": 300.0,
    "convergence_semiangle_mrad": 21.4,
    "scan_step_A": 0.5,
    "detector_step_invA": 0.03,
    "specimen_thickness_A": 120.0,
}


def disk() -> np.ndarray:
    k = np.arange(PIXELS) - PIXELS // 2
    return (np.hypot(k[:, None], k[None, :]) < 36).astype(np.float32) * 100


def sparse_file(folder: Path, kind: str, side: int) -> Path:
    """A scan of side x side patterns, nearly all of them holes."""
    count = side * side
    shown = range(0, count, max(1, count // 256))
    if kind == "EMPAD raw":
        path = folder / f"scan_x{side}_y{side}.raw"
        frame = 130 * PIXELS * 4
        with path.open("wb") as file:
            for index in shown:
                file.seek(index * frame)
                file.write(disk().tobytes())
            file.truncate(count * frame)
        return path
    if kind == "Merlin mib":
        path = folder / "scan.mib"
        frame = 384 + PIXELS * PIXELS * 4
        with path.open("wb") as file:
            for index in range(min(count, 3 * side)):  # where the reader looks for scan lines
                seconds = index * 1e-3 + (index // side) * 0.02
                stamp = np.datetime64("2024-05-01T10:00:00", "us") + int(seconds * 1e6)
                head = f"MQ1,{index + 1:06},00384,01,0{PIXELS},0{PIXELS},U32,   1x1,01,{stamp}Z,"
                file.seek(index * frame)
                file.write(f"{head}1000000ns,0,".encode().ljust(384, b"\0"))
            for index in shown:
                file.seek(index * frame + 384)
                file.write(disk().astype(">u4").tobytes())
            file.truncate(count * frame)
        path.with_suffix(".hdr").write_text(
            f"HDR,\nFrames in Acquisition (Number):\t{count}\n"
            f"Frames per Trigger (Number):\t{side}\nEnd\t\n"
        )
        return path
    if kind == "Zarr":
        return sparse_zarr(folder / "scan.zarr", side, shown)
    import h5py

    path = folder / f"{kind.split()[0]}.h5"
    with h5py.File(path, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        group = file.create_group("root/datacube")
        group.attrs["python_class"] = "DataCube" if kind.startswith("py4") else ""
        space = h5py.h5s.create_simple((side, side, PIXELS, PIXELS))
        data = h5py.Dataset(
            h5py.h5d.create(group.id, b"data", h5py.h5t.IEEE_F32LE, space, dcpl=plist)
        )
        for index in shown:
            data[divmod(index, side)] = disk()
    return path


def sparse_zarr(path: Path, side: int, shown: range) -> Path:
    """Chunks of 1 MB, uncompressed, each a file that is a hole but for the patterns shown."""
    import zarr

    columns = 16
    stored = zarr.create_array(
        path,
        shape=(side, side, PIXELS, PIXELS),
        dtype="f4",
        chunks=(1, columns, PIXELS, PIXELS),
        compressors=None,
    )
    for row in range(side):
        for column in range(-(-side // columns)):
            chunk = path / f"c/{row}/{column}/0/0"
            chunk.parent.mkdir(parents=True)
            with chunk.open("wb") as file:
                file.truncate(columns * PIXELS * PIXELS * 4)
    for index in shown:
        stored[divmod(index, side)] = disk()
    return path


def size_GB(path: Path) -> float:
    """Bytes that a file or a folder promises, holes included."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files) / 1e9


def look(path: Path) -> dict[str, float]:
    """Times of what napari does with a dropped file; run in a process of its own."""
    from napari_mep._scan_layers import scan_layers
    from napari_mep.data.info import describe
    from napari_mep.data.readers import open_patterns
    from napari_mep.data.virtual import scan_images

    before = peak_GB()
    start = time.perf_counter()
    opened = open_patterns(path, CALIBRATION)
    opened_s = time.perf_counter() - start
    start = time.perf_counter()
    mean = scan_images(opened.patterns, max_patterns=256).mean_pattern
    mean_s = time.perf_counter() - start
    start = time.perf_counter()
    layers = scan_layers(opened, str(path))
    layers_s = time.perf_counter() - start
    start = time.perf_counter()
    describe(opened)
    described_s = time.perf_counter() - start
    start = time.perf_counter()
    count = int(opened.patterns.shape[0]) * int(opened.patterns.shape[1])
    opened.calibrated().counts(np.random.default_rng(0).integers(0, count, 256))
    assert mean.max() > 0
    return {
        "open_s": opened_s,
        "mean_pattern_s": mean_s,
        "layers_s": layers_s,
        "info_s": described_s,
        "batch_of_256_s": time.perf_counter() - start,
        "image_pixels": float(layers[0][0].size),
        "peak_GB": peak_GB(),
        "peak_before_GB": before,
    }


def peak_GB() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def streaming(folder: Path, gigabytes: float) -> dict[str, float]:
    """Patterns per second from the disk in random batches, against those a solver takes."""
    import h5py
    import torch
    import zarr

    from napari_mep.data.readers import open_dataset
    from napari_mep.physics.multislice import MultisliceModel
    from napari_mep.physics.probe import Aberrations, probe_fourier
    from napari_mep.reconstruction.streaming import StreamedCounts, read_ahead

    side = max(8, int((gigabytes * 1e9 / (PIXELS * PIXELS * 4)) ** 0.5))
    shape = (side, side, PIXELS, PIXELS)
    raw = folder / f"stream_x{side}_y{side}.raw"
    rng = np.random.default_rng(0)
    h5 = h5py.File(folder / "stream.h5", "w")
    h5_data = h5.create_dataset("data", shape, "f4", chunks=(1, 8, PIXELS, PIXELS))
    stored = zarr.create_array(
        folder / "stream.zarr", shape=shape, dtype="f4", chunks=(1, 16, PIXELS, PIXELS)
    )
    with raw.open("wb") as file:
        for row in range(side):
            block = rng.poisson(np.broadcast_to(disk() / 20 + 0.1, shape[1:])).astype("<f4")
            file.write(block.tobytes())
            h5_data[row] = block
            stored[row] = block
    h5.close()
    os.sync()
    batches = [np.sort(rng.choice(side * side, 256, replace=False)) for _ in range(8)]
    found: dict[str, float] = {"patterns_on_disk": float(side * side)}
    for name, path in (
        ("raw", raw),
        ("hdf5", folder / "stream.h5"),
        ("zarr", folder / "stream.zarr"),
    ):
        drop_from_cache(path)
        dataset = open_dataset(path, CALIBRATION)
        start = time.perf_counter()
        for batch in batches:
            dataset.counts(batch)
        found[f"{name}_cold_patterns_per_s"] = 8 * 256 / (time.perf_counter() - start)

    # A solver's work on one batch: likelihood and gradient of a 6-slice model.
    probe = probe_fourier(
        (PIXELS, PIXELS), 0.26, 300.0, 21.4, Aberrations.from_defocus(-200.0, 0.0)
    ).to(torch.complex64)
    model = MultisliceModel(
        probe,
        pixel_size_A=0.26,
        slice_thickness_A=20.0,
        energy_keV=300.0,
        detector_shape=(PIXELS, PIXELS),
        oversampling=1,
        electrons=2e4,
    )
    canvas = torch.zeros((6, 2 * PIXELS, 2 * PIXELS))
    positions = np.full((32, 2), float(PIXELS))
    drop_from_cache(raw)
    dataset = open_dataset(raw, CALIBRATION)
    streamed = StreamedCounts(
        dataset, lambda c: torch.fft.ifftshift(c, dim=(-2, -1)), torch.device("cpu")
    )
    parts = [batch[i : i + 32] for batch in batches[:4] for i in range(0, 256, 32)]
    resident = streamed.take(np.arange(32))
    seconds: dict[str, list[float]] = {"memory": [], "disk": []}
    for _ in range(3):  # in turns, because other programs come and go
        for name in seconds:
            drop_from_cache(raw)
            start = time.perf_counter()
            from_memory = ((part, resident) for part in parts)
            for _, counts in from_memory if name == "memory" else read_ahead(streamed, parts):
                model.likelihood(canvas, positions, counts, "amplitude")
            seconds[name].append(time.perf_counter() - start)
    for name, times in seconds.items():
        found[f"solver_from_{name}_patterns_per_s"] = 32 * len(parts) / min(times)
    return found


def drop_from_cache(path: Path) -> None:
    """Ask the kernel to forget a file, so that it is read from the disk again."""
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    for name in files:
        descriptor = os.open(name, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, help="where the files are made (a sparse file system)"
    )
    parser.add_argument("--gigabytes", type=float, default=16)
    parser.add_argument("--stream-gigabytes", type=float, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--look", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.look:
        print(json.dumps(look(options.look)))
        return 0
    side = int((options.gigabytes * 1e9 / (PIXELS * PIXELS * 4)) ** 0.5)
    result: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        for kind in FORMATS if options.gigabytes > 0 else ():
            path = sparse_file(Path(name), kind, side)
            done = subprocess.run(
                [sys.executable, __file__, "--look", str(path)],
                stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            result[kind] = {"size_GB": size_GB(path), **json.loads(done.stdout)}
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if options.stream_gigabytes > 0:
            result["streaming"] = streaming(Path(name), options.stream_gigabytes)
    over = {
        (kind, label)
        for kind, numbers in result.items()
        for label, limit in LIMITS.items()
        if numbers.get(label, 0) > limit
    }
    if options.json:
        print(json.dumps(result, indent=2))
        return 1 if over else 0
    for kind, numbers in result.items():
        print(kind)
        for label, value in numbers.items():
            limit = f"  limit {LIMITS[label]:g}" if label in LIMITS and kind in FORMATS else ""
            failed = "  EXCEEDED" if (kind, label) in over else ""
            print(f"  {label:<34}{value:<10.4g}{limit}{failed}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
