"""The settings of a reconstruction: one typed, immutable object that says everything.

A plan is what a TOML file holds, what the command line builds, what the widget edits and what an
exported result carries as provenance. Same plan, same data, same seed: same result.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_mep.data._validation import in_words
from napari_mep.data.preprocessing import PreprocessingPlan
from napari_mep.errors import PlanError
from napari_mep.prior.catalogue import ModelCard

__all__ = [
    "START_LOGSNR",
    "BaselinePlan",
    "GradientPlan",
    "GuidancePlan",
    "ObjectPlan",
    "ReconstructionPlan",
]

START_LOGSNR = {"noise": -13.37, "gradient": 2.0, "estimate": -8.0, "expectation": -10.0}
"""Where sampling starts unless the plan says otherwise: k = 800; k = 0.4 for a warm start; k = 55
for a prior that sees the gradient solution, whom the noisy volume need not tell what it says; k =
150 where the first prediction is the result, which should not depend on the noise at all."""


_OF_THE_PRIOR = frozenset(
    {
        "prior",
        "steps",
        "samples",
        "start",
        "start_logsnr",
        "second_start_logsnr",
        "mean_of",
        "finish_iterations",
        "finish_deviation_rad",
        "finish_depth_deviation_rad",
        "end_logsnr",
        "eta",
        "guidance",
        "tile_overlap",
        "precision",
    }
)
"""Settings that only the solver with the prior looks at."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ObjectPlan(_Frozen):
    """The reconstruction canvas."""

    thickness_A: float | None = Field(
        None, gt=0, description="Specimen thickness in A; None: from the calibration."
    )
    slice_thickness_A: float | None = Field(
        None, gt=0, description="Slice thickness in A; None: the prior's (1.6 A)."
    )
    pixel_size_A: float | None = Field(
        None, gt=0, description="Lateral voxel in A; None: the prior's (0.2 A)."
    )
    wave_oversampling: int = Field(
        2,
        ge=1,
        le=4,
        description="Width of the wave window in detector windows (1/detector step). 1 lets the "
        "tail of a defocused probe wrap around; 2 models a binned detector properly. Baselines "
        "take their preset's.",
    )
    waves: Literal["auto", "fast", "precise"] = Field(
        "auto",
        description="precise: quasi-Newton steps, which look for depth, follow waves on three "
        "windows, a quarter farther than the detector and past atom cores that absorb; an "
        "evaluation takes three to four times as long. auto: where such steps come before the "
        "finish and the dose suffices for them.",
    )

    def settled(self, *, precise: bool) -> Self:
        """A copy that does not leave it to others how waves are followed."""
        found = "precise" if precise else "fast"
        return self.model_copy(update={"waves": found} if self.waves == "auto" else {})


class GradientPlan(_Frozen):
    """The solver without a prior: coarse to fine, then quasi-Newton steps."""

    iterations: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Evaluations of all data; None: 24, or 45 before a prior that has learned what "
        "quasi-Newton steps leave, where counting noise leaves a voxel less than 0.025 rad (20,000 "
        "e/A2).",
    )
    coarse_iterations: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="The first of these: accelerated gradient steps, coarse structure first. The "
        "phase of heavy columns then grows past pi instead of settling a turn too low. Further "
        "ones are quasi-Newton steps, which find depth: at high dose, and with a calibration that "
        "is right. None: 24.",
    )
    step: float = Field(
        1.0, gt=0, le=2, description="Length of these; 1 is a Gauss-Newton step of the depth sum."
    )
    coarse_invA: float = Field(
        0.4, gt=0, le=100, description="Width in 1/A of the Gaussian low-pass on the first step."
    )
    fine_invA: float = Field(
        2.5,
        gt=0,
        le=100,
        description="The same on the last of them; in between the width grows geometrically.",
    )
    depth_deviation_rad: float = Field(
        0.05,
        gt=0,
        le=100,
        description="What is believed before the data: standard deviation of a voxel's phase from "
        "the mean over depth. Depth that the data know less well than that stays at the mean.",
    )
    sum_deviation_rad: float = Field(
        0.3,
        gt=0,
        le=100,
        description="The same of the mean over depth about zero, times the square root of the "
        "number of slices.",
    )

    def counts(self, *, find_depth: bool = False) -> tuple[int, int]:
        """Evaluations in all, and how many of them at most go coarse to fine.

        Where the former is left open, `find_depth` decides whether there are quasi-Newton steps.
        """
        iterations = 45 if find_depth else 24
        return (
            iterations if self.iterations is None else self.iterations,
            24 if self.coarse_iterations is None else self.coarse_iterations,
        )

    def settled(self, *, find_depth: bool = False) -> Self:
        """A copy with these written in."""
        iterations, coarse = self.counts(find_depth=find_depth)
        return self.model_copy(update={"iterations": iterations, "coarse_iterations": coarse})


class BaselinePlan(_Frozen):
    """The solvers of other packages: lsq-ml (Pty-Chi), ptyrad-adam and ptyrad-lbfgs (PtyRAD)."""

    preset: Literal["paper", "tuned"] = Field(
        "paper",
        description="paper: the settings of Belardi et al. (2025), Table 1, with the package's own "
        "defaults where they say nothing; tuned: the best that we found for the package.",
    )
    iterations: int | None = Field(
        None, ge=1, le=100_000, description="Passes over all patterns; None: the preset's."
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=10,
        description="Step of the phase: in radians for Adam, a factor for L-BFGS and LSQ-ML; "
        "None: the preset's.",
    )
    batch: int | None = Field(
        None, ge=1, le=100_000, description="Patterns in a mini-batch; None: the preset's."
    )


class GuidancePlan(_Frozen):
    """How strongly the data pull on each x-prediction: x~ = x^ - g(logSNR) P grad L(x^)."""

    schedule: Literal["shifted-sigmoid", "alpha", "constant"] = Field(
        "shifted-sigmoid", description="Form of g(logSNR)."
    )
    strength: float = Field(1.0, ge=0, le=10, description="g0, in preconditioned steps.")
    shift_logsnr: float | None = Field(
        None,
        ge=-20,
        le=20,
        description="lambda0 of the sigmoid; None: measured as ln(curvature of the data term).",
    )
    width_logsnr: float = Field(1.0, gt=0, le=20, description="tau, width of the sigmoid.")
    gradient_at: Literal["prediction", "network"] = Field(
        "prediction",
        description="Where the gradient is taken: at the x-prediction, or through the network "
        "(diffusion posterior sampling; about twice the network time).",
    )
    patterns_per_step: int | None = Field(
        256, ge=1, description="Random diffraction patterns in each step; None: all."
    )


class ReconstructionPlan(_Frozen):
    """Everything a reconstruction depends on, besides the data.

    Raises
    ------
    PlanError
        From `from_toml` and `parse`, with one line that names the field and the remedy.
    """

    method: Literal["mep", "gradient", "lsq-ml", "ptyrad-adam", "ptyrad-lbfgs"] = Field(
        "mep",
        description="Which solver: with the prior (mep), without (gradient), or another package's.",
    )
    prior: str = Field(
        "crystals-depth", description="Name of a shipped prior or path of its weights."
    )
    steps: int = Field(6, ge=2, le=10_000, description="Sampling steps of each sample.")
    samples: int = Field(
        4,
        ge=1,
        le=256,
        description="Posterior samples; the result is a mean over them, or over as many first "
        "predictions and at least eight (`mean_of`), and they tell how sure it is.",
    )
    start: Literal["noise", "gradient"] = Field(
        "gradient",
        description="Start from pure noise, or from the gradient solution noised to start_logsnr.",
    )
    start_logsnr: float | None = Field(
        None,
        ge=-20,
        le=10,
        description="Where sampling starts; None: -13.4 (noise), 2 (gradient), -8 (gradient, with "
        "a prior that sees the gradient solution).",
    )
    second_start_logsnr: float | None = Field(
        None,
        ge=-20,
        le=10,
        description="Where every other sample starts; None: as start_logsnr, but 2 where that is "
        "left open, too, with a prior that sees the gradient solution. The mean is then one of "
        "samples that decide depth anew and samples that keep what the gradient solution has.",
    )
    mean_of: Literal["auto", "samples", "predictions"] = Field(
        "auto",
        description="What the result is the mean of: the samples, or the first prediction of each, "
        "made at start_logsnr for one of eight orientations, and those of the orientations left. "
        "From pure noise that is what the prior expects, given the gradient solution. auto: "
        "predictions with a prior that has learned what quasi-Newton steps leave.",
    )
    finish_iterations: int = Field(
        12,
        ge=0,
        le=10_000,
        description="Full-data steps from the mean of the samples, which takes back what "
        "the prior got wrong and the data know.",
    )
    finish_deviation_rad: float | None = Field(
        None,
        gt=0,
        le=100,
        description="How far the mean may be from the truth, rms over voxels: these steps go no "
        "farther than the data are surer than that. None: 0.017, but 0.005 for a mean of "
        "predictions.",
    )
    finish_depth_deviation_rad: float | None = Field(
        None,
        gt=0,
        le=100,
        description="The same of what departs from the mean over depth; None: as "
        "finish_deviation_rad.",
    )
    end_logsnr: float = Field(4.6, ge=-10, le=20, description="Where sampling ends.")
    eta: float = Field(1.0, ge=0, le=1, description="Stochasticity: 1 is the SDE, 0 the ODE.")
    likelihood: Literal["auto", "amplitude", "poisson"] = Field(
        "auto",
        description="Counting statistics of the data term. amplitude, Gaussian in the square root, "
        "asks for less scattering than there is where pixels count few electrons. auto: poisson; "
        "amplitude for another package's solver, which is what its authors use.",
    )
    guidance: GuidancePlan = GuidancePlan()
    gradient: GradientPlan = GradientPlan()
    baseline: BaselinePlan = BaselinePlan()
    object: ObjectPlan = ObjectPlan()
    preprocessing: PreprocessingPlan | None = Field(
        None, description="What is done to the patterns first; None: only what the data say."
    )
    tile_overlap: float = Field(0.25, ge=0, lt=1, description="Lateral overlap of prior tiles.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of every random number.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Arithmetic of the prior's network; auto: bfloat16 where the device has it in "
        "hardware. The data term is float32 always.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        start = START_LOGSNR[self.start] if self.start_logsnr is None else self.start_logsnr
        for name, level in (
            ("start_logsnr", start),
            ("second_start_logsnr", self.second_start_logsnr),
        ):
            if level is not None and level >= self.end_logsnr:
                raise ValueError(f"{name} {level} must lie below end_logsnr {self.end_logsnr}")
        return self

    @property
    def counting(self) -> Literal["amplitude", "poisson"]:
        """The likelihood, settled."""
        if self.likelihood != "auto":
            return self.likelihood
        return "poisson" if self.method in ("mep", "gradient") else "amplitude"

    def settled(
        self, *, sees_estimate: bool, knows_depth: bool = False, resolves_depth: bool = True
    ) -> ReconstructionPlan:
        """A copy that leaves nothing open.

        Parameters
        ----------
        sees_estimate : bool
            The prior sees the gradient solution.
        knows_depth : bool
            It has learned what quasi-Newton steps leave (`ModelCard.knows_depth`).
        resolves_depth : bool
            The data have the dose for such steps (`Problem.resolves_depth`).
        """
        told = self.method == "mep" and sees_estimate and self.start == "gradient"
        gradient = self.gradient.settled(find_depth=told and knows_depth and resolves_depth)
        iterations, coarse = gradient.counts()
        found: dict[str, Any] = {
            "gradient": gradient,
            "object": self.object.settled(precise=resolves_depth and iterations > coarse),
        }
        if self.method != "mep":
            return self.model_copy(update={} if "gradient" in self.unused else found)
        mean_of = self.mean_of
        if mean_of == "auto":
            mean_of = found["mean_of"] = "predictions" if told and knows_depth else "samples"
        if self.start_logsnr is None:
            start: str = self.start
            if told:
                start = "expectation" if mean_of == "predictions" else "estimate"
            found["start_logsnr"] = START_LOGSNR[start]
            if start == "estimate" and self.second_start_logsnr is None:
                found["second_start_logsnr"] = START_LOGSNR["gradient"]
        deviation = self.finish_deviation_rad
        if deviation is None:
            deviation = 0.005 if mean_of == "predictions" else 0.017
            found["finish_deviation_rad"] = deviation
        if self.finish_depth_deviation_rad is None:
            found["finish_depth_deviation_rad"] = deviation
        return self.model_copy(update=found)

    def settled_for(
        self, card: ModelCard | None, *, resolves_depth: bool = True
    ) -> ReconstructionPlan:
        """The same before the prior of a card; None: the method asks none."""
        if card is None:
            return self.settled(sees_estimate=False)
        return self.settled(
            sees_estimate=card.sees_estimate,
            knows_depth=card.knows_depth,
            resolves_depth=resolves_depth,
        )

    def sample(self, index: int) -> ReconstructionPlan:
        """The plan of one sample: a seed of its own, and every other one its own start."""
        start = self.start_logsnr
        if index % 2 and self.second_start_logsnr is not None:
            start = self.second_start_logsnr
        return self.model_copy(update={"seed": self.seed + index, "start_logsnr": start})

    @property
    def unused(self) -> frozenset[str]:
        """Settings, dotted where nested, that the method never looks at."""
        match self.method:
            case "mep" if self.start == "noise":
                start = {f"gradient.{name}" for name in GradientPlan.model_fields}
                return frozenset({"baseline", *start})
            case "mep":
                return frozenset({"baseline"})
            case "gradient":
                return _OF_THE_PRIOR | {"baseline"}
            case _:  # the wave window of another package is its preset's
                ours = {"gradient", "object.wave_oversampling", "object.waves"}
                return _OF_THE_PRIOR | ours

    def used(self) -> dict[str, Any]:
        """The settings that the method looks at, in values that JSON can hold."""
        values = self.model_dump(mode="json")
        for name in self.unused:
            first, _, rest = name.partition(".")
            del (values[first] if rest else values)[rest or first]
        return values

    def states(self, setting: str) -> bool:
        """Whether a setting, dotted where nested, was given and not left to its default."""
        first, _, rest = setting.partition(".")
        if first not in self.model_fields_set:
            return False
        return not rest or rest in getattr(self, first).model_fields_set

    @classmethod
    def parse(cls, values: dict[str, Any], source: str = "plan") -> ReconstructionPlan:
        """Validate a nested dictionary; errors become one line."""
        try:
            return cls.model_validate(values)
        except ValidationError as err:
            raise PlanError(f"{source}: {describe_validation_error(err)}") from None

    @classmethod
    def from_toml(cls, path: str | Path) -> ReconstructionPlan:
        """Read a plan from a TOML file; files that it names count from the folder of that one."""
        path = Path(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise PlanError(f"plan file {path}: no such file") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
            raise PlanError(f"plan file {path}: not readable as TOML ({err})") from None
        plan = cls.parse(values, source=f"plan file {path}")
        if plan.preprocessing is None:
            return plan
        # A copy, and nothing validated anew: it still knows what the file states.
        preprocessing = plan.preprocessing.relative_to(path.parent)
        return plan.model_copy(update={"preprocessing": preprocessing})

    def replace(self, **changes: Any) -> ReconstructionPlan:
        """Validated copy with changes; nested plans are given as dictionaries or plans."""
        return self.parse({**self.model_dump(), **changes})


def describe_validation_error(err: ValidationError) -> str:
    """First problem of a pydantic error as one line: field, value and what is allowed."""
    first = err.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "settings"
    if first["type"] == "extra_forbidden":
        return f"unknown key '{where}'; remove it or check its spelling"
    value = first.get("input")
    shown = f" = {value!r}" if isinstance(value, (int, float, str, bool)) else ""
    return f"{where}{shown}: {in_words(first)}"
