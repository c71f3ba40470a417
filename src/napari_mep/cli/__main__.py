"""``python -m napari_mep.cli``: the command line from a bare checkout, and under torchrun."""

import sys

from napari_mep.cli import main

if __name__ == "__main__":
    sys.exit(main())
