"""The napari side: views over one plan, one engine and one layer. No science lives here."""

from napari_mep.widgets.compare import CompareWidget
from napari_mep.widgets.data import DataWidget
from napari_mep.widgets.reconstruct import ReconstructWidget
from napari_mep.widgets.train import TrainWidget

__all__ = ["CompareWidget", "DataWidget", "ReconstructWidget", "TrainWidget"]
