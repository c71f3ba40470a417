"""What is known of one scan while somebody calibrates it: values, sources, preprocessing, undo.

One object for all who look: the form, the helpers, the preview, and the Reconstruct widget, which
finds it in the metadata of the layers. It changes only in the GUI thread; what it hands out for a
thread (`opened`) is frozen.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_mep.data._quantities import check_value
from napari_mep.data.calibration import PartialCalibration, Source
from napari_mep.data.opened import OpenedPatterns
from napari_mep.data.preprocessing import PreprocessingPlan
from napari_mep.errors import MepError

__all__ = ["KEY", "ScanState", "state_of_layer"]

KEY = "scan"
"""Where layers keep it, in ``metadata["napari_mep"]``."""

_STEPS = ("detector_step_mrad", "detector_step_invA")


def state_of_layer(layer: Any) -> ScanState | None:
    """The state that a layer was made from, None if it knows none."""
    own = layer.metadata.get("napari_mep")
    state = own.get(KEY) if isinstance(own, dict) else None
    return state if isinstance(state, ScanState) else None


@dataclass(frozen=True, slots=True)
class _Known:
    """One step of the history."""

    calibration: PartialCalibration
    plan: PreprocessingPlan
    uncertainty: Mapping[str, float] = field(default_factory=dict)
    label: str = ""


class ScanState(QObject):
    """Calibration and preprocessing of a scan as they stand.

    Parameters
    ----------
    opened : OpenedPatterns
        As the file, and a calibration file, say.
    path : str
        What opens the scan again.

    Attributes
    ----------
    changed : Signal
        A value, an error or the preprocessing has changed.
    """

    changed = Signal()

    def __init__(self, opened: OpenedPatterns, path: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        known = opened.calibration
        self._original = opened
        self.path = path
        self._errors: dict[str, tuple[str, str]] = {}
        self._objection = ""
        plan = known.preprocessing or PreprocessingPlan()
        self._now = _Known(replace(known, preprocessing=None), plan)
        self._first = self._now
        self._past: list[_Known] = []
        self.revision = 0

    @property
    def original(self) -> OpenedPatterns:
        """The file, untouched."""
        return self._original

    @property
    def calibration(self) -> PartialCalibration:
        """Every value that is known, with its source; without preprocessing."""
        return self._now.calibration

    @property
    def plan(self) -> PreprocessingPlan:
        """What is done to the patterns."""
        return self._now.plan

    @property
    def uncertainty(self) -> Mapping[str, float]:
        """One standard deviation of what was fitted."""
        return self._now.uncertainty

    @property
    def first(self) -> tuple[PartialCalibration, PreprocessingPlan]:
        """As it was opened."""
        return self._first.calibration, self._first.plan

    @property
    def errors(self) -> Mapping[str, tuple[str, str]]:
        """Texts that are no possible values, by field: (text, reason)."""
        return self._errors

    @property
    def undo_label(self) -> str:
        """What `undo` would take back; empty if there is nothing."""
        return self._now.label if self._past else ""

    def opened(self) -> OpenedPatterns:
        """The patterns with what is known now; frozen, for a thread."""
        plan = None if self.plan.is_identity else self.plan
        return replace(self._original, calibration=replace(self.calibration, preprocessing=plan))

    def problem(self) -> str:
        """Why no reconstruction can start, one line that begins with the field; else empty."""
        for name, (_, reason) in self._errors.items():
            return f"{name}: {reason}"
        try:
            complete = self.calibration.complete()
            ky, kx = (int(n) for n in self._original.patterns.shape[2:])
            swapped = complete.detector_transpose
            complete.check_detector((kx, ky) if swapped else (ky, kx))
        except MepError as err:
            return str(err)
        return self._objection

    def object_to(self, reason: str) -> None:
        """Say what a thread found wrong with the present state (a file that is missing, ...)."""
        if reason != self._objection:
            self._objection = reason
            self._tell()

    def set_value(self, name: str, value: Any, text: str = "") -> None:
        """The user's value of a calibration field; None: not known.

        What is impossible is kept as an error beside `text`, and the last possible value stays.
        """
        if value is not None:
            try:
                value = check_value(name, value)
            except MepError as err:
                self.set_error(name, text, _reason(str(err)))
                return
        self._errors.pop(name, None)
        if value == self.calibration.values.get(name):
            self._tell()
            return
        dropped = {name, *(_STEPS if name in _STEPS else ())}
        values = {k: v for k, v in self.calibration.values.items() if k not in dropped}
        sources: dict[str, Source] = dict(self.calibration.sources)
        if value is not None:
            values[name], sources[name] = value, "user"
        uncertainty = {k: v for k, v in self.uncertainty.items() if k not in dropped}
        for other in dropped:
            self._errors.pop(other, None)
        known = PartialCalibration(values, {k: sources.get(k, "user") for k in values})
        self._change(_Known(known, self.plan, uncertainty, f"{name} by hand"))

    def set_error(self, name: str, text: str, reason: str) -> None:
        """A text that is no value of this field."""
        self._errors[name] = (text, reason)
        self._tell()

    def reset_value(self, name: str) -> None:
        """A calibration field as it was opened."""
        first = self._first.calibration
        names = {name, *(_STEPS if name in _STEPS else ())}
        values = {k: v for k, v in self.calibration.values.items() if k not in names}
        sources = dict(self.calibration.sources)
        for each in names:
            self._errors.pop(each, None)
            if each in first.values:
                values[each], sources[each] = first.values[each], first.sources[each]
        known = PartialCalibration(values, {k: sources.get(k, "user") for k in values})
        uncertainty = {k: v for k, v in self.uncertainty.items() if k not in names}
        self._change(_Known(known, self.plan, uncertainty, f"{name} as opened"))

    def set_preprocessing(self, name: str, value: Any, text: str = "") -> None:
        """One field of the preprocessing; what is impossible is kept as an error."""
        try:
            plan = self.plan.replace(**{name: value})
        except MepError as err:
            self.set_error(name, text, _reason(str(err)))
            return
        self._errors.pop(name, None)
        if plan == self.plan:
            self._tell()
        else:
            self._change(replace(self._now, plan=plan, label=f"{name} by hand"))

    def reset_preprocessing(self, name: str) -> None:
        """A field of the preprocessing as it was opened."""
        self.set_preprocessing(name, getattr(self._first.plan, name))

    def apply(
        self,
        label: str,
        calibration: Mapping[str, Any],
        *,
        uncertainty: Mapping[str, float] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
        bad: np.ndarray | None = None,
    ) -> None:
        """Take over what a helper proposes, as one step that `undo` takes back.

        Parameters
        ----------
        label : str
            For the undo button.
        calibration : mapping
            Values, which count as "fitted".
        uncertainty, preprocessing : mapping, optional
            One standard deviation by key; fields of the plan.
        bad : (ky, kx) bool ndarray, optional
            Bad pixels; kept as a file in the user's cache until the calibration is saved.

        Raises
        ------
        MepError, OSError
            A value is impossible, or the mask cannot be written.
        """
        changes = dict(preprocessing or {})
        if bad is not None:
            changes["bad_pixels_file"] = str(_store(bad))
        fitted = PartialCalibration.from_mapping(dict(calibration), "fitted")
        new = {k: float(v) for k, v in (uncertainty or {}).items() if k in calibration}
        kept = {k: v for k, v in self.uncertainty.items() if k not in calibration}
        for name in (*calibration, *changes):
            self._errors.pop(name, None)
        known = self.calibration.merge(fitted)
        self._change(
            _Known(
                PartialCalibration(known.values, known.sources),
                self.plan.replace(**changes),
                {**kept, **new},
                label,
            )
        )

    def undo(self) -> None:
        """Take back the last step."""
        if self._past:
            self._errors.clear()
            self._now = self._past.pop()
            self._tell(forget=True)

    def save(self, path: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write the calibration file, with the bad pixels beside it.

        Raises
        ------
        ExportError
            A file exists, or cannot be written.
        DataError
            The mask of bad pixels cannot be read.
        """
        from napari_mep.data._pattern_operations import read_image
        from napari_mep.data.estimate import Estimate
        from napari_mep.reconstruction.calibrate import Fix

        plan, bad = self.plan, None
        if plan.bad_pixels_file is not None and Path(plan.bad_pixels_file).parent == _folder():
            ky, kx = (int(n) for n in self._original.patterns.shape[2:])
            bad = read_image(plan.bad_pixels_file, (ky, kx), "bad_pixels_file") != 0
            plan = plan.replace(bad_pixels_file=None)
        errors = Estimate(title="", summary="", uncertainty=self.uncertainty)
        return Fix(self.calibration, (errors,), (), plan, bad).write(path, overwrite=overwrite)

    def _change(self, now: _Known) -> None:
        self._past.append(self._now)
        self._now = now
        self._tell(forget=True)

    def _tell(self, *, forget: bool = False) -> None:
        if forget:
            self._objection = ""
            self.revision += 1
        self.changed.emit()


def _reason(message: str) -> str:
    """The message without the name of the field, which stands beside it."""
    parts = message.removeprefix("preprocessing: ").partition(": ")
    return parts[2] or message


def _folder() -> Path:
    import platformdirs

    chosen = os.environ.get("NAPARI_MEP_CACHE")
    base = Path(chosen) if chosen else platformdirs.user_cache_path("napari-mep")
    return base / "bad-pixels"


def _store(bad: np.ndarray) -> Path:
    """Keep a mask under a name that depends only on what it is."""
    bad = np.ascontiguousarray(bad, dtype=bool)
    digest = hashlib.sha256(repr(bad.shape).encode() + np.packbits(bad).tobytes()).hexdigest()[:16]
    path = _folder() / f"{digest}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, bad)
    return path
