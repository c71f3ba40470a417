"""Results on disk, one JSON line each: what a run leaves behind and the next one starts from."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from napari_mep.errors import ExportError

__all__ = ["SCORES", "Failure", "Records", "Result", "dose_text", "read_lines"]

_log = logging.getLogger(__name__)

SCORES = ("ssim", "psnr", "ssim_sum", "psnr_sum")
"""Scores of a result, larger is better."""


@dataclass(frozen=True, slots=True)
class Result:
    """How one method did on one dataset.

    Parameters
    ----------
    key : str
        Stands for everything the result depends on, see `Task.key`.
    crystal, group, zone_axis : str
        The specimen.
    dose_e_per_A2 : float
        Dose, e/A^2.
    noise_seed : int
        Of the counting noise.
    label : str
        The method's.
    ssim, psnr, ssim_sum, psnr_sum : float
        See `napari_mep.evaluation.Scores`; PSNR in dB.
    residual, residual_floor : float or None
        See `napari_mep.reconstruction.Snapshot`, of the last step; None where a method has none.
    seconds : float
        Wall time of the reconstruction, loading of weights included.
    plan : dict
        All settings, see `Method.settings`.
    prior_sha256 : str or None
        Of the prior's weights.
    machine : dict
        What computed it, see `describe_machine`.
    """

    key: str
    crystal: str
    group: str
    zone_axis: str
    dose_e_per_A2: float
    noise_seed: int
    label: str
    ssim: float
    psnr: float
    ssim_sum: float
    psnr_sum: float
    residual: float | None
    residual_floor: float | None
    seconds: float
    plan: dict[str, Any]
    prior_sha256: str | None
    machine: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a crystal, or one method on it, has no result.

    Parameters
    ----------
    crystal : str
        The specimen.
    reason : str
        One line.
    what : str
        Zone axis, dose and method; empty if the whole crystal failed.
    """

    crystal: str
    reason: str
    what: str = ""

    def __str__(self) -> str:
        return f"{' '.join(filter(None, (self.crystal, self.what)))}: {self.reason}"


class Records:
    """The results of a benchmark directory, in ``results.jsonl``.

    Parameters
    ----------
    path : Path
        The file; need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._results = read_lines(path)
        except FileNotFoundError:
            self._results = {}

    def get(self, key: str) -> Result | None:
        """The result of this key, if there is one."""
        return self._results.get(key)

    def merge(self, results: Iterable[Result]) -> int:
        """Add the results whose cases have none yet; returns how many these were.

        Raises
        ------
        ExportError
            The disk refuses.
        """
        new = {r.key: r for r in results if r.key not in self._results}
        for result in new.values():
            self.append(result)
        return len(new)

    def append(self, result: Result) -> None:
        """Add a result; it is on the disk when this returns.

        Raises
        ------
        ExportError
            The disk refuses.
        """
        line = json.dumps(asdict(result), allow_nan=False) + "\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab+") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    # A run that was killed may have left half a line.
                    line = line if file.read(1) == b"\n" else "\n" + line
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as err:
            raise ExportError(f"{self._path}: not written ({err.strerror or err})") from None
        self._results[result.key] = result


def dose_text(dose_e_per_A2: float) -> str:
    """``1e5``, ``2.5e6``, ``300``."""
    mantissa, _, exponent = f"{dose_e_per_A2:e}".partition("e")
    if -1 <= int(exponent) <= 3:
        return f"{dose_e_per_A2:g}"
    return f"{float(mantissa):g}e{int(exponent)}"


def read_lines(path: Path) -> dict[str, Result]:
    """The results of a ``results.jsonl`` by key; lines that are no whole result are left out.

    Raises
    ------
    FileNotFoundError
        There is none.
    ExportError
        The file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        raise
    except OSError as err:
        raise ExportError(f"{path}: not readable ({err.strerror or err})") from None
    names = {field.name for field in fields(Result)}
    results = {}
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
        except ValueError:
            values = None
        if isinstance(values, dict) and set(values) == names:
            results[values["key"]] = Result(**values)
        elif line:
            _log.warning("%s: line %d is no whole result, left out", path, number)
    return results
