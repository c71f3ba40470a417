"""What a user who cannot compare yet has to do, in one line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from napari_mep.widgets._compare_layers import MARK, is_volume, obstacle
from napari_mep.widgets._compare_prepare import Prepared

__all__ = ["advice", "not_offered"]

_MOST = 3  # layers that are named


def advice(layers: Iterable[Any], prepared: Prepared) -> str:
    """Why nothing can be compared, and the remedy; empty if something can.

    Parameters
    ----------
    layers : iterable of napari.layers.Layer
        Of the viewer.
    prepared : Prepared
        The ticked volumes.
    """
    layers = [layer for layer in layers if MARK not in layer.metadata]
    volumes = [layer for layer in layers if is_volume(layer)]
    if not layers:
        return "Nothing to compare yet: open results with File > Open, or make one in Reconstruct."
    if not volumes:
        return (
            "None of the layers can be compared: that takes 3D images (z, y, x) of one channel, "
            f"not {_named(layers)}."
        )
    if len(volumes) == 1:
        return (
            f"{volumes[0].name} is the only volume: open or reconstruct another, or run the "
            "baselines below."
        )
    if len(prepared.volumes) < 2:
        return "Tick a second volume to compare it with the reference."
    if not prepared.comparable:
        return f"No volume lies where {prepared.reference.name} is: only Side by side is left."
    return ""


def not_offered(layers: Iterable[Any]) -> str:
    """Which images with a depth are not in the list, and why; empty if all are."""
    deep = [
        layer
        for layer in layers
        if MARK not in layer.metadata and hasattr(layer, "rgb") and layer.ndim >= 3
    ]
    left = [layer for layer in deep if obstacle(layer)]
    return f"not offered: {_named(left)}" if left else ""


def _named(layers: list[Any]) -> str:
    words = [f"{layer.name} ({obstacle(layer)})" for layer in layers[:_MOST]]
    rest = len(layers) - len(words)
    return ", ".join(words) + (f" and {rest} more" if rest > 0 else "")
