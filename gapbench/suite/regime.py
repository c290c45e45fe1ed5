"""The regime of a run: the fields of the named regime, and what the suite says beside it or above it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gapbench.catalog import BatchRule, Budget, NoiseRule, RegimeEntry
from gapbench.suite.layers import Settings, Unknown


@dataclass(frozen=True)
class Regime:
    """An effective regime."""

    label: str
    """Its name; with what was changed inline, such as "baseline, 4x epochs"."""
    learning_rate_scaling: str
    budget: Budget
    warmup: float
    warmup_start: float | str
    """Factor of the learning rate, or "reference"."""
    gradient_noise: NoiseRule
    weight_decay_scaling: str
    augmentation_epochs: int | str
    """A number of epochs, "off" or "reference"."""
    drops: str = "rate"
    """What the recipe's drops of the learning rate become: "rate" or "batch"."""
    adaptive_batch: BatchRule | None = None
    """How the batch size follows the noise scale."""


def regime_of(settings: Settings, regimes: Mapping[str, RegimeEntry | None]) -> Regime:
    """Returns the regime of a run.

    A regime's fields count where the regime is named: the same field set in a layer below is replaced, set in the same
    layer or above it wins.

    Raises:
        Unknown: there is no such regime, or it is mistaken itself (None among `regimes`); both are said where it is written.
    """
    name = settings.get("regime", "baseline")
    entry = regimes.get(name)
    if entry is None:
        raise Unknown("regime")
    named_at = settings.height("regime")
    changes: list[str] = []

    def field(key: str, default: Any, words: Callable[[Any], str] | None = None) -> Any:
        own = getattr(entry, key)
        if settings.height(key) < named_at or settings.height(key) < 0:
            return own if own is not None else settings.get(key, default)
        value = settings.get(key)
        # What a recipe says about warmup is no change of the regime.
        if value != (default if own is None and key in _CONTROLS else own) and settings.height(key) >= 2:
            changes.append(words(value) if words else f"{key.replace('_', ' ')} {value}")
        return value

    rules = {"none": "rate untouched", "sqrt": "square-root rate", "linear": "linear rate"}
    scaling = field("learning_rate_scaling", "none", rules.__getitem__)
    budget = settings.get("budget") if settings.height("budget") >= max(named_at, 0) else entry.budget
    if (budget.kind, budget.factor) != (entry.budget.kind, entry.budget.factor):
        changes.append(f"{budget.factor:g}x {budget.kind}")
    rounding, own = _rounding(settings, budget, entry)
    if own:
        changes.append("epochs rounded up" if rounding == "epochs-up" else "updates rounded down")
    if scaling != "none" and settings.height("scaling_batch_size") >= 2:
        table = settings.get("scaling_batch_size")
        bases = dict.fromkeys(str(base) for base in (table.with_ghost, table.without_ghost))
        changes.append(f"scaled from batch size {' or '.join(bases)}")
    warmup = field("warmup", 0.0)
    warmup_start = field("warmup_start", 0.0)
    noise = field("gradient_noise", NoiseRule(), _noise_words)
    decay = field("weight_decay_scaling", "none")
    augmentation = field("augmentation_epochs", "off")
    if settings.height("learning_rate_factor") >= 2 and (factor := settings.get("learning_rate_factor")) != 1.0:
        changes.append("rate at matched gain" if isinstance(factor, str) else f"rate times {factor:g}")
    reset = settings.get("momentum_reset", "never")
    if reset != settings.only("recipe", "preset", "run").get("momentum_reset", "never"):
        changes.append("momentum reset" if reset == "epoch" else "no momentum reset")
    budget = budget.model_copy(update={"rounding": rounding})
    label = ", ".join([name, *changes])
    return Regime(label, scaling, budget, warmup, warmup_start, noise, decay, augmentation, entry.drops, entry.adaptive_batch)


_CONTROLS = frozenset({"gradient_noise", "weight_decay_scaling", "augmentation_epochs"})
"""Fields that a regime may leave to the run."""


def _noise_words(noise: NoiseRule) -> str:
    if noise.kind != "multiplicative":
        return "no gradient noise" if noise.kind == "none" else f"{noise.kind} gradient noise"
    how = "" if noise.centred else ", not centred"
    return f"multiplicative gradient noise{how}" + ("" if isinstance(noise.variance, str) else f" of variance {noise.variance:g}")


def _rounding(settings: Settings, budget: Budget, entry: RegimeEntry) -> tuple[str, bool]:
    """Returns how a budget is rounded, and whether the suite itself says so.

    Where neither the budget nor the regime does, the recipe's own budget decides: a regime names a kind, a recipe its rounding.
    """
    if budget.rounding is not None:
        return budget.rounding, settings.height("budget") >= 2 and budget is settings.get("budget")
    if entry.budget.rounding is not None:
        return entry.budget.rounding, False
    recipe = settings.only("recipe", "preset").get("budget")
    return (recipe.rounding if recipe is not None and recipe.rounding else "down"), False
