"""Which devices there are."""

from __future__ import annotations

import pytest
import torch

from napari_mep.errors import DeviceError
from napari_mep.prior.device import resolve_device


@pytest.mark.parametrize("name", ["cuda:99", "cpu:1", "gpu", "cuda:x", "xpu", "meta", ""])
def test_devices_that_are_not_there(name):
    with pytest.raises(DeviceError, match="use auto") as info:
        resolve_device(name)
    assert "\n" not in str(info.value)
    assert repr(name) in str(info.value)


def test_devices_that_are():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda")
