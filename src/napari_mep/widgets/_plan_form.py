"""The settings of a reconstruction as a form: one plan in, one plan out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFormLayout, QGroupBox, QLabel, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_mep.errors import MepError
from napari_mep.prior.catalogue import shipped_priors
from napari_mep.reconstruction.baselines import BASELINES
from napari_mep.reconstruction.plan import ReconstructionPlan
from napari_mep.widgets._fields import ChoiceEditor, Look, editor_for, field_at
from napari_mep.widgets._preprocessing_summary import PreprocessingSummary
from napari_mep.widgets._schedule_plot import SchedulePlot

__all__ = ["Curve", "PlanForm"]

Curve = Callable[[ReconstructionPlan], tuple[np.ndarray, np.ndarray]]
"""(logSNR, weight) of each sampling step of a plan."""

_DEFAULT_PRIOR = ReconstructionPlan.model_fields["prior"].default
_METHOD = {
    "method": Look("Method"),
    "prior": Look("Prior", choices=shipped_priors() or [_DEFAULT_PRIOR]),
    "steps": Look("Steps", step=5),
    "samples": Look("Samples"),
    "start": Look("Start from"),
}
_METHOD_NAMES = {
    "mep": "Diffusion prior (MEP)",
    "gradient": "Gradient, no prior",
    **{name: baseline.title for name, baseline in BASELINES.items()},
}
_BASELINE = {
    "baseline.preset": Look("Preset"),
    "baseline.iterations": Look("Iterations", none="preset's", step=5, start=20),
    "baseline.learning_rate": Look(
        "Learning rate", none="preset's", decimals=4, step=0.001, start=0.005
    ),
    "baseline.batch": Look("Patterns per batch", none="preset's", step=16, start=32),
}
_GUIDANCE = {
    "guidance.schedule": Look("Schedule"),
    "guidance.strength": Look("Strength g₀", step=0.1),
    "guidance.shift_logsnr": Look("Shift λ₀", step=0.5, start=0.0),
    "guidance.width_logsnr": Look("Width τ", step=0.1),
    "guidance.gradient_at": Look("Gradient at"),
    "guidance.patterns_per_step": Look("Patterns per step", none="all", step=32, start=128),
}
_COMPUTE = {
    "device": Look("Device", choices=("auto", "cpu", "cuda", "mps")),
    "seed": Look("Seed"),
}
_ADVANCED = {
    "object.thickness_A": Look("Thickness", unit="Å", step=1.6, start=12.8),
    "object.slice_thickness_A": Look("Slice thickness", unit="Å", step=0.1, start=1.6),
    "object.pixel_size_A": Look("Pixel size", unit="Å", decimals=3, step=0.01, start=0.2),
    "object.wave_oversampling": Look("Wave window"),
    "object.waves": Look("Waves"),
    "gradient.iterations": Look("Gradient steps", step=2, start=24),
    "gradient.coarse_iterations": Look("Of these coarse to fine", step=2, start=24),
    "gradient.step": Look("Length of these", step=0.1),
    "gradient.coarse_invA": Look("Coarsest detail", unit="1/Å", step=0.1),
    "gradient.fine_invA": Look("Finest detail", unit="1/Å", step=0.1),
    "gradient.depth_deviation_rad": Look("Depth believed", unit="rad", decimals=3, step=0.01),
    "gradient.sum_deviation_rad": Look("Sum believed", unit="rad", decimals=3, step=0.05),
    "tile_overlap": Look("Tile overlap", step=0.05),
    "start_logsnr": Look("Start logSNR", step=0.5, start=-3.0),
    "second_start_logsnr": Look("Of every other sample", step=0.5, start=2.0),
    "end_logsnr": Look("End logSNR", step=0.5),
    "mean_of": Look("Mean of"),
    "finish_iterations": Look("Gradient steps at the end"),
    "finish_deviation_rad": Look(
        "Error of the mean", unit="rad", decimals=3, step=0.001, start=0.005
    ),
    "finish_depth_deviation_rad": Look(
        "Over depth", unit="rad", decimals=3, step=0.001, start=0.005
    ),
    "eta": Look("Stochasticity η", step=0.1),
    "precision": Look("Precision of the network"),
    "likelihood": Look("Likelihood"),
    "preprocessing": Look("Preprocessing"),
}
# Settings that a method does not read are greyed out, so that nobody tunes them in vain.
_ONLY_MEP = {
    *(_METHOD.keys() - {"method"}),
    *_GUIDANCE,
    "tile_overlap",
    "start_logsnr",
    "second_start_logsnr",
    "end_logsnr",
    "mean_of",
    "finish_iterations",
    "finish_deviation_rad",
    "finish_depth_deviation_rad",
    "eta",
    "precision",
}


class PlanForm(QWidget):
    """Edits one `ReconstructionPlan`; every setting of the plan has its row.

    Parameters
    ----------
    curve : callable
        Gives the guidance schedule of a plan for the picture.

    Attributes
    ----------
    changed : Signal
        After any edit; the plan may be invalid then.
    """

    changed = Signal()

    def __init__(self, curve: Curve, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._curve = curve
        self._editors: dict[str, Any] = {}
        self._labels: dict[str, QLabel] = {}
        self.plot = SchedulePlot()

        self._outside = self._group("Outside baseline", _BASELINE)
        guidance = self._group("Guidance by the data", _GUIDANCE)
        guidance.layout().addRow(self.plot)
        self.advanced = QCollapsible("Advanced")
        self.advanced.setDuration(0)
        inner = QWidget()
        self._rows(QFormLayout(inner), _ADVANCED)
        self.advanced.addWidget(inner)

        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (
            self._group("Method", _METHOD),
            self._outside,
            guidance,
            self._group("Compute", _COMPUTE),
            self.advanced,
        ):
            layout.addWidget(part)
        self._align()
        self.set_plan(ReconstructionPlan())

    def plan(self) -> ReconstructionPlan:
        """The plan as it stands in the form.

        Raises
        ------
        PlanError
            Two settings contradict each other, or a text is not allowed.
        """
        values: dict[str, Any] = {}
        for path, editor in self._editors.items():
            *parents, name = path.split(".")
            target = values
            for parent in parents:
                target = target.setdefault(parent, {})
            target[name] = editor.value()
        return ReconstructionPlan.parse(values, source="settings")

    def set_plan(self, plan: ReconstructionPlan) -> None:
        """Show a plan."""
        values = plan.model_dump()
        for path, editor in self._editors.items():
            value: Any = values
            for name in path.split("."):
                value = value[name]
            was_blocked = editor.blockSignals(True)
            editor.set_value(value)
            editor.blockSignals(was_blocked)
        self._on_changed()

    @property
    def label_width(self) -> int:
        """Width of the column of labels in pixels."""
        return max(label.sizeHint().width() for label in self._labels.values())

    def editor(self, path: str) -> Any:
        """Editor of a setting by its dotted path, for example ``"guidance.strength"``."""
        return self._editors[path]

    def set_locked(self, locked: bool) -> None:
        """Lock the settings while a run uses them; the picture stays alive."""
        for editor in self._editors.values():
            editor.setEnabled(not locked)
        if not locked:
            self._grey_out()

    def _group(self, title: str, looks: dict[str, Look]) -> QGroupBox:
        box = QGroupBox(title)
        self._rows(QFormLayout(box), looks)
        return box

    def _rows(self, form: QFormLayout, looks: dict[str, Look]) -> None:
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
        form.setHorizontalSpacing(8)
        form.setVerticalSpacing(4)
        for path, look in looks.items():
            field = field_at(ReconstructionPlan, path)
            editor: Any
            if path == "method":
                editor = _NamedChoices(_METHOD_NAMES)
            elif path == "preprocessing":
                editor = PreprocessingSummary()
            else:
                editor = editor_for(field, look)
            editor.setToolTip(field.description or "")
            editor.setAccessibleName(look.label)
            editor.changed.connect(self._on_changed)
            label = QLabel(look.label)
            label.setBuddy(editor)
            label.setToolTip(editor.toolTip())
            form.addRow(label, editor)
            self._editors[path] = editor
            self._labels[path] = label

    def _align(self) -> None:
        """One width for all labels, so that the groups line up."""
        width = self.label_width
        for label in self._labels.values():
            label.setMinimumWidth(width)

    def _grey_out(self) -> None:
        method = self._editors["method"].value()
        sampling, outside = method == "mep", method in BASELINES
        self._outside.setVisible(outside)
        for path, editor in self._editors.items():
            used = sampling or path not in _ONLY_MEP
            if path.startswith("gradient."):
                warm = sampling and self._editors["start"].value() == "gradient"
                used = method == "gradient" or warm
            elif path.startswith("baseline."):
                used = outside
            elif path in ("object.wave_oversampling", "object.waves"):
                used = not outside
            elif path in ("guidance.shift_logsnr", "guidance.width_logsnr"):
                used = sampling and self._editors["guidance.schedule"].value() == "shifted-sigmoid"
            editor.setEnabled(used)
            self._labels[path].setEnabled(used)

    def _on_changed(self) -> None:
        self._grey_out()
        self._draw_curve()
        self.changed.emit()

    def _draw_curve(self) -> None:
        try:
            plan = self.plan()
            if plan.method in BASELINES:
                self.plot.set_message("no prior, no guidance: the package's own solver")
                return
            if plan.method != "mep":
                self.plot.set_message("no prior, no guidance: full data steps")
                return
            self.plot.set_curve(*self._curve(plan))
        except MepError as err:
            self.plot.set_message(str(err))


class _NamedChoices(ChoiceEditor):
    """One of a few words of the plan, each shown by a name for people."""

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__(list(names.values()))
        for index, word in enumerate(names):
            self.setItemData(index, word)

    def value(self) -> str:
        """The word that the plan has for the chosen name."""
        return str(self.currentData())

    def set_value(self, value: str) -> None:
        """Choose a word of the plan."""
        self.setCurrentIndex(self.findData(value))
