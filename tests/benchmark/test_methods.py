from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_mep.benchmark.methods import METHODS, parse_methods
from napari_mep.benchmark.sweeps import sweeps
from napari_mep.errors import PlanError, WeightsError
from napari_mep.reconstruction.plan import ReconstructionPlan


def test_every_method_of_the_plan_by_default_and_other_packages_at_their_best_too():
    methods = parse_methods()
    tuned = ["lsq-ml:tuned", "ptyrad-adam:tuned", "ptyrad-lbfgs:tuned"]
    assert [m.label for m in methods] == [*METHODS, *tuned]
    assert [f"{m.plan.method}:{m.plan.baseline.preset}" for m in methods[-3:]] == tuned
    assert {m.plan.method for m in methods} == set(METHODS) > {"mep", "gradient"}
    with_prior = [m for m in methods if m.prior_sha256 is not None]
    assert [m.label for m in with_prior] == ["mep"]


def test_a_preset_of_a_baseline_is_told_in_full():
    plain, tuned = parse_methods(["ptyrad-adam", "ptyrad-adam:tuned"])
    assert tuned.label == "ptyrad-adam:tuned"
    assert tuned.plan.baseline.preset == "tuned"
    assert plain.plan.baseline.preset == "paper"
    # What the preset comes to, not only its name.
    assert plain.settings()["baseline"]["iterations"] == 200
    assert plain.settings()["baseline"]["learning_rate"] == 5e-4
    assert plain.settings()["baseline"]["preset"] == "paper"


def test_settings_that_a_method_does_not_use_do_not_make_another_case(white_priors):
    changed = ReconstructionPlan(
        steps=99,
        finish_iterations=3,
        prior=white_priors[0],
        guidance={"strength": 2.0},
        baseline={"preset": "tuned"},
    )
    (plain,), (same,) = parse_methods(["gradient"]), parse_methods(["gradient"], changed)
    assert plain.settings() == same.settings()
    (outside,), (tuned,) = parse_methods(["lsq-ml"]), parse_methods(["lsq-ml"], changed)
    # All that they use: a new setting of the prior must not make old results of others void.
    shared = {"method", "likelihood", "object", "preprocessing", "seed", "device"}
    assert set(plain.settings()) == {*shared, "gradient"}
    assert set(outside.settings()) == {*shared, "baseline"}
    assert outside.settings()["baseline"] != tuned.settings()["baseline"]
    (mep,) = parse_methods(["mep"], changed)
    assert mep.settings()["guidance"]["strength"] == 2.0
    (longer,) = parse_methods(["gradient"], ReconstructionPlan(gradient={"iterations": 9}))
    assert longer.settings() != plain.settings()


def test_priors_and_steps_multiply_mep_only(white_priors):
    methods = parse_methods(["gradient", "mep"], priors=white_priors, steps=[8, 25])
    assert [m.label for m in methods] == [
        "gradient",
        "mep@white100/8",
        "mep@white100/25",
        "mep@white200/8",
        "mep@white200/25",
    ]
    assert [m.plan.steps for m in methods[1:]] == [8, 25, 8, 25]
    assert [m.trained_volumes for m in methods] == [None, 100, 100, 200, 200]
    by_steps = [[(n, m.label) for n, m in one] for one in sweeps(methods, "steps")]
    assert by_steps == [
        [(8, "mep@white100/8"), (25, "mep@white100/25")],
        [(8, "mep@white200/8"), (25, "mep@white200/25")],
    ]
    by_training = [[(n, m.label) for n, m in one] for one in sweeps(methods, "training")]
    assert by_training == [
        [(100, "mep@white100/8"), (200, "mep@white200/8")],
        [(100, "mep@white100/25"), (200, "mep@white200/25")],
    ]


def test_a_finish_of_another_length_is_no_point_of_the_same_curve(tmp_path):
    path = tmp_path / "raw.toml"
    path.write_text("steps = 25\nfinish_iterations = 0\n")
    methods = parse_methods([f"raw={path}", "mep"], steps=[8, 50])
    by_steps = [[(n, m.label) for n, m in one] for one in sweeps(methods, "steps")]
    assert by_steps == [[(8, "mep/8"), (50, "mep/50")]]
    assert [m.settings()["finish_iterations"] for m in methods] == [0, 12, 12]


def test_one_prior_and_one_number_of_steps_need_no_suffix(white_priors):
    (method,) = parse_methods(["mep"], priors=white_priors[:1], steps=[25])
    assert (method.label, method.plan.steps, method.plan.prior) == ("mep", 25, white_priors[0])


def test_a_plan_file_is_taken_as_it_is(tmp_path):
    path = tmp_path / "alpha.toml"
    path.write_text('steps = 30\n[guidance]\nschedule = "alpha"\n')
    base = ReconstructionPlan(seed=7)
    alpha, plain = parse_methods([f"alpha={path}", "mep"], base, steps=[8, 25])[:2]
    assert (alpha.label, alpha.plan.guidance.schedule, alpha.plan.steps) == ("alpha", "alpha", 30)
    assert (alpha.plan.seed, plain.plan.seed) == (0, 7)
    # They differ in more than the steps: no curve goes through both.
    assert all(
        method.label != "alpha"
        for one in sweeps(parse_methods([f"alpha={path}", "mep"], steps=[8, 25]), "steps")
        for _, method in one
    )


@pytest.mark.parametrize(
    ("texts", "match"),
    [
        (["magic"], "'magic': unknown; use mep, gradient"),
        (["ptyrad-adam:best"], r"ptyrad-adam:best.*baseline\.preset = 'best'"),
        (["mep", "mep"], "label 'mep': every method needs a label of its own"),
        (["gradient:tuned"], "gradient has no presets, only lsq-ml, .* have; use gradient"),
        (["mep:paper"], "mep has no presets"),
        (["gradient:"], "gradient has no presets"),
        (["lsq-ml:"], r"baseline\.preset = '': must be 'paper' or 'tuned'"),
        (["=plan.toml"], "no such file"),
        ([], "none given"),
    ],
)
def test_methods_that_are_none(texts, match):
    with pytest.raises(PlanError, match=match):
        parse_methods(texts)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"steps": [4, 8]}, "steps 4, 8: only method mep uses it; add mep"),
        ({"priors": ["crystals"]}, "prior crystals: only method mep uses it"),
    ],
)
def test_options_that_no_method_uses(options, match):
    with pytest.raises(PlanError, match=match):
        parse_methods(["gradient", "lsq-ml"], **options)


def test_a_prior_that_is_not_there():
    with pytest.raises(WeightsError, match="'nobody'"):
        parse_methods(["mep"], priors=["nobody"])


PAGES = sorted((Path(__file__).parents[2] / "docs" / "results").glob("*.json"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_results_behind_the_documentation_are_those_of_todays_methods(page):
    """Otherwise `--merge` does not find them, and the page that promises it cannot be printed."""
    kept = json.loads(page.read_text(encoding="utf-8"))["methods"]
    assert kept
    for label, then in kept.items():
        priors, steps = ([then["plan"][k]] if k in then["plan"] else [] for k in ("prior", "steps"))
        (today,) = parse_methods([label], priors=priors, steps=steps)
        settings = today.settings()
        # Of another package, which need not be installed here.
        settings.get("baseline", {}).pop("version", None)
        then["plan"].get("baseline", {}).pop("version", None)
        assert then["plan"] == settings
        assert then["prior_sha256"] == today.prior_sha256
