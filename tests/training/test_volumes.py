"""Training volumes: any one of them can be made again, alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from napari_mep.training.volumes import VolumeSource, data_scale


def test_volume_n_depends_on_seed_and_n_alone(library, settings):
    source = VolumeSource(library, settings)
    batch = source(3, 4)
    assert batch.shape == (4, 2, 16, 16)
    assert batch.dtype == torch.float32
    torch.testing.assert_close(source(5, 1), batch[2:3])
    other = VolumeSource(library, replace(settings, seed=1))
    assert not torch.allclose(other(3, 4), batch)


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
