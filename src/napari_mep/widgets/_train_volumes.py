"""Small volumes in the viewer: what is learned from, and below, what has been learned."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QSlider, QVBoxLayout, QWidget

from napari_mep.errors import DataError
from napari_mep.volume import PhaseVolume
from napari_mep.widgets._background import BackgroundCall
from napari_mep.widgets._layer_stream import LayerStream
from napari_mep.widgets._message import wrapping_label

__all__ = ["Batch", "SampleHistory", "VolumeBlock", "read_samples"]

_GAP_A = 1.6
_COLUMNS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Several volumes of one size.

    Parameters
    ----------
    phase_rad : (n, z, y, x) float ndarray
        Phase of each slice, radians.
    voxel_size_A : tuple of 3 floats
        (z, y, x), angstrom.
    """

    phase_rad: np.ndarray
    voxel_size_A: tuple[float, float, float]


class VolumeBlock(QObject):
    """Image layers two by two, one for each volume of a batch, updated in place.

    A layer that the user deletes stays away until `begin`.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
        Where they appear.
    place : int
        Which block: 0 begins at the world's origin, others lie above (-1) or below (1).
    """

    def __init__(self, viewer: Any, place: int, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer, self._place = viewer, place
        self._streams: list[LayerStream] = []
        self._name = ""

    @property
    def layers(self) -> list[Any]:
        """Those that are there, as one reads."""
        return [s.layer for s in self._streams if s.layer is not None]

    def begin(self, name: str, *, keep: bool = False) -> None:
        """The next batch is of another kind; `keep` lets it take the place of the one before."""
        self._name = name
        if not keep:
            self._streams = []
        for number, stream in enumerate(self._streams, 1):
            if stream.layer is None:
                stream.begin(f"{name} {number}", {})

    def show(self, batch: Batch, about: dict[str, Any]) -> None:
        """Show a batch; `about` becomes ``layer.metadata["napari_mep"]``."""
        for _ in range(len(self._streams), len(batch.phase_rad)):
            stream = LayerStream(self._viewer, newest=1.0, parent=self)
            self._streams.append(stream)
            stream.begin(f"{self._name} {len(self._streams)}", {})
        dz, dy, dx = batch.voxel_size_A
        _, ny, nx = batch.phase_rad.shape[1:]
        height, width = ny * dy + _GAP_A, nx * dx + _GAP_A
        first = self._place * math.ceil(len(batch.phase_rad) / _COLUMNS)
        for number, phase in enumerate(batch.phase_rad):
            row, column = divmod(number, _COLUMNS)
            origin = (dz / 2, (first + row) * height, column * width)
            stream = self._streams[number]
            stream.push(PhaseVolume(phase, batch.voxel_size_A, origin))
            layer = stream.layer
            if layer is not None:
                layer.metadata["napari_mep"] = about
                layer.refresh()  # with thumbnail: batches are rare


class SampleHistory(QWidget):
    """Shows the samples of a run, the newest or those of an earlier time.

    Attributes
    ----------
    failed : Signal(str)
        A file of samples cannot be read, one line.
    """

    failed = Signal(str)

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.block = VolumeBlock(viewer, 0, self)
        self._files: tuple[Path, ...] = ()
        self._follows = True
        self._reading = BackgroundCall(self)
        self._reading.succeeded.connect(self._on_read)
        self._reading.failed.connect(self.failed)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setAccessibleName("Samples over the run")
        self.slider.setToolTip(
            "Samples drawn during the run: the same noise each time, so that one sees what the "
            "prior makes of it. At the right end the newest are shown as they come."
        )
        self.label = wrapping_label()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        line = QHBoxLayout()
        line.addWidget(self.slider)
        layout.addLayout(line)
        layout.addWidget(self.label)
        self.slider.valueChanged.connect(self._on_moved)
        self._describe()

    @property
    def busy(self) -> bool:
        """Whether a file is being read."""
        return self._reading.busy

    def begin(self, name: str) -> None:
        """Another run; its samples get layers of their own."""
        self._files, self._follows = (), True
        self._reading.cancel()
        self.block.begin(name)
        self._set_range()
        self._describe()

    def set_files(self, files: Sequence[Path]) -> None:
        """The files that there are now, the oldest first."""
        files = tuple(files)
        if files == self._files:
            return
        shown = self._shown()
        self._files = files
        self._set_range()
        if files and (self._follows or shown not in files):
            self.slider.setValue(len(files) - 1)
            self._read()
        elif shown in files:
            was = self.slider.blockSignals(True)
            self.slider.setValue(files.index(shown))
            self.slider.blockSignals(was)
        self._describe()

    def close_down(self) -> None:
        """Let nothing arrive any more."""
        self._reading.cancel()

    def _shown(self) -> Path | None:
        index = self.slider.value()
        return self._files[index] if 0 <= index < len(self._files) else None

    def _set_range(self) -> None:
        was = self.slider.blockSignals(True)
        self.slider.setRange(0, max(0, len(self._files) - 1))
        self.slider.blockSignals(was)
        self.slider.setEnabled(len(self._files) > 1)

    def _on_moved(self, index: int) -> None:
        self._follows = index == len(self._files) - 1
        self._read()
        self._describe()

    def _read(self) -> None:
        path = self._shown()
        if path is not None:
            self._reading.submit(lambda: (path, read_samples(path)))

    def _on_read(self, answer: tuple[Path, Batch]) -> None:
        path, batch = answer
        about = {"kind": "unconditional samples", "volumes": _volumes(path), "file": str(path)}
        self.block.show(batch, about)

    def _describe(self) -> None:
        path = self._shown()
        if path is None:
            self.label.setText("no samples yet")
            return
        newest = ", the newest" if path == self._files[-1] else ""
        self.label.setText(f"samples after {_volumes(path):,} volumes{newest}")


def read_samples(path: Path) -> Batch:
    """Samples that training wrote.

    Raises
    ------
    DataError
        If the file is gone or damaged.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            phase = archive["phase_rad"].astype(np.float32)
            z, y, x = (float(v) for v in archive["voxel_size_A"])
        if phase.ndim != 4:
            raise ValueError(f"{phase.ndim} axes, expected 4")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as err:
        reason = " ".join(str(err).split())
        raise DataError(f"samples {path}: not readable ({reason})") from None
    return Batch(phase, (z, y, x))


def _volumes(path: Path) -> int:
    return int(path.stem) if path.stem.isdigit() else 0
