"""Measured against simulated diffraction at the crosshair."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_mep.widgets._background import BackgroundCall
from napari_mep.widgets._compare_layers import ScanSource
from napari_mep.widgets._compare_looks import DIVERGING
from napari_mep.widgets._compare_scan import Patterns, misfit, patterns_at, plan_of
from napari_mep.widgets._compare_scene import Scene
from napari_mep.widgets._compare_tiles import Box, Tile, TileGallery, to_grey
from napari_mep.widgets._theme import error_text

__all__ = ["PatternPanel"]

_AMPLITUDES = 2.0  # end of the signed colours: four standard deviations of counting noise


class PatternPanel(QWidget):
    """The measured pattern and what each volume predicts, on one scale.

    Attributes
    ----------
    computed : Signal
        New patterns are shown, or the reason why there are none.
    """

    tool = "cross"
    computed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._source: ScanSource | None = None
        self._patterns: Patterns | None = None
        self._asked: tuple[object, ...] = ()
        self._call = BackgroundCall(self)
        self._call.succeeded.connect(self._on_patterns)
        self._call.failed.connect(self._on_failed)
        self.log = QCheckBox("log")
        self.log.setChecked(True)
        self.log.toggled.connect(self._draw)
        self.minus = QCheckBox("minus measured")
        self.minus.setToolTip(
            "What each volume predicts minus what was measured, as amplitudes, in which counting "
            "noise is even: red is too much, blue too little"
        )
        self.minus.toggled.connect(self._draw)
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.gallery = TileGallery()
        row = QHBoxLayout()
        row.addWidget(self.words, 1)
        switches = QVBoxLayout()
        switches.addWidget(self.log)
        switches.addWidget(self.minus)
        row.addLayout(switches)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.gallery, 1)

    @property
    def busy(self) -> bool:
        """Whether patterns are being computed."""
        return self._call.busy

    @property
    def patterns(self) -> Patterns | None:
        """What is shown."""
        return self._patterns

    def set_source(self, source: ScanSource | None) -> None:
        """Where the measured patterns are."""
        if source != self._source:
            self._source, self._asked = source, ()

    def cancel(self) -> None:
        """Forget what is being computed."""
        self._call.cancel()

    def show_scene(self, scene: Scene) -> None:
        """Simulate at the crosshair, if that or the volumes have changed."""
        if self._source is None:
            self._patterns = None
            self.words.setText("")
            self.gallery.set_message(
                "none of these layers knows its scan: name it on the page Volumes"
            )
            return
        asked = (self._source.path, scene.point_A, scene.prepared)
        if asked == self._asked or not scene.prepared.volumes:
            return
        self._asked = asked
        volumes = [
            (label, v.volume, plan_of(v.candidate.record))
            for label, v in zip(scene.prepared.labels, scene.prepared.volumes, strict=True)
        ]
        if self._patterns is None:
            self.gallery.set_message("simulating…")
        self._call.submit(partial(patterns_at, self._source, volumes, scene.point_A))

    def _on_patterns(self, patterns: Patterns) -> None:
        self._patterns = patterns
        self._draw()
        self.computed.emit()

    def _on_failed(self, reason: str) -> None:
        self._patterns, self._asked = None, ()
        self.words.setText(error_text(self, reason))
        self.gallery.set_message("")
        self.computed.emit()

    def _draw(self) -> None:
        patterns = self._patterns
        if patterns is None:
            return
        (row, column), (y, x) = patterns.position, patterns.position_A
        self.words.setText(
            f"position ({row}, {column}) at {y:.1f}, {x:.1f} Å; misfit is the relative amplitude "
            "difference. Trust it less near the edge: beyond it, a volume is taken as even."
        )
        top = float(np.nanpercentile(patterns.measured, 99.9))
        tiles = [self._tile("measured", patterns.measured, patterns.step_invA, top)]
        for name, predicted, problem in patterns.predicted:
            if predicted is None:
                empty = np.zeros_like(patterns.measured)
                tiles.append(self._tile(f"{name}: {problem}", empty, patterns.step_invA, top))
                continue
            value = misfit(predicted, patterns.measured)
            title = f"{name}\nmisfit {value:.3f}"
            tile = self._tile(title, predicted, patterns.step_invA, top)
            if self.minus.isChecked():
                tile = replace(tile, grey=_signed(predicted, patterns.measured))
            tiles.append(tile)
        self.gallery.set_tiles(tiles)

    def _tile(self, title: str, pattern: np.ndarray, step_invA: float, top: float) -> Tile:
        ky, kx = pattern.shape
        box = Box(
            -(ky // 2 + 0.5) * step_invA,
            -(kx // 2 + 0.5) * step_invA,
            (ky - ky // 2 - 0.5) * step_invA,
            (kx - kx // 2 - 0.5) * step_invA,
        )
        if self.log.isChecked():  # log(1 + I): counts of zero and one are told apart
            grey = to_grey(np.log1p(pattern), 0.0, float(np.log1p(max(top, 1.0))))
        else:
            grey = to_grey(pattern, 0.0, max(top, 1e-9))
        return Tile(title, grey, box, unit="1/Å")


def _signed(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Difference of amplitudes in colours, (ky, kx, 3) uint8; what is not known is even."""
    difference = np.sqrt(np.maximum(predicted, 0)) - np.sqrt(measured)
    scaled = np.clip(np.nan_to_num(difference) / (2 * _AMPLITUDES) + 0.5, 0, 1)
    colours = DIVERGING.map(scaled.ravel())[:, :3].reshape(*scaled.shape, 3)
    return np.ascontiguousarray(255 * colours).astype(np.uint8)
