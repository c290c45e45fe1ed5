"""A batch size that follows the gradient noise scale: what a regime's rule comes to for one run, and what does not go with it.

McCandlish, Kaplan, Amodei et al. 2018, arXiv:1812.06162: where the noise scale is B_noise, progress that takes one update at full batch
takes 1 + B_noise / B updates, and B + B_noise examples, at batch size B. If an update is worth `exchange_rate` examples, the price is
lowest at B = sqrt(exchange_rate * B_noise).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gapbench import catalog
from gapbench.catalog import BatchRule
from gapbench.suite.arithmetic import exactly
from gapbench.suite.asked import Asked
from gapbench.suite.growth import check_changing
from gapbench.suite.layers import Unknown
from gapbench.suite.regime import Regime
from gapbench.suite.runspec import AdaptiveBatch, Component

FEWEST_UNITS = 2
"""Units of the smallest batch: the noise scale is told from pieces of a batch."""
_VERB = "follows the noise scale"


def rule_of(asked: Asked, regime: Regime, model: Component, ghost: Mapping[str, Any], examples: int) -> dict[str, Any]:
    """Returns how the batch size of a run follows the noise scale, None where it does not.

    Adds a mistake where it should and cannot.

    Args:
        asked: what the suite asks of the run.
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
    before = len(asked.problems)
    check_changing(asked, regime, "regime", verb=_VERB, updates="makes as many updates as follow from its sizes", source="what is measured")
    size = ghost["ghost_batch_size"]
    if size is None and catalog.models()[model.name].has_batch_norm(model.options):
        text = (
            f"a batch that {_VERB} needs a fixed ghost batch size: with batch norm over whole batches neither the gradient nor its noise "
            "is of one method; set ghost_batch_size, or choose a model without batch norm"
        )
        asked.problem("ghost_batch_size" if asked.settings.layer_of("ghost_batch_size") else "regime", text)
    if regime.gradient_noise.kind != "none":
        text = f'gradient noise is of one batch size, and the batch {_VERB}; choose gradient_noise = {{ kind = "none" }}'
        asked.problem("gradient_noise" if asked.settings.layer_of("gradient_noise") else "regime", text)
    if regime.drops == "batch":
        asked.problem("regime", 'adaptive_batch and drops = "batch" both change the batch size; choose one of them')
    if any(phase.batch_size_factor != 1.0 for phase in asked.get("phases", [])):
        text = f"phases with batch_size_factor and the regime {regime.label} both change the batch size; choose one of them"
        asked.problem("phases", text)
    bounded = _bounded(asked, rule, size or rule.unit, examples)
    if len(asked.problems) > before:
        raise Unknown("regime")
    return {"adaptive_batch": bounded.model_copy(update={"learning_rate_scaling": regime.learning_rate_scaling})}


def _bounded(asked: Asked, rule: BatchRule, unit: int, examples: int) -> AdaptiveBatch:
    """Returns the rule with its bounds in examples: multiples of the unit, the upper one no more than the training set."""
    batch = asked.get("batch_size")
    largest = math.floor(min(exactly(rule.largest) * batch, examples) / unit) * unit
    smallest = max(FEWEST_UNITS, math.ceil(exactly(rule.smallest) * batch / unit)) * unit
    if smallest >= largest:
        text = (
            f"between {rule.smallest:g} and {rule.largest:g} times the batch size {batch} there are no two multiples of {unit} examples "
            f"(of {FEWEST_UNITS * unit} or more) among {examples}; choose another batch or ghost batch size, or other bounds"
        )
        asked.problem("regime", text)
        raise Unknown("regime")
    return AdaptiveBatch(
        exchange_rate=batch if isinstance(rule.exchange_rate, str) else rule.exchange_rate,
        smallest=smallest,
        largest=max(largest, batch),
        unit=unit,
        decisions=rule.decisions,
        measure_every=rule.measure_every,
        smoothing=rule.smoothing,
        largest_change=rule.largest_change,
    )


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
