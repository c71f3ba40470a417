"""Views of a library, simulated and solved: what a prior that sees solutions learns from."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from napari_mep.cli import main
from napari_mep.crystals.library import CrystalLibrary
from napari_mep.crystals.samples import sample
from napari_mep.reconstruction.solve_views import _miscalibrated, drawn_experiment, solve_view
from napari_mep.training.settings import TrainingSettings
from napari_mep.training.solved import view_path


@pytest.fixture
def thin() -> TrainingSettings:
    """Two slices, without an edge that would leave a view empty."""
    return TrainingSettings(tile_shape=(2, 64, 64), surface_share=0.0, amorphous_share=0.0)


def test_experiments_vary_about_those_of_the_paper(thin):
    drawn = [drawn_experiment(np.random.default_rng(n), thin) for n in range(200)]
    usual = [e for e in drawn if (e.semiangle_mrad, e.defocus_A) == (21.4, -200.0)]
    assert 90 < len(usual) < 150
    others = [e for e in drawn if e not in usual]
    assert {np.sign(e.defocus_A) for e in others} == {-1.0, 1.0}
    assert {e.n_slices for e in drawn} == {2, 4}
    assert all(e.detector_pixels * e.detector_step_invA == pytest.approx(5.0) for e in drawn)
    wide = replace(thin, voxel_size_A=(1.6, 0.25, 0.25))
    assert drawn_experiment(np.random.default_rng(0), wide).detector_step_invA == 1 / 16


def test_calibrations_are_wrong_by_what_a_good_one_leaves(make_dataset):
    dataset, rng = make_dataset((2, 2)), np.random.default_rng(0)
    told = [_miscalibrated(dataset, rng).calibration for _ in range(300)]
    for name, width in (("defocus_A", 3.0), ("convergence_semiangle_mrad", 0.1)):
        errors = [getattr(t, name) - getattr(dataset.calibration, name) for t in told]
        assert np.mean(errors) == pytest.approx(0.0, abs=0.2 * width)
        assert np.std(errors) == pytest.approx(width, rel=0.15)


def test_the_command_keeps_solutions_that_resemble_their_crystals(thin, tmp_path, capsys):
    library = CrystalLibrary.from_crystals([sample("srtio3").crystal], {"test": "one"})
    library.save(tmp_path / "library.npz")
    (tmp_path / "settings.json").write_text(json.dumps(thin.to_dict()))
    out = tmp_path / "solved"
    command = ["solve", str(tmp_path / "library.npz"), "-o", str(out), "--device", "cpu"]
    command += ["--settings", str(tmp_path / "settings.json"), "--views", "1"]
    assert main(command) == 0
    assert "1 views solved, 0 were there of 1" in capsys.readouterr().out
    with np.load(view_path(out, 0)) as archive:
        specimen, estimate = archive["specimen"], archive["estimate"]
    assert specimen.shape == estimate.shape
    middle = (slice(None), *(slice(n // 2 - 12, n // 2 + 12) for n in specimen.shape[1:]))
    sums = [v[middle].astype(float).sum(0).ravel() for v in (specimen, estimate)]
    assert np.corrcoef(sums)[0, 1] > 0.95

    again = solve_view(library, thin, 0)
    assert np.array_equal(again[0].astype(np.float16), specimen)
    assert np.array_equal(again[1].astype(np.float16), estimate)
    assert main(command) == 0
    assert "0 views solved, 1 were there of 1" in capsys.readouterr().out
    assert [path.name for path in out.iterdir()] == ["view-000000.npz"]


def test_bad_input_ends_in_one_line(tmp_path, capsys):
    library = tmp_path / "library.npz"
    CrystalLibrary.from_crystals([sample("srtio3").crystal], {}).save(library)
    for arguments, said in (
        ([str(tmp_path / "none.npz"), "-o", str(tmp_path / "a")], "none.npz"),
        ([str(library), "-o", str(library)], "is a file; name a folder"),
        ([str(library), "-o", str(tmp_path / "a"), "--settings", str(library)], "not readable"),
    ):
        assert main(["solve", *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
