"""The napari side: views over one plan, one engine and one layer. No science lives here."""

from napari_mep.widgets.reconstruct import ReconstructWidget

__all__ = ["ReconstructWidget"]
