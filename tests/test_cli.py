"""The command line as people and scripts use it: results, exit codes, one line for each mistake."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import zarr

from napari_mep.cli import main
from napari_mep.data import open_dataset
from napari_mep.export.ome_zarr import read_reconstruction
from napari_mep.prior.files import ModelCard, save_prior
from napari_mep.prior.unet import PRESETS, LevelConfig, UNet3D, UNetConfig

SMALL = UNetConfig((1, 4, 4), (LevelConfig(8, 1, (2, 2, 2)), LevelConfig(8, 1)), embedding=16)
CALIBRATION = {
    "beam_energy_keV": 300.0,
    "convergence_semiangle_mrad": 21.4,
    "defocus_A": 20.0,
    "scan_step_A": 0.4,
    "detector_step_invA": 0.15625,
    "specimen_thickness_A": 3.2,
}


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SrTiO3, two slices thick, simulated by the command itself with abTEM."""
    path = tmp_path_factory.mktemp("cli") / "srtio3.zarr"
    arguments = (
        "--scan 8x9 --scan-step 0.4 --detector-pixels 32 --detector-step 0.15625 --thickness 3.2 "
        "--defocus 20 --spherical-aberration 0 --dose 1e6 --seed 1"
    )
    assert main(["simulate", "srtio3", "-o", str(path), *arguments.split()]) == 0
    return path


@pytest.fixture(scope="session")
def patterns(simulated: Path) -> np.ndarray:
    """Its patterns, (8, 9, 32, 32) float32."""
    return open_dataset(simulated).counts().reshape(8, 9, 32, 32)


@pytest.fixture
def hdf5(tmp_path: Path, patterns: np.ndarray) -> str:
    """The same patterns as another program might have written them."""
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["entry/instrument/patterns"] = patterns.astype(np.uint16)
        file["entry/instrument/dark"] = np.zeros((32, 32))
        file.attrs["creator"] = "some other program"
    return f"{tmp_path / 'scan.h5'}::/entry/instrument/patterns"


def _toml(path: Path, **changes: Any) -> str:
    values = {k: v for k, v in (CALIBRATION | changes).items() if v is not None}
    path.write_text("".join(f"{name} = {value}\n" for name, value in values.items()))
    return str(path)


@pytest.fixture
def calibration(tmp_path: Path) -> str:
    return _toml(tmp_path / "cal.toml")


@pytest.fixture
def make_prior(tmp_path: Path) -> Callable[..., str]:
    """Weights whose last layer is zero: a prior of white noise of 0.05 rad."""

    def make(voxel_size_A: tuple[float, float, float] = (1.6, 0.2, 0.2)) -> str:
        card = ModelCard(
            name="white",
            architecture=SMALL.to_dict(),
            scale_per_rad=20.0,
            voxel_size_A=voxel_size_A,
            tile_shape=(2, 16, 16),
            logsnr_range=(-14.0, 10.0),
            energy_keV=300.0,
            trained_volumes=0,
            loss_curve={"edges": [], "v_loss": []},
            training_data={},
            settings={},
            licence="GPL-3.0-or-later",
        )
        path = tmp_path / "white.safetensors"
        save_prior(path, UNet3D(SMALL).state_dict(), card)
        return str(path)

    return make


def _run_json(capsys: pytest.CaptureFixture[str], *arguments: Any) -> Any:
    assert main([str(a) for a in arguments] + ["--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


def _fails(capsys: pytest.CaptureFixture[str], match: str, *arguments: Any) -> None:
    """Exit code 2, nothing on standard output, one line on standard error."""
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as exit_:  # from argparse
        code = exit_.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1, captured.err
    assert captured.err.startswith("napari-mep")
    assert re.search(match, captured.err), captured.err


# --- what it is for -------------------------------------------------------------------------------


def test_a_file_of_another_program_becomes_ome_zarr(
    capsys, hdf5, calibration, simulated, patterns, tmp_path
):
    out = tmp_path / "out.ome.zarr"
    summary = _run_json(
        capsys, "reconstruct", hdf5, "--calibration", calibration, "-o", out,
        "--method", "gradient", "--iterations", 8,
    )  # fmt: skip
    assert summary["path"] == str(out)
    assert summary["spread"] is None
    assert (summary["method"], summary["steps"], summary["total"]) == ("gradient", 8, 8)
    assert 0 < summary["residual_floor"] < summary["residual"] < 2 * summary["residual_floor"]
    volume, record = read_reconstruction(out)
    assert volume.voxel_size_A == pytest.approx((1.6, 0.2, 0.2))
    assert volume.origin_A == pytest.approx((0.8, 0, 0))
    assert record["plan"]["method"] == "gradient"
    assert record["data"]["calibration"]["defocus_A"] == 20.0

    (row,) = _run_json(
        capsys, "evaluate", out, "--truth", simulated, "--data", hdf5, "--calibration", calibration
    )
    assert list(row) == [
        "path", "method", "psnr", "ssim", "psnr_sum", "ssim_sum", "residual", "seconds",
    ]  # fmt: skip
    assert row["path"] == str(out)
    assert row["psnr_sum"] > 30
    assert row["ssim_sum"] > 0.9
    assert 0.5 * summary["residual"] < row["residual"] < 2 * summary["residual"]
    assert row["seconds"] == summary["seconds"]


def test_mep_with_a_prior_of_ones_own(capsys, simulated, make_prior, tmp_path):
    out = tmp_path / "out.ome.zarr"
    prior = make_prior()
    arguments = ["reconstruct", simulated, "-o", out, "--prior", prior]
    arguments += ["--steps", 6, "--samples", 1, "--seed", 3]
    summary = _run_json(capsys, *arguments, "--guidance", "constant", "--iterations", 2)
    # gradient start, sampling, gradient steps on the result
    assert (summary["method"], summary["steps"], summary["total"]) == ("mep", 20, 20)
    volume, record = read_reconstruction(out)
    plan = record["plan"]
    assert (plan["steps"], plan["seed"], plan["guidance"]["schedule"]) == (6, 3, "constant")
    assert record["prior"]["name"] == "white"
    assert volume.data.shape == (2, 15, 17)
    assert np.isfinite(volume.data).all()
    # the same again, over the first
    again = _run_json(
        capsys, *arguments, "--guidance", "constant", "--iterations", 2, "--overwrite"
    )
    assert again["residual"] == summary["residual"]
    assert np.array_equal(read_reconstruction(out)[0].data, volume.data)


def test_samples_give_a_mean_and_a_spread(capsys, simulated, make_prior, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text("finish_iterations = 0\n")
    arguments = ["reconstruct", simulated, "--plan", plan, "--prior", make_prior(), "--steps", 4]
    both = _run_json(capsys, *arguments, "-o", tmp_path / "k.ome.zarr", "--samples", 2, "--seed", 7)
    assert both["spread"] == str(tmp_path / "k-spread.ome.zarr")
    singles = []
    for seed in (7, 8):
        out = tmp_path / f"{seed}.ome.zarr"
        _run_json(capsys, *arguments, "-o", out, "--seed", seed, "--samples", 1)
        singles.append(read_reconstruction(out)[0].data)
    mean, record = read_reconstruction(both["path"])
    spread, _ = read_reconstruction(both["spread"])
    assert record["samples"] == 2
    # Phases are bounded from below last, in single samples too: compare where they were positive.
    positive = np.min(singles, axis=0) > 0
    assert positive.mean() > 0.2
    for result, expected in (
        (mean, np.mean(singles, axis=0)),
        (spread, np.std(singles, axis=0, ddof=1)),
    ):
        np.testing.assert_allclose(result.data[positive], expected[positive], atol=1e-6)
    assert spread.data.max() > 0
    assert spread.origin_A == mean.origin_A


@pytest.fixture
def spoilt(tmp_path: Path, patterns: np.ndarray) -> tuple[Path, Path]:
    """A scan with dark current, gain, dead and hot pixels, and the plan that mends it."""
    rng = np.random.default_rng(0)
    gain = rng.uniform(0.8, 1.2, (32, 32)).astype(np.float32)
    dark = rng.uniform(-2, 2, (32, 32)).astype(np.float32)
    bad = np.zeros((32, 32), bool)
    bad[[12, 17, 20], [15, 18, 9]] = True
    raw = patterns * gain + dark + 5.0
    raw[..., bad] = np.array([np.nan, 0.0, 1e6], np.float32)
    np.save(tmp_path / "raw.npy", raw)
    folder = tmp_path / "settings"
    folder.mkdir()
    y, x = np.divmod(np.arange(72), 9)
    np.savetxt(folder / "positions.csv", np.stack((0.4 * y, 0.4 * x), axis=1), delimiter=",")
    for name, image in (("gain", gain), ("dark", dark), ("bad", bad)):
        np.save(folder / f"{name}.npy", image)
    (folder / "plan.toml").write_text(
        "[preprocessing]\nscan_rows = [0, 7]\nbackground = 5.0\nbackground_file = 'dark.npy'\n"
        "gain_file = 'gain.npy'\nclip_negative = true\nbad_pixels_file = 'bad.npy'\n"
        "detector_pixels = 36\npositions_file = 'positions.csv'\n"
    )
    return tmp_path / "raw.npy", folder / "plan.toml"


def test_preprocessing_of_a_plan_is_told_and_carried_out(
    capsys, spoilt, calibration, patterns, tmp_path
):
    """Files that the plan names count from its own folder; what it adds is not measured."""
    raw, plan = spoilt
    arguments = [str(raw), "--calibration", calibration]
    assert main(["info", *arguments]) == 0
    assert "problem: raw.npy: NaN at scan position" in capsys.readouterr().out
    assert main(["info", *arguments, "--plan", str(plan)]) == 0
    told = capsys.readouterr().out
    assert "problem" not in told
    for words in (
        "background 5 subtracted", "background dark.npy subtracted", "divided by gain gain.npy",
        "negative counts set to zero", "bad pixels bad.npy masked", "scan rows 0 to 6",
        "detector made 36 x 36 pixels", "positions from positions.csv",
        "7 x 9 scan positions", "36 x 36 pixels", f"{36 * 36 - 32 * 32 + 3} of 1296",
    ):  # fmt: skip
        assert words in told, words
    run = ["--method", "gradient", "--iterations", "3", "--device", "cpu", "--json"]
    out = tmp_path / "mended.ome.zarr"
    assert main(["reconstruct", *arguments, "--plan", str(plan), "-o", str(out), *run]) == 0
    mended = json.loads(capsys.readouterr().out)["residual"]
    np.save(tmp_path / "clean.npy", patterns[:7])
    clean = [str(tmp_path / "clean.npy"), "--calibration", calibration]
    out = tmp_path / "clean.ome.zarr"
    assert main(["reconstruct", *clean, "-o", str(out), *run]) == 0
    assert mended == pytest.approx(json.loads(capsys.readouterr().out)["residual"], rel=0.02)
    arguments += ["-o", str(tmp_path / "c.ome.zarr")]
    assert main(["reconstruct", *arguments, *run]) == 2
    assert "NaN at scan position" in capsys.readouterr().err


def test_plan_file_and_options(capsys, simulated, tmp_path):
    (tmp_path / "plan.toml").write_text(
        'method = "gradient"\n[gradient]\niterations = 3\n[object]\nthickness_A = 4.8\n'
    )
    out = tmp_path / "out.ome.zarr"
    summary = _run_json(
        capsys, "reconstruct", simulated, "-o", out, "--plan", tmp_path / "plan.toml",
        "--iterations", 4,
    )  # fmt: skip
    assert summary["total"] == 4  # the option wins over the file
    assert read_reconstruction(out)[0].data.shape[0] == 3


def test_evaluate_as_a_table_and_with_other_data(
    capsys, simulated, hdf5, calibration, patterns, tmp_path
):
    out = tmp_path / "out.ome.zarr"
    _run_json(capsys, "reconstruct", simulated, "-o", out, "--method", "gradient")
    assert main(["evaluate", str(out), str(out), "--truth", str(simulated)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].split()[:3] == ["path", "method", "psnr"]
    # the residual is measured against the data that are given
    np.save(tmp_path / "other.npy", patterns[::-1])
    own, other = (
        _run_json(
            capsys, "evaluate", out, "--truth", simulated, "--data", data, "--calibration",
            calibration,
        )[0]["residual"]
        for data in (hdf5, tmp_path / "other.npy")
    )  # fmt: skip
    assert 0 < own < 0.5 * other


def test_info_says_what_is_there_and_what_is_missing(capsys, hdf5, calibration):
    known = _run_json(capsys, "info", hdf5, "--calibration", calibration)
    assert known["shape"] == [8, 9, 32, 32]
    assert known["calibration"]["defocus_A"] == {"value": 20.0, "unit": "A", "source": "user"}
    assert known["missing"] == known["problems"] == []
    partly = _run_json(capsys, "info", hdf5)
    assert set(partly["missing"]) == {
        "beam_energy_keV", "convergence_semiangle_mrad", "scan_step_A", "detector_step_invA",
    }  # fmt: skip
    assert len(partly["problems"]) == 1
    assert main(["info", hdf5]) == 0
    assert "8 x 9 scan positions" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["gradient", "mep"])
def test_ctrl_c_keeps_the_result(capsys, simulated, make_prior, tmp_path, monkeypatch, method):
    from napari_mep.reconstruction import engine

    original, count = engine.solve_gradient, []

    def interrupted(problem, plan):
        for step in original(problem, plan):
            count.append(step.index)
            if step.index == 2:
                os.kill(os.getpid(), signal.SIGINT)
            yield step

    monkeypatch.setattr(engine, "solve_gradient", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    out = tmp_path / "out.ome.zarr"
    prior = ("--prior", make_prior()) if method == "mep" else ()
    summary = _run_json(capsys, "reconstruct", simulated, "-o", out, "--method", method, *prior)
    assert signal.getsignal(signal.SIGINT) is handler
    assert summary["steps"] == 3
    assert summary["total"] > 3
    assert len(count) == 3
    _, record = read_reconstruction(out)
    assert (record["step"], record["total"]) == (3, summary["total"])


def test_ctrl_c_in_a_later_sample_keeps_the_whole_ones(
    capsys, simulated, make_prior, tmp_path, monkeypatch
):
    from napari_mep.reconstruction import engine

    original, runs = engine.sample_posterior, []

    def interrupted(*arguments):
        runs.append(1)
        for step in original(*arguments):
            if len(runs) == 3 and step.index == 1:
                os.kill(os.getpid(), signal.SIGINT)
            yield step

    monkeypatch.setattr(engine, "sample_posterior", interrupted)
    summary = _run_json(
        capsys, "reconstruct", simulated, "-o", tmp_path / "out.ome.zarr", "--prior", make_prior(),
        "--steps", 4, "--samples", 9,
    )  # fmt: skip
    assert len(runs) == 3
    assert summary["steps"] < summary["total"]
    assert summary["spread"] is None  # of two samples it would mean little
    assert read_reconstruction(summary["path"])[1]["samples"] == 2


def test_a_library_is_built_and_a_prior_trained_on_it(capsys, tmp_path, monkeypatch, simulated):
    from pymatgen.core import Lattice, Structure

    monkeypatch.setitem(PRESETS, "tiny", SMALL)
    sites = [[0.5, 0.5, 0.5], [0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    cif = Structure(Lattice.cubic(4.1), ["Ba", "Sn", "O", "O", "O"], sites).to(fmt="cif")
    quoted = cif.replace('"', '""')
    (tmp_path / "table.csv").write_text(f'id,cif\n0,"{quoted}"\n')
    library, run = tmp_path / "library.npz", tmp_path / "run"
    build = ["crystals", "build", tmp_path / "table.csv", "-o", library, "--tilted"]
    built = _run_json(capsys, *build)
    assert (built["read"], built["kept"], built["refused"]) == (1, 1, [])
    assert (built["crystals"], built["atoms"], built["path"]) == (2, 45, str(library))
    _fails(capsys, "exists", "crystals", "build", tmp_path / "table.csv", "-o", library)

    arguments = ["train", str(library), "-o", str(run), "--batch", "1", "--device", "cpu"]
    assert main([*arguments, "--volumes", "2"]) == 0
    assert "after 2 volumes" in capsys.readouterr().out
    _fails(capsys, "holds a run; give --resume", *arguments, "--volumes", "3")
    assert main([*arguments, "--volumes", "3", "--resume"]) == 0
    assert "after 3 volumes" in capsys.readouterr().out
    summary = _run_json(
        capsys, "reconstruct", simulated, "-o", tmp_path / "out.ome.zarr",
        "--prior", run / "prior.safetensors", "--steps", 2,
    )  # fmt: skip
    assert summary["method"] == "mep"


# --- what people get wrong ------------------------------------------------------------------------


def _reconstruct_fails(capsys, match: str, data: Any, out: Path, *options: Any) -> None:
    existed = out.exists()
    _fails(capsys, match, "reconstruct", data, "-o", out, "--method", "gradient", *options)
    assert out.exists() == existed
    assert not list(out.parent.glob(f".{out.name}*"))  # nothing half-written


def test_missing_data(capsys, tmp_path, calibration):
    out = tmp_path / "out.ome.zarr"
    _reconstruct_fails(capsys, "no such file", tmp_path / "none.h5", out)
    _fails(capsys, "no such file", "info", tmp_path / "none.zarr")
    (tmp_path / "x.dm9").touch()
    _reconstruct_fails(capsys, "format not recognised", tmp_path / "x.dm9", out)


def _with(patterns: np.ndarray, value: float) -> np.ndarray:
    changed = patterns.copy()
    changed[3, 4, 5, 6] = value
    return changed


@pytest.mark.parametrize(
    ("change", "options", "match"),
    [
        (lambda p: p[0], (), "3 axes .* expected 4"),
        (lambda p: p[0, 0], (), "2 axes"),
        (lambda p: _with(p, np.nan), (), r"NaN at scan position \(y=3, x=4\)"),
        (lambda p: _with(p, np.inf), (), "infinite counts"),
        (lambda p: _with(p, -1), (), r"negative counts at scan position \(y=3, x=4\)"),
        (lambda p: 0 * p, (), "all counts are zero"),
        (lambda p: p.astype(complex), (), "complex"),
        (lambda p: p.reshape(72, 32, 32), ("--scan-shape", "7x9"), "7 x 9 = 63 .* 72 patterns"),
        (lambda p: p, ("--scan-shape", "9x8"), "scan shape 9 x 8 does not fit"),
    ],
)
def test_data_that_are_none(capsys, tmp_path, patterns, calibration, change, options, match):
    np.save(tmp_path / "scan.npy", change(patterns))
    _reconstruct_fails(
        capsys, match, tmp_path / "scan.npy", tmp_path / "out.ome.zarr",
        "--calibration", calibration, *options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"beam_energy_keV": None}, "beam_energy_keV"),
        ({"scan_step_A": None, "detector_step_invA": None}, "scan_step_A.*detector_step_invA"),
        ({"beam_energy_keV": 300e3}, "300000 keV: looks like eV, give 300"),
        ({"convergence_semiangle_mrad": 0.0214}, "looks like rad, give 21.4"),
        ({"scan_step_A": 0}, "scan_step_A = 0 A: must be positive"),
        ({"detector_step_invA": 0.05}, "short of the bright-field disk"),
        ({"defocus_A": '"far"'}, "defocus_A = 'far': must be a number in A"),
        ({"defocus": 20}, "defocus"),
        ({"specimen_thickness_A": None}, "specimen_thickness_A: not known"),
    ],
)
def test_calibration_that_is_missing_or_impossible(capsys, tmp_path, hdf5, changes, match):
    toml = _toml(tmp_path / "bad.toml", **changes)
    _reconstruct_fails(capsys, match, hdf5, tmp_path / "out.ome.zarr", "--calibration", toml)


def test_calibration_files_that_are_none(capsys, tmp_path, hdf5):
    out = tmp_path / "out.ome.zarr"
    _reconstruct_fails(capsys, "no such file", hdf5, out, "--calibration", tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("beam_energy_keV = \n[")
    _reconstruct_fails(
        capsys, "not readable as TOML", hdf5, out, "--calibration", tmp_path / "bad.toml"
    )
    _reconstruct_fails(capsys, "beam_energy_keV", hdf5, out)  # no calibration at all


def test_unknown_keys_in_a_plan(capsys, tmp_path, simulated):
    (tmp_path / "plan.toml").write_text("[guidance]\nstrenght = 2.0\n")
    _reconstruct_fails(
        capsys, r"unknown key 'guidance\.strenght'", simulated, tmp_path / "out.ome.zarr",
        "--plan", tmp_path / "plan.toml",
    )  # fmt: skip


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.6])
def test_truncated_hdf5(capsys, tmp_path, hdf5, calibration, keep):
    path = tmp_path / "scan.h5"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    _reconstruct_fails(
        capsys, "not a whole HDF5 file|damaged|truncated", hdf5, tmp_path / "out.ome.zarr",
        "--calibration", calibration,
    )  # fmt: skip


def test_wrong_path_in_an_hdf5_file(capsys, tmp_path, hdf5, calibration):
    out = tmp_path / "out.ome.zarr"
    options = ("--calibration", calibration)
    _reconstruct_fails(
        capsys, r"no dataset '/data'; it holds .*/entry/instrument/patterns",
        f"{tmp_path / 'scan.h5'}::/data", out, *options,
    )  # fmt: skip


@pytest.mark.parametrize("damage", ["metadata", "chunk", "chunks"])
def test_truncated_zarr(capsys, tmp_path, simulated, damage):
    path = tmp_path / "copy.zarr"
    shutil.copytree(simulated, path)
    chunks = [p for p in (path / "patterns").rglob("*") if p.is_file() and p.name != "zarr.json"]
    assert chunks
    if damage == "metadata":
        text = (path / "zarr.json").read_text()
        (path / "zarr.json").write_text(text[: len(text) // 2])
    elif damage == "chunk":
        chunks[0].write_bytes(chunks[0].read_bytes()[:20])
    else:
        for chunk in chunks:
            chunk.unlink()
    match = "copy.zarr|truncated or corrupted"
    _reconstruct_fails(capsys, match, path, tmp_path / "out.ome.zarr")


def test_a_zarr_of_another_kind(capsys, tmp_path):
    zarr.create_array(tmp_path / "other.zarr", shape=(3, 3), dtype="f4")
    _reconstruct_fails(capsys, "other.zarr", tmp_path / "other.zarr", tmp_path / "out.ome.zarr")


def test_weights_that_cannot_be_used(capsys, tmp_path, simulated, make_prior):
    def fails(match: str, prior: Any, *options: Any) -> None:
        out = tmp_path / "out.ome.zarr"
        _fails(capsys, match, "reconstruct", simulated, "-o", out, "--prior", prior, *options)
        assert not out.exists()

    fails("no such weights file", tmp_path / "none.safetensors")
    fails("'nonesuch': not shipped", "nonesuch")
    other = Path(make_prior((1.6, 0.6, 0.6)))
    fails(r"pixel_size_A = 0\.6 A", other)
    path = Path(make_prior())
    (tmp_path / "plan.toml").write_text("[object]\nslice_thickness_A = 4.0\n")
    fails(r"voxels of 1\.6 A", path, "--plan", tmp_path / "plan.toml")
    path.write_bytes(path.read_bytes()[:-4])
    fails("corrupted", path)
    path.with_suffix(".json").unlink()
    fails("card white.json is missing", path)


def test_outputs_that_must_not_or_cannot_be_written(capsys, tmp_path, simulated):
    (tmp_path / "out.ome.zarr").mkdir()
    (tmp_path / "out.ome.zarr" / "thesis.txt").write_text("precious")
    _reconstruct_fails(capsys, "no Zarr store", simulated, tmp_path / "out.ome.zarr")
    _reconstruct_fails(capsys, "no Zarr store", simulated, tmp_path / "out.ome.zarr", "--overwrite")
    assert (tmp_path / "out.ome.zarr" / "thesis.txt").read_text() == "precious"
    (tmp_path / "file").touch()
    _reconstruct_fails(capsys, "is a file, not a folder", simulated, tmp_path / "file" / "o.zarr")
    zarr.open_group(tmp_path / "old.ome.zarr", mode="w")
    _reconstruct_fails(capsys, "exists already", simulated, tmp_path / "old.ome.zarr")
    # found out before the work, also for the second file of a run with several samples
    zarr.open_group(tmp_path / "k-spread.ome.zarr", mode="w")
    _reconstruct_fails(
        capsys, "k-spread.ome.zarr: exists", simulated, tmp_path / "k.ome.zarr", "--method", "mep",
    )  # fmt: skip
    _fails(capsys, "exists already", "simulate", "srtio3", "-o", tmp_path / "old.ome.zarr")


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_outputs_that_are_inputs(capsys, tmp_path, monkeypatch, simulated, patterns, calibration):
    """Measured data cannot be measured again: not even --overwrite replaces them."""
    monkeypatch.chdir(tmp_path)
    np.save("scan.npy", patterns)
    np.save("cal-bad-pixels.npy", patterns)
    np.save("dark.npy", np.zeros((32, 32)))
    store = shutil.copytree(simulated, tmp_path / "store.zarr")
    Path("link.toml").symlink_to("scan.npy")
    Path("dark.toml").write_text(
        Path(calibration).read_text() + "[preprocessing]\nbackground_file = 'dark.npy'\n"
    )
    Path("dark-bad-pixels.npy").hardlink_to("dark.npy")
    before = _contents(tmp_path)
    info = ["info", "scan.npy", "--fix", "--overwrite"]
    known = ["--calibration", calibration]
    for options in (
        [*info, *known, "-o", "scan.npy"],
        [*info, *known, "-o", "link.toml"],
        [*info, *known, "-o", "out.toml", "--picture", "scan.npy"],
        [*info, *known, "-o", "out.toml", "--picture", calibration],
        ["info", "cal-bad-pixels.npy", "--fix", "--overwrite", *known, "-o", "cal.toml"],
        [*info, *known, "--vacuum", "cal-bad-pixels.npy", "-o", "cal.toml"],
        [*info, "--calibration", "dark.toml", "-o", "dark.toml"],
        ["info", store, "--fix", "-o", store / "cal.toml"],
        ["info", store, "--fix", "--picture", store / "patterns" / "proof.png"],
        ["reconstruct", store, "-o", store, "--overwrite"],
        ["reconstruct", store, "-o", store / "out.ome.zarr"],
        ["reconstruct", "scan.npy", *known, "-o", "scan.npy", "--overwrite"],
        ["reconstruct", "scan.npy", *known, "-o", tmp_path, "--overwrite"],
        ["reconstruct", f"{store}::/patterns", *known, "-o", "./store.zarr", "--overwrite"],
    ):
        _fails(capsys, r"output \S+: would replace or change \S+, which is read", *options)
        assert _contents(tmp_path) == before, options
    _fails(capsys, "must be named .toml", *info, *known, "-o", "out.npy")
    _fails(capsys, "would replace", *info, *known, "-o", ".")
    _fails(capsys, "no name", "reconstruct", "scan.npy", *known, "-o", ".", "--overwrite")
    Path("new-bad-pixels.npy").touch()
    _fails(capsys, "new-bad-pixels.npy: exists", *info[:-1], *known, "-o", "new.toml")


def test_the_measurement_of_a_parameter_file_is_an_input_too(capsys, tmp_path, simulated):
    store = shutil.copytree(simulated, tmp_path / "store.zarr")
    params = tmp_path / "params.yaml"
    params.write_text("init_params:\n  meas_params: {path: store.zarr, key: patterns}\n")
    _fails(
        capsys, "would replace or change .*store.zarr", "reconstruct", params, "-o", store,
        "--overwrite",
    )  # fmt: skip


def test_places_where_nothing_can_be_written_are_found_out_first(
    capsys, tmp_path, hdf5, calibration
):
    (tmp_path / "proof.png").touch()
    (tmp_path / "folder.png").mkdir()
    for option, name, words in (
        ("--picture", "proof.nonsense", "use .png, .pdf, .svg"),
        ("--picture", "none/proof.png", "no folder .*none"),
        ("--picture", "proof.png", "exists"),
        ("--picture", "folder.png", "is a folder"),
        ("-o", "none/cal.toml", "no folder .*none"),
    ):
        arguments = ["info", hdf5, "--fix", "--calibration", calibration, option, tmp_path / name]
        _fails(capsys, words, *arguments)
    assert not (tmp_path / "none").exists()


def test_what_a_parameter_file_asks_for_in_vain_is_told_with_a_plan_too(capsys, tmp_path, patterns):
    np.save(tmp_path / "scan.npy", patterns)
    (tmp_path / "params.yaml").write_text(
        "init_params:\n  probe_kv: 300\n  probe_conv_angle: 21.4\n  meas_Npix: 32\n"
        "  pos_N_scan_slow: 8\n  pos_N_scan_fast: 9\n  pos_scan_step_size: 0.4\n"
        "  probe_pmode_max: 6\n  obj_Nlayer: 2\n  obj_slice_thickness: 1.6\n"
        "  meas_calibration: {mode: dk, value: 0.15625}\n  meas_params: {path: scan.npy}\n"
    )
    (tmp_path / "plan.toml").write_text('method = "gradient"\n[gradient]\niterations = 2\n')
    for options in ([], ["--plan", tmp_path / "plan.toml"]):
        arguments = ["reconstruct", tmp_path / "params.yaml", "-o", tmp_path / "o.ome.zarr"]
        arguments += ["--overwrite", "--iterations", 2, *options]
        assert main([str(a) for a in arguments]) == 0
        told = capsys.readouterr().err
        assert told.count("init_params.probe_pmode_max = 6: mixed probe modes") == 1


def test_a_reader_that_goes_away(hdf5):
    """As in ``napari-mep info ... | head -1``: no traceback."""
    code = "import sys; from napari_mep.cli import main; sys.exit(main(sys.argv[1:]))"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", code, "info", hdf5], stdout=writing, stderr=subprocess.PIPE
    )
    os.close(writing)
    assert done.stderr == b""
    assert done.returncode == 141


@pytest.mark.parametrize(
    ("error", "match"),
    [
        (PermissionError(13, "Permission denied", "/x"), "/x: Permission denied"),
        (OSError(28, "No space left on device"), "No space left"),
        (MemoryError("Unable to allocate 74.5 GiB"), "out of memory .*74.5 GiB"),
    ],
)
def test_the_last_line_of_defence(capsys, hdf5, monkeypatch, error, match):
    def fail(*_):
        raise error

    monkeypatch.setattr("napari_mep.data.info.describe", fail)
    _fails(capsys, match, "info", hdf5)
    monkeypatch.setattr("napari_mep.data.info.describe", lambda *_: {}["a mistake of ours"])
    with pytest.raises(KeyError):
        main(["info", hdf5])


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "cpu:3"])
def test_devices_that_are_not_there(capsys, tmp_path, simulated, device):
    _reconstruct_fails(
        capsys, f"device '{device}'", simulated, tmp_path / "out.ome.zarr", "--device", device
    )


@pytest.mark.parametrize(
    ("error", "match"),
    [
        (torch.OutOfMemoryError("out\nof memory"), "failed on cpu: out$"),
        (RuntimeError("kernel\nfailed"), "failed on cpu: kernel$"),
    ],
)
def test_failures_on_the_way(capsys, tmp_path, simulated, monkeypatch, error, match):
    def fail(problem, plan):
        raise error
        yield

    monkeypatch.setattr("napari_mep.reconstruction.engine.solve_gradient", fail)
    _reconstruct_fails(capsys, match, simulated, tmp_path / "out.ome.zarr", "--device", "cpu")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ("", "required: COMMAND"),
        ("reconstrukt", "invalid choice"),
        ("reconstruct DATA", "required: -o"),
        ("reconstruct DATA -o OUT --steps many", "invalid int value"),
        ("reconstruct DATA -o OUT --steps 1", "steps = 1"),
        ("reconstruct DATA -o OUT --seed -1", "seed = -1"),
        ("reconstruct DATA -o OUT --samples 0", "at least 1"),
        ("reconstruct DATA -o OUT --scan-shape 26", "expected YxX"),
        ("reconstruct DATA -o OUT --scan-shape 0x3", "at least 1"),
        ("reconstruct DATA -o OUT --method lsq", "invalid choice"),
        ("reconstruct DATA -o OUT --thickness -3", "thickness_A"),
        ("reconstruct DATA -o OUT --thickness nan", "thickness_A"),
        ("reconstruct DATA -o OUT --plan NONE.toml", "no such file"),
        ("info DATA --fix --lattice nan", "positive and finite, in A"),
        ("info DATA --fix --lattice 3.9,inf", "positive and finite, in A"),
        ("info DATA --fix --lattice 3.9,-1", "positive and finite, in A"),
        ("info DATA --fix --counts-per-electron nan", "'nan': must be a positive number"),
        ("info DATA --fix --counts-per-electron 0", "'0': must be a positive number"),
        ("info DATA --fix --counts-per-electron many", "'many': must be a positive number"),
        ("info DATA --counts-per-electron 3", "--counts-per-electron goes with --fix"),
        ("simulate nonsense -o OUT", "neither a CIF file nor a built-in sample"),
        ("simulate srtio3 -o OUT --energy 300000", "looks like eV"),
        ("simulate srtio3 -o OUT --zone-axis 0,0,0", "zone axis"),
        ("simulate srtio3 -o OUT --seed -1", "at least 0"),
        ("evaluate NONE.ome.zarr --truth NONE.zarr", "no such file"),
        ("crystals build NONE.csv -o OUT", "NONE.csv: no such file or folder"),
        ("crystals build . -o OUT", "holds no CIF file"),
        ("crystals build builtin -o OUT --random -1", "at least 0"),
        ("train NONE.npz -o OUT", "no such file"),
        ("train NONE.npz -o OUT --batch 0", "at least 1"),
        ("train NONE.npz -o OUT --device cuda:99", "not there"),
    ],
)
def test_arguments_that_make_no_sense(capsys, tmp_path, monkeypatch, arguments, match):
    monkeypatch.chdir(tmp_path)
    _fails(capsys, match, *arguments.split())
    assert list(tmp_path.iterdir()) == []


def test_evaluate_refuses_what_is_no_volume(capsys, tmp_path, simulated, hdf5):
    _fails(capsys, "scan.h5", "evaluate", tmp_path / "scan.h5", "--truth", simulated)
    _fails(capsys, "scan.h5", "evaluate", simulated, "--truth", tmp_path / "scan.h5")


@pytest.mark.parametrize(
    "command",
    ["", "simulate", "info", "reconstruct", "evaluate", "crystals", "train", "demo"],
)
def test_every_command_has_help_with_units(capsys, command):
    with pytest.raises(SystemExit) as info:
        main([*command.split(), "--help"])
    assert info.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: napari-mep")
    if command == "simulate":
        assert all(unit in text for unit in ("keV", "mrad", "e/A^2", "1/A"))
