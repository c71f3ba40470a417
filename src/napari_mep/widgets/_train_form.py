"""The settings of a training run as a form: one request in, one request out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from enum import Enum
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_mep.prior.catalogue import shipped_priors
from napari_mep.training.settings import TrainingSettings
from napari_mep.widgets._fields import (
    ChoiceEditor,
    FloatEditor,
    FolderEditor,
    IntEditor,
    LargeIntEditor,
    Look,
    TextEditor,
)
from napari_mep.widgets._train_request import TrainRequest

__all__ = ["PRESET_NAMES", "Lock", "TrainForm"]

PRESET_NAMES = ("tiny", "small", "base", "paper")
"""The keys of `napari_mep.prior.unet.PRESETS`, which only torch can tell."""

_BY_TIME, _BY_VOLUMES = "minutes of training", "rendered volumes"
_LARGEST = 2**31 - 1
# Settings whose editor has their name and shows their value as it is.
_ROWS = ("volumes", "batch", "learning_rate", "estimate_share", "schedule", "precision")
_HELP = {f.name: f.metadata["description"] for f in fields(TrainingSettings)}


class Lock(Enum):
    """What may be edited."""

    FREE = "all"
    BOUND = "what a run that is resumed may change"
    SHUT = "nothing"


class TrainForm(QWidget):
    """Edits one `TrainRequest`.

    Settings without a row of their own keep the value of the request that is shown.

    Attributes
    ----------
    changed : Signal
        After any edit.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._base = TrainingSettings()
        self._labels: list[QLabel] = []
        self.preset = ChoiceEditor(PRESET_NAMES)
        self.preset.setToolTip(
            "Size of the network: tiny trains on a CPU in an hour, small and base want a GPU, "
            "paper is that of MEP-Diffusion"
        )
        self.budget = ChoiceEditor((_BY_TIME, _BY_VOLUMES))
        self.budget.setToolTip("What ends the run; all its pieces count together")
        self.minutes = FloatEditor(
            0.01, 1e6, Look("", unit="min", decimals=2, step=10)
        )  # fmt: skip
        self.volumes = IntEditor(1, _LARGEST, Look("", step=10_000))
        self.volumes.setGroupSeparatorShown(True)
        self.device = TextEditor(("auto", "cpu", "cuda", "mps"))
        self.device.setToolTip("Where the network is trained; auto takes a GPU where there is one")
        self.batch = IntEditor(1, 65536, Look("", step=8))
        self.learning_rate = FloatEditor(1e-6, 1.0, Look("", decimals=6, step=1e-4))
        self.initial = TextEditor(("", *shipped_priors()))
        self.initial.setToolTip(
            "A prior to start from, of the same preset: a shipped one's name or the path of "
            "weights; empty: random weights"
        )
        self.estimate_share = FloatEditor(0.0, 1.0, Look("", decimals=2, step=0.1))
        self.estimate_share.setSpecialValueText("none")
        self.solved_views = FolderEditor("Solved views", "none")
        self.solved_views.setToolTip(
            "Folder of `napari-mep solve`: half of the volumes come from there, with what the "
            "solver made of simulated patterns; empty: all are rendered. To be named again when a "
            "run is resumed"
        )
        self.schedule = ChoiceEditor(_choices("schedule"))
        self.precision = ChoiceEditor(_choices("precision"))
        self.seed = LargeIntEditor(0, _LARGEST)
        for name in ("minutes", *_ROWS):
            getattr(self, name).setToolTip(_HELP[name])
        self.sample_minutes = FloatEditor(0, 1e4, Look("", unit="min", decimals=2, step=1))
        self.sample_minutes.setSpecialValueText("none")
        self.sample_minutes.setToolTip(
            "Training time between unconditional samples, four volumes of pure prior; 0: none"
        )
        self.checkpoint_minutes = FloatEditor(0.05, 1e4, Look("", unit="min", decimals=2, step=1))
        self.checkpoint_minutes.setToolTip(
            "Training time between checkpoints: what a crash may cost at most"
        )
        self.compiled = ChoiceEditor(("no", "yes"))
        self.compiled.setToolTip("torch.compile: a minute or two to start, faster steps on a GPU")
        self._fixed = (
            self.preset, self.batch, self.precision, self.seed, self.initial, self.estimate_share,
        )  # fmt: skip
        self._build()
        self.set_request(TrainRequest())

    def request(self) -> TrainRequest:
        """What the form says.

        Raises
        ------
        PlanError
            If a value is out of its limits.
        """
        timed = self.budget.value() == _BY_TIME
        settings = replace(
            self._base,
            preset=self.preset.value(),
            minutes=self.minutes.value() if timed else 0.0,
            volumes=self.volumes.value(),
            batch=self.batch.value(),
            learning_rate=self.learning_rate.value(),
            estimate_share=self.estimate_share.value(),
            schedule=self.schedule.value(),
            precision=self.precision.value(),
            seed=self.seed.value(),
        )
        return TrainRequest(
            settings=settings,
            device=self.device.value() or "auto",
            sample_minutes=self.sample_minutes.value(),
            checkpoint_minutes=self.checkpoint_minutes.value(),
            compiled=self.compiled.value() == "yes",
            initial=self.initial.value(),
            solved_views=self.solved_views.value(),
        )

    def set_request(self, request: TrainRequest) -> None:
        """Show a request."""
        self.set_settings(request.settings)
        self.device.set_value(request.device)
        self.sample_minutes.set_value(request.sample_minutes)
        self.checkpoint_minutes.set_value(request.checkpoint_minutes)
        self.compiled.set_value("yes" if request.compiled else "no")
        self.initial.set_value(request.initial)
        self.solved_views.set_value(request.solved_views)

    def set_settings(self, settings: TrainingSettings) -> None:
        """Show what a run was made with."""
        self._base = settings
        was = self.blockSignals(True)
        self.budget.set_value(_BY_TIME if settings.minutes else _BY_VOLUMES)
        self.minutes.set_value(settings.minutes or 60.0)
        for name in ("preset", *_ROWS):
            getattr(self, name).set_value(getattr(settings, name))
        self.seed.set_value(settings.seed)
        self.blockSignals(was)
        self._on_changed()

    def forget_run(self) -> None:
        """What has no row takes its default again: a new run would not be told of it."""
        self._base = TrainingSettings()

    def set_lock(self, lock: Lock) -> None:
        """Keep the settings while a process uses them, or those that belong to the run."""
        for editor in self._editors:
            editor.setEnabled(
                lock is Lock.FREE or (lock is Lock.BOUND and editor not in self._fixed)
            )

    def _build(self) -> None:
        self._amount = QWidget()
        amounts = QHBoxLayout(self._amount)
        amounts.setContentsMargins(0, 0, 0, 0)
        for part in (self.minutes, self.volumes):
            part.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            amounts.addWidget(part)
        run = QGroupBox("Training")
        self._rows(
            QFormLayout(run),
            {
                "Preset": self.preset,
                "Budget in": self.budget,
                "Budget": self._amount,
                "Samples every": self.sample_minutes,
                "Device": self.device,
            },
        )
        self.advanced = QCollapsible("Advanced")
        self.advanced.setDuration(0)
        inner = QWidget()
        self._rows(
            QFormLayout(inner),
            {
                "Start from": self.initial,
                "Estimates": self.estimate_share,
                "Solved views": self.solved_views,
                "Batch": self.batch,
                "Learning rate": self.learning_rate,
                "Schedule": self.schedule,
                "Precision": self.precision,
                "torch.compile": self.compiled,
                "Checkpoint every": self.checkpoint_minutes,
                "Seed": self.seed,
            },
        )
        self.advanced.addWidget(inner)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(run)
        layout.addWidget(self.advanced)
        width = max(label.sizeHint().width() for label in self._labels)
        for label in self._labels:
            label.setMinimumWidth(width)
        self._editors: tuple[Any, ...] = (
            self.preset, self.budget, self.minutes, self.volumes, self.sample_minutes, self.device,
            self.initial, self.estimate_share, self.solved_views, self.batch, self.learning_rate,
            self.schedule, self.precision, self.compiled, self.checkpoint_minutes, self.seed,
        )  # fmt: skip
        for editor in self._editors:
            editor.changed.connect(self._on_changed)

    def _rows(self, form: QFormLayout, rows: dict[str, QWidget]) -> None:
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
        form.setHorizontalSpacing(8)
        form.setVerticalSpacing(4)
        for text, editor in rows.items():
            label = QLabel(text)
            label.setBuddy(editor)
            label.setToolTip(editor.toolTip())
            editor.setAccessibleName(text)
            form.addRow(label, editor)
            self._labels.append(label)

    def _on_changed(self) -> None:
        timed = self.budget.value() == _BY_TIME
        self.minutes.setVisible(timed)
        self.volumes.setVisible(not timed)
        self.changed.emit()


def _choices(name: str) -> Sequence[str]:
    return next(f.metadata["choices"] for f in fields(TrainingSettings) if f.name == name)
