"""Results out: OME-Zarr. Nothing here loads torch; zarr is loaded when it is used."""

from napari_mep.export.ome_zarr import check_target, read_reconstruction, write_reconstruction

__all__ = ["check_target", "read_reconstruction", "write_reconstruction"]
