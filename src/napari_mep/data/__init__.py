"""4D-STEM data: readers, calibration, datasets. Importing it loads neither torch, zarr nor h5py."""

from napari_mep.data.calibration import Calibration, PartialCalibration
from napari_mep.data.dataset import DiffractionDataset
from napari_mep.data.info import describe
from napari_mep.data.native import write_dataset
from napari_mep.data.preprocessing import PreprocessingPlan, preprocess
from napari_mep.data.readers import open_dataset, open_patterns

__all__ = [
    "Calibration",
    "DiffractionDataset",
    "PartialCalibration",
    "PreprocessingPlan",
    "describe",
    "open_dataset",
    "open_patterns",
    "preprocess",
    "write_dataset",
]
