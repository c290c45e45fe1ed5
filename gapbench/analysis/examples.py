"""The interval of a batch gap over test examples: what another test set would say of these same networks.

An interval over seeds answers another question: what other networks would give on this test set (or, where seeds draw their split, on
other splits of this data set). Which test examples each network got right at the end is stored as bits, and since both cells are tested
on the same examples, the gap is a mean over examples e of z_e, the networks' mean correctness in the reference cell minus that in this
cell. With the networks fixed and the examples independent draws, its variance is sum_e (z_e - mean z)^2 / (N (N - 1)): errors that both
cells make cancel example by example, which is why two binomial intervals would be far too wide.

Where each seed draws its own split, network pair s is compared on its own test set T_s of N_s examples, and the gap is the mean over
the S splits of the gaps D_s. Those test sets are drawn from one pool and share examples (a half of them, on digits), and an example that
is hard for one pair is often hard for the next, so that pairs cannot be taken as independent (on digits that would make errors up to a
fifth too small), nor one pair's error as that of all (two or three times too large). Examples are independent, so the sum runs over the
examples of the pool, each with everything it contributes to any split:

    u_e = sum over s with e in T_s of (d_se - D_s) / (S N_s),    variance = M / (M - 1) sum_e u_e^2,    M examples in any T_s

(the cluster-robust variance of a mean of ratios, examples being the clusters; Liang and Zeger 1986). With one test set for all runs it is
the formula above. It needs to know which example each bit stands for: `drawn_test_sets`.

The two intervals cannot be added up: the part of the noise that belongs to a network and an example together is in both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gapbench import catalog
from gapbench.analysis.cells import Cell, Panel, Run
from gapbench.analysis.stats import LEVEL, Array, Difference, t_quantile
from gapbench.core.errors import GapbenchError
from gapbench.core.hashing import permutation, stream

# Which test examples a run got right at the end, unpacked from the bits of `runs.parquet`.


def unpack_correct(bits: bytes, test_examples: int) -> npt.NDArray[np.bool_]:
    """Returns one flag per test example, in the order of the test set.

    Args:
        bits: column `test_correct`, as numpy.packbits wrote it.
        test_examples: size of the test set (the last byte is padded).

    Raises:
        GapbenchError: the bits are not those of a test set of this size.
    """
    if len(bits) != -(-test_examples // 8):
        raise GapbenchError(f"test_correct holds {len(bits)} bytes, not the bits of {test_examples} test examples; is it another test set?")
    return np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=test_examples).astype(np.bool_)


# Which examples the stored correctness bits stand for: how many a test set has, and which of them two splits share.
#
# Bits are in the order of the run's test set, as `workloads.datasets.split` makes it; a test holds the two equal.

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class HeldOut:
    """The test sets of some runs of one panel."""

    size: int
    """Examples in each."""
    examples: Mapping[int, Indices]
    """By split seed: which example each bit stands for; equal numbers are the same example."""


def drawn_test_sets(panel: Panel, runs: Sequence[Run]) -> HeldOut | str:
    """Returns the test sets of runs that have their bits, or the reason why they cannot be told."""
    entry = dict(catalog.datasets().items()).get(panel.dataset)  # the registry itself raises an error where it has none
    part = int(json.loads(panel.dataset_options).get("test_size") or 0)
    known = part or (entry.test_examples if entry is not None else None)
    fits = known is not None and all(len(run.test_correct) == -(-known // 8) for run in runs)
    size = known if fits else _size(runs)
    if size is None:
        return "the recorded bits are not those of its test set"
    seeds = {run.split_seed for run in runs}
    same = np.arange(size, dtype=np.int64)
    if len(seeds) == 1 or (entry is not None and entry.split == "official" and not part):
        return HeldOut(size, dict.fromkeys(seeds, same))
    if entry is None or entry.train_examples is None or entry.test_examples is None:
        return f"the size of the pool that {panel.dataset} is split from is not known here, so nor is what its test sets share"
    found = {seed: _test_set(entry.train_examples, entry.test_examples, entry.split == "drawn", part, seed) for seed in seeds}
    return HeldOut(size, found) if {len(one) for one in found.values()} == {size} else "the recorded bits are not those of its test set"


def _test_set(train_examples: int, test_examples: int, drawn: bool, part: int, split_seed: int) -> Indices:
    """Returns the indices in the pool of the test set that a split seed draws, in the order of the bits."""
    pool = np.arange(train_examples + test_examples, dtype=np.int64)
    test = np.sort(permutation(stream(split_seed, "split"), 0, pool)[train_examples:]) if drawn else pool[train_examples:]
    if part in (0, len(test)):
        return test
    return np.sort(permutation(stream(split_seed, "subset"), 0, test)[:part])


def _size(runs: Sequence[Run]) -> int | None:
    """Returns the number of test examples at which the bits of every run give its accuracy; None where there is none, or several.

    The catalog does not know the size of a user's own file. The bits are padded to whole bytes, so eight sizes are possible.
    """
    (length, *others) = {len(run.test_correct) for run in runs}
    if others:
        return None
    right = [(int(unpack_correct(run.test_correct, 8 * length).sum()), run.numbers["test_accuracy"]) for run in runs]
    sizes = range(8 * length - 7, 8 * length + 1)
    fits = [size for size in sizes if all(abs(count / size - accuracy) < 1e-9 for count, accuracy in right)]
    return fits[0] if len(fits) == 1 else None


@dataclass(frozen=True)
class ExampleInterval:
    """An interval over test examples, percentage points, or the reason why there is none."""

    low: float | None = None
    high: float | None = None
    error: float | None = None
    """Standard error over test examples with the networks fixed."""
    examples: int | None = None
    """Number of different test examples that the interval rests on."""
    reason: str = ""


@dataclass(frozen=True)
class Pair:
    """What one split (or, at a fixed one, the whole table) compares: a test set and how much better the reference does on each example."""

    examples: Indices
    """Which examples of the pool they are."""
    better: Array
    """Mean correctness of the reference cell's networks minus that of the other cell's, in [-1, 1], one for each example."""


def gap_over_examples(panel: Panel, reference: Cell, cell: Cell, gap: Difference | None) -> ExampleInterval:
    """Returns the interval of the batch gap `gap` over test examples, over the same runs and splits as that gap.

    It stands around the gap of the headline accuracy. Where that is a mean over the last evaluations, the error is that of the very last
    one, whose bits are stored.
    """
    if gap is None or gap.low is None:
        return ExampleInterval(reason="one seed")
    runs = [*reference.ok_runs, *cell.ok_runs]
    if not all(run.test_correct for run in runs):
        return ExampleInterval(reason="it is not recorded which test examples were right")
    sets = drawn_test_sets(panel, runs)
    if isinstance(sets, str):
        return ExampleInterval(reason=sets)
    pairs = _pairs(reference, cell, sets, paired=gap.method == "paired")
    if not pairs:
        return ExampleInterval(reason="its runs and the reference's have different test sets")
    error, examples = error_over_examples(pairs)
    if error == 0:
        return ExampleInterval(examples=examples, reason="every test example tells the same")
    half = t_quantile(LEVEL, examples - 1) * 100 * error
    return ExampleInterval(gap.estimate - half, gap.estimate + half, 100 * error, examples)


def error_over_examples(pairs: Sequence[Pair]) -> tuple[float, int]:
    """Returns the standard error over examples of the mean over `pairs` of their mean difference, and the number of different examples."""
    parts = [(pair.better - pair.better.mean()) / (len(pairs) * len(pair.better)) for pair in pairs]
    _, place = np.unique(np.concatenate([pair.examples for pair in pairs]), return_inverse=True)
    contributed = np.bincount(place, weights=np.concatenate(parts))
    count = len(contributed)
    return float(np.sqrt(np.sum(contributed**2) * count / (count - 1))) if count > 1 else 0.0, count


def _pairs(reference: Cell, cell: Cell, sets: HeldOut, *, paired: bool) -> list[Pair]:
    """Returns one pair for each split that both cells have; at a fixed split, one for all runs, if they share their test set."""
    if not paired:
        first, *others = (sets.examples[run.split_seed] for run in (*reference.ok_runs, *cell.ok_runs))
        alike = all(np.array_equal(first, other) for other in others)
        return [Pair(first, _right(reference.ok_runs, sets.size) - _right(cell.ok_runs, sets.size))] if alike else []
    splits = [{run.split_seed for run in one.ok_runs} for one in (reference, cell)]
    found = []
    for split in sorted(splits[0] & splits[1]):
        ours, theirs = ([run for run in one.ok_runs if run.split_seed == split] for one in (reference, cell))
        found.append(Pair(sets.examples[split], _right(ours, sets.size) - _right(theirs, sets.size)))
    return found


def _right(runs: Sequence[Run], size: int) -> Array:
    """Returns the share of runs that got each test example right."""
    right: Array = np.mean([unpack_correct(run.test_correct, size) for run in runs], axis=0)
    return right
