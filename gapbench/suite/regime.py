"""The regime of a run: the fields of the named regime, and what the suite says beside it or above it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gapbench.catalog import Budget, RegimeEntry
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
    drops: str = "rate"
    """What the recipe's drops of the learning rate become: "rate" or "batch"."""


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

    def field(key: str, words: Mapping[Any, str] | None = None) -> Any:
        own = getattr(entry, key)
        if settings.height(key) < named_at or settings.height(key) < 0:
            return own if own is not None else settings.get(key, 0.0)
        value = settings.get(key)
        # What a recipe says about warmup is no change of the regime.
        if value != own and settings.height(key) >= 2:
            changes.append(words[value] if words else f"{key.replace('_', ' ')} {value}")
        return value

    scaling = field("learning_rate_scaling", {"none": "rate untouched", "sqrt": "square-root rate", "linear": "linear rate"})
    budget = settings.get("budget") if settings.height("budget") >= max(named_at, 0) else entry.budget
    if budget != entry.budget:
        changes.append(f"{budget.factor:g}x {budget.kind}")
    warmup = field("warmup")
    warmup_start = field("warmup_start")
    return Regime(", ".join([name, *changes]), scaling, budget, warmup, warmup_start, entry.drops)
