"""Training volumes: any one of them can be made again, alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

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
