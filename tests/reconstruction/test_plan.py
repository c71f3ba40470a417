"""The plan: what it accepts, and how it says what it does not."""

from __future__ import annotations

import tomllib

import pytest
from pydantic import ValidationError

from napari_mep.errors import PlanError
from napari_mep.reconstruction.plan import ReconstructionPlan

BAD = [
    ({"stepps": 30}, "unknown key 'stepps'"),
    ({"guidance": {"strenght": 1}}, r"unknown key 'guidance\.strenght'"),
    ({"object": {"gradient": {}}}, r"unknown key 'object\.gradient'"),
    (
        {"method": "lsq"},
        r"method = 'lsq': must be 'mep', 'gradient', 'lsq-ml', .* or 'ptyrad-lbfgs'",
    ),
    ({"baseline": {"preset": "best"}}, r"baseline\.preset = 'best': .*'paper' or 'tuned'"),
    ({"baseline": {"iterations": 0}}, r"baseline\.iterations = 0"),
    ({"baseline": {"learning_rate": 0.0}}, r"baseline\.learning_rate = 0\.0"),
    ({"baseline": {"batch": 0}}, r"baseline\.batch = 0"),
    ({"steps": 1}, r"steps = 1: must be at least 2$"),
    ({"steps": "many"}, "steps = 'many': must be a whole number$"),
    ({"steps": 2.5}, r"steps = 2\.5: must be a whole number$"),
    ({"steps": None}, "steps: must be a whole number$"),
    ({"eta": 1.5}, r"eta = 1\.5: must be at most 1$"),
    ({"eta": "much"}, "eta = 'much': must be a number$"),
    ({"seed": -1}, "seed = -1: must be at least 0$"),
    ({"device": 3}, "device = 3: must be text$"),
    ({"tile_overlap": 1.0}, r"tile_overlap = 1\.0: must be less than 1$"),
    ({"likelihood": "gauss"}, "likelihood"),
    ({"guidance": {"strength": -0.1}}, r"guidance\.strength = -0\.1"),
    ({"guidance": {"width_logsnr": 0}}, r"guidance\.width_logsnr = 0"),
    ({"guidance": {"patterns_per_step": 0}}, r"guidance\.patterns_per_step = 0"),
    ({"guidance": 3}, "guidance = 3: must be a table of settings$"),
    ({"gradient": {"step": 2.1}}, r"gradient\.step = 2\.1"),
    ({"gradient": {"iterations": 0}}, r"gradient\.iterations = 0"),
    ({"object": {"thickness_A": 0}}, r"object\.thickness_A = 0: must be more than 0$"),
    (
        {"object": {"thickness_A": float("inf")}},
        r"object\.thickness_A = inf: must be a finite number$",
    ),
    ({"guidance": {"strength": float("nan")}}, r"guidance\.strength = nan: .*finite"),
    ({"object": {"wave_oversampling": 9}}, r"object\.wave_oversampling = 9"),
    (
        {"start_logsnr": 5.0, "end_logsnr": 4.0},
        r"settings: start_logsnr 5\.0 must lie below end_logsnr 4\.0",
    ),
    (
        {"second_start_logsnr": 6.0},
        r"settings: second_start_logsnr 6\.0 must lie below end_logsnr 4\.6",
    ),
    ({"end_logsnr": -5.0}, r"start_logsnr 2\.0 must lie below end_logsnr -5\.0"),
]


@pytest.mark.parametrize(("values", "match"), BAD)
def test_bad_settings_are_named_in_one_line(values, match):
    with pytest.raises(PlanError, match=match) as info:
        ReconstructionPlan.parse(values)
    assert "\n" not in str(info.value)


def test_defaults_are_a_valid_plan():
    plan = ReconstructionPlan.parse({})
    assert plan == ReconstructionPlan()
    assert plan.method == "mep"


def test_plan_is_immutable():
    plan = ReconstructionPlan()
    with pytest.raises(ValidationError):
        plan.steps = 5
    with pytest.raises(ValidationError):
        plan.guidance.strength = 2.0


def test_replace_validates():
    plan = ReconstructionPlan().replace(steps=50, guidance={"schedule": "alpha"})
    assert (plan.steps, plan.guidance.schedule) == (50, "alpha")
    with pytest.raises(PlanError, match="steps = 0"):
        plan.replace(steps=0)


def test_plan_survives_json():
    plan = ReconstructionPlan().replace(seed=2**62, object={"thickness_A": 12.8})
    assert ReconstructionPlan.model_validate_json(plan.model_dump_json()) == plan


def test_toml_file(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text('method = "gradient"\n[gradient]\niterations = 20\n[object]\nthickness_A = 8\n')
    plan = ReconstructionPlan.from_toml(path)
    assert plan.method == "gradient"
    assert plan.gradient.iterations == 20
    assert plan.object.thickness_A == 8
    assert plan == ReconstructionPlan.parse(tomllib.loads(path.read_text()))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "no such file"),
        (b"method = ", "not readable as TOML"),
        (b"\xff\xfe", "not readable as TOML"),
        (b"setps = 3", "unknown key 'setps'"),
        (b"[guidance]\nstrength = nan", r"guidance\.strength = nan"),
    ],
)
def test_bad_toml_files_are_named(tmp_path, content, match):
    path = tmp_path / "plan.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PlanError, match=match) as info:
        ReconstructionPlan.from_toml(path)
    assert "\n" not in str(info.value)
    assert str(path) in str(info.value)


def test_a_folder_is_no_plan(tmp_path):
    with pytest.raises(PlanError, match="not readable as TOML"):
        ReconstructionPlan.from_toml(tmp_path)


def test_every_setting_is_described():
    def fields(model):
        for name, field in model.model_fields.items():
            nested = field.annotation if hasattr(field.annotation, "model_fields") else None
            if nested is not None:
                yield from fields(nested)
            else:
                yield name, field.description

    undescribed = [name for name, text in fields(ReconstructionPlan) if not text]
    assert undescribed == []


@pytest.mark.parametrize(
    ("settings", "unused", "used"),
    [
        ({}, {"baseline"}, {"prior", "gradient.iterations", "object.wave_oversampling"}),
        ({"start": "noise"}, {"baseline", "gradient.iterations"}, {"prior", "guidance"}),
        ({"method": "gradient"}, {"prior", "guidance", "baseline"}, {"gradient.iterations"}),
        (
            {"method": "lsq-ml"},
            {"prior", "gradient", "object.wave_oversampling"},
            {"baseline.preset", "object.thickness_A", "seed"},
        ),
    ],
)
def test_what_a_method_does_not_look_at(settings, unused, used):
    def holds(values, name):
        first, _, rest = name.partition(".")
        return first in values and (not rest or holds(values[first], rest))

    plan = ReconstructionPlan.parse(settings)
    assert unused <= plan.unused
    told = plan.used()
    assert not any(holds(told, name) for name in plan.unused)
    assert all(holds(told, name) for name in used)
    assert ReconstructionPlan.parse(told) == plan


def test_a_plan_file_remembers_what_it_states(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text("steps = 6\n[object]\nthickness_A = 8\n[preprocessing]\nclip_negative = true\n")
    plan = ReconstructionPlan.from_toml(path)
    assert plan.states("steps")  # although it is the default
    assert plan.states("object.thickness_A")
    assert plan.states("preprocessing")
    assert not any(map(plan.states, ("samples", "object.wave_oversampling", "gradient.step")))
