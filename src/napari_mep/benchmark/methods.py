"""The methods that are compared, each a label with the plan behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from napari_mep.errors import PlanError
from napari_mep.prior.catalogue import load_card
from napari_mep.reconstruction.baselines.catalogue import BASELINES, baseline_record
from napari_mep.reconstruction.plan import ReconstructionPlan

__all__ = ["DEFAULT", "METHODS", "Method", "parse_methods"]

METHODS: tuple[str, ...] = get_args(ReconstructionPlan.model_fields["method"].annotation)
"""Names that `ReconstructionPlan.method` knows."""

DEFAULT: tuple[str, ...] = (*METHODS, *(f"{name}:tuned" for name in BASELINES))
"""What is compared unless the user names something: other packages also at their best."""


@dataclass(frozen=True, slots=True)
class Method:
    """A label with the plan behind it.

    Parameters
    ----------
    label : str
        What tables call it.
    plan : ReconstructionPlan
        Its settings.
    prior_sha256 : str or None
        Of the prior's weights; None for methods without a prior.
    trained_volumes : int or None
        Rendered crystals that the prior was trained on.
    """

    label: str
    plan: ReconstructionPlan
    prior_sha256: str | None = None
    trained_volumes: int | None = None

    def settings(self) -> dict[str, Any]:
        """What the result depends on: the plan without the parts that this method does not use.

        For a solver of another package, ``baseline`` says what its preset comes to there.
        """
        values = self.plan.model_dump(mode="json")
        # Only whole sections are left out: results of before are found again by what is told here.
        values = {name: value for name, value in values.items() if name not in self.plan.unused}
        for name, known in baseline_record(self.plan).items():
            values[name] = {**values.get(name, {}), **known}
        return values


def parse_methods(
    texts: Sequence[str] = DEFAULT,
    base: ReconstructionPlan | None = None,
    *,
    priors: Sequence[str] = (),
    steps: Sequence[int] = (),
) -> tuple[Method, ...]:
    """Methods as the user names them.

    Parameters
    ----------
    texts : sequence of str
        ``NAME`` is a method of the plan, ``NAME:PRESET`` one with `baseline.preset` set, and
        ``LABEL=PLAN.toml`` whatever the plan file says, taken as it is.
    base : ReconstructionPlan, optional
        Settings that all named methods share.
    priors : sequence of str
        ``mep`` runs with each of them, labelled ``mep@PRIOR`` if they are several.
    steps : sequence of int
        ``mep`` runs with each number of sampling steps, labelled ``mep/STEPS`` if they are several.

    Returns
    -------
    tuple of Method

    Raises
    ------
    PlanError
        An unknown method, a setting that is impossible or that no method uses, or a label given
        twice.
    WeightsError
        A prior is not there.
    """
    base = base or ReconstructionPlan()
    for option, values in (("prior", priors), ("steps", steps)):
        if values and "mep" not in texts:
            raise PlanError(
                f"{option} {', '.join(map(str, values))}: only method mep uses it; add mep to the "
                f"methods or leave {option} out"
            )
    methods: list[Method] = []
    for text in texts:
        label, equals, path = text.partition("=")
        if equals:
            methods.append(_method(label, ReconstructionPlan.from_toml(path)))
            continue
        plan = _named(text, base)
        if plan.method != "mep":
            methods.append(_method(text, plan))
            continue
        for prior in priors or (plan.prior,):
            at = f"@{_short(prior, priors)}" if len(priors) > 1 else ""
            for count in steps or (plan.steps,):
                slash = f"/{count}" if len(steps) > 1 else ""
                one = plan.replace(prior=prior, steps=count)
                methods.append(_method(f"{text}{at}{slash}", one))
    labels = [method.label for method in methods]
    for label in labels:
        if not label or labels.count(label) > 1:
            raise PlanError(f"method label {label!r}: every method needs a label of its own")
    if not methods:
        raise PlanError(f"methods: none given; name some of {', '.join(METHODS)}")
    return tuple(methods)


def _named(text: str, base: ReconstructionPlan) -> ReconstructionPlan:
    name, colon, preset = text.partition(":")
    if name not in METHODS:
        raise PlanError(
            f"method {text!r}: unknown; use {', '.join(METHODS)}, NAME:PRESET or LABEL=PLAN.toml"
        )
    if colon and name not in BASELINES:
        raise PlanError(
            f"method {text!r}: {name} has no presets, only {', '.join(BASELINES)} have; use {name}"
        )
    values = base.model_dump() | {"method": name}
    if colon:
        values["baseline"] = {**values["baseline"], "preset": preset}
    return ReconstructionPlan.parse(values, source=f"method {text!r}")


def _method(label: str, plan: ReconstructionPlan) -> Method:
    if plan.method != "mep":
        return Method(label, plan)
    card = load_card(plan.prior)
    return Method(label, plan, card.sha256, card.trained_volumes)


def _short(prior: str, priors: Sequence[str]) -> str:
    """The file's name without its folders, if that still tells the priors apart."""
    stems = [Path(p).stem for p in priors]
    return Path(prior).stem if len(set(stems)) == len(stems) else prior
