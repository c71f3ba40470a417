"""What is said before a run is what the run would say, without a pattern being read."""

from __future__ import annotations

import dataclasses

import pytest

from napari_mep.errors import MepError
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
