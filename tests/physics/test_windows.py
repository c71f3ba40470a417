from __future__ import annotations

import numpy as np
import torch

from napari_mep.physics.windows import as_positions, plan_windows

POSITIONS = torch.tensor([(5.5, 3.49), (0.0, -4.0), (13.0, 11.2), (90.0, 2.0)], dtype=torch.float64)


def _plan(shape=(6, 5), canvas=(12, 10)):
    return plan_windows(POSITIONS, shape, canvas, torch.device("cpu"))


def test_centre_pixel_is_the_nearest_to_the_position():
    canvas = torch.arange(120.0).reshape(1, 12, 10)
    windows = _plan()
    cut = windows.cut(windows.pad(canvas)[0], slice(0, 3))
    assert float(cut[0, 3, 2]) == canvas[0, 6, 3]
    assert float(cut[2].max()) == canvas[0, 11, 9]
    expected = torch.tensor([(-0.5, 0.49), (0, 0), (0, 0.2), (0, 0)], dtype=torch.float64)
    torch.testing.assert_close(windows.fraction, expected)


def test_beyond_the_canvas_windows_are_empty_and_padding_is_bounded():
    windows = _plan()
    padded = windows.pad(torch.ones(2, 12, 10))
    cut = windows.cut(padded[1], slice(None))
    assert float(cut[1].sum()) == 0  # x from -6 to -2
    assert float(cut[3].sum()) == 0
    assert max(windows.padding) <= 6
    torch.testing.assert_close(windows.crop(padded), torch.ones(2, 12, 10))


def test_adding_is_the_transpose_of_cutting():
    generator = torch.Generator().manual_seed(1)
    windows = _plan()
    canvas = windows.pad(torch.rand(2, 12, 10, dtype=torch.float64, generator=generator))
    weights = torch.rand(2, 4, 6, 5, dtype=torch.float64, generator=generator)
    added = torch.zeros_like(canvas)
    for part in (slice(0, 3), slice(3, 4)):
        windows.add_to(added, weights[:, part], part)
    cut = torch.stack([windows.cut(layer, slice(0, 4)) for layer in canvas])
    torch.testing.assert_close((cut * weights).sum(), (canvas * added).sum())


def test_positions_keep_double_precision():
    value = 1000.000_000_123
    as_tensor = torch.tensor([(value, 0.0)], dtype=torch.float64)
    for given in ([(value, 0.0)], np.array([(value, 0.0)]), as_tensor):
        assert float(as_positions(given)[0, 0]) == value
