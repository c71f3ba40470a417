"""The buttons of the views, what they can be told, and the links."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSlider,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_mep.widgets._compare_links import Linked
from napari_mep.widgets._compare_looks import Options, View
from napari_mep.widgets._compare_prepare import Prepared

__all__ = ["ViewBar"]

_BUTTONS = {
    View.SIDE: ("Side by side", "All volumes in a grid, with one camera, depth and contrast"),
    View.DIFFERENCE: (
        "Difference",
        "Each result minus the reference; equal limits on both sides of zero",
    ),
    View.CHECKER: ("Checkerboard", "Squares of the reference and of one result in turn"),
    View.CURTAIN: ("Curtain", "The reference left of a line, one result right of it"),
    View.FLICKER: ("Flicker", "The reference and one result in turn at the same place"),
}
_PERCENTILES = ((1.0, 99.0), (0.5, 99.8), (2.0, 98.0), (0.0, 100.0))
_FLICKER_MS = (500, 250, 1000, 0)


class ViewBar(QWidget):
    """What to show in the canvas.

    Attributes
    ----------
    view_chosen : Signal(View)
        A button was pressed; `View.NONE` leaves.
    options_changed : Signal
        Partner, tile or percentiles have changed.
    split_changed : Signal(float)
        The curtain was moved, 0 to 1.
    linked_changed : Signal(Linked)
        A link was opened or closed.
    toggled : Signal
        The other volume of a flicker was asked for.
    """

    view_chosen = Signal(object)
    options_changed = Signal()
    split_changed = Signal(float)
    linked_changed = Signal(object)
    toggled = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.buttons: dict[View, QPushButton] = {}
        group = QButtonGroup(self)
        group.setExclusive(False)  # a view can be left by its own button
        grid = QGridLayout()
        grid.setSpacing(4)
        for number, (view, (text, tip)) in enumerate(_BUTTONS.items()):
            button = QPushButton(text)
            button.setCheckable(True)
            button.setToolTip(tip)
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            button.clicked.connect(lambda on, view=view: self._on_button(view, on))
            grid.addWidget(button, number // 3, number % 3)
            self.buttons[view] = button
        self.leave_button = QPushButton("Leave")
        self.leave_button.setToolTip("Back to the view as it was before (Esc)")
        self.leave_button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.leave_button.clicked.connect(lambda: self.view_chosen.emit(View.NONE))
        grid.addWidget(self.leave_button, 1, 2)
        self._build_options()
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(grid)
        layout.addWidget(self.pair_row)
        layout.addLayout(self._link_row())
        self.show_view(View.NONE)

    def _build_options(self) -> None:
        self.partner = QComboBox()
        self.partner.setToolTip("The result that is shown against the reference")
        self.partner.setMinimumContentsLength(8)
        self.partner.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.partner.activated.connect(self.options_changed)
        self.tile = QDoubleSpinBox()
        self.tile.setRange(0.1, 10_000)
        self.tile.setValue(2.0)
        self.tile.setDecimals(1)
        self.tile.setSuffix(" Å")
        self.tile.setToolTip("Side of the squares")
        self.tile.valueChanged.connect(self.options_changed)
        self.split = QSlider(Qt.Orientation.Horizontal)
        self.split.setRange(0, 1000)
        self.split.setValue(500)
        self.split.setToolTip("Where the curtain hangs")
        self.split.valueChanged.connect(lambda v: self.split_changed.emit(v / 1000))
        self.pace = QComboBox()
        for milliseconds in _FLICKER_MS:
            self.pace.addItem(f"{milliseconds} ms" if milliseconds else "by hand", milliseconds)
        self.pace.setToolTip("How long each of the two is shown")
        self.pace.activated.connect(self.options_changed)
        self.toggle = QPushButton("Toggle")
        self.toggle.setToolTip("Show the other one")
        self.toggle.clicked.connect(self.toggled)
        self.pair_row = QWidget()
        row = QHBoxLayout(self.pair_row)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(QLabel("with"))
        row.addWidget(self.partner, 2)
        for part in (self.tile, self.split, self.pace, self.toggle):
            row.addWidget(part, 1)

    def _link_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.addWidget(QLabel("Link"))
        self.links: dict[str, QCheckBox] = {}
        for name, tip in (
            ("camera", "Off: only the selected layer follows zoom and pan (in 2D)"),
            ("depth", "Off: only the selected layer follows the slider, the others keep theirs"),
            ("contrast", "Equal phase per thickness looks equal; off: each layer for itself"),
        ):
            box = QCheckBox(name)
            box.setChecked(True)
            box.setToolTip(tip)
            box.toggled.connect(lambda _on: self.linked_changed.emit(self.linked()))
            row.addWidget(box)
            self.links[name] = box
        self.percentiles = QComboBox()
        for low, high in _PERCENTILES:
            self.percentiles.addItem(f"{low:g}–{high:g} %", (low, high))
        self.percentiles.setToolTip("Percentiles of the reference that set the common contrast")
        self.percentiles.activated.connect(self.options_changed)
        row.addStretch(1)
        row.addWidget(self.percentiles)
        return row

    def linked(self) -> Linked:
        """Which links are closed."""
        return Linked(**{name: box.isChecked() for name, box in self.links.items()})

    def options(self) -> Options:
        """What the views are told."""
        return Options(
            partner=str(self.partner.currentData() or ""),
            tile_A=self.tile.value(),
            split=self.split.value() / 1000,
            percentiles=tuple(self.percentiles.currentData()),
        )

    def flicker_ms(self) -> int:
        """How long each of the two is shown; 0 until told."""
        return int(self.pace.currentData())

    def show_prepared(self, prepared: Prepared) -> None:
        """Offer the results as partners, and the views that they allow."""
        kept = self.partner.currentData()
        with signals_blocked(self.partner):
            self.partner.clear()
            for result in prepared.comparable:
                self.partner.addItem(result.name, result.key)
            self.partner.setCurrentIndex(max(0, self.partner.findData(kept)))
        for view, button in self.buttons.items():
            # Side by side works for volumes at different places, too.
            shown = prepared.results if view is View.SIDE else prepared.comparable
            button.setEnabled(bool(shown))

    def offers(self, view: View) -> bool:
        """Whether the volumes allow this view."""
        return view is View.NONE or self.buttons[view].isEnabled()

    def show_view(self, view: View) -> None:
        """Show which view is on, and only what it can be told."""
        for known, button in self.buttons.items():
            with signals_blocked(button):
                button.setChecked(known is view)
        self.leave_button.setEnabled(view is not View.NONE)
        self.pair_row.setVisible(view.pairwise)
        self.tile.setVisible(view is View.CHECKER)
        self.split.setVisible(view is View.CURTAIN)
        self.pace.setVisible(view is View.FLICKER)
        self.toggle.setVisible(view is View.FLICKER)

    def _on_button(self, view: View, on: bool) -> None:
        self.view_chosen.emit(view if on else View.NONE)
