"""Methods that differ in one number only: what a curve can be drawn through."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from napari_mep.benchmark.methods import Method

__all__ = ["QUANTITIES", "Sweep", "sweeps"]

Sweep = tuple[tuple[int, Method], ...]
"""Numbers, rising, with the method of each."""

QUANTITIES = MappingProxyType({"steps": "sampling steps", "training": "training volumes"})
"""What methods with a prior may differ in."""


def sweeps(methods: Sequence[Method], quantity: str) -> list[Sweep]:
    """The sweeps over one quantity among some methods.

    Parameters
    ----------
    methods : sequence of Method
        Those without a prior are left out.
    quantity : str
        ``"steps"``: everything but `ReconstructionPlan.steps` is the same. ``"training"``:
        everything but the prior is, and the priors were trained on different numbers of volumes.

    Returns
    -------
    list of Sweep
        Each with two numbers or more.
    """
    alike: dict[str, dict[int, Method]] = {}
    for method in methods:
        if method.plan.method != "mep" or method.trained_volumes is None:
            continue
        if quantity == "steps":
            number, rest = method.plan.steps, method.plan.replace(steps=2)
        else:
            number, rest = method.trained_volumes, method.plan.replace(prior="any")
        alike.setdefault(rest.model_dump_json(), {})[number] = method
    return [tuple(sorted(one.items())) for one in alike.values() if len(one) > 1]
