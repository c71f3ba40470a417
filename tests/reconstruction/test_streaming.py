from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_mep.data import Calibration, DiffractionDataset, open_dataset
from napari_mep.data.native import write_dataset
from napari_mep.errors import DataError
from napari_mep.reconstruction.streaming import StreamedCounts, fits_in_memory, read_ahead

CPU = torch.device("cpu")


def halved(counts: torch.Tensor) -> torch.Tensor:
    return counts[:, ::2] / 2


@pytest.fixture
def dataset(tmp_path) -> DiffractionDataset:
    patterns = np.random.default_rng(0).poisson(5.0, (5, 6, 8, 8)).astype(np.float32)
    calibration = Calibration(
        beam_energy_keV=300, convergence_semiangle_mrad=10, scan_step_A=0.5, detector_step_invA=0.2
    )
    stored = write_dataset(tmp_path / "a.zarr", DiffractionDataset(patterns, calibration, "a"))
    return open_dataset(stored)


def test_a_streamed_batch_is_what_the_tensor_would_give(dataset):
    streamed = StreamedCounts(dataset, halved, CPU)
    whole = halved(torch.from_numpy(dataset.counts()))
    assert streamed.shape == tuple(whole.shape)
    assert len(streamed) == 30
    indices = np.array([29, 3, 3, 17])
    torch.testing.assert_close(streamed[torch.from_numpy(indices)], whole[indices])
    torch.testing.assert_close(streamed.cpu(), whole)
    torch.testing.assert_close(streamed.sample(10), whole[::3])


@pytest.mark.parametrize("kept_in_memory", [True, False])
def test_parts_come_in_order_with_their_counts(dataset, kept_in_memory):
    whole = halved(torch.from_numpy(dataset.counts()))
    counts = whole if kept_in_memory else StreamedCounts(dataset, halved, CPU)
    parts = np.split(np.random.default_rng(1).permutation(30), [7, 8, 20])
    seen = list(read_ahead(counts, parts))
    assert len(seen) == 4
    for (part, got), wanted in zip(seen, parts, strict=True):
        np.testing.assert_array_equal(part, wanted)
        torch.testing.assert_close(got, whole[wanted])
    assert list(read_ahead(counts, [])) == []


def test_the_next_part_is_read_while_one_is_worked_on(dataset):
    streamed = StreamedCounts(dataset, halved, CPU)
    asked: list[int] = []
    take = streamed.take

    def noted(indices: np.ndarray) -> torch.Tensor:
        asked.append(int(indices[0]))
        return take(indices)

    streamed.take = noted  # type: ignore[method-assign]
    parts = read_ahead(streamed, [np.array([n]) for n in range(5)])
    next(parts)
    next(parts)  # the third has been asked for before the second was handed out
    parts.close()
    assert asked == [0, 1, 2], "one ahead and not more, also when the user stops"


def test_a_file_that_breaks_is_a_data_error(dataset):
    streamed = StreamedCounts(dataset, halved, CPU)
    for chunk in (dataset.path / "patterns" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"rubbish")
    with pytest.raises(DataError, match="cannot be read"):
        list(read_ahead(streamed, [np.arange(3)]))


def test_what_fits_in_memory():
    assert fits_in_memory((256, 64, 64), CPU)
    assert not fits_in_memory((10**9, 256, 256), CPU)
