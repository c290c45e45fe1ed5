"""What regime, preset and suite make of a recipe for one run, as data. Labels are made from it; nothing reads a label back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from gapbench import catalog
from gapbench.suite.batches import effective_ghost

MATCHED_GAIN = "momentum-gain"
"""A factor of the learning rate: the gain that momentum has with a reset at every epoch, as a share of its full gain."""

RateRule = Literal["untouched", "sqrt", "linear", "set", "tuned"]


class Change(BaseModel):
    """What was changed against the recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    preset: str = ""
    """Whose version of the recipe."""
    preset_ghost_batch_size: int | None = None
    """The ghost batch size that recipe and preset have for every batch size; None: they have none."""
    regime: str = "baseline"
    """Its name."""
    budget: Literal["epochs", "updates", "examples", "gradients"] = "epochs"
    """Its kind."""
    budget_factor: float | None = 1.0
    """None: not known, of results that were written before it was kept."""
    learning_rate_rule: RateRule = "untouched"
    """How the learning rate came about. `untouched`: it is the reference cell's; `sqrt`, `linear`: the rule makes it from the reference
    cell's; `tuned`: `gapbench tune` found it; `set`: the suite gives it, wherever that is written."""
    learning_rate_factor: float | Literal["momentum-gain"] = 1.0
    """What else multiplies it."""
    untuned: bool = False
    """Whether its rate is only where tuning starts, as the preset says."""
    beside: dict[str, JsonValue] = Field(default_factory=dict)
    """Fields that the suite sets to other values than regime and recipe do, such as {"momentum_reset": "epoch"}, in the label's order."""

    @property
    def rate_untouched(self) -> bool:
        """Whether the learning rate is the recipe's."""
        return self.learning_rate_rule == "untouched" and self.learning_rate_factor == 1.0

    @property
    def matched_gain(self) -> bool:
        """Whether the rate is multiplied by the gain that momentum has with a reset."""
        return self.learning_rate_factor == MATCHED_GAIN

    @property
    def regime_label(self) -> str:
        """The regime's name and what was changed beside it, such as "baseline, 4x epochs"."""
        return regime_label(self.regime, self.beside)

    @property
    def without_reset(self) -> str:
        """The regime's label without the momentum reset and its control, the rate of matched gain."""
        kept = {name: value for name, value in self.beside.items() if name != "momentum_reset" and value != MATCHED_GAIN}
        return regime_label(self.regime, kept)

    @property
    def rate_label(self) -> str:
        """How the learning rate came about, in words: its rule, what else multiplies it, and "untuned"."""
        factor = "" if self.learning_rate_factor == 1.0 else _factor(self.learning_rate_factor)
        rule = "" if factor and self.learning_rate_rule == "untouched" else self.learning_rate_rule
        return ", ".join(part for part in (rule, factor, "untuned" if self.untuned else "") if part)

    def as_recipe(self, batch_size: int, ghost_batch_size: int | None) -> bool:
        """Returns whether a run of these sizes has regime `baseline`, nothing changed beside it, and the preset's ghost batch size."""
        own = effective_ghost(self.preset_ghost_batch_size, batch_size)
        return self.regime == "baseline" and not self.beside and effective_ghost(ghost_batch_size, batch_size) == own


class Comparable(Protocol):
    """A cell of a plan or of a table."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def arm(self) -> str:
        """Label of its arm; empty for a cell of the grid."""

    @property
    def reference(self) -> bool:
        """Whether it is a reference cell."""

    @property
    def held_against(self) -> str:
        """Name or arm of the cell that the suite holds it against; empty: the reference cell."""

    @property
    def method(self) -> tuple[str, str, str]:
        """Preset, optimizer and precision."""


C = TypeVar("C", bound=Comparable)


def reference_among(cell: C, cells: Sequence[C]) -> C | None:
    """Returns the cell that a cell is held against: the one that the suite names, or else the reference cell.

    Among several reference cells it is the one most like it in preset, optimizer, precision.
    """
    named = [other for other in cells if cell.held_against in (other.name, other.arm) and cell.held_against and other is not cell]
    if named:
        return min(named, key=lambda other: other.name != cell.held_against)

    def likeness(other: C) -> int:
        return sum(mine == theirs for mine, theirs in zip(cell.method, other.method, strict=True))

    return max((other for other in cells if other.reference), key=likeness, default=None)


def rate_rule(rule: RateRule, rate: float, reference_rate: float) -> RateRule:
    """Returns how a learning rate came about, given that of the reference cell.

    Args:
        rule: as far as the run alone tells it.
        rate: of the run, before rule and factor.
        reference_rate: the same of the cell that the run is held against.
    """
    if rule == "tuned":
        return rule
    if not math.isclose(rate, reference_rate, rel_tol=1e-9):
        return "set"
    return "untouched" if rule == "set" else rule


def regime_label(name: str, beside: Mapping[str, Any]) -> str:
    """Returns what a regime is called with fields that are changed beside it."""
    return ", ".join([name, *(word_of(field, value) for field, value in beside.items())])


def word_of(field: str, value: Any) -> str:
    """Returns what a label says of a field that has another value than its regime's; a field without a value is its own word."""
    if field in _WORDS:
        return _WORDS[field][value]
    if field == "budget":
        return f"{value['factor']:g}x {value['kind']}"
    if field == "scaling_batch_size":
        return f"scaled from batch size {' or '.join(value)}"
    if field == "gradient_noise":
        return _noise(**value)
    if field == "learning_rate_factor":
        return f"rate at {_factor(value)}" if value == MATCHED_GAIN else f"rate {_factor(value)}"
    return field.replace("_", " ") + ("" if value is None else f" {value}")


_WORDS: Mapping[str, Mapping[Any, str]] = {
    "learning_rate_scaling": {"none": "rate untouched", "sqrt": "square-root rate", "linear": "linear rate"},
    "rounding": {"epochs-up": "epochs rounded up", "down": "updates rounded down"},
    "momentum_reset": {"epoch": "momentum reset", "never": "no momentum reset"},
}


def _factor(factor: float | str) -> str:
    return "matched gain" if isinstance(factor, str) else f"times {factor:g}"


def _noise(kind: str, variance: float | str, centred: bool) -> str:
    if kind != "multiplicative":
        return "no gradient noise" if kind == "none" else f"{kind} gradient noise"
    how = "" if centred else ", not centred"
    return f"multiplicative gradient noise{how}" + ("" if isinstance(variance, str) else f" of variance {variance:g}")


# Results that were written before records were kept tell them by their labels. Nothing else reads a label.


def from_labels(row: Mapping[str, Any]) -> Change:
    """Returns the record as far as labels and catalog tell it.

    Args:
        row: `recipe`, `preset`, `regime`, `learning_rate_rule` and `budget` of a run; those that are missing are plain.
    """
    regime, *changes = row.get("regime", "baseline").split(", ")
    rate = row.get("learning_rate_rule", "untouched").split(", ")
    beside = dict(_read_word(word) for word in changes)
    rules = [rule for rule in get_args(RateRule) if rule in rate]
    factors: list[Any] = [factor for part in rate for field, factor in [_read_word(f"rate {part}")] if field == "learning_rate_factor"]
    entry = catalog.regimes().find(regime)
    budget: Any = beside.get("budget") or (entry.budget.model_dump() if entry else {"factor": None})
    return Change(
        preset=row.get("preset", ""),
        preset_ghost_batch_size=_preset_ghost(row.get("recipe", ""), row.get("preset", "")),
        regime=regime,
        budget=row.get("budget", "epochs"),
        budget_factor=budget["factor"],
        learning_rate_rule=rules[0] if rules else "untouched",
        learning_rate_factor=factors[0] if factors else 1.0,
        untuned="untuned" in rate,
        beside=beside,
    )


def words_from_labels(row: Mapping[str, Any]) -> dict[str, str]:
    """Returns `Labels.words` as far as `cell`, `preset` and `batch_size` of a run tell them."""
    known = {row.get("preset", ""): "preset", f"B {row['batch_size']}": "batch_size"}
    return {known.get(word, word): word for word in row["cell"].split(", ")}


def _read_word(word: str) -> tuple[str, Any]:
    """Returns the field and the value that a word of a label tells; a word that is not understood is a field without a value."""
    for field, words in _WORDS.items():
        for value, known in words.items():
            if word == known:
                return field, value
    if found := re.fullmatch(r"(\S+)x (epochs|updates|examples|gradients)", word):
        return "budget", {"kind": found[2], "factor": float(found[1])}
    if found := re.fullmatch(r"rate (?:(?:at )?(matched gain)|times (\S+))", word):
        return "learning_rate_factor", MATCHED_GAIN if found[1] else float(found[2])
    return word, None


def _preset_ghost(recipe: str, preset: str) -> int | None:
    entry = catalog.recipes().find(recipe)
    if entry is None or preset not in entry.presets:
        return None
    size = {**entry.fields, **entry.presets[preset].fields}.get("ghost_batch_size")
    return size if isinstance(size, int) else None
