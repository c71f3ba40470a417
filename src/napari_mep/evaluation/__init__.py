"""How good a reconstruction is. Nothing here loads torch; scikit-image is loaded when used."""

from napari_mep.evaluation.bootstrap import BootstrapInterval, paired_bootstrap
from napari_mep.evaluation.metrics import Scores, compare_volumes
from napari_mep.evaluation.volumes import load_result, load_volume

__all__ = [
    "BootstrapInterval",
    "Scores",
    "compare_volumes",
    "load_result",
    "load_volume",
    "paired_bootstrap",
]
