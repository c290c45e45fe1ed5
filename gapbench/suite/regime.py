"""The regime of a run: the fields of the named regime, and what the suite says beside it or above it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Any

from pydantic import Field

from gapbench import catalog
from gapbench.catalog import BatchRule, Budget, NoiseRule, RegimeEntry
from gapbench.core.errors import GapbenchError
from gapbench.suite.batches import UpdateBatch, chunk_size, exactly, grown, plain
from gapbench.suite.change import Change, RateRule, regime_label
from gapbench.suite.layers import RunSettings, Settings
from gapbench.suite.mistakes import Unknown
from gapbench.suite.runspec import AdaptiveBatch, Component, has_batch_norm
from gapbench.suite.schema import PhaseTable


class Regime(RegimeEntry):
    """An effective regime."""

    beside: dict[str, Any] = Field(default_factory=dict)
    """What the suite changes beside it, as in `Change`."""

    @property
    def label(self) -> str:
        """What it is called in messages."""
        return regime_label(self.name, self.beside)


_CONTROLS = ("gradient_noise", "weight_decay_scaling", "augmentation_epochs")
"""Fields that a regime may leave to the run."""


def regime_of(settings: Settings, regimes: Mapping[str, RegimeEntry | None]) -> Regime:
    """Returns the regime of a run.

    A regime's fields count where the regime is named: the same field set in a layer below is replaced, set in the same
    layer or above it wins.

    Raises:
        Unknown: there is no such regime, or it is invalid (None among `regimes`); either was told where it is written.
    """
    entry = regimes.get(settings.get("regime", "baseline"))
    if entry is None:
        raise Unknown("regime")
    named_at = max(settings.height("regime"), 0)
    beside: dict[str, Any] = {}
    scaling = _effective(settings, entry, "learning_rate_scaling", beside)
    budget = settings.get("budget") if settings.height("budget") >= named_at else entry.budget
    if (budget.kind, budget.factor) != (entry.budget.kind, entry.budget.factor):
        beside["budget"] = {"kind": budget.kind, "factor": budget.factor}
    rounding, of_suite = _rounding(settings, budget, entry)
    if of_suite:
        beside["rounding"] = rounding
    if scaling != "none" and settings.height("scaling_batch_size") >= 2:
        table = settings.get("scaling_batch_size")
        beside["scaling_batch_size"] = [*dict.fromkeys(str(base) for base in (table.with_ghost, table.without_ghost))]
    fields = {name: _effective(settings, entry, name, beside) for name in ("warmup", "warmup_start", *_CONTROLS)}
    if settings.height("learning_rate_factor") >= 2 and (factor := settings.get("learning_rate_factor")) != 1.0:
        beside["learning_rate_factor"] = factor
    reset = settings.get("momentum_reset", "never")
    if reset != settings.only("recipe", "preset", "run").get("momentum_reset", "never"):
        beside["momentum_reset"] = reset
    fields |= {"learning_rate_scaling": scaling, "budget": budget.model_copy(update={"rounding": rounding}), "beside": beside}
    return Regime(**{**dict(entry), **fields})


def _effective(settings: Settings, entry: RegimeEntry, name: str, beside: dict[str, Any]) -> Any:
    """Returns the value of a field that regimes and runs both may set; what the suite changes of the regime's is put into `beside`."""
    own, of_regime = getattr(entry, name), name in entry.model_fields_set or name == "learning_rate_scaling"
    height = settings.height(name)
    if height < max(settings.height("regime"), 0):
        return own if of_regime else settings.get(name, own)
    value = settings.get(name)
    # What a recipe says about warmup is no change of the regime.
    if height >= 2 and (value != own or not (of_regime or name in _CONTROLS)):
        beside[name] = value.model_dump() if isinstance(value, NoiseRule) else value
    return value


def change_of(settings: Settings, regime: Regime) -> Change:
    """Returns the record of what was changed for a run, from which its labels are made."""
    entry = catalog.recipes().find(settings.get("recipe", ""))
    name = settings.get("preset", entry.default_preset if entry else "")
    preset = entry.presets.get(name) if entry else None
    layer = settings.layer_of("learning_rate")
    final = settings.is_final("learning_rate")
    scaled: RateRule = "untouched" if regime.learning_rate_scaling == "none" else regime.learning_rate_scaling
    own_ghost = settings.only("recipe", "preset").get("ghost_batch_size", "off")
    return Change(
        preset=name,
        preset_ghost_batch_size=None if own_ghost == "off" else own_ghost,
        regime=regime.name,
        budget=regime.budget.kind,
        budget_factor=regime.budget.factor,
        learning_rate_rule=("tuned" if layer is not None and layer.tuned else "set") if final else scaled,
        learning_rate_factor=settings.get("learning_rate_factor") if has_factor(settings) else 1.0,
        untuned=not final and preset is not None and preset.needs_tuning,
        beside=dict(regime.beside),
    )


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


# The learning rate of a run: scaled by its regime against some batch size, times a factor, with a warmup.

WARMUP_IN_GAINS = 5
"""In `minimum_warmup_updates = "momentum"`: times 1 / (1 - momentum) updates."""


def momentum_gain(momentum: float, starts: tuple[int, ...], updates: int) -> float:
    """Returns the share of momentum's full gain, 1 / (1 - momentum), that an update comes to where state begins at zero at each start.

    A gradient that is followed by k - 1 updates of its epoch moves the weights by (1 - momentum^k) / (1 - momentum) times its rate. The
    mean over epochs of n updates is [n - momentum (1 - momentum^n) / (1 - momentum)] / n, which for momentum 0.9 is
    [n - 9 (1 - 0.9^n)] / n: 0.48 at n = 13.

    Args:
        momentum: of SGD, in [0, 1).
        starts: first update of each epoch, ascending, from 0.
        updates: of the whole run.
    """
    lengths = [stop - start for start, stop in zip(starts, (*starts[1:], updates), strict=True)]
    lost = sum(momentum * (1.0 - momentum**length) / (1.0 - momentum) for length in lengths)
    return 1.0 - lost / updates


def learning_rate_factor(scaling: str, batch_size: int, reference_batch_size: int) -> float:
    """Returns the factor that a regime's scaling gives: 1 (none), (batch / reference)^(1/2) (sqrt), batch / reference (linear).

    Source: sqrt: Hoffer et al. 2017, section 4; linear: Goyal et al. 2017, section 2.1.
    """
    ratio = batch_size / reference_batch_size
    return {"none": 1.0, "sqrt": math.sqrt(ratio), "linear": ratio}[scaling]


def scaling_batch_size(run: RunSettings, model: Component | None) -> int:
    """Returns the batch size that learning-rate scaling refers to.

    A run has a ghost batch size where one is set and the model has batch norm, also where it is the whole batch: the released code
    has a script for each, and each its own base.
    """
    reference = int(run.get("reference_batch_size"))
    table = run.get("scaling_batch_size")
    ghost = run.get("ghost_batch_size")
    has_norm = model is None or has_batch_norm(model)
    base = table.with_ghost if ghost != "off" and has_norm else table.without_ghost
    return int({"reference": reference, "ghost": ghost}.get(base, base))


def rates(
    run: RunSettings, regime: Regime, updates: int, examples: int, scaling: int, optimizer: Component | None
) -> dict[str, Any] | None:
    """Returns learning rate, warmup and the reference cell's rate, or None after adding a mistake.

    Args:
        run: its settings.
        regime: of the run.
        updates: that it makes while its batch stays.
        examples: of the training set.
        scaling: batch size that learning-rate scaling refers to.
        optimizer: of the run; None where it is not known.
    """
    rate = own_rate = run.get("learning_rate")
    base_rate = run.settings.only("recipe", "preset", "run", "grid", "arm").get("learning_rate", own_rate)
    if not run.settings.is_final("learning_rate"):
        rate *= learning_rate_factor(regime.learning_rate_scaling, run.get("batch_size"), scaling)
    factor = _factor(run, updates, examples, optimizer) if has_factor(run.settings) else 1.0
    if factor is None:
        return None
    rate *= factor
    start = base_rate / rate if isinstance(regime.warmup_start, str) else regime.warmup_start
    # Warmup only rises: from the reference rate to a rate that is no higher there is nothing to warm up.
    warmup = 0.0 if start >= 1.0 else max(regime.warmup, _minimum_warmup(run, optimizer) / updates)
    if warmup >= 1.0:
        text = f"a warmup of {round(warmup * updates)} updates is not shorter than the run, which makes {updates}"
        run.problem("minimum_warmup_updates", f"{text}; train for longer, or set it to 0")
        return None
    return {
        "learning_rate": rate,
        "warmup": warmup,
        "warmup_start": start if warmup else 0.0,
        "reference_learning_rate": base_rate,
    }


def has_factor(settings: Settings) -> bool:
    """Returns whether a factor multiplies the rate: one set below the override of a rate does not."""
    if settings.get("learning_rate_factor", 1.0) == 1.0:
        return False
    return not settings.is_final("learning_rate") or settings.height("learning_rate_factor") >= settings.height("learning_rate")


def _factor(run: RunSettings, updates: int, examples: int, optimizer: Component | None) -> float | None:
    factor = run.get("learning_rate_factor")
    if not isinstance(factor, str):
        return float(factor)
    momentum = optimizer.option("momentum") if optimizer else None
    if momentum is None:
        name = f'; the optimizer "{optimizer.name}" has none' if optimizer else ""
        run.problem("learning_rate_factor", f'"momentum-gain" is of an optimizer with momentum{name}; give a number')
        return None
    if any(phase.momentum not in (None, momentum) for phase in run.get("phases")):
        run.problem("learning_rate_factor", '"momentum-gain" is of one momentum, and the phases have several; give a number')
        return None
    table = plain(run.get("batch_size"), updates, examples, run.get("tail"))
    return momentum_gain(float(momentum), table.epoch_starts(examples), updates)


def _minimum_warmup(run: RunSettings, optimizer: Component | None) -> float:
    """Returns the least number of updates of a warmup; AdamW's momentum is its beta1."""
    least = run.get("minimum_warmup_updates")
    if least != "momentum":
        return float(least)
    momentum = optimizer.option("momentum", optimizer.option("beta1", 0.0)) if optimizer else 0.0
    return round(WARMUP_IN_GAINS / (1.0 - float(momentum)), 9)


# Batches that differ within a run: those that grow instead of a decaying learning rate, and the ragged ends of epochs.
#
# Growing batches: Smith, Kindermans and Le 2018, arXiv:1711.00489. The noise of an update goes with learning rate / batch size, so a batch
# that is 1 / drop times as large has the noise of a dropped rate, in fewer updates.

LARGEST_SHARE = Fraction(1, 10)
"""Of the training set, that a batch grows to; from there on the rate drops, as in Smith et al. 2018."""


def phases_of(run: RunSettings, regime: Regime, examples: int) -> list[PhaseTable]:
    """Returns the phases of a run, with the drops of its rate turned into larger batches where the regime says so.

    Adds a mistake where a batch would be no whole number of examples or larger than the training set, or where another setting does not
    go with a batch that grows.

    Args:
        run: its settings.
        regime: of the run.
        examples: of the training set; 0 where that is not known.
    """
    phases: list[PhaseTable] = run.get("phases")
    key = "phases"
    if regime.drops == "batch":
        if _grows(phases):
            text = f"phases with batch_size_factor and the regime {regime.label} both change the batch size; choose one of them"
            run.problem("phases", text)
            raise Unknown("phases")
        if not examples:
            raise Unknown("phases")
        phases, key = _instead_of_drops(phases, run.get("batch_size"), examples), "regime"
        if not _grows(phases):
            what = f"regime {regime.label} makes no batch larger: a tenth of the training set is {examples // 10} examples"
            run.warn(what)
    if _grows(phases):
        _check(run, regime, phases, examples, key)
    return phases


def batch_sizes(run: RunSettings, phases: list[PhaseTable]) -> list[int]:
    """Returns the sizes of the run's full batches, its own first."""
    batch = run.get("batch_size")
    return list(dict.fromkeys([batch, *(grown(batch, phase.batch_size_factor) for phase in phases)]))


def check_ragged(run: RunSettings, ghost: int | None, examples: int) -> None:
    """Adds a mistake where the last batch of an epoch leaves batch norm a group of one example."""
    batch = run.get("batch_size")
    rest = examples % batch
    if run.get("tail") != "ragged" or not rest:
        return
    if ghost is None:
        if rest == 1:
            text = f"the last batch of an epoch has one of {examples} examples, and batch norm needs two or more"
            run.problem("tail", f'{text}; choose another batch size, or tail = "stream"')
        return
    size = chunk_size(UpdateBatch(0, rest, batch), ghost)
    if size == 1 or rest % size == 1:
        groups = -(-rest // size)
        text = f"the last batch of an epoch has {rest} examples, which the released code cuts into {groups} groups of {size}, the last of 1"
        remedy = 'choose another batch or ghost batch size, or tail = "stream"'
        run.problem("tail", f"{text}: batch norm needs two or more; {remedy}")


def _grows(phases: list[PhaseTable]) -> bool:
    return any(phase.batch_size_factor != 1.0 for phase in phases)


def _instead_of_drops(phases: list[PhaseTable], batch_size: int, examples: int) -> list[PhaseTable]:
    """Returns the phases with every drop of the rate by a factor as a batch larger by its inverse.

    From the first drop on that would make the batch larger than a tenth of the training set, drops stay drops. A rise stays a rise.
    """
    found = phases[:1]
    rate, factor = (exactly(phases[0].learning_rate_factor), Fraction(1)) if phases else (Fraction(1), Fraction(1))
    growing = True
    for before, phase in pairwise(phases):
        now, then = exactly(phase.learning_rate_factor), exactly(before.learning_rate_factor)
        change = now / then if then else None
        if change is not None and 0 < change < 1 and growing and factor / change * batch_size <= LARGEST_SHARE * examples:
            factor /= change
        else:
            growing &= change is None or change >= 1
            rate = now if change is None else rate * change
        found.append(phase.model_copy(update={"learning_rate_factor": float(rate), "batch_size_factor": float(factor)}))
    return found


def _check(run: RunSettings, regime: Regime, phases: list[PhaseTable], examples: int, key: str) -> None:
    batch = run.get("batch_size")
    before = len(run.document.problems)
    for phase in phases:
        try:
            size = grown(batch, phase.batch_size_factor)
        except GapbenchError as error:
            remedy = "choose another batch size" + (" or other factors of the rate" if key == "regime" else " or factor")
            run.problem(key, f"from start = {phase.start:g} on, {error}; {remedy}")
            continue
        if examples and size > examples:
            text = f"the batch of {size} from start = {phase.start:g} on is larger than the training set ({examples} examples)"
            run.problem(key, f"{text}; choose a smaller factor")
    check_changing(run, regime, key, verb="grows", updates="makes fewer updates than another of its examples", source="its phases")
    if len(run.document.problems) > before:
        raise Unknown("phases")


def check_changing(run: RunSettings, regime: Regime, key: str, *, verb: str, updates: str, source: str) -> None:
    """Adds a mistake for each setting that does not go with a batch that changes.

    Args:
        run: its settings.
        regime: of the run.
        key: that makes the batch change.
        verb: what the batch does.
        updates: what is so of the number of updates.
        source: what that number follows from.
    """
    if run.get("tail") != "stream":
        tail = run.get("tail")
        run.problem("tail", f'a batch that {verb} goes on from epoch to epoch, so tail = "{tail}" is not for it; choose "stream"')
    if regime.budget.kind == "updates":
        text = f'a run whose batch {verb} {updates}; choose a budget of kind "epochs" or "examples"'
        run.problem(run.first_set("budget", key), text)
    if run.get("learning_rate_factor") == "momentum-gain":
        run.problem("learning_rate_factor", f'"momentum-gain" is of epochs of equally many updates, and the batch {verb}; give a number')
    if run.settings.layer_of("updates"):
        run.problem("updates", f"the updates of a run whose batch {verb} follow from {source}; set epochs")


# A batch size that follows the gradient noise scale: what a regime's rule comes to for one run, and what does not go with it.
#
# McCandlish, Kaplan, Amodei et al. 2018, arXiv:1812.06162: where the noise scale is B_noise, progress that takes one update at full batch
# takes 1 + B_noise / B updates, and B + B_noise examples, at batch size B. If an update is worth `exchange_rate` examples, the price is
# lowest at B = sqrt(exchange_rate * B_noise).

FEWEST_UNITS = 2
"""Units of the smallest batch: the noise scale is told from pieces of a batch."""
_VERB = "follows the noise scale"


def adaptive_rule(run: RunSettings, regime: Regime, model: Component, ghost: Mapping[str, Any], examples: int) -> dict[str, Any]:
    """Returns how the batch size of a run follows the noise scale, None where it does not.

    Adds a mistake where it should and cannot.

    Args:
        run: its settings.
        regime: of the run.
        model: of the run.
        ghost: its effective `ghost_batch_size`.
        examples: of the training set.

    Raises:
        Unknown: there was a mistake.
    """
    rule = regime.adaptive_batch
    if rule is None:
        return {"adaptive_batch": None}
    before = len(run.document.problems)
    check_changing(run, regime, "regime", verb=_VERB, updates="makes as many updates as follow from its sizes", source="what is measured")
    size = ghost["ghost_batch_size"]
    if size is None and has_batch_norm(model):
        text = (
            f"a batch that {_VERB} needs a fixed ghost batch size: with batch norm over whole batches neither the gradient nor its noise "
            "is of one method; set ghost_batch_size, or choose a model without batch norm"
        )
        run.problem(run.first_set("ghost_batch_size", "regime"), text)
    if regime.gradient_noise.kind != "none":
        text = f'gradient noise is of one batch size, and the batch {_VERB}; choose gradient_noise = {{ kind = "none" }}'
        run.problem(run.first_set("gradient_noise", "regime"), text)
    if regime.drops == "batch":
        run.problem("regime", 'adaptive_batch and drops = "batch" both change the batch size; choose one of them')
    if any(phase.batch_size_factor != 1.0 for phase in run.get("phases")):
        text = f"phases with batch_size_factor and the regime {regime.label} both change the batch size; choose one of them"
        run.problem("phases", text)
    bounded = _bounded(run, rule, size or rule.unit, examples)
    if len(run.document.problems) > before:
        raise Unknown("regime")
    return {"adaptive_batch": bounded.model_copy(update={"learning_rate_scaling": regime.learning_rate_scaling})}


def _bounded(run: RunSettings, rule: BatchRule, unit: int, examples: int) -> AdaptiveBatch:
    """Returns the rule with its bounds in examples: multiples of the unit, the upper one no more than the training set."""
    batch = run.get("batch_size")
    largest = math.floor(min(exactly(rule.largest) * batch, examples) / unit) * unit
    smallest = max(FEWEST_UNITS, math.ceil(exactly(rule.smallest) * batch / unit)) * unit
    if smallest >= largest:
        text = (
            f"between {rule.smallest:g} and {rule.largest:g} times the batch size {batch} there are no two multiples of {unit} examples "
            f"(of {FEWEST_UNITS * unit} or more) among {examples}; choose another batch or ghost batch size, or other bounds"
        )
        run.problem("regime", text)
        raise Unknown("regime")
    exchange_rate = batch if isinstance(rule.exchange_rate, str) else rule.exchange_rate
    bounds = {"exchange_rate": exchange_rate, "smallest": smallest, "largest": max(largest, batch), "unit": unit}
    return AdaptiveBatch(**{**rule.model_dump(), **bounds})


def next_size(rule: AdaptiveBatch, noise_scale: float | None, now: int) -> int:
    """Returns the batch size that follows a noise scale in examples; None: there is no estimate, and the size stays.

    Of two multiples of the unit the one at which B + exchange_rate * B_noise / B is lower. An infinite noise scale grows the batch.
    """
    if noise_scale is None or math.isnan(noise_scale):
        return now
    lowest = math.ceil(max(rule.smallest, now / rule.largest_change) / rule.unit)
    highest = math.floor(min(rule.largest, now * rule.largest_change) / rule.unit)
    if lowest > highest:
        return now
    square = rule.exchange_rate * noise_scale
    if square >= (highest * rule.unit) ** 2:
        return highest * rule.unit
    below = max(lowest, math.floor(math.sqrt(square) / rule.unit))
    above = min(highest, below + 1)
    # B + r N / B is equal at two sizes whose product is r N: below their geometric mean the smaller one is cheaper.
    return rule.unit * (below if square <= below * above * rule.unit**2 else above)
