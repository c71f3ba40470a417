"""One crystal seen along one axis, its simulation, and the tasks that it gives."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_mep.benchmark.methods import Method
from napari_mep.benchmark.records import Failure
from napari_mep.benchmark.specimens import Specimen, zone_axis_text
from napari_mep.crystals.samples import Sample, resolve
from napari_mep.data._store import READ_ERRORS, to_json
from napari_mep.data.calibration import Calibration
from napari_mep.data.experiment import Experiment
from napari_mep.data.simulate import ExpectedPatterns
from napari_mep.errors import CrystalError, ExportError
from napari_mep.volume import PhaseVolume

__all__ = ["SimulationCache", "Task", "View", "make_tasks", "read_views"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A crystal along one axis under one experiment: what is simulated once.

    Parameters
    ----------
    name, group : str
        Of the `Specimen`.
    sample : Sample
        The crystal, read.
    experiment : Experiment
        Conditions, zone axis included.
    digest : str
        Stands for atoms and experiment: 16 hexadecimal digits.
    """

    name: str
    group: str
    sample: Sample
    experiment: Experiment
    digest: str

    @property
    def zone_axis(self) -> str:
        """``"a"``, ``"b"``, ``"c"`` or ``"u,v,w"``."""
        return zone_axis_text([int(n) for n in self.experiment.zone_axis])


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One method on one dataset.

    Parameters
    ----------
    view : View
        The simulation.
    dose_e_per_A2 : float
        Dose, e/A^2.
    seed : int
        Of the counting noise: every method gets the same counts.
    method : Method
        What reconstructs.
    """

    view: View
    dose_e_per_A2: float
    seed: int
    method: Method

    @property
    def key(self) -> str:
        """Stands for everything the result depends on: 16 hexadecimal digits."""
        return _digest(
            self.view.digest,
            self.dose_e_per_A2,
            self.seed,
            self.method.settings(),
            self.method.prior_sha256,
        )


def read_views(
    specimens: Iterable[Specimen], experiment: Experiment
) -> tuple[list[View], list[Failure]]:
    """Read the crystals; those that cannot be read become failures."""
    views: list[View] = []
    failures: list[Failure] = []
    for specimen in specimens:
        try:
            sample = resolve(specimen.source)
        except CrystalError as err:
            failures.append(Failure(specimen.name, str(err)))
            continue
        for axis in specimen.zone_axes:
            conditions = replace(experiment, zone_axis=axis)
            digest = _digest(_atoms(sample), asdict(conditions))
            views.append(View(specimen.name, specimen.group, sample, conditions, digest))
    return views, failures


def make_tasks(
    views: Iterable[View], doses: Sequence[float], methods: Sequence[Method], seed: int
) -> list[Task]:
    """Every method on every dose of every view, crystal by crystal."""
    return [
        Task(view, dose, seed, method) for view in views for dose in doses for method in methods
    ]


@dataclass(frozen=True, slots=True)
class SimulationCache:
    """Noise-free simulations on disk, one file for each view.

    Parameters
    ----------
    folder : Path
        Made when the first simulation is stored.
    """

    folder: Path

    def load(self, view: View) -> ExpectedPatterns | None:
        """The simulation of a view; None if there is none or its file is broken."""
        path = self._path(view)
        if not path.is_file():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                meta = json.loads(str(archive["meta"]))
                specimen = PhaseVolume(
                    archive["phase"], tuple(meta["voxel_size_A"]), tuple(meta["origin_A"])
                )
                return ExpectedPatterns(
                    archive["patterns"],
                    specimen,
                    Calibration.model_validate(meta["calibration"]),
                    meta["name"],
                    meta["provenance"],
                )
        except READ_ERRORS as err:
            _log.warning("%s is broken and will be simulated again (%s)", path, err)
            return None

    def store(self, view: View, expected: ExpectedPatterns) -> None:
        """Write a simulation; the file appears whole or not at all.

        Raises
        ------
        ExportError
            The disk refuses.
        """
        meta = {
            "voxel_size_A": list(expected.specimen.voxel_size_A),
            "origin_A": list(expected.specimen.origin_A),
            "calibration": expected.calibration.model_dump(mode="json"),
            "name": expected.name,
            "provenance": to_json(expected.provenance),
        }
        path = self._path(view)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as file:
                try:
                    np.savez(
                        file,
                        patterns=expected.patterns,
                        phase=expected.specimen.data,
                        meta=np.array(json.dumps(meta)),
                    )
                    file.close()
                    os.replace(file.name, path)
                except BaseException:
                    os.unlink(file.name)
                    raise
        except OSError as err:
            raise ExportError(f"simulation {path}: not written ({err.strerror or err})") from None

    def _path(self, view: View) -> Path:
        name = re.sub(r"[^A-Za-z0-9.-]+", "-", f"{view.name}-{view.zone_axis}")
        return self.folder / f"{name}-{view.digest}.npz"


def _atoms(sample: Sample) -> list[Any]:
    """What makes the specimen, in values that JSON can hold."""
    crystal = sample.crystal
    occupancy = crystal.occupancy if crystal.occupancy is not None else ()
    return [
        sample.fill.__name__,  # how the box is filled: perfect, with vacancies, ...
        crystal.numbers.tolist(),
        *(np.round(a, 6).tolist() for a in (crystal.cell_A, crystal.fractional, occupancy)),
    ]


def _digest(*values: object) -> str:
    return hashlib.sha256(json.dumps(to_json(values), sort_keys=True).encode()).hexdigest()[:16]
