"""The command from end to end, on real simulations and reconstructions."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zarr

from napari_mep.benchmark.run import run_tasks
from napari_mep.cli import main

SMALL = (
    *("--scan", "8x9", "--scan-step", "0.4", "--detector-pixels", "32"),
    *("--detector-step", "0.15625", "--thickness", "3.2", "--defocus", "20"),
    *("--spherical-aberration", "0", "--device", "cpu"),
)
RUN_MAIN = "from napari_mep.cli import main; main()"
METHODS = ("--methods", "gradient,mep", "--steps", "2")


@pytest.fixture
def arguments(crystals, white_priors, tmp_path) -> list[str]:
    plan = tmp_path / "plan.toml"
    plan.write_text("samples = 1\n[gradient]\niterations = 2\n")
    return [
        "benchmark",
        *("--crystals", str(crystals), "--prior", white_priors[0], "--plan", str(plan)),
        *("-o", str(tmp_path / "out"), *METHODS, *SMALL),
    ]


def _lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_crystals_two_methods_and_a_broken_file(arguments, tmp_path, capsys, monkeypatch):
    arguments += ["--doses", "1e5"]
    out = tmp_path / "out"
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [line for line in shown.err.splitlines() if "broken" in line]
    assert len(shown.err.splitlines()) == 1
    assert "| 1e5 | gradient | 2 |" in shown.out
    assert "| 1e5 | mep | 2 |" in shown.out
    page = (out / "benchmark.md").read_text(encoding="utf-8")
    assert shown.out.split("\nwrote ")[0].strip() in page
    rows = _lines(out)
    assert {(r["crystal"], r["label"]) for r in rows} == {
        (name, label) for name in ("MgO", "cubic/KTaO3") for label in ("gradient", "mep")
    }
    for row in rows:
        assert (0.3 if row["label"] == "gradient" else 0) < row["ssim"] < 1
        assert row["residual_floor"] > 0
        assert row["seconds"] > 0
        assert row["machine"]["threads"] >= 1
    assert (out / "benchmark.png").stat().st_size > 10_000

    # Everything is there: the table again, and nothing is simulated or reconstructed.
    shutil.rmtree(out / "simulations")
    written = (out / "results.jsonl").read_bytes()
    assert main([*arguments, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["asked"] == len(values["results"]) == 4
    assert values["failures"][0]["crystal"] == "broken"
    assert (out / "results.jsonl").read_bytes() == written
    assert not (out / "simulations").exists()
    assert (out / "benchmark.md").read_text(encoding="utf-8") == page

    # From what was kept another folder goes on: nothing is computed there either.
    elsewhere = ["--merge", str(out / "benchmark.json"), "-o", str(tmp_path / "elsewhere")]
    monkeypatch.setattr("sys.argv", ["napari-mep", *arguments, *elsewhere, "--json"])
    assert main([*arguments, *elsewhere, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"] == values["results"]
    assert not (tmp_path / "elsewhere" / "simulations").exists()
    # The page names the command that computes it from nothing.
    text = (tmp_path / "elsewhere" / "benchmark.md").read_text(encoding="utf-8")
    assert f"    {shlex.join(['napari-mep', *arguments, *elsewhere[2:]])}\n" in text

    # Another number of steps is another case; the gradient's results stand.
    arguments[arguments.index("--steps") + 1] = "3"
    assert main([*arguments, *elsewhere, "--reprint", "--json"]) == 0
    shown = capsys.readouterr()
    assert "--merge: 2 of 4 results are kept but not reported; they are of other" in shown.err
    values = json.loads(shown.out)
    assert values["asked"] == 4
    assert {r["label"] for r in values["results"]} == {"gradient"}

    # What fails for one method fails in a line, and a later run tries again.
    monkeypatch.setattr("napari_mep.benchmark.run.solve", _no_memory)
    assert main([*arguments, "--limit", "1"]) == 0
    shown = capsys.readouterr()
    assert shown.err == "napari-mep: MgO c 1e5 e/A^2 mep: unexpected MemoryError: all is full\n"
    assert "- MgO c 1e5 e/A^2 mep: unexpected MemoryError: all is full" in shown.out
    assert (out / "results.jsonl").read_bytes() == written


def _no_memory(*arguments, stop):
    raise MemoryError("all is\nfull")


@pytest.mark.slow
def test_a_killed_run_is_resumed(arguments, tmp_path, capsys):
    """Two workers; when the run dies, neither they nor half a line are left behind."""
    arguments += ["--doses", "1e5"]
    endless = [*arguments, "--steps", "2,5000", "--workers", "2"]
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", RUN_MAIN, *endless],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    end = time.monotonic() + 120
    while not (out / "results.jsonl").exists() or not (out / "results.jsonl").stat().st_size:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    # Ends when the last process that could write there has ended: the workers do not live on.
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    before = (out / "results.jsonl").read_text().splitlines()
    assert main(arguments) == 0  # two steps only, the gradient beside them
    assert (out / "results.jsonl").read_text().splitlines()[: len(before)] == before
    rows = _lines(out)
    assert len(rows) == len({row["key"] for row in rows}) == 4
    assert rows[0]["machine"]["processes"] == 2
    assert "missing" not in capsys.readouterr().out


def test_ctrl_c_keeps_what_is_done(arguments, tmp_path, capsys, monkeypatch):
    """As a user does it: the signal comes while the second case is under way."""

    def interrupted(tasks, records, cache, backend, *, stop, progress):
        def look(done, total, remark):
            progress(done, total, remark)
            if "SSIM" in remark:
                os.kill(os.getpid(), signal.SIGINT)

        return run_tasks(tasks, records, cache, backend, stop=stop, progress=look)

    monkeypatch.setattr("napari_mep.benchmark.run.run_tasks", interrupted)
    arguments += ["--doses", "1e5", "--crystals", "MgO"]
    assert main(arguments) == 130
    shown = capsys.readouterr()
    assert shown.err == "napari-mep: interrupted\n"
    assert "1 of 2 results are missing; the same command continues" in shown.out
    assert len(_lines(tmp_path / "out")) == 1
    assert (tmp_path / "out" / "benchmark.md").exists()


def _fails(capsys, match: str, *arguments: str) -> None:
    try:
        code = main(list(arguments))
    except SystemExit as exit_:
        code = exit_.code
    shown = capsys.readouterr()
    assert code == 2
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1, shown.err
    assert match in shown.err


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--methods", "magic"], "method 'magic': unknown"),
        (["--methods", "mep,,gradient"], "expected names with commas"),
        (["--methods", "gradient:tuned"], "gradient has no presets"),
        (["--methods", "gradient", "--steps", "4,8"], "steps 4, 8: only method mep uses it"),
        (["--methods", "mep", "--prior", "nobody"], "prior 'nobody': not shipped"),
        (["--methods", "gradient", "--device", "cuda:99"], "device 'cuda:99'"),
        (["--doses", "1e5,much"], "expected e/A^2"),
        (["--doses", "1e5,0"], "doses must be positive"),
        (["--zone-axes", "a,d"], "zone axis 'd'"),
        (["--crystals", "nowhere"], "crystal 'nowhere'"),
        (["--thickness", "-3"], "thickness_A = -3.0 A"),
        (["--methods", "gradient", "--reprint"], "no result; run without --reprint"),
    ],
)
def test_mistakes_are_told_in_a_line_before_anything_is_computed(options, match, tmp_path, capsys):
    out = tmp_path / "out"
    _fails(capsys, match, "benchmark", "--crystals", "MgO", "-o", str(out), *options)
    assert not out.exists()


@pytest.mark.parametrize("name", ["scan.zarr", "scan.zarr/deeper"])
def test_results_are_not_put_into_a_scan(name, tmp_path, capsys):
    zarr.open_group(tmp_path / "scan.zarr", mode="w")
    before = sorted(tmp_path.rglob("*"))
    options = ("--methods", "gradient", "-o", str(tmp_path / name))
    _fails(capsys, "scan.zarr is a Zarr store", "benchmark", "--crystals", "MgO", *options)
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_but_broken_crystals(crystals, tmp_path, capsys):
    code = main(["benchmark", "--crystals", str(crystals / "broken.cif"), "-o", str(tmp_path)])
    lines = capsys.readouterr().err.splitlines()
    assert code == 2
    assert [line.startswith("napari-mep: broken") for line in lines] == [True, False]
    assert "none could be read" in lines[1]


def test_help_has_units(capsys):
    with pytest.raises(SystemExit) as end:
        main(["benchmark", "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "e/A^2" in text
    assert "DIR|CIF|NAME" in text
