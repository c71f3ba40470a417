"""What is said before a run is what the run would say, without a pattern being read."""

from __future__ import annotations

import dataclasses

import pytest

from napari_mep.errors import MepError, PlanError
from napari_mep.reconstruction import reconstruct
from napari_mep.reconstruction.preflight import preflight


class Unreadable:
    """Patterns that fail as soon as one is asked for."""

    def __init__(self, patterns):
        self.shape, self.dtype = patterns.shape, patterns.dtype

    def __getitem__(self, key):
        raise AssertionError("a pattern was read")


def test_a_good_plan_passes_without_reading_patterns(dataset, plan, mep_plan):
    unread = dataclasses.replace(dataset, patterns=Unreadable(dataset.patterns))
    preflight(unread, plan)
    preflight(unread, mep_plan)


@pytest.mark.parametrize(
    ("data", "settings"),
    [
        ({}, {"device": "cuda:99"}),
        ({}, {"prior": "nonesuch"}),
        ({}, {"object": {"slice_thickness_A": 5.0}}),
        ({"specimen_thickness_A": None}, {}),
        ({"detector_step_invA": 0.65}, {}),
        ({}, {"object": {"thickness_A": 1e8}}),
        ({}, {"method": "gradient", "object": {"thickness_A": 1e8}}),
        ({}, {"method": "gradient", "object": {"pixel_size_A": 1e-5}}),
        ({}, {"method": "ptyrad-adam", "object": {"thickness_A": 1e8}}),
    ],
)
def test_objections_are_those_of_the_run(make_dataset, mep_plan, data, settings):
    dataset, plan = make_dataset(**data), mep_plan.replace(**settings)
    with pytest.raises(MepError) as before:
        preflight(dataset, plan)
    with pytest.raises(MepError) as during:
        next(reconstruct(dataset, plan))
    assert type(before.value) is type(during.value)
    assert str(before.value) == str(during.value)


@pytest.mark.parametrize("method", ["mep", "gradient", "lsq-ml", "ptyrad-adam", "ptyrad-lbfgs"])
def test_what_no_memory_holds_is_refused_in_gigabytes(dataset, mep_plan, method):
    plan = mep_plan.replace(method=method, object={"thickness_A": 1e8})
    with pytest.raises(
        PlanError, match=r"at least [\d.e+]+ GB of memory, cpu has [\d.]+ GB"
    ) as info:
        preflight(dataset, plan)
    assert "object.thickness_A = 1e+08 A" in str(info.value)
    assert "\n" not in str(info.value)


def test_mini_batches_count(dataset, plan, monkeypatch):
    """Of the same specimen a large mini-batch does not fit, a small one does."""
    monkeypatch.setattr("napari_mep.reconstruction.memory.total_memory", lambda device: 10**8)
    thick = plan.replace(method="ptyrad-adam", object={"thickness_A": 160})
    preflight(dataset, thick.replace(baseline={"batch": 1}))
    with pytest.raises(PlanError, match=r"batches of 72 patterns; .* lower baseline\.batch"):
        preflight(dataset, thick.replace(baseline={"batch": 100}))


def test_more_slices_than_make_sense_are_refused_where_memory_is_no_limit(
    dataset, plan, monkeypatch
):
    monkeypatch.setattr("napari_mep.reconstruction.memory.total_memory", lambda device: None)
    with pytest.raises(PlanError, match=r"thickness_A = 1e\+06 A: makes 625000 slices of 1\.6 A"):
        preflight(dataset, plan.replace(object={"thickness_A": 1e6}))
