"""The learning rate of a run: scaled by its regime against some batch size, times a factor, with a warmup; and what it is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gapbench import catalog
from gapbench.suite.arithmetic import epoch_starts, learning_rate_factor, momentum_gain
from gapbench.suite.asked import Asked
from gapbench.suite.layers import Settings
from gapbench.suite.regime import Regime
from gapbench.suite.runspec import Component

WARMUP_IN_GAINS = 5
"""`minimum_warmup_updates = "momentum"` is so many times 1 / (1 - momentum) updates."""
MATCHED_GAIN = "matched gain"
"""What a rate is called that is multiplied by the gain which momentum has with a reset at every epoch."""
UNTUNED = "untuned"


@dataclass(frozen=True)
class Length:
    """How long a run trains, as far as its learning rate depends on it."""

    updates: int
    examples: int
    """Size of the training set."""
    batch_size: int
    tail: str


def scaling_batch_size(asked: Asked, model: Component | None) -> int:
    """Returns the batch size that learning-rate scaling refers to.

    A run has a ghost batch size where one is asked for and the model has batch norm, also where it is the whole batch: the released code
    has a script for each, and each its own base.
    """
    reference = int(asked.get("reference_batch_size"))
    table = asked.get("scaling_batch_size", None)
    if table is None:
        return reference
    ghost = asked.get("ghost_batch_size", "off")
    has_norm = model is None or catalog.models()[model.name].has_batch_norm(model.options)
    base = table.with_ghost if ghost != "off" and has_norm else table.without_ghost
    return int({"reference": reference, "ghost": ghost}.get(base, base))


def rates(asked: Asked, regime: Regime, length: Length, scaling: int, optimizer: Component | None) -> dict[str, Any] | None:
    """Returns learning rate, warmup and the reference cell's rate, or None where they are mistaken."""
    own_rate = asked.get("learning_rate")
    base_rate = asked.settings.only("recipe", "preset", "run", "grid", "arm").get("learning_rate", own_rate)
    rate = (
        own_rate if is_final(asked.settings) else own_rate * learning_rate_factor(regime.learning_rate_scaling, length.batch_size, scaling)
    )
    factor = _factor(asked, length, optimizer) if has_factor(asked.settings) else 1.0
    if factor is None:
        return None
    rate *= factor
    start = regime.warmup_start
    start = base_rate / rate if isinstance(start, str) else start
    # Warmup only rises: from the reference rate to a rate that is no higher there is nothing to warm up.
    warmup = 0.0 if start >= 1.0 else max(regime.warmup, _minimum_warmup(asked, optimizer) / length.updates)
    if warmup >= 1.0:
        updates = round(warmup * length.updates)
        message = (
            f"a warmup of {updates} updates is not shorter than the run, which makes {length.updates}; train for longer, or set it to 0"
        )
        asked.problem("minimum_warmup_updates", message)
        return None
    return {
        "learning_rate": rate,
        "warmup": warmup,
        "warmup_start": start if warmup else 0.0,
        "reference_learning_rate": base_rate,
    }


def is_final(settings: Settings) -> bool:
    """Returns whether an override sets the learning rate, so that no regime scales it."""
    layer = settings.layer_of("learning_rate")
    return layer is not None and layer.kind == "override"


def has_factor(settings: Settings) -> bool:
    """Returns whether a factor multiplies the rate: one set below the override of a rate does not."""
    if settings.get("learning_rate_factor", 1.0) == 1.0:
        return False
    return not is_final(settings) or settings.height("learning_rate_factor") >= settings.height("learning_rate")


def rule_of(settings: Settings, regime: Regime) -> str:
    """Returns what `Labels.learning_rate_rule` says of a run's learning rate."""
    rule = "set" if is_final(settings) else {"none": "untouched"}.get(regime.learning_rate_scaling, regime.learning_rate_scaling)
    parts = [rule]
    if has_factor(settings):
        parts = [part for part in parts if part != "untouched"] + [factor_words(settings.get("learning_rate_factor"))]
    if not is_final(settings) and _needs_tuning(settings):
        parts.append(UNTUNED)
    return ", ".join(parts)


def factor_words(factor: float | str) -> str:
    """Returns a factor of the learning rate in words."""
    return MATCHED_GAIN if isinstance(factor, str) else f"times {factor:g}"


def _factor(asked: Asked, length: Length, optimizer: Component | None) -> float | None:
    factor = asked.get("learning_rate_factor", 1.0)
    if not isinstance(factor, str):
        return float(factor)
    momentum = optimizer.option("momentum") if optimizer else None
    if momentum is None:
        name = f'; the optimizer "{optimizer.name}" has none' if optimizer else ""
        asked.problem("learning_rate_factor", f'"momentum-gain" is of an optimizer with momentum{name}; give a number')
        return None
    if any(phase.momentum not in (None, momentum) for phase in asked.get("phases", [])):
        asked.problem("learning_rate_factor", '"momentum-gain" is of one momentum, and the phases have several; give a number')
        return None
    starts = epoch_starts(length.updates, length.examples, length.batch_size, length.tail)
    return momentum_gain(float(momentum), starts, length.updates)


def _minimum_warmup(asked: Asked, optimizer: Component | None) -> float:
    """Returns the least number of updates of a warmup; AdamW's momentum is its beta1."""
    least = asked.get("minimum_warmup_updates", 0)
    if least != "momentum":
        return float(least)
    momentum = optimizer.option("momentum", optimizer.option("beta1", 0.0)) if optimizer else 0.0
    return round(WARMUP_IN_GAINS / (1.0 - float(momentum)), 9)


def _needs_tuning(settings: Settings) -> bool:
    recipe = settings.get("recipe", "")
    if recipe not in catalog.recipes():
        return False
    entry = catalog.recipes()[recipe]
    preset = settings.get("preset", entry.default_preset)
    return preset in entry.presets and entry.presets[preset].needs_tuning
