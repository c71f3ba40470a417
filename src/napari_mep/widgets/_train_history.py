"""The curves of a run, collected from the lines of its metrics as they come."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from napari_mep.widgets._compare_curves import Curve
from napari_mep.widgets._progress import duration

__all__ = ["History"]

_POINTS = 600  # of each curve; more than the plot is wide would only be slow
_NEEDED = ("volumes", "seconds", "progress", "eta_s", "volumes_per_second", "loss", "band_edges",
           "band_loss")  # fmt: skip


class History:
    """Losses against volumes seen, in thousands."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    @property
    def last(self) -> dict[str, Any] | None:
        """The newest record, None before there is one."""
        return self.records[-1] if self.records else None

    def add(self, records: Iterable[dict[str, Any]]) -> bool:
        """Take new records; those of a resumed run replace what came after its checkpoint.

        Returns
        -------
        bool
            Whether anything has changed.
        """
        new = [r for r in records if isinstance(r, dict) and all(k in r for k in _NEEDED)]
        if new:
            first = new[0]["volumes"]
            while self.records and self.records[-1]["volumes"] >= first:
                self.records.pop()
            self.records += new
        return bool(new)

    def curves(self) -> list[Curve]:
        """The weighted objective, dashed, and the v-loss of each band of logSNR."""
        if not self.records:
            return []
        shown = self.records[:: max(1, len(self.records) // _POINTS)]
        if shown[-1] is not self.records[-1]:
            shown = [*shown, self.records[-1]]
        edges = shown[-1]["band_edges"]
        thousands = np.array([r["volumes"] for r in shown], float) / 1000
        # Null, for a band that no volume was noised to yet, becomes NaN.
        bands = np.array([_as_many(r["band_loss"], len(edges) - 1) for r in shown], float)
        objective = np.array([r["loss"] for r in shown], float)
        return [
            Curve("objective", thousands, objective, 0),
            *(
                Curve(_minus(f"{low:.0f} … {high:.0f}"), thousands, bands[:, i], i + 1)
                for i, (low, high) in enumerate(pairwise(edges))
            ),
        ]

    def line(self, *, ended: bool = False) -> str:
        """How far the run is: volumes, loss, pace, time left."""
        last = self.last
        if last is None:
            return ""
        seen, done = last["volumes"], last["progress"]
        whole = f" ({100 * done:.0f} %)" if done < 1 else ""
        parts = [f"{seen:,} volumes{whole}", f"loss {last['loss']:.3f}"]
        if ended or done >= 1:
            parts.append(f"{duration(last['seconds'])} in all")
        else:
            parts.append(f"{last['volumes_per_second']:.3g} volumes/s")
            parts.append(f"{duration(last['eta_s'])} left")
        # Where the line must be broken, then between its parts.
        return " · ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts)


def _as_many(values: list[float | None], count: int) -> list[float | None]:
    """A run whose number of bands changed between two versions still has curves."""
    return (values + [None] * count)[:count]


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")
