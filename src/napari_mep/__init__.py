"""Multislice electron ptychography with a learned crystal prior, for napari.

The package is split by what a part is about; imports point one way (see ``docs/architecture.md``).
Nothing heavy (torch, abTEM, pymatgen) is loaded by importing the package itself.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("napari-mep")
except PackageNotFoundError:  # a bare checkout on a training node, not installed
    __version__ = "0.0.0+uninstalled"

__all__ = ["__version__"]
