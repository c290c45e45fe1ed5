"""Entries of the catalog: what is known about a component without importing it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from gapbench.catalog.parameters import Parameter, WordOr
from gapbench.core.registry import refusal_of_name


def _name(name: str) -> str:
    if refusal := refusal_of_name(name):
        raise ValueError(refusal)
    return name


class Entry(BaseModel):
    """What every entry has. Unknown keys in the catalog's tables are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    name: Annotated[str, AfterValidator(_name)]
    summary: str
    """One line for `gapbench ls`."""
    source: str = ""
    """Where it comes from: a citation or an address."""


class ComponentEntry(Entry):
    """Something with code: a data set, model, optimizer or probe."""

    target: str
    """`package.module:object`, for `core.registry.load_target`."""
    version: int = Field(1, ge=1)
    """Raised whenever the same options give other numbers; part of the identity of a run."""
    parameters: dict[str, Parameter] = Field(default_factory=dict)
    """Keyword options of the target."""


COMMON_DATASET_PARAMETERS = {
    "train_size": Parameter(
        type="int", default=0, minimum=0, neutral=0, help="train on a subset of so many examples, drawn by split_seed; 0: all"
    ),
    "test_size": Parameter(
        type="int", default=0, minimum=0, neutral=0, help="test on a subset of so many examples, drawn by split_seed; 0: all"
    ),
    "stratified": Parameter(
        type="bool", default=False, neutral=False, help="whether train_size and test_size take the same share of every class"
    ),
}
"""Options that every data set has besides its own. They are not passed to its loader: the split is taken afterwards."""

CONTENT = Parameter(type="str", default="", neutral="", help="hash of the file's arrays; filled in, or given to insist on it")
"""The option of data sets that are a user's own file: in the identity of a run it stands in the place of the path."""


class DatasetEntry(ComponentEntry):
    """A data set. Sizes are None (shape empty) where they come from the user's file, as with `npz`."""

    train_examples: int | None = None
    test_examples: int | None = None
    shape: tuple[int, ...] = ()
    """(height, width, channels), or (features,) for data that are no images."""
    classes: int | None = None
    pixel_max: float = 255.0
    """The stored value that means 1.0."""
    split: Literal["official", "drawn"] = "official"
    """`drawn`: training and test set are drawn from one pool by `split_seed`, by default anew for every seed."""

    @model_validator(mode="before")
    @classmethod
    def _with_common(cls, table: dict[str, Any]) -> dict[str, Any]:
        parameters = {name: Parameter.model_validate(parameter) for name, parameter in table.get("parameters", {}).items()}
        for name, shared in COMMON_DATASET_PARAMETERS.items():
            parameters[name] = parameters.get(name, shared).model_copy(update={"neutral": shared.neutral})
        if table.get("train_examples") is None:
            parameters["content"] = CONTENT
        return {**table, "parameters": parameters}


T = TypeVar("T")


class Metric(Entry):
    """What a task measures on a set of examples: a mean over them, kept as it is and shown to people times `factor`."""

    unit: str
    """Of the value as people are shown it: `%`, `nats`."""
    gap_unit: str
    """Of a difference of two such values: `pp` of percent. It ends the names of columns."""
    factor: float = 1.0
    direction: Literal["higher", "lower"]
    """Which values are better."""
    decimals: int | None = None
    """That people are shown; None: two digits of the error, of a metric that has no scale of its own."""
    notable_gap: float | None = None
    """Size of a gap, in `gap_unit`, that the power of a comparison is told for; None: it depends on the data and the model."""
    subject: str = ""
    """What verdicts say is above or below: "loss above reference"; empty: the cell itself, as with accuracy."""

    def column(self, split: str) -> str:
        """Returns the column of its values on the `test`, `train` or `validation` examples: `test_accuracy`."""
        return f"{split}_{self.name}"

    def gap_column(self, gap: str = "batch_gap") -> str:
        """Returns the column of a difference: `batch_gap_pp`."""
        return f"{gap}_{self.gap_unit}"

    def gap_terms(self, reference: T, other: T) -> tuple[T, T]:
        """Returns (minuend, subtrahend) of the gap of `other` to `reference`: their difference is positive where `other` is worse."""
        return (reference, other) if self.direction == "higher" else (other, reference)

    def shown(self, value: float) -> float:
        """Returns a value as people are shown it, in `unit`."""
        return self.factor * value


class Task(Entry):
    """What a model is trained for: the loss of an example, and what is measured."""

    target: str
    """`package.module:object` of the live task, for `core.registry.load_target`."""
    losses: tuple[str, ...]
    """Names of the losses of an example that belong to it."""
    counts: str = "examples"
    """What a mean counts: `examples`, each of weight 1, or parts of them, such as the tokens of a text."""
    metrics: tuple[Metric, ...]
    headline: Metric
    """What runs are compared by: one of `metrics`."""

    @model_validator(mode="after")
    def _own_headline(self) -> Self:
        if self.headline not in self.metrics:
            raise ValueError("headline must be one of metrics")
        return self


class ModelEntry(ComponentEntry):
    """A model. Its target is called with (input_shape, classes, **options)."""

    input_shape: tuple[int, ...] = ()
    """The only (height, width, channels) it takes; empty: any."""
    needs_images: bool = False
    """Whether it needs (height, width, channels) and not plain features."""
    minimum_side: int = 0
    """The smallest height and width that it takes."""
    stackable: bool = False
    """Whether replicas can train as one stack (dense layers only)."""
    task: str = "classification"
    """What it is trained for: the name of a task of the catalog."""
    without_norm: dict[str, JsonValue] | None = None
    """Options under which it has no batch norm, so that ghost batch norm has no effect and micro-batches are exact. A list means any
    of its values; {} is always, None is never."""

    def has_batch_norm(self, options: dict[str, Any]) -> bool:
        """Returns whether the model has batch norm under these options."""
        if self.without_norm is None:
            return True
        return not all(_is_any_of(options.get(name), values) for name, values in self.without_norm.items())


def _is_any_of(value: Any, values: JsonValue) -> bool:
    return bool(value == values) or (isinstance(values, list) and value in values)


class OptimizerEntry(ComponentEntry):
    """An optimizer."""

    gradients_per_update: int = Field(1, ge=1)
    """Gradients of a batch that an update computes: what budgets of equal gradients, and prices, count by."""


AT = Parameter(
    type="list[float]",
    default=[],
    minimum=0,
    maximum=1,
    help="fractions of the training at which it is called; empty: where weights are kept (keep_weights)",
)
"""The option of all probes of stage `checkpoint`. It is not passed to them."""


class ProbeEntry(ComponentEntry):
    """A measurement: a function of the training state."""

    stage: Literal["micro-batch", "update", "evaluation", "checkpoint"]
    """When it is called."""
    metrics: tuple[str, ...]
    """Names of the values it returns."""
    per_layer: bool = False
    """Whether it also gives a value for each layer."""
    default: bool = False
    """Whether it runs where a suite names no probes."""
    needs_objective: bool = False
    """Whether it asks for the loss at other examples or weights: the engine then provides `state.objective`."""
    needs_norm_group: bool = False
    """Whether batch norm must be over groups of a fixed size: then a ghost batch size must be named."""
    vectors: tuple[str, ...] = ()
    """Metrics of several numbers each, as many as its options say, which it returns as `metric/bucket`."""
    passes: dict[str, float] = Field(default_factory=dict)
    """What a look costs, for the plan: how often it passes its `examples` through the network, with the loss 1, a gradient 4 and a product
    with the Hessian 12, for each unit of a parameter, and under "" besides. Rough: jobs that trained correct it. Empty: hardly anything."""
    one_by_one: bool = False
    """Whether it looks at one replica of a stack at a time."""

    def mismatch(self, names: Collection[str]) -> tuple[str, str]:
        """Returns how the names that a call returned differ from the declared ones, and the remedy; empty texts where they do not."""
        wanted = [f"{metric}/bucket" if metric in self.vectors else metric for metric in self.metrics]
        layers = [f"{metric}/layer" for metric in self.metrics] if self.per_layer else []
        if odd := sorted(set(names) - {*wanted, *layers}):
            declared = ", ".join(sorted([*wanted, *layers]))
            return f"returns {', '.join(odd)}, and is declared with {declared}", "declare them: metrics=[...], per_layer=True"
        if missing := [name for name in wanted if name not in names]:
            return f"does not return {', '.join(missing)}", "return every metric that it is declared with, at every call"
        if layers and not set(layers) & set(names):
            return f"is declared with per_layer and returns no {' or '.join(layers)}", "return it, [replica, layer], or leave out per_layer"
        return "", ""

    @model_validator(mode="after")
    def _passes_of_parameters(self) -> Self:
        unknown = [name for name in self.passes if name and name not in self.parameters]
        if self.passes and (unknown or self.stage != "checkpoint" or "examples" not in self.parameters):
            raise ValueError('passes are of a probe of stage checkpoint that has a parameter `examples`, by its parameters and ""')
        return self

    @model_validator(mode="before")
    @classmethod
    def _with_at(cls, table: dict[str, Any]) -> dict[str, Any]:
        parameters = table.get("parameters", {})
        return {**table, "parameters": {**parameters, "at": AT}} if table.get("stage") == "checkpoint" else table


class Budget(BaseModel):
    """How long a run trains."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    kind: Literal["epochs", "updates", "examples", "gradients"] = Field(
        "epochs",
        description="The recipe's epochs; exactly the updates of the reference cell; exactly its examples; or as many of their gradients.",
    )
    """`epochs`: the recipe's epochs, so as many examples as the reference cell; `updates`: exactly the reference cell's
    updates; `examples`: exactly the reference cell's examples, in updates rounded down; `gradients`: as
    many gradients of examples as the reference cell computes at one an example, so half the examples where an update takes two."""
    factor: float = Field(1.0, gt=0.0, description="So many times as long.")
    rounding: Literal["down", "epochs-up"] | None = Field(
        None, description="To whole updates, or up to whole epochs at each step, as the released code does. Left out: the recipe's."
    )
    """`down`: to whole updates; `epochs-up`: epochs, and what multiplies them, are rounded up; None: the recipe's, or else down."""


class NoiseRule(BaseModel):
    """Noise that is added to gradients on purpose, as a control."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    kind: Literal["none", "multiplicative", "isotropic"] = Field(
        "none",
        description="None; each example's gradient times 1 + sigma e, e standard normal; or, in the gradient's place, a Gaussian direction "
        "of the gradient's norm: a walk that learns nothing.",
    )
    variance: float | Literal["matched"] = Field(
        "matched", description='Of multiplicative noise; "matched": batch / reference - 1, which gives a batch the reference\'s covariance.'
    )
    centred: bool = Field(True, description="Whether multiplicative noise sums to zero over the batch, so that the mean gradient stays.")

    @model_validator(mode="after")
    def _sound(self) -> NoiseRule:
        if not isinstance(self.variance, str) and not 0 <= self.variance < float("inf"):
            raise ValueError('variance must be "matched" or a number of at least 0')
        if self.kind != "multiplicative" and (self.variance != "matched" or not self.centred):
            raise ValueError('variance and centred are only for kind = "multiplicative"')
        return self


class BatchRule(BaseModel):
    """A batch size that follows the gradient noise scale: B = sqrt(exchange_rate * noise scale), McCandlish et al. 2018."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    exchange_rate: float | Literal["batch-size"] = Field(
        "batch-size", description='Examples that one update fewer is worth; "batch-size": as many as the run\'s batch size.'
    )
    smallest: float = Field(0.25, gt=0.0, le=1.0, description="Lower bound of the batch size, as a multiple of the run's.")
    largest: float = Field(4.0, ge=1.0, allow_inf_nan=False, description="Upper bound of the batch size, as a multiple of the run's.")
    unit: int = Field(8, gt=0, description="Sizes are multiples of the ghost batch size or, without batch norm, of so many examples.")
    decisions: int = Field(
        20, gt=1, description="The size changes only at the first update from each multiple of 1 / decisions of the examples on."
    )
    measure_every: int = Field(4, gt=0, description="Updates from one measurement of the noise scale to the next.")
    smoothing: float = Field(
        0.9, ge=0.0, lt=1.0, description="Weight that averages of noise and signal keep from measurement to measurement."
    )
    largest_change: float = Field(2.0, gt=1.0, allow_inf_nan=False, description="Factor by which a decision changes the size at most.")

    @model_validator(mode="after")
    def _sound(self) -> BatchRule:
        if not isinstance(self.exchange_rate, str) and not 0 < self.exchange_rate < float("inf"):
            raise ValueError('exchange_rate must be "batch-size" or a positive number of examples')
        return self


WarmupStart = Annotated[Any, WordOr("reference", type="number", minimum=0)]
AugmentationEpochs = Annotated[Any, WordOr("off", "reference", type="integer", minimum=1)]


class RegimeRules(BaseModel):
    """How a recipe adapts to another batch size: learning-rate scaling x warmup x budget x noise, independent of each other.

    What a regime does not give of warmup, noise, weight decay scaling and augmentation is as the run says.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    learning_rate_scaling: Literal["none", "sqrt", "linear"] = Field(
        "none", description="Factor of the learning rate: 1, (batch / reference)^(1/2), batch / reference."
    )
    warmup: float = Field(0.0, ge=0.0, lt=1.0, description="Fraction of the updates over which the learning rate rises linearly.")
    warmup_start: WarmupStart = Field(0.0, description='Factor of the learning rate that warmup starts from, or "reference".')
    budget: Budget = Field(Budget(), description="How long a run trains, against the reference cell.")
    drops: Literal["rate", "batch"] = Field(
        "rate", description="Drops of the learning rate stay, or the batch grows instead while it is at most a tenth of the training set."
    )
    adaptive_batch: BatchRule | None = Field(None, description="The batch size follows the gradient noise scale; left out: it does not.")
    """The regime's learning-rate scaling then holds for every batch."""
    gradient_noise: NoiseRule = Field(NoiseRule(), description="Noise added to gradients; left out: what the run says.")
    weight_decay_scaling: Literal["none", "inverse-learning-rate"] = Field(
        "none", description="Factor of weight decay: 1, or reference rate / rate; left out: what the run says."
    )
    augmentation_epochs: AugmentationEpochs = Field(
        "off", description='Epochs after which crops and flips come again; "reference": the recipe\'s; left out: what the run says.'
    )


class RegimeEntry(Entry, RegimeRules):
    """A regime of the catalog, of a plugin or of a suite."""


class Preset(BaseModel):
    """Whose version of a recipe: values that replace the recipe's own."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    summary: str
    extends: str = ""
    """The preset whose fields and notes it has besides its own."""
    needs_tuning: bool = False
    """Whether its learning rates mean little until they are tuned for each batch size: labelled "untuned" until then."""
    fields: dict[str, JsonValue] = Field(default_factory=dict)
    notes: dict[str, str] = Field(default_factory=dict)
    """By field: where its value comes from, where that is not the source itself."""


class RecipeEntry(Entry):
    """How a (data set, model) is trained at its reference batch size. The suite's schema says what the fields may hold."""

    fields: dict[str, JsonValue]
    presets: dict[str, Preset]
    default_preset: str = "paper"

    @model_validator(mode="before")
    @classmethod
    def _extended(cls, table: dict[str, Any]) -> dict[str, Any]:
        presets = table.get("presets", {})
        return {**table, "presets": {name: _extended(presets, name) for name in presets}}


def _extended(presets: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Any]:
    """Returns a preset with what it extends. A value of its own has the note of its own, or none."""
    own = dict(presets[name])
    if not own.get("extends"):
        return own
    base = _extended(presets, own["extends"])
    fields = own.get("fields", {})
    notes = {field: note for field, note in base.get("notes", {}).items() if field not in fields}
    return {**own, "fields": {**base.get("fields", {}), **fields}, "notes": {**notes, **own.get("notes", {})}}
