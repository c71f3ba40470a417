"""Compare says in one line why nothing can be compared yet, and what helps."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image, Points

from napari_mep.volume import PhaseVolume
from napari_mep.widgets._compare_advice import advice, not_offered
from napari_mep.widgets._compare_prepare import Candidate, Prepared, Settings, prepare

DATA = np.random.default_rng(0).random((2, 8, 8)).astype(np.float32)


def _volume(name: str) -> Image:
    return Image(DATA, name=name)


def _prepared(*corners_A: float) -> Prepared:
    """Volumes at these places, the first is the reference."""
    candidates = [
        Candidate(str(i), f"volume {i}", PhaseVolume(DATA, (1.0, 1.0, 1.0), (0.0, corner, corner)))
        for i, corner in enumerate(corners_A)
    ]
    return prepare(candidates, Settings())


@pytest.mark.parametrize(
    ("layers", "corners_A", "expected"),
    [
        ([], (), "open results with File > Open"),
        ([Points(name="atoms"), Image(DATA[0], name="mean")], (), "not atoms (points), mean (2D)"),
        ([_volume("truth")], (0,), "truth is the only volume"),
        ([_volume("truth"), _volume("mep")], (0,), "Tick a second volume"),
        ([_volume("truth"), _volume("mep")], (0, 500), "No volume lies where volume 0 is"),
        ([_volume("truth"), _volume("mep")], (0, 0), ""),
    ],
)
def test_what_is_missing_and_what_helps(layers, corners_A, expected):
    said = advice(layers, _prepared(*corners_A))
    assert expected in said
    assert bool(said) == bool(expected)


def test_images_with_a_depth_that_are_not_offered_are_named():
    colour = Image(np.zeros((4, 8, 8, 3), np.uint8), rgb=True, name="photo")
    assert not_offered([_volume("truth"), colour, Image(DATA[0], name="mean")]) == (
        "not offered: photo (colour)"
    )
    assert not_offered([_volume("truth")]) == ""
