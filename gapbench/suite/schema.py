"""The schema of a suite file: what each section may hold. Fields that are not given stay unset; merging happens later."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from gapbench.catalog import Budget, NoiseRule, show
from gapbench.catalog.entries import AugmentationEpochs, RegimeRules, WarmupStart
from gapbench.catalog.parameters import WordOr

Figure = Literal[
    "weight_distance", "accuracy_vs_batch_size", "training_curves", "seeds", "accuracy_vs_train_loss", "accuracy_vs_final_loss", "factorial"
]
FIGURES: tuple[Figure, ...] = get_args(Figure)
"""Every figure of a report; those that a suite may ask for, and all of them where it asks for none."""
SEEDS = ("seed", "init_seed", "order_seed", "split_seed")
"""Fields that distinguish the runs of one cell."""


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, and so are numbers in quotes, infinity and NaN."""

    # Built when first used: a suite seldom has all sections, and a plan is to answer at once.
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)

    def given(self) -> dict[str, Any]:
        """Returns the fields that were given, by name."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}


def _component(value: Any) -> dict[str, Any]:
    """A name, or a table with a name and options; a table without a name changes options of what is set further below."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and isinstance(value.get("name", ""), str):
        return value
    raise ValueError(f'must be a name in quotes or a table {{name = "...", option = ...}}, not {show(value)}')


def _probe(value: Any) -> dict[str, Any]:
    """A name, or a table with a name and options."""
    if isinstance(value, str) or (isinstance(value, dict) and isinstance(value.get("name"), str)):
        return _component(value)
    raise ValueError(f'must be the name of a probe in quotes or a table {{name = "...", option = ...}}, not {show(value)}')


class PhaseTable(Section):
    """One phase of the schedule."""

    start: float = Field(0.0, ge=0.0, lt=1.0, description="Fraction of all updates at which it begins; the first begins at 0.")
    learning_rate_factor: float = Field(1.0, ge=0.0, description="Of the peak learning rate.")
    batch_size_factor: float = Field(1.0, gt=0.0, description="Of the run's batch size; starts are then fractions of the examples.")
    weight_decay: float | None = Field(None, ge=0.0, description="Left out: the run's.")
    momentum: float | None = Field(None, ge=0.0, lt=1.0, description="Left out: the optimizer's.")


def _phases_in_order(phases: list[PhaseTable]) -> list[PhaseTable]:
    starts = [phase.start for phase in phases]
    if not phases or starts[0] != 0.0 or sorted(set(starts)) != starts:
        raise ValueError(
            f"phases must begin at start = 0 and follow each other, not at {', '.join(f'{start:g}' for start in starts) or 'none'}"
        )
    return phases


class NormalizationTable(Section):
    """How pixels become inputs."""

    kind: Literal["global", "channel", "feature", "fixed", "none"] = Field(
        description="One mean and deviation of the training set, one a channel, one a feature, those given here, or none."
    )
    mean: list[float] = Field(default_factory=list, description='With kind = "fixed": one, or one a channel.')
    standard_deviation: list[Annotated[float, Field(gt=0.0)]] = Field(default_factory=list, description="As many as means.")

    @model_validator(mode="after")
    def _given_where_fixed(self) -> NormalizationTable:
        if self.kind == "fixed" and (not self.mean or len(self.mean) != len(self.standard_deviation)):
            raise ValueError('kind = "fixed" needs mean = [...] and standard_deviation = [...] of the same length')
        if self.kind != "fixed" and (self.mean or self.standard_deviation):
            raise ValueError('mean and standard_deviation are only for kind = "fixed"')
        return self


Direction = Literal["past-local", "past-global", "past-centered", "fresh-local", "same-batch", "gauss", "uniform", "momentum", "sam"]
PAST = ("past-local", "past-global", "past-centered")
"""Directions that are gradients of the update before."""
LOOKS_TWICE = ("fresh-local", "same-batch", "sam")
"""Directions that cost a gradient more."""
NOISES = ("gauss", "uniform")
"""Directions that are random."""


class ExtrapolationTable(Section):
    """Where the gradient of an update is taken, away from the present weights."""

    direction: Literal["none"] | Direction = Field(description="The present weights, or which way from them: docs/optimizers.md.")
    step: float = Field(0.0, ge=0.0, allow_inf_nan=False, description="How far; 0: nowhere.")
    schedule: Literal["constant", "rate", "unscaled-rate"] | None = Field(
        None,
        description="What multiplies the step: 1, the learning rate of the update, or that rate as it is at the reference batch size. "
        "Left out: unscaled-rate where the direction is a gradient of natural length, else constant.",
    )
    workers: int = Field(1, ge=1, description="Equal shares of the batch, each with a direction of its own.")
    worker_examples: int | None = Field(
        None, ge=1, description="Of such a share, in the place of workers: stays while the batch size varies."
    )
    until: float = Field(1.0, gt=0.0, le=1.0, description="Fraction of the updates; later ones do not extrapolate.")
    scale: Literal["absolute", "tensor"] = Field(
        "absolute", description="Of noise: as it is, or times the root mean square of the weights of each tensor."
    )

    @model_validator(mode="after")
    def _sound(self) -> ExtrapolationTable:
        if self.direction != "none" and "step" not in self.model_fields_set:
            raise ValueError(f'direction = "{self.direction}" needs a step')
        if self.workers > 1 and self.worker_examples is not None:
            raise ValueError("workers and worker_examples say the same; give one of them")
        if self.scale != "absolute" and self.direction not in NOISES:
            raise ValueError('scale is only for direction = "gauss" and "uniform"')
        return self


def _normalization(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


ScalingBatchSize = Annotated[int, Field(ge=1)] | Literal["reference"]


class ScalingTable(Section):
    """The batch size that learning-rate scaling refers to, by whether the run has a ghost batch size."""

    with_ghost: Annotated[int, Field(ge=1)] | Literal["ghost", "reference"] = Field(
        description='A number, "ghost": the ghost batch size, or "reference".'
    )
    without_ghost: ScalingBatchSize = Field(description='A number, or "reference".')


def _scaling(value: Any) -> Any:
    if isinstance(value, dict | ScalingTable):
        return value
    if value == "reference" or (type(value) is int and value >= 1):
        return {"with_ghost": value, "without_ghost": value}
    what = '"reference", a whole number of at least 1, or a table {with_ghost = "ghost", without_ghost = 256}'
    raise ValueError(f"must be {what}, not {show(value)}")


def _version(value: Any) -> Any:
    if type(value) is not int:  # Python takes true and 1.0 for 1
        raise ValueError(f"must be 1, not {show(value)}")
    return value


Probe = Annotated[dict[str, Any], PlainValidator(_probe), WithJsonSchema({"type": ["string", "object"]})]
Component = Annotated[dict[str, Any], PlainValidator(_component), WithJsonSchema({"type": ["string", "object"]})]
"""For editors, `suite.json_schema` puts the catalog's names and options in the place of this."""
Ghost = Annotated[Any, WordOr("off", type="integer", minimum=1)]
Seed = Annotated[Any, WordOr("seed", type="integer", minimum=0)]
ClipNorm = Annotated[Any, WordOr("off", type="number", exclusiveMinimum=0)]
NormMomentum = Annotated[Any, WordOr("cumulative", type="number", exclusiveMinimum=0, maximum=1)]
LearningRateFactor = Annotated[Any, WordOr("momentum-gain", type="number", exclusiveMinimum=0)]
MinimumWarmup = Annotated[Any, WordOr("momentum", type="integer", minimum=0)]
HeadlineEvaluations = Annotated[Any, WordOr("late", type="integer", minimum=1)]
ScalingField = Annotated[ScalingTable, BeforeValidator(_scaling)]
Phases = Annotated[list[PhaseTable], AfterValidator(_phases_in_order)]
NormalizationField = Annotated[NormalizationTable, BeforeValidator(_normalization)]


class RunFields(Section):
    """Every field of a run: for [run], [grid] (lists of these), [[arm]], [[override]] and recipes."""

    recipe: str = Field("", description="How a data set and a model are trained at their reference batch size.")
    preset: str = Field("", description="Whose version of the recipe, such as the paper's.")
    dataset: Component = Field(default_factory=dict, description="Name, or a table {name, options}; without a name: options to change.")
    model: Component = Field(default_factory=dict, description="Name, or a table {name, options}; without a name: options to change.")
    optimizer: Component = Field(default_factory=dict, description="Name, or a table {name, options}; without a name: options to change.")
    batch_size: int = Field(0, ge=1, description="Examples in one update.")
    ghost_batch_size: Ghost = Field("off", description='Examples that batch norm statistics are over; divides the batch size; or "off".')
    regime: str = Field("", description="How the recipe adapts to another batch size: one of the catalog or of [regimes.NAME].")
    learning_rate_scaling: Literal["none", "sqrt", "linear"] = Field(
        "none", description="Factor of the learning rate: 1, (batch / reference)^(1/2), batch / reference. Overrides the regime's."
    )
    budget: Budget = Field(Budget(), description="How long a run trains, against the reference cell. Overrides the regime's.")
    epochs: float = Field(0.0, gt=0.0, description="Passes over the training set at the reference batch size.")
    reference_batch_size: int = Field(0, ge=1, description="What learning rates and budgets refer to.")
    scaling_batch_size: ScalingField = Field(
        ScalingTable(with_ghost="reference", without_ghost="reference"),
        description='What learning-rate scaling refers to: "reference", a batch size, or one with and one without ghost batch norm.',
    )
    learning_rate_factor: LearningRateFactor = Field(
        1.0, description='Multiplies the scaled learning rate; "momentum-gain": the share of its gain that momentum has with a reset.'
    )
    learning_rate: float = Field(0.0, gt=0.0, description="Peak at the reference batch size, before the regime scales it.")
    warmup: float = Field(0.0, ge=0.0, lt=1.0, description="Fraction of the updates over which the learning rate rises linearly.")
    warmup_start: WarmupStart = Field(0.0, description='Factor of the learning rate that warmup starts from, or "reference".')
    minimum_warmup_updates: MinimumWarmup = Field(0, description='Warmup takes at least so many updates; "momentum": 5 / (1 - momentum).')
    phases: Phases = Field(default_factory=list, description="The schedule: parts of the training, each from a fraction of the updates on.")
    schedule: Literal["phases", "constant", "cosine", "linear", "polynomial"] = Field(
        "phases",
        description="How the rate falls after warmup: by phases, not at all, or to zero by (1 + cos)/2, in a line, as a square. "
        "Above phases in the layers it replaces them.",
    )
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0, description="Share of each label spread over all classes, in training only.")
    weight_decay: float = Field(0.0, ge=0.0, description="Factor of the L2 penalty's gradient.")
    weight_decay_on: Literal["all", "matrices"] = Field("all", description="All parameters, or only those of two or more dimensions.")
    clip_norm: ClipNorm = Field("off", description='Threshold of the gradient\'s global L2 norm, or "off".')
    extrapolation: ExtrapolationTable = Field(
        ExtrapolationTable(direction="none"), description="Where the gradient of an update is taken, away from the present weights."
    )
    momentum_reset: Literal["never", "epoch"] = Field(
        "never", description="Whether the optimizer forgets its state before the first update of each epoch, as the released code's does."
    )
    crop_padding: int = Field(0, ge=0, description="Pixels that an image is padded with before a random crop; 0: no crops.")
    crop_fill: int = Field(0, ge=0, le=255, description="Value of the padding.")
    crop_size: int = Field(0, ge=0, description="Side of the square cut from each larger image, at random in training; 0: the whole image.")
    crop_scale: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Smallest share of the image that a crop takes before it is scaled to crop_size; 0: not scaled.",
    )
    flip: bool = Field(False, description="Whether images are mirrored at random.")
    normalization: NormalizationField = Field(
        NormalizationTable(kind="global"), description="How pixels become inputs: (pixel - mean) / standard deviation."
    )
    running_statistics: Literal["mean", "sequential"] = Field(
        "mean", description="Of ghost batch norm: one moving-average step an update, or one for each ghost batch in order."
    )
    norm_momentum: NormMomentum = Field(0.1, description='Weight of new statistics in the moving average, or "cumulative".')
    tail: Literal["stream", "drop", "ragged"] = Field(
        "stream",
        description="Where an epoch is no multiple of the batch: go on, drop the rest, or a full step on the rest as the released code.",
    )
    gradient_noise: NoiseRule = Field(NoiseRule(), description="Noise added to gradients, as a control. Overrides the regime's.")
    sampling: Literal["permutation", "replacement"] = Field(
        "permutation", description="Whether an epoch shows every example once, or each is drawn by itself from all of them."
    )
    weight_decay_scaling: Literal["none", "inverse-learning-rate"] = Field(
        "none", description="Factor of weight decay: 1, or reference rate / rate. Overrides the regime's."
    )
    augmentation_epochs: AugmentationEpochs = Field(
        "off", description="Epochs after which the same crops and flips come again; \"reference\": the recipe's. Overrides the regime's."
    )
    initial_perturbation: float = Field(
        0.0, ge=0.0, description="Length of a random step from the initial weights, as a share of their norm: a twin of another run."
    )
    headline_statistics: Literal["running", "recalibrated"] = Field(
        "running", description="Batch norm statistics of all evaluations: running averages, or recomputed at the weights as they are."
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Of the arithmetic; weights, statistics and loss stay fp32.")
    headline_evaluations: HeadlineEvaluations = Field(
        1, description='The headline accuracy is the mean of so many last evaluations; "late": of those in the last 5 % of the updates.'
    )
    holdout: float = Field(0.0, ge=0.0, lt=1.0, description="Fraction of the training set that is kept for validation.")
    seed: int = Field(0, ge=0, description="Number from which every random stream of a run is derived.")
    init_seed: Seed = Field("seed", description='Of the initial weights; "seed": the run\'s.')
    order_seed: Seed = Field("seed", description='Of order, augmentation, dropout and noise; "seed": the run\'s.')
    split_seed: Seed = Field("seed", description='Of drawn splits and subsets; "seed": the run\'s.')


def default_of(name: str) -> Any:
    """Returns the default of a field of a run, None where it has none."""
    field = RunFields.model_fields.get(name)
    return field.get_default(call_default_factory=True) if field else None


class RunSection(RunFields):
    """[run]: besides the fields of a run, what is the same for all runs because it changes none of their numbers."""

    evaluations: int = Field(20, ge=1, description="Evaluations of each run; left out: as many as keep evaluation cheap.")
    keep_weights: list[Annotated[float, Field(ge=0.0, le=1.0)]] = Field(
        default_factory=list, description="Fractions of the training at which weights are kept."
    )
    probes: list[Probe] = Field(
        default_factory=list,
        description="What is measured besides what always is: names, or tables {name, options}; left out: the default probes.",
    )
    time_limit_seconds: float = Field(0.0, gt=0.0, description="A run that takes longer ends as a timeout.")


class ArmSection(RunFields):
    """One [[arm]]."""

    label: Annotated[str, Field(min_length=1)] = Field(description="Name of the arm in tables and figures; unique in the suite.")
    reference: str = Field(
        "",
        description="Label of the arm that tables hold it against, such as a small batch with the same change; else the reference cell.",
    )
    alternative_to: str = Field(
        "", description="Cell whose values might as well be these: no row of its own, but inside the interval of that cell's gap."
    )


class SetSection(RunFields):
    """The `set` of an [[override]]: final values."""

    updates: int = Field(0, ge=1, description="Updates of the run, whatever epochs and budget say.")


LARGEST = 2**63 - 1
"""The largest whole number of TOML, of tables and of seeds."""


def expand_seeds(value: Any) -> Any:
    """Returns the list that "0..4" means: 0, 1, 2, 3, 4. Other values are returned as they are."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+)\s*\.\.\s*(\d+)\s*", value)
    if found and int(found[2]) - int(found[1]) > 100_000:
        raise ValueError(f"{show(value)} are more than 100,000 seeds; choose a shorter range")
    if found and int(found[2]) > LARGEST:
        raise ValueError(f"{show(value)} goes beyond {LARGEST}, the largest seed; choose smaller ones")
    if not found or int(found[1]) > int(found[2]):
        raise ValueError(f'must be a list or a range such as "0..4" (both ends included), not {show(value)}')
    return list(range(int(found[1]), int(found[2]) + 1))


class _Summarized(Section):
    summary: str = Field("", description="One line about it.")


class RegimeSection(RegimeRules, _Summarized):
    """One [regimes.NAME]."""


def _seed_list(value: Any) -> Any:
    seeds = expand_seeds(value)
    if isinstance(seeds, list) and len(set(map(str, seeds))) < len(seeds):
        raise ValueError(f"must be different seeds, not {show(seeds)}")
    return seeds


SeedList = Annotated[
    list[Annotated[int, Field(ge=0)]],
    Field(min_length=1),
    BeforeValidator(_seed_list),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "uniqueItems": True},
                {"type": "string", "pattern": r"^\s*\d+\s*\.\.\s*\d+\s*$"},
            ]
        }
    ),
]


class TuneSection(Section):
    """[tune]: what `gapbench tune` searches, and how hard: the same for every cell."""

    search: Annotated[list[Literal["learning_rate", "momentum", "weight_decay", "warmup"]], Field(min_length=1)] = Field(
        default=["learning_rate"], description="What is searched; all but the learning rate among the values given here."
    )
    step: float = Field(2.0, ge=1.4, le=2.0, description="Factor between neighbouring learning rates, from about 2^(1/2) to 2.")
    trials: int = Field(7, ge=3, description="Learning rates that are tried at first, the same number for every cell.")
    extend_by: int = Field(2, ge=1, description="Learning rates that every cell gets more while one has its best at the edge.")
    extend_at_most: int = Field(8, ge=0, description="Learning rates that every cell may get more, all extensions together.")
    momentum: list[Annotated[float, Field(ge=0.0, lt=1.0)]] = Field(default_factory=list, description="Values to search.")
    weight_decay: list[Annotated[float, Field(ge=0.0)]] = Field(default_factory=list, description="Values to search.")
    warmup: list[Annotated[float, Field(ge=0.0, lt=1.0)]] = Field(
        default_factory=list, description="Values to search: fractions of the updates."
    )
    holdout: float = Field(0.2, gt=0.0, lt=1.0, description="Fraction of the training set that trials are scored on and do not train on.")
    folds: int = Field(0, ge=1, description="Disjoint parts that are held out in turn; left out: as many as make up a test set.")
    seeds: SeedList = Field(default=[1000], description="Seeds of every trial.")
    check_seeds: SeedList = Field(
        default=[],
        description="Fresh seeds on which the best five points are tried again; left out: half as many as cells have, or 3.",
    )


class TargetSection(Section):
    """One of the `targets` of [report]."""

    metric: Literal["train_loss", "validation_loss", "test_loss", "train_error", "validation_error", "test_error"] = Field(
        description="What falls to the value; errors are fractions, 1 - accuracy."
    )
    value: float = Field(gt=0.0, description="To reach.")

    @field_validator("value")
    @classmethod
    def _of_an_error(cls, value: float, known: ValidationInfo) -> float:
        if str(known.data.get("metric", "")).endswith("_error") and value >= 1.0:
            raise ValueError(f"must be a fraction below 1, such as 0.08 for 8 %, not {value:g}")
        return value


class ReportSection(Section):
    """[report]."""

    reference: dict[str, JsonValue] = Field(
        default_factory=dict, description="Conditions of the reference cell; left out: reference batch size, regime baseline, ghost off."
    )
    arms: list[str] = Field(default_factory=list, description="Labels in the order of tables and figures.")
    targets: list[TargetSection] = Field(
        default_factory=list, description="Values whose first passage `gapbench analyze critical-batch` looks for."
    )
    figures: list[Figure] = Field(default_factory=list, description="Figures to draw; left out: all that apply.")

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, for the metadata of tables."""
        plain = self.model_dump()
        return plain if self.targets else {name: value for name, value in plain.items() if name != "targets"}


class SuiteSection(Section):
    """The root of a suite file; its sections are validated one by one."""

    schema_version: Annotated[Literal[1], BeforeValidator(_version)] = Field(alias="schema", description="Version of the file's form.")
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._+-]*$")] = Field(description="Name of the suite and of its results directory.")
    summary: str = Field("", description="One line for `gapbench ls suites`.")
    extends: str = Field(
        "",
        description="Suite file or shipped suite to start from: tables merge, lists replace, [[exclude]] append; this file wins.",
    )
