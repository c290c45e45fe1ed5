"""Which examples the stored correctness bits stand for: how many a test set has, and which of them two splits share.

Bits are in the order of the run's test set, as `workloads.datasets.split` makes it; a test holds the two equal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gapbench.core.hashing import permutation, stream

if TYPE_CHECKING:
    from gapbench.analysis.cells import Panel, Run

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
    from gapbench import catalog

    known_sets = dict(catalog.datasets().items())  # the registry itself has no get: it raises an error of its own
    entry = known_sets.get(panel.dataset)
    asked = int(json.loads(panel.dataset_options).get("test_size") or 0)
    known = asked or (entry.test_examples if entry is not None else None)
    if known is not None and all(len(run.test_correct) == -(-known // 8) for run in runs):
        size: int | None = known
    else:
        size = _size(runs)
    if size is None:
        return "the recorded bits are not those of its test set"
    seeds = {run.split_seed for run in runs}
    same = np.arange(size, dtype=np.int64)
    if len(seeds) == 1 or (entry is not None and entry.split == "official" and not asked):
        return HeldOut(size, dict.fromkeys(seeds, same))
    if entry is None or entry.train_examples is None or entry.test_examples is None:
        return f"the size of the pool that {panel.dataset} is split from is not known here, so nor is what its test sets share"
    found = {seed: _test_set(entry.train_examples, entry.test_examples, entry.split == "drawn", asked, seed) for seed in seeds}
    return HeldOut(size, found) if {len(one) for one in found.values()} == {size} else "the recorded bits are not those of its test set"


def _test_set(train_examples: int, test_examples: int, drawn: bool, asked: int, split_seed: int) -> Indices:
    """Returns the indices in the pool of the test set that a split seed draws, in the order of the bits."""
    pool = np.arange(train_examples + test_examples, dtype=np.int64)
    test = np.sort(permutation(stream(split_seed, "split"), 0, pool)[train_examples:]) if drawn else pool[train_examples:]
    if asked in (0, len(test)):
        return test
    return np.sort(permutation(stream(split_seed, "subset"), 0, test)[:asked])


def _size(runs: Sequence[Run]) -> int | None:
    """Returns the number of test examples at which the bits of every run give its accuracy; None where there is none, or several.

    The catalog does not know the size of a user's own file. The bits are padded to whole bytes, so eight sizes are possible.
    """
    (length, *others) = {len(run.test_correct) for run in runs}
    if others:
        return None
    right = [int(np.unpackbits(np.frombuffer(run.test_correct, dtype=np.uint8)).sum()) for run in runs]
    accuracies = [run.numbers["test_accuracy"] for run in runs]
    fits = [
        size
        for size in range(8 * length - 7, 8 * length + 1)
        if all(abs(count / size - accuracy) < 1e-9 for count, accuracy in zip(right, accuracies, strict=True))
    ]
    return fits[0] if len(fits) == 1 else None
