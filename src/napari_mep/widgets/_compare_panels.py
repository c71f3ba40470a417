"""Panels that follow the slider at once: line profile, depth profile with cuts, live FFT."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from napari_mep.errors import DataError
from napari_mep.evaluation.profiles import depth_profile, line_profile
from napari_mep.evaluation.resample import WorldGrid
from napari_mep.evaluation.spectra import Spectrum, fft_magnitude
from napari_mep.volume import PhaseVolume
from napari_mep.widgets._compare_curves import Curve, CurvePlot
from napari_mep.widgets._compare_scene import Scene, box_of, density_limits, image_of
from napari_mep.widgets._compare_tiles import Box, Tile, TileGallery, to_grey

__all__ = ["DepthPanel", "Panel", "ProfilePanel", "SpectrumPanel"]

_DECADES = 2.0  # of a logarithmic spectrum that are shown
_SMALLEST_FFT = 256  # pixels to which small regions are padded


class Panel(Protocol):
    """A page of the inspector."""

    tool: str
    """What the mouse draws on the map: "line", "cross", "region" or nothing."""

    def show_scene(self, scene: Scene) -> None:
        """Follow slider and mouse."""


class ProfilePanel(QWidget):
    """The line profile of all volumes over one axis."""

    tool = "line"

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.plot = CurvePlot("distance (Å)", "phase (rad/Å)")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.addWidget(self.plot)

    def show_scene(self, scene: Scene) -> None:
        """Draw the profiles of a scene."""
        curves = []
        for index, (label, volume) in enumerate(
            zip(scene.prepared.labels, scene.prepared.volumes, strict=True)
        ):
            try:
                profile = line_profile(
                    volume.volume,
                    *scene.line_A,
                    depth_A=None if scene.summed else scene.depth_A,
                    width_A=scene.width_A,
                )
            except DataError as error:
                self.plot.set_message(str(error))
                return
            curves.append(Curve(label, profile.position_A, profile.density_rad_per_A, index))
        self.plot.set_curves(curves)


class DepthPanel(QWidget):
    """Phase along the beam under the crosshair, and XZ and YZ cuts through it.

    Attributes
    ----------
    pointed : Signal(object, object, object)
        World coordinates (z, y, x) in angstrom that were clicked in a cut; None where the cut does
        not tell.
    """

    tool = "cross"
    pointed = Signal(object, object, object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.plot = CurvePlot("depth (Å)", "phase (rad/Å)")
        self.cuts = TileGallery()
        self.cuts.setToolTip("Depth runs downwards; click to move the crosshair and the slice")
        self.cuts.dragged.connect(self._on_dragged)
        self._count = 0
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.addWidget(self.plot, 2)
        layout.addWidget(self.cuts, 3)

    def show_scene(self, scene: Scene) -> None:
        """Draw the depth profiles and cuts of a scene."""
        volumes = scene.prepared.volumes
        self._count = len(volumes)
        curves = []
        labels = scene.prepared.labels
        for index, (label, volume) in enumerate(zip(labels, volumes, strict=True)):
            profile = depth_profile(volume.volume, scene.point_A, radius_A=scene.width_A / 2)
            curves.append(
                Curve(label, profile.position_A, profile.density_rad_per_A, index, steps=True)
            )
        self.plot.set_curves(curves, mark=None if scene.summed else scene.depth_A)
        if not volumes:
            self.cuts.set_tiles(())
            return
        low, high = density_limits(volumes, scene.percentiles)
        tiles = [
            self._cut(label, volume.volume, scene, axis, low, high)
            for axis in (1, 2)
            for label, volume in zip(labels, volumes, strict=True)
        ]
        self.cuts.set_tiles(tiles, columns=len(volumes) if len(volumes) <= 4 else 0)

    def _cut(
        self, label: str, volume: PhaseVolume, scene: Scene, axis: int, low: float, high: float
    ) -> Tile:
        """An XZ cut through the crosshair's y (axis 1), or a YZ cut through its x (axis 2)."""
        spans = WorldGrid.of(volume).spans_A()
        step, origin = volume.voxel_size_A[axis], volume.origin_A[axis]
        index = round((scene.point_A[axis - 1] - origin) / step)
        index = min(max(index, 0), volume.data.shape[axis] - 1)
        cut = volume.data.take(index, axis=axis) / np.float32(volume.voxel_size_A[0])
        (z0, z1), (u0, u1) = spans[0], spans[3 - axis]
        across = scene.point_A[2 - axis]
        name = "XZ" if axis == 1 else "YZ"
        return Tile(
            f"{name}  {label}",
            to_grey(cut, low, high),
            Box(z0, u0, z1, u1),
            cross=(scene.depth_A, across),
        )

    def _on_dragged(self, _start: object, here: tuple[float, float]) -> None:
        # Which kind of cut was pressed: the first half are XZ.
        pressed = self.cuts.pressed_index
        if pressed is None or not self._count:
            return
        depth, across = here
        if pressed < self._count:
            self.pointed.emit(depth, None, across)
        else:
            self.pointed.emit(depth, across, None)


class SpectrumPanel(QWidget):
    """Fourier transform of the slice or of a region, with rings in 1/A."""

    tool = "region"

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Scene | None = None
        self.rings = QLineEdit("0.5, 1.0")
        self.rings.setToolTip("Radii of the rings in 1/Å, separated by commas")
        self.log = QCheckBox("log")
        self.log.setChecked(True)
        self.largest = QDoubleSpinBox()
        self.largest.setRange(0.2, 10)
        self.largest.setValue(1.5)
        self.largest.setSingleStep(0.25)
        self.largest.setSuffix(" 1/Å")
        self.largest.setToolTip("Highest frequency that is shown")
        self.gallery = TileGallery()
        row = QHBoxLayout()
        row.addWidget(QLabel("Rings"))
        row.addWidget(self.rings, 1)
        row.addWidget(QLabel("1/Å, up to"))
        row.addWidget(self.largest)
        row.addWidget(self.log)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.gallery, 1)
        self.rings.editingFinished.connect(self._again)
        self.log.toggled.connect(self._again)
        self.largest.valueChanged.connect(self._again)

    def ring_radii(self) -> tuple[float, ...]:
        """Radii in 1/A; what is no positive number is left out."""
        radii = []
        for part in self.rings.text().replace(";", ",").split(","):
            try:
                radius = float(part)
            except ValueError:
                continue
            if radius > 0:
                radii.append(radius)
        return tuple(radii)

    def show_scene(self, scene: Scene) -> None:
        """Draw the spectra of a scene."""
        self._scene = scene
        tiles = []
        reference_peak = 0.0
        for label, volume in zip(scene.prepared.labels, scene.prepared.volumes, strict=True):
            image, pixel = _region(volume.volume, scene)
            try:
                padding = max(1, -(-_SMALLEST_FFT // max(1, *image.shape)))
                spectrum = fft_magnitude(image, pixel, padding=padding)
            except DataError as error:
                self.gallery.set_message(f"{label}: {error}")
                return
            reference_peak = reference_peak or float(spectrum.magnitude.max())
            tiles.append(self._tile(label, spectrum, reference_peak))
        self.gallery.set_tiles(tiles)

    def _tile(self, name: str, spectrum: Spectrum, peak: float) -> Tile:
        """All on the scale of the reference: a weaker lattice looks weaker."""
        largest = self.largest.value()
        parts, edges = [], []
        for n, step in zip(spectrum.magnitude.shape, spectrum.step_invA, strict=True):
            reach = min(round(largest / step), n // 2 - 1)
            parts.append(slice(n // 2 - reach, n // 2 + reach + 1))
            edges.append((reach + 0.5) * step)
        shown = spectrum.magnitude[parts[0], parts[1]]
        if self.log.isChecked():
            scaled = np.log10(np.maximum(shown, 1e-12) / max(peak, 1e-12))
            grey = to_grey(scaled, -_DECADES, 0.0)
        else:
            grey = to_grey(shown, 0.0, peak)
        box = Box(-edges[0], -edges[1], edges[0], edges[1])
        radii = tuple(r for r in self.ring_radii() if r < max(edges))
        return Tile(name, grey, box, rings=radii, unit="1/Å")

    def _again(self) -> None:
        if self._scene is not None:
            self.show_scene(self._scene)


def _region(volume: PhaseVolume, scene: Scene) -> tuple[np.ndarray, tuple[float, float]]:
    """The part of the slice within the region, and its pixel."""
    image = image_of(volume, scene)
    _, dy, dx = volume.voxel_size_A
    if scene.region is None:
        return image, (dy, dx)
    box = box_of(volume)
    parts = []
    for first, last, start, step in (
        (scene.region.top, scene.region.bottom, box.top, dy),
        (scene.region.left, scene.region.right, box.left, dx),
    ):
        low = max(0, round((first - start) / step))
        parts.append(slice(low, max(low, round((last - start) / step))))
    return image[parts[0], parts[1]], (dy, dx)
