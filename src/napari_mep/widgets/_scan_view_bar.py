"""What is seen of a scan: which images, which grey scale, which virtual detector."""

from __future__ import annotations

from dataclasses import replace

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_mep.widgets._scan_look import IMAGES, Ring
from napari_mep.widgets._scan_places import SCALES

__all__ = ["ScanViewBar"]

_HINT = (
    "Drag the circles on the mean pattern, or the cross in their middle; Shift-drag the cross to "
    "open the inner circle. Drag the square over the scan, or hold Shift and move the mouse."
)


class ScanViewBar(QGroupBox):
    """Choices about the layers of a scan; it only shows and asks.

    Attributes
    ----------
    images_chosen : Signal(str, str)
        The upper and the lower image.
    scale_chosen : Signal(str)
        Grey scale of patterns.
    ring_changed : Signal(Ring)
        The detector, by number or by preset.
    whole_wanted : Signal
        Compute the images from all patterns, not from a sample.
    """

    images_chosen = Signal(str, str)
    scale_chosen = Signal(str)
    ring_changed = Signal(object)
    whole_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Look", parent)
        self._ring = Ring((0.0, 0.0), 0.0, 1.0)
        self._disk = self._ring
        self._per_px, self._reach = 1.0, 1.0
        self.upper, self.lower, self.scale = QComboBox(), QComboBox(), QComboBox()
        for box, chosen in ((self.upper, IMAGES[0]), (self.lower, IMAGES[7])):
            box.addItems(IMAGES)
            box.setCurrentText(chosen)
            box.currentTextChanged.connect(lambda _text: self._on_images())
        self.scale.addItems(SCALES)
        self.scale.setCurrentText(SCALES[2])
        self.scale.currentTextChanged.connect(self.scale_chosen)
        self.inner, self.outer = _radius("inner radius"), _radius("outer radius")
        for spin in (self.inner, self.outer):
            spin.valueChanged.connect(lambda _value: self._on_radii())
        self.presets: dict[str, QPushButton] = {}
        for title, what in (
            ("BF", "Bright field: the whole disk"),
            ("ABF", "Annular bright field: the outer half of the disk"),
            ("ADF", "Annular dark field: everything outside the disk"),
        ):
            button = QPushButton(title)
            button.setToolTip(what)
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            button.clicked.connect(lambda _checked=False, title=title: self._on_preset(title))
            self.presets[title] = button
        self.whole = QPushButton("Use all patterns")
        self.whole.setToolTip("The scan is large: images so far are of a coarser raster")
        self.whole.clicked.connect(lambda: self.whole_wanted.emit())
        self.words, self.hint = QLabel(), QLabel(_HINT)
        for label in (self.words, self.hint):
            label.setWordWrap(True)
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._build()
        self.setEnabled(False)

    def _build(self) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setHorizontalSpacing(8)
        form.setVerticalSpacing(4)
        form.addRow("Image", self.upper)
        form.addRow("Below it", self.lower)
        form.addRow("Patterns", self.scale)
        form.addRow("Detector", _row(self.inner, QLabel("to"), self.outer))
        form.addRow("", _row(*self.presets.values()))
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.words)
        layout.addWidget(self.whole)
        layout.addWidget(self.hint)
        self.whole.setVisible(False)

    def set_scan(self, disk: Ring, shape: tuple[int, int], whole: bool) -> None:
        """Another scan: its rough disk, its detector, and whether its images are of all of it."""
        self._disk = disk
        self._reach = float(max(shape))
        self.whole.setVisible(not whole)
        self.setEnabled(True)

    def set_unit(self, mrad_per_px: float | None) -> None:
        """Radii are told in mrad where somebody knows how wide a pixel is."""
        self._per_px = mrad_per_px or 1.0
        for spin in (self.inner, self.outer):
            spin.setSuffix(" mrad" if mrad_per_px else " px")
        self.show_ring(self._ring)

    def show_ring(self, ring: Ring) -> None:
        """The detector as it was dragged."""
        self._ring = ring
        for spin, radius in ((self.inner, ring.inner), (self.outer, ring.outer)):
            was = spin.blockSignals(True)
            spin.setRange(0.0, 2 * self._reach * self._per_px)
            spin.setValue(radius * self._per_px)
            spin.blockSignals(was)

    def _on_radii(self) -> None:
        inner, outer = (spin.value() / self._per_px for spin in (self.inner, self.outer))
        self._ring = replace(self._ring, inner=min(inner, outer), outer=max(inner, outer, 0.5))
        self.ring_changed.emit(self._ring)

    def _on_preset(self, title: str) -> None:
        radius = self._disk.outer
        inner, outer = {
            "BF": (0.0, radius),
            "ABF": (radius / 2, radius),
            "ADF": (1.1 * radius, max(1.2 * radius, self._reach / 2)),
        }[title]
        self._ring = Ring(self._ring.centre, inner, outer)
        self.show_ring(self._ring)
        self.ring_changed.emit(self._ring)

    def _on_images(self) -> None:
        self.images_chosen.emit(self.upper.currentText(), self.lower.currentText())


def _radius(name: str) -> QDoubleSpinBox:
    spin = QDoubleSpinBox()
    spin.setDecimals(1)
    spin.setAccessibleName(name)
    spin.setToolTip(f"{name} of the virtual detector")
    spin.setKeyboardTracking(False)
    spin.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    spin.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return spin


def _row(*parts: QWidget) -> QWidget:
    box = QWidget()
    layout = QHBoxLayout(box)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    for part in parts:
        layout.addWidget(part, 0 if isinstance(part, QLabel) else 1)
    return box
