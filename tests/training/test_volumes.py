"""Training volumes: any one of them can be made again, alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from napari_mep.crystals.library import CrystalLibrary
from napari_mep.crystals.structure import Crystal
from napari_mep.training.volumes import VolumeSource, _ahead, data_scale


def test_volume_n_depends_on_seed_and_n_alone(library, settings):
    source = VolumeSource(library, settings)
    batch = source(3, 4)
    assert batch.shape == (4, 2, 16, 16)
    assert batch.dtype == torch.float32
    torch.testing.assert_close(source(5, 1), batch[2:3])
    other = VolumeSource(library, replace(settings, seed=1))
    assert not torch.allclose(other(3, 4), batch)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_stream_is_the_volumes_in_order(library, settings, workers):
    source = VolumeSource(library, settings, workers=workers)
    stream = source.stream(4, 20, 30)
    for first in (4, 34, 64):
        assert torch.equal(next(stream), source(first, 20))


def test_batches_made_ahead_are_the_same_and_their_errors_arrive():
    made = []

    def batches():
        for value in range(3):
            made.append(value)
            yield torch.tensor(value)
        raise ValueError("no more")

    ahead = _ahead(batches(), torch.device("cpu"))
    assert [int(next(ahead)) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="no more"):
        next(ahead)

    ahead = _ahead(batches(), torch.device("cpu"))
    assert int(next(ahead)) == 0
    ahead.close()  # the training loop ends; the batch under way is finished and dropped
    assert made == [0, 1, 2, 0, 1]


def test_volumes_are_phases_of_different_views(library, settings):
    volumes = VolumeSource(library, settings)(0, 8)
    assert bool(torch.isfinite(volumes).all())
    # most of a crystal is vacuum: the mean is far below the atoms
    assert 0 < float(volumes.mean()) < 0.3 * float(volumes.max())
    flat = volumes.flatten(1)
    assert float(torch.corrcoef(flat).fill_diagonal_(0).abs().max()) < 0.95


def test_every_atom_may_be_missing(library, settings):
    empty = replace(settings, vacancy_fraction=0.999999)
    assert float(VolumeSource(library, empty)(0, 4).abs().max()) < 1e-6


def test_scale_makes_unit_variance(library, settings):
    source = VolumeSource(library, settings)
    scale = data_scale(source, 64)
    assert float((source(2**40, 64) * scale).std()) == pytest.approx(1, rel=1e-5)
    # other volumes differ by chance only
    assert float((source(0, 64) * scale).std()) == pytest.approx(1, rel=0.2)


def test_mixed_sites_are_drawn_anew_for_every_volume(settings):
    # Half lead, half vacancy: with both outcomes drawn, volumes hold half the lead on average.
    perfect = replace(
        settings,
        vacancy_fraction=0.0,
        substitution_fraction=0.0,
        grain_boundary_share=0.0,
        surface_share=0.0,
        amorphous_share=0.0,
    )

    def means(occupancy: float) -> torch.Tensor:
        crystal = Crystal(3.0 * torch.eye(3).numpy(), [82], [[0, 0, 0]], [occupancy])
        library = CrystalLibrary.from_crystals([crystal], {"test": "made up"})
        return VolumeSource(library, perfect)(0, 40).mean((1, 2, 3))

    ratio = means(0.5) / means(1.0)
    assert float(ratio.mean()) == pytest.approx(0.5, abs=0.1)
    assert float(ratio.std()) > 0.05


@pytest.mark.parametrize(
    "name", ["stacking_fault_share", "amorphous_share", "low_index_share", "misaligned_share"]
)
def test_a_share_of_one_changes_every_volume_and_a_share_of_zero_none(library, settings, name):
    without = replace(
        settings,
        stacking_fault_share=0.0,
        amorphous_share=0.0,
        low_index_share=0.0,
        misaligned_share=0.0,
    )
    before = VolumeSource(library, without)(0, 6)
    assert torch.equal(VolumeSource(library, replace(without, misaligned_mrad=9.0))(0, 6), before)
    after = VolumeSource(library, replace(without, **{name: 1.0}))(0, 6)
    changed = (after - before).abs().amax((1, 2, 3)) > 1e-3
    assert int(changed.sum()) >= 5  # a fault may happen to be a lattice vector
