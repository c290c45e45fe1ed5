"""The arithmetic of a regime: how many updates, which learning rate. Exact where floating point would lose an update."""

from __future__ import annotations

import math
from fractions import Fraction

from gapbench.catalog import Budget


def exactly(value: float) -> Fraction:
    """Returns the decimal number that was written, so that 0.29 of 100 is 29 and not 28.999999999999996."""
    return Fraction(repr(float(value)))


def effective_ghost(size: int | str | None, batch_size: int, *, changes: bool = False) -> int | None:
    """Returns the ghost batch size that has an effect: None where it is off, or the whole of every batch.

    Args:
        size: "off" and None are off.
        batch_size: of the run.
        changes: whether the batch does not stay at that size, so that an equal ghost batch size is one of its own.
    """
    return None if size in ("off", None) or (size == batch_size and not changes) else int(size or 0)


def updates_per_epoch(examples: int, batch_size: int, tail: str) -> Fraction:
    """Returns the mean number of updates in one pass over `examples`.

    With tail "stream" a batch may reach into the next epoch; with "drop" an epoch has floor(examples / batch size) updates, with
    "ragged" ceil(examples / batch size).
    """
    exact = Fraction(examples, batch_size)
    return {"stream": exact, "drop": Fraction(math.floor(exact)), "ragged": Fraction(math.ceil(exact))}[tail]


def updates_of_epochs(epochs: Fraction, examples: int, batch_size: int, tail: str) -> int:
    """Returns the number of updates in `epochs` passes over `examples`, rounded down."""
    return math.floor(epochs * updates_per_epoch(examples, batch_size, tail))


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


def updates_of_budget(
    budget: Budget,
    *,
    epochs: float,
    examples: int,
    batch_size: int,
    reference_batch_size: int,
    tail: str,
    scaling_batch_size: int | None = None,
) -> int:
    """Returns the number of updates that a budget allows.

    Rounded "epochs-up", an update count is what the released code of Hoffer et al. 2017 makes of it: the epochs times
    ceil(batch size / scaling batch size), in whole epochs.

    Args:
        budget: its kind, factor and rounding.
        epochs: of the recipe.
        examples: size of the training set.
        batch_size: of the run.
        reference_batch_size: of the recipe.
        tail: "stream", "drop" or "ragged".
        scaling_batch_size: what rounded-up epochs are multiplied against; None: the reference batch size.
    """
    factor = exactly(budget.factor)
    if budget.rounding == "epochs-up":
        times = math.ceil(Fraction(batch_size, scaling_batch_size or reference_batch_size)) if budget.kind == "updates" else 1
        return updates_of_epochs(Fraction(math.ceil(exactly(epochs) * times * factor)), examples, batch_size, tail)
    if budget.kind == "epochs":
        return updates_of_epochs(exactly(epochs) * factor, examples, batch_size, tail)
    reference_updates = updates_of_epochs(exactly(epochs), examples, reference_batch_size, tail)
    if budget.kind == "updates":
        return math.floor(reference_updates * factor)
    seen = math.floor(examples_of_updates(reference_updates, examples, reference_batch_size, tail) * factor)
    return updates_of_examples(seen, examples, batch_size, tail)


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
