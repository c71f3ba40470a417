"""The form shows and gives back plans, whole and unchanged."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import BaseModel
from qtpy.QtWidgets import QComboBox

from napari_mep.errors import PlanError
from napari_mep.reconstruction.baselines import BASELINES
from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.reconstruction.schedules import preview_weights
from napari_mep.widgets._fields import Look, editor_for, field_at
from napari_mep.widgets._plan_form import PlanForm


@pytest.fixture
def form(qtbot: Any) -> PlanForm:
    form = PlanForm(preview_weights)
    qtbot.addWidget(form)
    return form


def leaves(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Dotted paths of all settings."""
    paths = set()
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            paths |= leaves(kind, f"{prefix}{name}.")
        else:
            paths.add(prefix + name)
    return paths


def test_every_setting_of_the_plan_has_its_row(form):
    assert set(form._editors) == leaves(ReconstructionPlan)


def test_a_new_form_shows_the_default_plan(form):
    assert form.plan() == ReconstructionPlan()


CHANGED = {
    "method": "mep",
    "prior": "my/own.safetensors",
    "steps": 137,
    "start": "noise",
    "start_logsnr": -11.5,
    "second_start_logsnr": -3.5,
    "finish_deviation_rad": 0.123,
    "end_logsnr": 3.25,
    "eta": 0.5,
    "likelihood": "poisson",
    "guidance": {
        "schedule": "constant",
        "strength": 0.123456,  # more digits than the editor shows
        "shift_logsnr": 2.5,
        "width_logsnr": 0.7,
        "gradient_at": "network",
        "patterns_per_step": 96,
    },
    "gradient": {"iterations": 17, "step": 0.35},
    "baseline": {"preset": "tuned", "iterations": 31, "learning_rate": 0.00123, "batch": 48},
    "object": {
        "thickness_A": 100.0,
        "slice_thickness_A": 0.8,
        "pixel_size_A": 0.1234567,
        "wave_oversampling": 3,
    },
    "preprocessing": {"bin_detector": 2, "scan_rows": (2, 9)},
    "tile_overlap": 0.4,
    "seed": 2**62 + 1,  # more than a float or a 32-bit spin box can hold
    "device": "cuda:1",
}


def test_a_plan_comes_back_unchanged(form):
    plan = ReconstructionPlan.parse(CHANGED)
    form.set_plan(plan)
    assert form.plan() == plan
    form.set_plan(ReconstructionPlan())
    assert form.plan() == ReconstructionPlan()


def test_changed_is_told_once_for_a_plan_and_for_each_edit(form, qtbot):
    told = []
    form.changed.connect(lambda: told.append(1))
    form.set_plan(ReconstructionPlan.parse(CHANGED))
    assert len(told) == 1
    form.editor("steps").set_value(50)
    assert len(told) == 2
    assert form.plan().steps == 50


@pytest.mark.parametrize("path", sorted(leaves(ReconstructionPlan) - {"preprocessing"}))
def test_editors_offer_only_what_the_plan_accepts(form, path):
    """Both ends of every range, and every choice, make a valid field."""
    editor = form.editor(path)
    numbers = getattr(editor, "_number", editor)
    values = []
    if hasattr(numbers, "minimum"):
        values = [numbers.minimum(), numbers.maximum()]
    elif isinstance(numbers, QComboBox):
        values = [numbers.itemData(i) or numbers.itemText(i) for i in range(numbers.count())]
    assert values
    for value in values:
        nested: dict[str, Any] = {}
        inner = nested
        *parents, name = path.split(".")
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = value
        if path in ("start_logsnr", "second_start_logsnr"):
            nested["end_logsnr"] = 20
        elif path == "end_logsnr":
            nested["start_logsnr"] = -20
        ReconstructionPlan.parse(nested)


def test_help_and_labels_come_from_the_plan(form):
    editor = form.editor("guidance.width_logsnr")
    assert editor.toolTip() == field_at(ReconstructionPlan, "guidance.width_logsnr").description
    assert form._labels["guidance.width_logsnr"].buddy() is editor


def test_contradicting_settings_are_a_plan_error(form):
    form.editor("start_logsnr").set_value(5.0)
    form.editor("end_logsnr").set_value(4.0)
    with pytest.raises(PlanError, match="start_logsnr"):
        form.plan()
    assert "start_logsnr" in form.plot._message


def test_preprocessing_is_shown_and_kept(form):
    row = form.editor("preprocessing")
    assert row.text() == "none"
    form.set_plan(ReconstructionPlan.parse({"preprocessing": {"bin_detector": 2}}))
    assert row.text() == "detector binned by 2"
    form.set_plan(ReconstructionPlan.parse(CHANGED))
    assert row.text() == "2 steps"
    assert row.toolTip() == "scan rows 2 to 8\ndetector binned by 2"
    assert form.plan().preprocessing == ReconstructionPlan.parse(CHANGED).preprocessing


def test_settings_that_a_method_ignores_are_greyed_out(form):
    form.editor("method").set_value("gradient")
    assert not form.editor("prior").isEnabled()
    assert not form.editor("guidance.strength").isEnabled()
    assert form.editor("gradient.iterations").isEnabled()
    form.editor("method").set_value("mep")
    assert form.editor("guidance.shift_logsnr").isEnabled()
    form.editor("guidance.schedule").set_value("constant")
    assert not form.editor("guidance.shift_logsnr").isEnabled()
    form.editor("start").set_value("noise")
    assert not form.editor("gradient.iterations").isEnabled()


def test_methods_have_names_and_each_its_own_settings(form):
    method = form.editor("method")
    shown = {method.itemData(i): method.itemText(i) for i in range(method.count())}
    assert list(shown) == list(get_args(field_at(ReconstructionPlan, "method").annotation))
    assert shown["lsq-ml"] == "LSQ-ML (Pty-Chi)"
    assert not set(shown) & set(shown.values())
    for word in shown:
        method.set_value(word)
        assert form.plan().method == word
        outside = word in BASELINES
        assert form.editor("baseline.preset").isEnabled() == outside
        assert form._outside.isVisibleTo(form) == outside
        assert form.editor("object.wave_oversampling").isEnabled() != outside
        assert form.editor("gradient.iterations").isEnabled() != outside
    assert "package's own solver" in form.plot._message


def test_locked_settings_stay_readable(form):
    plan = form.plan()
    form.set_locked(True)
    assert not any(editor.isEnabled() for editor in form._editors.values())
    assert form.plan() == plan
    form.set_locked(False)
    assert form.editor("steps").isEnabled()


def test_the_curve_follows_the_settings(form):
    _, before = form.plot.curve
    assert len(before) == form.plan().steps
    form.editor("guidance.strength").set_value(2.0)
    _, after = form.plot.curve
    assert after == pytest.approx(2 * before)
    form.editor("method").set_value("gradient")
    assert form.plot.curve[1].size == 0


def test_an_optional_number_has_a_name_for_none(qtbot):
    look = Look("Patterns", none="all", start=128)
    editor = editor_for(field_at(ReconstructionPlan, "guidance.patterns_per_step"), look)
    qtbot.addWidget(editor)
    assert editor.value() is None
    editor._box.click()
    assert editor.value() == 128
    editor.set_value(None)
    assert editor.value() is None
