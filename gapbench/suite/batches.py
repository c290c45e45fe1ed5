"""The course of a run: how many updates a budget allows, which examples each update has, and after which updates the run is measured."""

from __future__ import annotations

import functools
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

from gapbench.catalog import Budget
from gapbench.core.errors import GapbenchError

# How many updates: exact where floating point would lose one.


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
    gradients: Fraction = Fraction(1),
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
        gradients: of its batch that an update of the run computes; one of the reference cell computes one.
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
    if budget.kind == "gradients":
        seen = math.floor(seen / gradients)
    return updates_of_examples(seen, examples, batch_size, tail)


# The table of batches: where each update's batch begins in the order of the examples, and how many examples it has.
#
# Everything that asks for an update's examples reads this table: feed, schedule, recorder, evaluations, plan and results. Where
# all batches are alike it has one stretch; a ragged tail or a batch that grows makes more. A stretch may be added at any time (`extended`),
# so that a batch size may also be decided while training.

_ROUNDING = Fraction(1, 10**9)
"""By which 0.6666666666666667 of 3 updates, or 3.3333333333333335 times 96 examples, may miss a whole number."""


class UpdateBatch(NamedTuple):
    """The batch of one update."""

    first: int
    """Position of its first example in the orders of all epochs, one after another."""
    size: int
    """Examples."""
    batch_size: int
    """Examples of a full batch: more than `size` only where it is the ragged end of an epoch."""


class Stretch(NamedTuple):
    """Updates with batches of one size, each beginning where the one before it ends."""

    update: int
    """Number of its first update, counted from 0."""
    updates: int
    first: int
    """Position of its first example."""
    size: int
    """Examples of every update."""
    batch_size: int
    """Of a full batch."""
    examples: int
    """That are seen before it."""


@dataclass(frozen=True)
class BatchTable:
    """Position and size of every update's batch."""

    batch_size: int
    """The run's own, which a batch that grows begins with."""
    grows: bool = False
    """Whether phases change the batch size: how far training is then counts in examples, else in updates."""
    stretches: tuple[Stretch, ...] = ()
    bound: int | None = None
    """Examples of the largest batch that may still come, where that is decided while training."""

    @functools.cached_property
    def _starts(self) -> list[int]:
        return [stretch.update for stretch in self.stretches]

    @functools.cached_property
    def _firsts(self) -> list[int]:
        return [stretch.first for stretch in self.stretches]

    @property
    def updates(self) -> int:
        """Updates of the whole run."""
        return self.stretches[-1].update + self.stretches[-1].updates if self.stretches else 0

    @property
    def end(self) -> int:
        """Position after the last example."""
        last = self.stretches[-1] if self.stretches else None
        return last.first + last.updates * last.size if last else 0

    @functools.cached_property
    def sizes(self) -> tuple[int, ...]:
        """The different sizes of batches, ascending."""
        return tuple(sorted({stretch.size for stretch in self.stretches}))

    @property
    def largest(self) -> int:
        """Examples of the largest batch that there is or may be."""
        return self.sizes[-1] if self.bound is None else self.bound

    def at(self, update: int) -> UpdateBatch:
        """Returns the batch of an update, counted from 0."""
        stretch = self.stretches[max(0, bisect_right(self._starts, update) - 1)]
        return UpdateBatch(stretch.first + (update - stretch.update) * stretch.size, stretch.size, stretch.batch_size)

    def examples(self, updates: int) -> int:
        """Returns how many examples have been seen after so many updates."""
        if not self.stretches:
            return 0
        stretch = self.stretches[max(0, bisect_right(self._starts, updates) - 1)]
        return stretch.examples + (updates - stretch.update) * stretch.size

    def steps(self, updates: int) -> float:
        """Returns how far training is after so many updates, counted in updates of the run's own batch size.

        Where the batch grows these are the updates that would have seen as many examples; else they are the updates themselves.
        """
        return self.examples(updates) / self.batch_size if self.grows else float(updates)

    @property
    def all_steps(self) -> float:
        """How far training is at its end: the updates of a run whose batch does not grow."""
        return self.steps(self.updates)

    def updates_at(self, steps: int) -> int:
        """Returns after how many updates training is as far as `steps`, or the first time farther."""
        if not self.grows:
            return steps
        wanted = steps * self.batch_size
        for stretch in self.stretches:
            if stretch.examples + stretch.updates * stretch.size >= wanted:
                return stretch.update + max(0, -(-(wanted - stretch.examples) // stretch.size))
        return self.updates

    def epoch_starts(self, examples: int) -> tuple[int, ...]:
        """Returns the first update of each epoch of so many examples, counted from 0, ascending.

        A batch that reaches into the next epoch belongs to the epoch of its first example.
        """
        starts = {self._first_from(epoch * examples) for epoch in range(-(-self.end // examples))}
        return tuple(sorted(starts - {self.updates}))

    def _first_from(self, position: int) -> int:
        """Returns the first update whose batch begins at a position or after it; the number of updates where there is none."""
        stretch = self.stretches[max(0, bisect_right(self._firsts, position) - 1)]
        return stretch.update + min(stretch.updates, max(0, -(-(position - stretch.first) // stretch.size)))

    def stretch_end(self, position: int) -> int:
        """Returns the position after the stretch of batches of one size that a position lies in."""
        stretch = self.stretches[max(0, bisect_right(self._firsts, position) - 1)]
        return stretch.first + stretch.updates * stretch.size

    def following(self, position: int) -> UpdateBatch | None:
        """Returns what begins at a position, or first after it, as a batch of the size of its stretch; None where nothing does."""
        number = max(0, bisect_right(self._firsts, position) - 1)
        if number < len(self.stretches) and position < self.stretch_end(position):
            stretch = self.stretches[number]
            return UpdateBatch(position, stretch.size, stretch.batch_size)
        later = self.stretches[number + 1 : number + 2]
        return UpdateBatch(later[0].first, later[0].size, later[0].batch_size) if later else None

    def extended(self, updates: int, size: int) -> BatchTable:
        """Returns the table with so many updates of this size more, which go on where it ends."""
        if not updates:
            return self
        more = Stretch(self.updates, updates, self.end, size, size, self.examples(self.updates))
        return BatchTable(self.batch_size, self.grows, (*self.stretches, more), self.bound)


def uniform(batch_size: int, updates: int) -> BatchTable:
    """Returns the table of full batches that go on from one epoch into the next."""
    return BatchTable(batch_size).extended(updates, batch_size)


def by_epoch(batch_size: int, updates: int, examples: int, *, ragged: bool) -> BatchTable:
    """Returns the table of batches that do not reach into the next epoch.

    Args:
        batch_size: of the full batches.
        updates: of the run; it may end within an epoch.
        examples: of an epoch.
        ragged: what fills no batch is one of its own; else it is left out.
    """
    full, rest = divmod(examples, batch_size)
    if not rest:
        return uniform(batch_size, updates)
    stretches: list[Stretch] = []
    update = seen = first = 0
    while update < updates:
        count = min(full, updates - update)
        stretches.append(Stretch(update, count, first, batch_size, batch_size, seen))
        update, seen = update + count, seen + count * batch_size
        if ragged and update < updates:
            stretches.append(Stretch(update, 1, first + full * batch_size, rest, batch_size, seen))
            update, seen = update + 1, seen + rest
        first += examples
    return BatchTable(batch_size, stretches=tuple(stretches))


def plain(batch_size: int, updates: int, examples: int, tail: str) -> BatchTable:
    """Returns the table of a run whose batch stays as it is; `examples`: of an epoch."""
    return uniform(batch_size, updates) if tail == "stream" else by_epoch(batch_size, updates, examples, ragged=tail == "ragged")


def ramp(batch_size: int, updates: int, factors: Sequence[tuple[float, float]]) -> BatchTable:
    """Returns the table of a batch that changes from phase to phase.

    A phase has the examples that it has in the run whose batch stays as it is, to the last one. Where they are no multiple of its batch,
    its first update takes what is left over, so that no phase ends with a small batch.

    Args:
        batch_size: that factors multiply.
        updates: of the run whose batch stays as it is.
        factors: of every phase its start, as a fraction of the examples, and the factor of its batch size.

    Raises:
        GapbenchError: a batch would not be a whole number of examples.
    """
    table = BatchTable(batch_size, grows=True)
    begins = phase_starts([start for start, _ in factors], updates)
    for (begin, end), (_, factor) in zip(pairwise([*begins, updates]), factors, strict=True):
        size = grown(batch_size, factor)
        full, rest = divmod((end - begin) * batch_size, size)
        table = table.extended(1 if rest else 0, rest).extended(full, size)
    return table


def decided(spec: Any, sizes: Sequence[int] = ()) -> BatchTable:
    """Returns the table of a run (a RunSpec) whose batch size follows the noise scale, as far as its sizes are decided.

    It has the examples of the run whose batch stays as it is, to the last one. A size counts from the first update that begins at its
    decision or after it. What fills no batch is the first update after the last decision.

    Args:
        spec: of the run.
        sizes: that were decided on, one for each decision so far; the last one stands for those to come.
    """
    total, chosen = spec.unramped_updates * spec.batch_size, (spec.batch_size, *sizes)
    table = BatchTable(spec.batch_size, grows=True, bound=spec.adaptive_batch.largest)
    for number, end in enumerate([*decision_steps(spec), spec.unramped_updates]):
        size, left = chosen[min(number, len(chosen) - 1)], total - table.end
        count = max(0, -((table.end - end * spec.batch_size) // size))
        if count * size >= left or end == spec.unramped_updates:
            full, rest = divmod(left, size)
            return table.extended(1 if rest else 0, rest).extended(full, size)
        table = table.extended(count, size)
    return table


def bounds_of_updates(spec: Any) -> tuple[int, int]:
    """Returns how many updates a run (a RunSpec) makes at least and at most: exactly as many as planned, where its sizes are.

    Where its batch size follows the noise scale, those with the largest and the smallest batch from the first decision on.
    """
    rule = spec.adaptive_batch
    if rule is None:
        return spec.updates, spec.updates
    most, fewest = (decided(spec, [size]).updates for size in (rule.smallest, rule.largest))
    return fewest, most


def decision_steps(spec: Any) -> tuple[int, ...]:
    """Returns when the batch size of a run (a RunSpec) is decided on, in updates of its own batch size, ascending."""
    count, updates = spec.adaptive_batch.decisions, spec.unramped_updates
    return tuple(sorted({-(-number * updates // count) for number in range(1, count)} - {updates}))


def grown(batch_size: int, factor: float) -> int:
    """Returns the batch size times a factor. Raises GapbenchError where that is no whole number of examples."""
    size = exactly(factor) * batch_size
    whole = round(size)
    if whole < 1 or abs(size - whole) > _ROUNDING * whole:  # a third of 96 is 32, though no float is a third
        raise GapbenchError(f"{factor:.6g} times the batch size {batch_size} is {float(size):.6g}, which is no whole number of examples")
    return whole


def phase_starts(starts: Sequence[float], updates: int) -> list[int]:
    """Returns before which update each phase begins, of a run whose batch stays as it is: the first that is not before its fraction."""
    return [math.ceil(exactly(start) * updates - _ROUNDING) for start in starts]


def chunk_size(batch: UpdateBatch, ghost_batch_size: int) -> int:
    """Returns the group size of a ragged batch as torch.chunk cuts it: into as many groups as a full batch has, or fewer.

    All groups but the last have this many examples. Source: the released code (bigBatch, main_gbn.py), which chunks every batch alike.
    """
    return -(-batch.size // (batch.batch_size // ghost_batch_size))


def batches_of(spec: Any) -> BatchTable:
    """Returns the table of a run (a RunSpec); where its batch size follows the noise scale, that of the run whose batch stays.

    Raises:
        GapbenchError: its batch grows, and its updates are not those of its phases.
    """
    if spec.adaptive_batch is not None:
        return decided(spec)
    factors = tuple((phase.start, phase.batch_size_factor) for phase in spec.phases)
    return _table(spec.batch_size, spec.updates, spec.unramped_updates, factors, spec.tail, spec.train_examples)


@functools.lru_cache(maxsize=256)
def _table(
    batch_size: int, updates: int, unramped: int | None, factors: tuple[tuple[float, float], ...], tail: str, examples: int
) -> BatchTable:
    if unramped is None and all(factor == 1.0 for _, factor in factors):
        return plain(batch_size, updates, examples, tail)
    table = ramp(batch_size, updates if unramped is None else unramped, factors)
    if table.updates != updates or tail != "stream":
        raise GapbenchError(
            f'a run whose batch grows has tail "stream" and as many updates as its phases make, {table.updates}; '
            f'this one has "{tail}" and {updates}'
        )
    return table


def shortened(spec: Any, updates: int) -> dict[str, int | None]:
    """Returns the fields by which a run (a RunSpec) is cut down to so many updates.

    Where its batch grows, it keeps as many as let every batch size come up in full, in about the proportion in which they stand.
    """
    if spec.adaptive_batch is not None:
        return {"updates": updates, "unramped_updates": updates}
    whole = batches_of(spec)
    if not whole.grows:
        return {"updates": updates}
    factors = [(phase.start, phase.batch_size_factor) for phase in spec.phases]
    wanted = {grown(spec.batch_size, phase.batch_size_factor) for phase in spec.phases} & set(whole.sizes)
    unramped = updates
    while unramped < spec.unramped_updates and not wanted <= set(ramp(spec.batch_size, unramped, factors).sizes):
        unramped *= 2
    unramped = min(unramped, spec.unramped_updates)
    return {"updates": ramp(spec.batch_size, unramped, factors).updates, "unramped_updates": unramped}


# When a run is measured: log-spaced updates for probes, and the same fractions of training for evaluations in every arm.
#
# Planning and the engine both read it, so it needs neither torch nor numpy.

PROBES_PER_DECADE = 20
CHUNK_EXAMPLES = 1024
"""Examples of all replicas together that are evaluated at once; no result depends on it beyond rounding."""
RECALIBRATION_EXAMPLES = 2048
"""Training examples, augmented as in training, that recalibrated norm statistics are computed over; fewer where the training set
is smaller. (Statistics of unaugmented images fit the weights worse: F1 on MNIST then has a tenth more train loss.)"""
LATE = 0.95
"""The share of training after which evaluations are late. Before it, and at the end, they also measure with recalibrated statistics."""
LATE_FRACTIONS = (0.96, 0.97, 0.98, 0.99, 1.0)
"""Evaluations in the last 5 % of training, so that a headline may average over them."""
FEWEST_UPDATES_FOR_LATE = 100
"""With fewer updates than this the last 5 % hold no five different ones."""


@functools.lru_cache(maxsize=512)
def probe_updates(updates: int) -> frozenset[int]:
    """Returns the numbers of updates done (1 .. updates) after which probes run: log-spaced, about 20 a decade, and the last."""
    points = max(2, math.ceil(PROBES_PER_DECADE * math.log10(max(updates, 2))) + 1)
    return frozenset(round(updates ** (point / (points - 1))) for point in range(points))


@functools.lru_cache(maxsize=512)
def evaluation_fractions(evaluations: int) -> tuple[float, ...]:
    """Returns the fractions of training at which a run with `evaluations` evaluations is evaluated, ascending, the last 1.

    Five lie in the last 5 %, a third of the rest log-spaced over the first tenth, the others even from there on.
    """
    rest = max(evaluations - len(LATE_FRACTIONS), 0)
    early = rest // 3
    even = rest - early
    log_spaced = [0.002 * 50.0 ** (point / early) for point in range(early)]
    spaced = [point * ((LATE - 0.1) / even) + 0.1 for point in range(even)]
    return (*log_spaced, *spaced, *LATE_FRACTIONS[-evaluations:])


def evaluation_updates(batches: BatchTable, evaluations: int) -> tuple[int, ...]:
    """Returns the numbers of updates done after which a run is evaluated, ascending and different.

    Fractions are of the updates, or of the examples where the batch grows: then evaluations are compared at equal examples.
    """
    counted = batches.updates if batches.bound is None else round(batches.all_steps)  # known when planning, and the same to the end
    steps = _evaluation_steps(batches.all_steps, evaluations, late=counted >= FEWEST_UPDATES_FOR_LATE)
    return tuple(sorted({batches.updates_at(step) for step in steps})) if batches.grows else steps


@functools.lru_cache(maxsize=512)
def _evaluation_steps(all_steps: float, evaluations: int, *, late: bool) -> tuple[int, ...]:
    fractions = evaluation_fractions(evaluations)
    if not late:
        fractions = tuple(fraction for fraction in fractions if fraction not in LATE_FRACTIONS[:-1])
    return tuple(sorted({max(1, round(fraction * all_steps)) for fraction in fractions}))


def keep_updates(batches: BatchTable, fractions: tuple[float, ...]) -> dict[int, float]:
    """Returns, by number of updates done (0 is before the first), the fraction of the training at which weights are kept."""
    return {batches.updates_at(round(fraction * batches.all_steps)): fraction for fraction in fractions}


def late_evaluations(updates: int, evaluations: int) -> int:
    """Returns how many of a run's evaluations lie in its last 5 %: five, or only the last one of a run of few updates."""
    return min(len(LATE_FRACTIONS), evaluations) if updates >= FEWEST_UPDATES_FOR_LATE else 1


def evaluations_of(*, reference_updates: int, reference_batch_size: int, test_examples: int, train_evaluation_examples: int) -> int:
    """Returns how often a run is evaluated, so that evaluation takes about 3 % of the reference cell's training time.

    An example costs 3 passes in training (forward, and backward twice as much) and 1 in evaluation, which sees the test
    set and a part of the training set; the 2 allows for recalibrated statistics. Small batches are no faster than a batch
    of 256 per update. At least 12 and at most 60.
    """
    passes = 3 * max(reference_updates * reference_batch_size, 256 * reference_updates)
    affordable = Fraction(3, 100) * passes / (2 * (test_examples + train_evaluation_examples))
    return max(12, min(60, math.floor(affordable)))
