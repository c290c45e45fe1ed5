"""RunSpec: one run, completely resolved, and its id. Everything that trains, stores or prices a run reads this and nothing else."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import to_jsonable_python

from gapbench import catalog
from gapbench.core.registry import Registry
from gapbench.suite.batches import BatchTable, batches_of, exactly, examples_of_updates
from gapbench.suite.change import Change
from gapbench.suite.schema import LOOKS_TWICE, SEEDS, Direction
from gapbench.suite.source import COMPONENTS


class Frozen(BaseModel):
    """Base of the models here: unknown fields are errors, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Component(Frozen):
    """A data set, model or optimizer with all its options, defaults included."""

    name: str
    version: int = 1
    """Raised by the component's author whenever the same options give other numbers."""
    options: dict[str, JsonValue] = Field(default_factory=dict)

    def option(self, name: str, default: Any = None) -> Any:
        """Returns an option's value, or `default` where the component has no such option."""
        return self.options.get(name, default)


def has_batch_norm(model: Component) -> bool:
    """Returns whether a model has batch norm under its options; one whose plugin is not loaded is taken to have it."""
    entry = catalog.models().find(model.name)
    return entry is None or entry.has_batch_norm(model.options)


class Phase(Frozen):
    """A part of the schedule, from a fraction of the training on, until the next phase."""

    start: float = Field(0.0, ge=0.0, lt=1.0)
    """Fraction of all updates at which the phase begins; where the batch grows, of all examples. While batches are alike these are one."""
    learning_rate_factor: float = Field(1.0, ge=0.0)
    batch_size_factor: float = Field(1.0, gt=0.0)
    """Examples of an update in this phase, as a multiple of the run's batch size."""
    weight_decay: float | None = Field(None, ge=0.0)
    """None: the run's."""
    momentum: float | None = Field(None, ge=0.0, lt=1.0)
    """None: the optimizer's option `momentum`."""


class Normalization(Frozen):
    """How pixels (scaled to [0, 1]) become inputs: (pixel - mean) / standard deviation."""

    kind: Literal["global", "channel", "feature", "fixed", "none"] = "global"
    """`global`: one mean and deviation of the training set; `channel`: one a channel of images; `feature`: one a feature of data that
    are no images; `fixed`: those given here."""
    mean: tuple[float, ...] = ()
    standard_deviation: tuple[float, ...] = ()


class GradientNoise(Frozen):
    """Noise in the gradients, as a control."""

    kind: Literal["multiplicative", "isotropic"]
    """`multiplicative`: each example's loss times 1 + sigma e, e standard normal; `isotropic`: a Gaussian direction of the gradient's
    norm in its place."""
    variance: float | None = Field(None, gt=0)
    """sigma^2 of multiplicative noise."""
    centred: bool | None = None
    """Whether the e of a batch sum to zero."""


class AdaptiveBatch(Frozen):
    """A batch size B that follows the gradient noise scale B_noise; realised sizes are results, never part of a spec.

    It is the multiple of `unit` within the bounds at which B + exchange_rate * B_noise / B is lowest: `gapbench.suite.regime`.
    """

    exchange_rate: float = Field(gt=0)
    """Examples that one update fewer is worth."""
    smallest: int = Field(gt=1)
    """Examples; a multiple of `unit`, as is `largest`. One update, which takes what is left over, may be smaller."""
    largest: int = Field(gt=1)
    unit: int = Field(gt=0)
    decisions: int = Field(gt=0)
    """The size changes only at the first update from each multiple of 1 / decisions of the run's examples on."""
    measure_every: int = Field(gt=0)
    """Updates from one measurement of the noise scale to the next."""
    smoothing: float = Field(ge=0, lt=1)
    """Weight that the averages of tr(Sigma) and |G|^2 keep from measurement to measurement."""
    largest_change: float = Field(gt=1)
    """Factor by which a decision changes the size at most."""
    learning_rate_scaling: Literal["none", "sqrt", "linear"] = "none"
    """Of the rate of every update, from the run's batch size to that of the update."""


class Extrapolation(Frozen):
    """Where the gradient of an update is taken, away from the present weights: `gapbench.optimizers.extrapolation`."""

    direction: Direction
    step: float = Field(gt=0)
    """How far, in the unit of the direction: a factor of a gradient, a length, or the deviation of noise."""
    schedule: Literal["constant", "rate"]
    """`rate`: the step is multiplied by the learning rate of the update."""
    workers: int = Field(gt=0)
    """Equal shares of the batch, each with a direction of its own."""
    until: float = Field(gt=0, le=1)
    """Fraction of the updates; later ones do not extrapolate."""
    scale: Literal["absolute", "tensor"] = "absolute"
    """Of noise; `tensor`: times the root mean square of the weights of each tensor."""

    @property
    def more_gradients(self) -> float:
        """Gradients of the batch that an update computes more, on average."""
        return self.until if self.direction in LOOKS_TWICE else 0.0


class Labels(Frozen):
    """What a run is called in one suite. Never part of its identity."""

    suite: str
    cell: str
    """Name of the cell in tables and figures; the arm's label where there is one. Unique within a suite."""
    arm: str = ""
    """Label of the [[arm]], empty for runs of the [grid]."""
    recipe: str = ""
    preset: str = ""
    regime: str = "baseline"
    learning_rate_rule: str = "untouched"
    """How the learning rate came about: untouched, sqrt, linear, set (by [[override]]), tuned; after a comma what else multiplies it
    ("matched gain", "times 0.5"), and "untuned" where the preset asks for tuning."""
    budget: str = "epochs"
    """Kind of the budget: epochs, updates, examples."""
    reference_cell: bool = False
    reference: str = ""
    """Name of the cell that it is held against, where the suite says so; empty: the reference cell."""
    alternative_to: str = ""
    """Name of the cell whose values might as well be its own: it widens that cell's interval, and is no row of a table."""
    axes: dict[str, str] = Field(default_factory=dict)
    """Its levels on the axes of [grid] that it does not set itself, seeds left out, by field."""
    cell_order: int = 0
    """Position of the cell in tables."""
    change: Change = Change()
    """What was changed against the recipe: what `regime` and `learning_rate_rule` say in words."""
    words: dict[str, str] = Field(default_factory=dict)
    """What the name of the cell is put together from: the label of its `arm` and, by field, a word for each axis that varies."""


OF_REPLICA = "of a replica"
"""Marks fields that may differ between the replicas of a stack. Every other one fixes shapes, kernels or the schedule of evaluations."""


class RunValues(Frozen):
    """The effective values that the numbers of a run depend on, and its id with them.

    A value that equals its default is left out of the id, so that a new field keeps the ids of all older runs. These defaults are frozen.
    """

    dataset: Component
    model: Component
    optimizer: Component

    batch_size: int = Field(gt=0)
    ghost_batch_size: int | None = None
    """Examples that batch norm statistics are computed over; None: the whole batch."""
    updates: int = Field(gt=0)
    """Exactly those that the run makes, but where the batch size follows the noise scale."""
    unramped_updates: int | None = Field(None, gt=0)
    """Where the batch size changes: the updates that the run would make if it did not. Its examples are theirs, and starts of
    phases, warmup and evaluations are fractions of them. None: the batch size stays."""
    adaptive_batch: AdaptiveBatch | None = None
    """How the batch size follows the noise scale; then `updates` is what the run's own batch size would make. None: it does not."""
    tail: Literal["stream", "drop", "ragged"] = "stream"
    """Where an epoch is no multiple of the batch: go on into the next epoch's order, drop the rest, or make an update of the rest."""

    learning_rate: Annotated[float, OF_REPLICA] = Field(gt=0)
    """Peak, after scaling by the regime."""
    warmup: Annotated[float, OF_REPLICA] = Field(0.0, ge=0.0, lt=1.0)
    """Fraction of the updates over which the learning rate rises linearly."""
    warmup_start: Annotated[float, OF_REPLICA] = Field(0.0, ge=0.0)
    """Factor of the learning rate that warmup starts from."""
    phases: Annotated[tuple[Phase, ...], OF_REPLICA] = (Phase(),)
    schedule: Annotated[Literal["phases", "cosine", "linear", "polynomial"], OF_REPLICA] = "phases"
    """How the learning rate falls after warmup: by the factors of the phases, or to zero at the end of training."""
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of a label that is spread over all classes in the loss that is trained on; evaluations are of the labels themselves."""
    weight_decay: Annotated[float, OF_REPLICA] = Field(0.0, ge=0.0)
    weight_decay_on: Literal["all", "matrices"] = "all"
    """`matrices`: only tensors of two or more dimensions, so neither biases nor norm scales."""
    clip_norm: float | None = Field(None, gt=0)
    """Threshold of the gradient's global L2 norm, before weight decay; None: no clipping."""
    extrapolation: Extrapolation | None = None
    """Where gradients are taken; None: at the present weights."""
    momentum_reset: Literal["never", "epoch"] = "never"
    """`epoch`: before the first update of each epoch the optimizer forgets its state, as if it were made anew."""

    crop_padding: int = Field(0, ge=0)
    crop_fill: int = Field(0, ge=0, le=255)
    crop_size: int = Field(0, ge=0)
    """Side of the square that is cut from each image, at random in training, the middle one in evaluation; 0: the whole image."""
    crop_scale: float = Field(0.0, ge=0.0, le=1.0)
    """Smallest share of an image's area that a random crop takes before it is scaled to `crop_size`; 0: crops are not scaled."""
    flip: bool = False
    normalization: Normalization = Normalization()

    running_statistics: Literal["mean", "sequential"] = "mean"
    norm_momentum: float | None = Field(0.1, gt=0, le=1)
    """Weight of the new statistics in the moving average, as in torch; None: cumulative average."""

    gradient_noise: GradientNoise | None = None
    sampling: Literal["permutation", "replacement"] = "permutation"
    """How an update gets its examples: epoch by epoch in random order, or each drawn by itself from all of them."""
    augmentation_epochs: int | None = Field(None, gt=0)
    """Epochs after which the same crops and flips come again; None: never."""
    initial_perturbation: Annotated[float, OF_REPLICA] = Field(0.0, ge=0.0)
    """Length of a random step away from the initial weights, as a share of their norm: for a twin run."""
    headline_statistics: Literal["running", "recalibrated"] = "running"
    """Batch norm statistics that accuracies and losses are measured with."""

    precision: Literal["fp32", "bf16"] = "fp32"
    headline_evaluations: int = Field(1, ge=1)
    """The headline accuracy is the mean over this many last evaluations."""
    holdout: float = Field(0.0, ge=0.0, lt=1.0)
    """Fraction of the training set that is kept for validation and never trained on."""
    fold: Annotated[int, OF_REPLICA] = Field(0, ge=0)
    """Which of the disjoint parts of that size is kept; only tuning asks for others than the first."""

    init_seed: Annotated[int, OF_REPLICA] = Field(0, ge=0)
    order_seed: Annotated[int, OF_REPLICA] = Field(0, ge=0)
    """Seed of order, augmentation, dropout and noise."""
    split_seed: Annotated[int, OF_REPLICA] = Field(0, ge=0)


class RunSpec(RunValues):
    """One run: effective values only. The label is kept apart, so that equal values are one run.

    The fields that it has besides `RunValues` change no trained number.
    """

    seed: Annotated[int, OF_REPLICA] = Field(0, ge=0)
    """What it stands for is in init_seed, order_seed and split_seed."""
    train_examples: int = Field(gt=0)
    """Size of the training set, without the held-out part."""
    reference_batch_size: Annotated[int, OF_REPLICA] = Field(gt=0)
    reference_updates: Annotated[int, OF_REPLICA] = Field(gt=0)
    reference_learning_rate: Annotated[float, OF_REPLICA] = Field(gt=0)
    split_drawn: Annotated[bool, OF_REPLICA] = False
    """Whether each seed draws its own split or subset: then differences are paired and intervals are over splits."""
    evaluations: int = Field(20, ge=1)
    keep_weights: tuple[float, ...] = ()
    probes: tuple[str | Component, ...] = ()
    """What is measured besides what always is; a probe with options is a component, one without its name."""
    time_limit_seconds: float | None = Field(None, gt=0)
    test_evaluation: bool = True
    """Whether evaluations look at the test set; trials of `gapbench tune` do not, and have no test numbers."""

    @property
    def probe_options(self) -> dict[str, dict[str, JsonValue]]:
        """Options of each probe by its name; those that are not named have their defaults."""
        return {probe if isinstance(probe, str) else probe.name: {} if isinstance(probe, str) else probe.options for probe in self.probes}

    @property
    def batches(self) -> BatchTable:
        """Position and size of every update's batch."""
        return batches_of(self)

    @property
    def examples(self) -> int:
        """Examples seen in all updates."""
        return self.batches.examples(self.updates)

    @property
    def gradients_per_update(self) -> float:
        """Gradients of its batch that an update computes, their mean over the run: what budgets of gradients, and prices, count by."""
        return gradients_per_update(self.optimizer, self.extrapolation)

    @property
    def extrapolated_updates(self) -> int:
        """Updates, from the first on, whose gradients are taken elsewhere than at the present weights."""
        return 0 if self.extrapolation is None else math.ceil(exactly(self.extrapolation.until) * self.updates)

    def gradients(self, updates: int) -> int:
        """Returns the gradients of examples that are computed in so many updates."""
        looked = self.extrapolation is not None and self.extrapolation.direction in LOOKS_TWICE
        more = self.batches.examples(min(updates, self.extrapolated_updates)) if looked else 0
        return round(self.batches.examples(updates) * gradients_per_update(self.optimizer, None)) + more

    @property
    def reference_examples(self) -> int:
        """Examples that the reference cell sees."""
        return examples_of_updates(self.reference_updates, self.train_examples, self.reference_batch_size, self.tail)


def gradients_per_update(optimizer: Component, extrapolation: Extrapolation | None) -> float:
    """Returns how many gradients of its batch an update computes on average; an optimizer that the catalog does not know computes one."""
    entry = catalog.optimizers().find(optimizer.name)
    own = 1 if entry is None else entry.gradients_per_update
    return own + (0.0 if extrapolation is None else extrapolation.more_gradients)


HYPERPARAMETERS = frozenset(name for name, field in RunSpec.model_fields.items() if OF_REPLICA in field.metadata)
"""The fields that are marked OF_REPLICA."""


class PlannedRun(Frozen):
    """A run with its id and its name in the suite; several may share one id, which trains once."""

    run_id: str
    spec: RunSpec
    labels: Labels


def used_components(specs: Iterable[RunSpec]) -> list[tuple[Registry[Any], str]]:
    """Returns registry and name of every component that training these runs imports, each once."""
    used: dict[tuple[str, str], tuple[Registry[Any], str]] = {}
    for spec in specs:
        named: list[tuple[Registry[Any], str]] = [
            (catalog.datasets(), spec.dataset.name),
            (catalog.models(), spec.model.name),
            (catalog.optimizers(), spec.optimizer.name),
            *((catalog.probes(), name) for name in spec.probe_options),
        ]
        for registry, name in named:
            used.setdefault((registry.kind, name), (registry, name))
    return list(used.values())


# The identity of a run: a readable slug and a hash of every value that can change its numbers, and of nothing else.
#
# A field that equals its default in `RunValues`, or an option that equals its neutral value in the catalog, is left out, so that adding one
# keeps the ids of all older runs. Both are frozen; the golden file of the tests holds them to it.

_REQUIRED = [name for name, field in RunValues.model_fields.items() if field.is_required() and name not in COMPONENTS]


def run_id(spec: RunSpec) -> str:
    """Returns the id of a run: equal values have equal ids, whatever their labels, device or suite.

    Such as `digits-mlp-b512-g16-lr0.566-u1687-s3-0f1e2d3c4b5a`.
    """
    digest = hashlib.blake2b(canonical_json(identity(spec)).encode(), digest_size=6).hexdigest()
    return f"{_slug(spec)}-{digest}"


def identity(spec: RunSpec) -> dict[str, Any]:
    """Returns the values that make up the identity, neutral ones left out."""
    values: dict[str, Any] = {kind: _component(getattr(spec, kind), catalog.REGISTRIES[kind]()) for kind in COMPONENTS}
    plain = _plain(spec.model_dump(mode="json", include={*_REQUIRED, *NEUTRAL}))
    values.update({name: plain[name] for name in _REQUIRED})
    values.update({name: plain[name] for name, neutral in NEUTRAL.items() if plain[name] != neutral})
    return values


def canonical_json(value: Any) -> str:
    """Returns JSON that depends on the values only: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def _component(component: Component, registry: Mapping[str, Any]) -> dict[str, Any]:
    parameters = registry[component.name].parameters if component.name in registry else {}
    options = {}
    for name, value in component.options.items():
        neutral = parameters[name].neutral if name in parameters else None
        if neutral is None or value != neutral:
            options[name] = value
    if component.option("content"):
        options.pop("path", None)  # the data count, not where they lie
    return {"name": component.name, "version": component.version, "options": options}


def _plain(dumped: Mapping[str, Any]) -> dict[str, Any]:
    """Returns dumped values without those parts of phases, normalization and noise that say nothing."""
    phases = [{name: value for name, value in phase.items() if value is not None} for phase in dumped["phases"]]
    noise = dumped["gradient_noise"]
    return {
        **dumped,
        "phases": [{name: value for name, value in phase.items() if (name, value) != ("batch_size_factor", 1.0)} for phase in phases],
        "normalization": {name: value for name, value in dumped["normalization"].items() if value != []},
        "gradient_noise": noise and {name: value for name, value in noise.items() if value is not None},
    }


NEUTRAL: Mapping[str, Any] = _plain(
    {name: to_jsonable_python(field.default) for name, field in RunValues.model_fields.items() if not field.is_required()}
)
"""The value of each field under which it is left out."""


def _slug(spec: RunSpec) -> str:
    """Returns what a reader wants to see of a run; a function of its identity, so that equal runs have equal names."""
    ghost = "" if spec.ghost_batch_size is None else f"-g{spec.ghost_batch_size}"
    seeds = f"s{spec.order_seed}" if spec.init_seed == spec.order_seed else f"i{spec.init_seed}-o{spec.order_seed}"
    text = f"{spec.dataset.name}-{spec.model.name}-b{spec.batch_size}{ghost}-lr{spec.learning_rate:.3g}-u{spec.updates}-{seeds}"
    return re.sub(r"[^a-z0-9.-]+", "_", text.lower())


# The values that define a cell: those of a run's identity, without its seeds. Labels that stand for different values are not one cell.

MIXED = "by seed"
"""Key of the values of a cell whose runs differ in more than their seeds."""

CellValues = Mapping[str, Any]
"""Values by key, such as `batch_size` or `model.widths`; neutral ones are left out."""


def values_of(spec: RunSpec) -> dict[str, Any]:
    """Returns the values of a run that are not its seeds, those of data set, model and optimizer as `model`, `model.widths`, ..."""
    values: dict[str, Any] = {}
    for name, value in identity(spec).items():
        if name in COMPONENTS:
            values[name] = value["name"]
            if value["version"] != 1:
                values[f"{name}.version"] = value["version"]
            values.update({f"{name}.{option}": chosen for option, chosen in value["options"].items()})
        elif name not in SEEDS:
            values[name] = value
    return values


def values_by_cell(runs: Iterable[PlannedRun]) -> dict[str, CellValues]:
    """Returns the values of every cell of a plan.

    Where an override changes a value for some seeds only, the cell has, under MIXED, the values of each group of seeds.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for run in runs:
        values = values_of(run.spec)
        found.setdefault(run.labels.cell, {})[canonical_json(values)] = values
    return {cell: _one(list(groups.values())) for cell, groups in found.items()}


def differing(first: CellValues, second: CellValues) -> dict[str, tuple[str, str]]:
    """Returns the values in which two cells differ, by key, as texts."""
    keys = dict.fromkeys([*first, *second])
    unequal = [key for key in keys if (key in first) != (key in second) or first.get(key) != second.get(key)]
    return {key: (_text(first, key), _text(second, key)) for key in unequal}


def _one(groups: list[dict[str, Any]]) -> dict[str, Any]:
    if len(groups) == 1:
        return groups[0]
    keys = dict.fromkeys(key for values in groups for key in values)
    shared = {key: groups[0][key] for key in keys if all(key in values and values[key] == groups[0][key] for values in groups)}
    return {
        **shared,
        MIXED: sorted(canonical_json({key: value for key, value in values.items() if key not in shared}) for values in groups),
    }


def _text(values: CellValues, key: str) -> str:
    """Returns a value as people write it; one that is left out as its neutral value, where the catalog knows it."""
    if key in values:
        value = values[key]
    elif key == MIXED:
        return "the same for all seeds"
    elif any(f'"{key}":' in group for group in values.get(MIXED, ())):
        return "differs by seed"
    elif key in NEUTRAL:
        value = NEUTRAL[key]
    elif key.endswith(".version"):
        value = 1
    else:
        component, _, option = key.partition(".")
        value = _neutral(component, values.get(component), option)
    if value is None:
        return {"ghost_batch_size": "off", "clip_norm": "off"}.get(key, "not set")
    return value if isinstance(value, str) else canonical_json(value)


def _neutral(component: str, name: Any, option: str) -> Any:
    entry = catalog.REGISTRIES[component]().find(name)
    return entry.parameters[option].neutral if entry and option in entry.parameters else None
