"""The arithmetic of a regime: how many updates, which learning rate. Exact where floating point would lose an update."""

from __future__ import annotations

import math
from fractions import Fraction

from gapbench.catalog import Budget


def exactly(value: float) -> Fraction:
    """Returns the decimal number that was written, so that 0.29 of 100 is 29 and not 28.999999999999996."""
    return Fraction(repr(float(value)))


def updates_of_epochs(epochs: Fraction, examples: int, batch_size: int, tail: str) -> int:
    """Returns the number of updates in `epochs` passes over `examples`, rounded down.

    With tail "stream" a batch may reach into the next epoch; with "drop" an epoch has floor(examples / batch size) updates, with "ragged"
    ceil(examples / batch size).
    """
    per_epoch = Fraction(examples, batch_size)
    if tail != "stream":
        per_epoch = Fraction(math.floor(per_epoch) if tail == "drop" else math.ceil(per_epoch))
    return math.floor(epochs * per_epoch)


def examples_of_updates(updates: int, examples: int, batch_size: int, tail: str) -> int:
    """Returns how many examples are seen in so many updates over a training set of `examples`."""
    if tail != "ragged":
        return updates * batch_size
    epochs, more = divmod(updates, -(-examples // batch_size))
    return epochs * examples + more * batch_size


def updates_of_examples(seen: int, examples: int, batch_size: int, tail: str) -> int:
    """Returns the largest number of updates that see no more than `seen` examples."""
    if tail != "ragged":
        return seen // batch_size
    epochs, more = divmod(seen, examples)
    return epochs * -(-examples // batch_size) + more // batch_size


def updates_of_budget(budget: Budget, *, epochs: float, examples: int, batch_size: int, reference_batch_size: int, tail: str) -> int:
    """Returns the number of updates that a budget allows.

    Args:
        budget: its kind and factor.
        epochs: of the recipe.
        examples: size of the training set.
        batch_size: of the run.
        reference_batch_size: of the recipe.
        tail: "stream", "drop" or "ragged".
    """
    factor = exactly(budget.factor)
    if budget.kind == "epochs":
        return updates_of_epochs(exactly(epochs) * factor, examples, batch_size, tail)
    reference_updates = updates_of_epochs(exactly(epochs), examples, reference_batch_size, tail)
    if budget.kind == "updates":
        return math.floor(reference_updates * factor)
    seen = math.floor(examples_of_updates(reference_updates, examples, reference_batch_size, tail) * factor)
    return updates_of_examples(seen, examples, batch_size, tail)


def learning_rate_factor(scaling: str, batch_size: int, reference_batch_size: int) -> float:
    """Returns the factor of the learning rate: 1 (none), (batch / reference)^(1/2) (sqrt), batch / reference (linear).

    Source: sqrt: Hoffer et al. 2017, section 4; linear: Goyal et al. 2017, section 2.1.
    """
    ratio = batch_size / reference_batch_size
    return {"none": 1.0, "sqrt": math.sqrt(ratio), "linear": ratio}[scaling]


def evaluations_of(*, reference_updates: int, reference_batch_size: int, test_examples: int, train_evaluation_examples: int) -> int:
    """Returns how often a run is evaluated, so that evaluation takes about 3 % of the reference cell's training time.

    An example costs 3 passes in training (forward, and backward twice as much) and 1 in evaluation, which sees the test
    set and a part of the training set; the 2 allows for recalibrated statistics. Small batches are no faster than a batch
    of 256 per update. At least 12 and at most 60.
    """
    passes = 3 * max(reference_updates * reference_batch_size, 256 * reference_updates)
    affordable = Fraction(3, 100) * passes / (2 * (test_examples + train_evaluation_examples))
    return max(12, min(60, math.floor(affordable)))
