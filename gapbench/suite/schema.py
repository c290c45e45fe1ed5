"""The schema of a suite file: what each section may hold. Fields that are not given stay unset; merging happens later."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, PlainValidator, model_validator

from gapbench.catalog import Budget

FIGURES = ("weight_distance", "accuracy_vs_batch_size", "training_curves", "seeds", "accuracy_vs_train_loss")
"""Every figure of a report; those that a suite may ask for, and all of them where it asks for none."""
SEEDS = ("seed", "init_seed", "order_seed", "split_seed")
"""Fields that distinguish the runs of one cell."""


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, a text is no number, and neither infinity nor NaN is one."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    def given(self) -> dict[str, Any]:
        """Returns the fields that were given, by name."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}


def _component(value: Any) -> dict[str, Any]:
    """A name, or a table with a name and options; a table without a name changes options of what is set further below."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and isinstance(value.get("name", ""), str):
        return value
    raise ValueError('must be a name in quotes or a table {name = "...", option = ...}')


def _whole_number_or(word: str, minimum: int) -> PlainValidator:
    def check(value: Any) -> Any:
        if value == word or (type(value) is int and value >= minimum):
            return value
        raise ValueError(f'must be "{word}" or a whole number of at least {minimum}, not {show(value)}')

    return PlainValidator(check)


def _number_or(word: str, condition: str, minimum: float, maximum: float = float("inf"), *, open_minimum: bool = False) -> PlainValidator:
    def check(value: Any) -> Any:
        if value == word:
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            above = value > minimum if open_minimum else value >= minimum
            if above and value <= maximum and value != float("inf"):
                return float(value)
        raise ValueError(f'must be "{word}" or a number {condition}, not {show(value)}')

    return PlainValidator(check)


def show(value: Any) -> str:
    """Returns a value as it stands in a TOML file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {show(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(show(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else f"{value}"


class PhaseTable(Section):
    """One phase of the schedule."""

    start: float = Field(0.0, ge=0.0, lt=1.0)
    learning_rate_factor: float = Field(1.0, ge=0.0)
    weight_decay: float | None = Field(None, ge=0.0)
    momentum: float | None = Field(None, ge=0.0, lt=1.0)


def _phases_in_order(phases: list[PhaseTable]) -> list[PhaseTable]:
    starts = [phase.start for phase in phases]
    if not phases or starts[0] != 0.0 or sorted(set(starts)) != starts:
        raise ValueError(
            f"phases must begin at start = 0 and follow each other, not at {', '.join(f'{start:g}' for start in starts) or 'none'}"
        )
    return phases


class NormalizationTable(Section):
    """How pixels become inputs."""

    kind: Literal["global", "channel", "feature", "fixed", "none"]
    mean: list[float] = Field(default_factory=list)
    standard_deviation: list[Annotated[float, Field(gt=0.0)]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _given_where_fixed(self) -> NormalizationTable:
        if self.kind == "fixed" and (not self.mean or len(self.mean) != len(self.standard_deviation)):
            raise ValueError('kind = "fixed" needs mean = [...] and standard_deviation = [...] of the same length')
        if self.kind != "fixed" and (self.mean or self.standard_deviation):
            raise ValueError('mean and standard_deviation are only for kind = "fixed"')
        return self


def _normalization(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


Component = Annotated[dict[str, Any], PlainValidator(_component)]
Ghost = Annotated[Any, _whole_number_or("off", 1)]
Seed = Annotated[Any, _whole_number_or("seed", 0)]
ClipNorm = Annotated[Any, _number_or("off", "greater than 0", 0.0, open_minimum=True)]
NormMomentum = Annotated[Any, _number_or("cumulative", "greater than 0 and at most 1", 0.0, 1.0, open_minimum=True)]
WarmupStart = Annotated[Any, _number_or("reference", "of at least 0", 0.0)]
Phases = Annotated[list[PhaseTable], AfterValidator(_phases_in_order)]
NormalizationField = Annotated[NormalizationTable, BeforeValidator(_normalization)]


class RunFields(Section):
    """Every field of a run: for [run], [grid] (lists of these), [[arm]], [[override]] and recipes."""

    recipe: str = ""
    preset: str = ""
    dataset: Component = Field(default_factory=dict)
    model: Component = Field(default_factory=dict)
    optimizer: Component = Field(default_factory=dict)
    batch_size: int = Field(0, ge=1)
    ghost_batch_size: Ghost = "off"
    regime: str = ""
    learning_rate_scaling: Literal["none", "sqrt", "linear"] = "none"
    budget: Budget = Budget()
    epochs: float = Field(0.0, gt=0.0)
    reference_batch_size: int = Field(0, ge=1)
    learning_rate: float = Field(0.0, gt=0.0)
    warmup: float = Field(0.0, ge=0.0, lt=1.0)
    warmup_start: WarmupStart = 0.0
    phases: Phases = Field(default_factory=list)
    weight_decay: float = Field(0.0, ge=0.0)
    weight_decay_on: Literal["all", "matrices"] = "all"
    clip_norm: ClipNorm = "off"
    crop_padding: int = Field(0, ge=0)
    crop_fill: int = Field(0, ge=0, le=255)
    flip: bool = False
    normalization: NormalizationField = NormalizationTable(kind="global")
    running_statistics: Literal["mean", "sequential"] = "mean"
    norm_momentum: NormMomentum = 0.1
    tail: Literal["stream", "drop"] = "stream"
    precision: Literal["fp32", "bf16"] = "fp32"
    headline_evaluations: int = Field(1, ge=1)
    holdout: float = Field(0.0, ge=0.0, lt=1.0)
    seed: int = Field(0, ge=0)
    init_seed: Seed = "seed"
    order_seed: Seed = "seed"
    split_seed: Seed = "seed"


class RunSection(RunFields):
    """[run]: besides the fields of a run, what is the same for all runs because it changes none of their numbers."""

    evaluations: int = Field(20, ge=1)
    keep_weights: list[Annotated[float, Field(ge=0.0, le=1.0)]] = Field(default_factory=list)
    probes: list[str] = Field(default_factory=list)
    time_limit_seconds: float = Field(0.0, gt=0.0)


class ArmSection(RunFields):
    """One [[arm]]."""

    label: Annotated[str, Field(min_length=1)]


class SetSection(RunFields):
    """The `set` of an [[override]]: final values."""

    updates: int = Field(0, ge=1)


def expand_seeds(value: Any) -> Any:
    """Returns the list that "0..4" means: 0, 1, 2, 3, 4. Other values are returned as they are."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+)\s*\.\.\s*(\d+)\s*", value)
    if found and int(found[2]) - int(found[1]) > 100_000:
        raise ValueError(f"{show(value)} are more than 100,000 seeds; choose a shorter range")
    if not found or int(found[1]) > int(found[2]):
        raise ValueError(f'must be a list or a range such as "0..4" (both ends included), not {show(value)}')
    return list(range(int(found[1]), int(found[2]) + 1))


class RegimeSection(Section):
    """One [regimes.NAME]."""

    summary: str = ""
    learning_rate_scaling: Literal["none", "sqrt", "linear"] = "none"
    warmup: float = Field(0.0, ge=0.0, lt=1.0)
    warmup_start: WarmupStart = 0.0
    budget: Budget = Budget()


class ReportSection(Section):
    """[report]."""

    reference: dict[str, JsonValue] = Field(default_factory=dict)
    arms: list[str] = Field(default_factory=list)
    figures: list[Literal["weight_distance", "accuracy_vs_batch_size", "training_curves", "seeds", "accuracy_vs_train_loss"]] = Field(
        default_factory=list
    )


class SuiteSection(Section):
    """The root of a suite file; its sections are validated one by one."""

    schema_version: Literal[1] = Field(alias="schema")
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._+-]*$")]
    summary: str = ""
    extends: str = ""
