"""Views of a library, simulated and solved: what a prior that sees solutions learns from."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_mep.cli import main
from napari_mep.crystals.library import CrystalLibrary
from napari_mep.crystals.render import SliceRenderer
from napari_mep.crystals.samples import sample
from napari_mep.crystals.structure import AtomBox
from napari_mep.data.experiment import Experiment
from napari_mep.data.simulate import simulate_atoms, simulated_size_A
from napari_mep.reconstruction import solve_views
from napari_mep.reconstruction.gradient import solve_gradient
from napari_mep.reconstruction.model_patterns import model_patterns, model_windows
from napari_mep.reconstruction.plan import GradientPlan
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


@pytest.mark.parametrize("windows", [1, 2])
def test_our_model_counts_nearly_what_abtem_does(windows):
    """Where every probe fits its window: the same crystal, places and detector."""
    experiment = Experiment(scan_shape=(3, 4), scan_step_A=0.7, thickness_A=4.8, defocus_A=-60.0)
    atoms = sample("srtio3").box((4.8, *simulated_size_A(experiment)), zone_axis="c", seed=0)
    ours = model_patterns(atoms, experiment, windows)
    theirs = simulate_atoms(atoms, experiment)
    assert ours.calibration == theirs.calibration
    assert ours.truth.origin_A == pytest.approx(theirs.truth.origin_A)
    a, b = ours.truth.data, theirs.truth.data
    assert np.linalg.norm(a - b) < 0.01 * np.linalg.norm(b)
    a, b = (np.sqrt(e.patterns) for e in (ours, theirs))
    missed, by_neighbours = (
        np.linalg.norm(a - other, axis=(2, 3)) for other in (b, np.roll(b, 1, axis=1))
    )
    assert missed.max() < (0.08 if windows == 1 else 0.05)  # amplitudes of one electron
    assert (missed < 0.7 * by_neighbours).all()


def test_wide_probes_get_a_wider_window():
    usual = Experiment()
    assert model_windows(usual) == 1
    assert model_windows(replace(usual, semiangle_mrad=30.0)) == 2
    assert model_windows(replace(usual, defocus_A=-60.0, semiangle_mrad=30.0)) == 1


@pytest.mark.parametrize("simulator", ["abtem", "model"])
def test_the_command_keeps_solutions_that_resemble_their_crystals(
    simulator, thin, tmp_path, capsys
):
    library = CrystalLibrary.from_crystals([sample("srtio3").crystal], {"test": "one"})
    library.save(tmp_path / "library.npz")
    (tmp_path / "settings.json").write_text(json.dumps(thin.to_dict()))
    out = tmp_path / "solved"
    command = ["solve", str(tmp_path / "library.npz"), "-o", str(out), "--device", "cpu"]
    command += ["--settings", str(tmp_path / "settings.json"), "--views", "1"]
    command += ["--simulator", simulator]
    assert main(command) == 0
    assert "1 views solved, 0 were there of 1" in capsys.readouterr().out
    with np.load(view_path(out, 0)) as archive:
        specimen, estimate = archive["specimen"], archive["estimate"]
    assert specimen.shape == estimate.shape
    middle = (slice(None), *(slice(n // 2 - 12, n // 2 + 12) for n in specimen.shape[1:]))
    sums = [v[middle].astype(float).sum(0).ravel() for v in (specimen, estimate)]
    assert np.corrcoef(sums)[0, 1] > 0.95

    again = solve_view(library, thin, 0, simulator=simulator)
    assert np.array_equal(again.specimen.astype(np.float16), specimen)
    assert np.array_equal(again.estimate.astype(np.float16), estimate)
    assert main(command) == 0
    assert "0 views solved, 1 were there of 1" in capsys.readouterr().out
    assert [path.name for path in out.iterdir()] == ["view-000000.npz"]


def test_steps_from_the_depth_sum_end_where_those_from_vacuum_do(thin, monkeypatch):
    library = CrystalLibrary.from_crystals([sample("srtio3").crystal], {"test": "one"})
    settings = replace(thin, tile_shape=(6, 64, 64), quasi_newton_share=1.0)
    calls = []

    def solved(problem, plan, start):
        calls.append((problem, plan, start))
        return solve_gradient(problem, plan, start)

    monkeypatch.setattr(solve_views, "solve_gradient", solved)
    view = solve_view(library, settings, 1, simulator="model")
    specimen, estimate = view.specimen, view.estimate
    problem, plan, start = calls.pop()
    assert problem.resolves_depth
    assert torch.equal(start, start[:1].expand_as(start))  # of depth it tells nothing
    assert start[:, :3, :3].max() < 0.1 * specimen.mean(0).max()  # nor of what is not lit
    whole = GradientPlan().settled(find_depth=True)
    assert plan.iterations <= 0.5 * whole.iterations
    *_, last = solve_gradient(problem, whole)
    (y0, y1), (x0, x1) = problem.grid.scanned_px
    middle = (slice(None), slice(y0, y1), slice(x0, x1))
    from_vacuum = last.canvas.numpy()[middle]
    apart, wrong = (np.linalg.norm(from_vacuum - other[middle]) for other in (estimate, specimen))
    assert apart < 0.15 * wrong


def test_views_of_our_model_have_probes_that_fit_one_window(thin):
    def windows(simulator):
        rngs = (np.random.default_rng(n) for n in range(60))
        return {model_windows(drawn_experiment(rng, thin, simulator)) for rng in rngs}

    assert windows("model") == {1}
    assert windows("abtem") == {1, 2}


def test_atoms_are_those_of_the_specimen(thin):
    library = CrystalLibrary.from_crystals([sample("srtio3").crystal], {"test": "one"})
    view = solve_view(library, thin, 0, doses=(1e4, 1e4), simulator="model")
    render = SliceRenderer(view.specimen.shape, thin.voxel_size_A, energy_keV=thin.energy_keV)
    first = -render.margin * np.array([0.0, *thin.voxel_size_A[1:]])
    positions = view.atoms.positions_A - first
    inside = ((positions >= 0) & (positions < render.box_size_A)).all(1)
    (again,) = render([AtomBox(view.atoms.numbers[inside], positions[inside], render.box_size_A)])
    assert np.linalg.norm(again.numpy() - view.specimen) < 0.03 * np.linalg.norm(view.specimen)


def test_doses_are_drawn_between_those_asked_for(thin, monkeypatch):
    drawn = []

    def counted(expected, dose, **options):
        drawn.append(dose)
        raise _Enough

    monkeypatch.setattr(solve_views, "apply_dose", counted)
    library = CrystalLibrary.from_crystals([sample("srtio3").crystal], {"test": "one"})
    for number in range(6):
        with pytest.raises(_Enough):
            solve_view(library, thin, number, doses=(2e5, 8e5), simulator="model")
    assert 2e5 <= min(drawn) < 4e5 < max(drawn) <= 8e5


class _Enough(Exception):
    """No need to solve."""


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


@pytest.mark.parametrize(
    ("doses", "said"), [("1e6,1e5", "not above HIGH"), ("1e6", "use LOW,HIGH in e/A^2")]
)
def test_doses_that_are_no_range_are_told(doses, said, capsys):
    with pytest.raises(SystemExit):
        main(["solve", "library.npz", "-o", "views", "--doses", doses])
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
