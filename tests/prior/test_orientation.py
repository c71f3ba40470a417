from __future__ import annotations

import torch

from napari_mep.prior.orientation import Orientation


def test_eight_orientations_differ_and_are_undone():
    canvas = torch.arange(2 * 3 * 5).reshape(2, 3, 5)
    turned = [Orientation(n)(canvas) for n in range(8)]
    for n, one in enumerate(turned):
        assert one.shape == Orientation(n).shape((2, 3, 5))
        assert torch.equal(Orientation(n).back(one), canvas)
        assert torch.equal(Orientation(n + 8)(canvas), one)
        assert all(one.shape != other.shape or not torch.equal(one, other) for other in turned[:n])
    assert torch.equal(turned[0], canvas)
    # Depth is not turned: a beam has a direction.
    assert all(torch.equal(one[0].sum(), canvas[0].sum()) for one in turned)
