"""``napari-mep reconstruct``: options that a method does not use, names of outputs, how it ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from napari_mep.cli import main
from napari_mep.data.native import write_dataset
from napari_mep.export.ome_zarr import read_reconstruction
from napari_mep.reconstruction import engine


@pytest.fixture
def scan(tmp_path, make_dataset) -> Path:
    return write_dataset(tmp_path / "scan.zarr", make_dataset((3, 3)))


def refused(capsys, *arguments: object) -> str:
    """The one line that a command ends with."""
    assert main([str(argument) for argument in arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    return line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--method gradient --preset tuned", "--preset tuned: method gradient does not use it"),
        ("--method ptyrad-adam --prior crystals", "--prior crystals: method ptyrad-adam does not"),
        ("--method gradient --steps 4", "--steps 4: method gradient does not use it"),
        ("--method lsq-ml --samples 2", "--samples 2: method lsq-ml does not use it"),
        ("--method mep --preset paper", "--preset paper: method mep does not use it"),
        ("--start noise --iterations 4", "--iterations 4: method mep from noise does not use it"),
    ],
)
def test_options_that_the_method_does_not_use_are_refused(capsys, tmp_path, scan, options, said):
    out = tmp_path / "out.ome.zarr"
    assert said in refused(capsys, "reconstruct", scan, "-o", out, *options.split())
    assert not out.exists()


def test_settings_of_a_plan_file_that_the_method_does_not_use_are_told(capsys, tmp_path, scan):
    """One plan may serve several methods, so this is no mistake."""
    plan, out = tmp_path / "plan.toml", tmp_path / "out.ome.zarr"
    plan.write_text('steps = 6\n[gradient]\niterations = 1\n[baseline]\npreset = "tuned"\n')
    arguments = ["reconstruct", scan, "-o", out, "--plan", plan, "--method", "gradient"]
    assert main([str(argument) for argument in arguments]) == 0
    said = f"plan file {plan}: method gradient does not use baseline, steps\n"
    assert capsys.readouterr().err == said
    assert not {"baseline", "steps"} & set(read_reconstruction(out)[1]["plan"])


@pytest.mark.parametrize("name", ["x.tif", "x.h5", "x"])
def test_an_output_named_as_another_kind_of_file_is_refused(capsys, tmp_path, scan, name):
    line = refused(capsys, "reconstruct", scan, "-o", tmp_path / name, "--method", "gradient")
    assert f"{name}: an OME-Zarr image is written; name it {tmp_path / 'x.ome.zarr'}" in line
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_end_keeps_the_result(capsys, tmp_path, scan, monkeypatch, number):
    original = engine.solve_gradient

    def ended(problem, plan):
        for step in original(problem, plan):
            if step.index == 2:
                os.kill(os.getpid(), number)
            yield step

    monkeypatch.setattr(engine, "solve_gradient", ended)
    handler, out = signal.getsignal(number), tmp_path / "out.ome.zarr"
    assert main(["reconstruct", str(scan), "-o", str(out), "--method", "gradient"]) == 0
    assert signal.getsignal(number) is handler
    assert "3 of 24 steps" in capsys.readouterr().out
    assert read_reconstruction(out)[1]["step"] == 3
