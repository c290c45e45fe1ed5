"""Which examples of a pool a run trains on, is tested on and holds out: by the counter hash, never by position alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gapbench import catalog
from gapbench.core.errors import DataError
from gapbench.core.hashing import permutation, stream
from gapbench.suite.facts import held_out
from gapbench.suite.runspec import RunSpec
from gapbench.workloads.datasets.arrays import Pool, Split

Indices = npt.NDArray[np.int64]

SIZE_OPTIONS = ("train_size", "test_size", "stratified")
"""Options of every data set that choose from its pool; its loader does not get them."""

FIXED_SEED = 0
"""Seed of what must be the same for every run: the held-out part and the examples that `train_accuracy` is computed on."""


def split(pool: Pool, spec: RunSpec) -> Split:
    """Returns the split of a run.

    1. The official split or, where the data set has none, one drawn by `split_seed`, as large as the catalog says (half of the
       examples, rounded up, where it does not).
    2. Options train_size and test_size: subsets of its two parts, drawn by `split_seed`, uniformly or, with `stratified`, the same
       share of every class.
    3. `holdout`: that fraction of the training examples, the same share of every class, by a fixed seed: for validation.
    4. `train_evaluation`: as many of the remaining ones as there are test examples, by a fixed seed.

    Args:
        pool: the data set.
        spec: the run: `split_seed`, `holdout` and the options of its data set.

    Raises:
        DataError: the data set has fewer examples than are asked for, or nothing is left to train on or to validate on.
    """
    name = spec.dataset.name
    train, test = _official_or_drawn(pool, spec.split_seed, name)
    labels = pool.labels if spec.dataset.option("stratified", False) else None
    train = _subset(train, int(spec.dataset.option("train_size", 0)), labels, spec.split_seed, f"{name}: train_size")
    test = _subset(test, int(spec.dataset.option("test_size", 0)), labels, spec.split_seed, f"{name}: test_size")
    validation = _holdout(pool.labels, train, spec.holdout, name)
    train = np.setdiff1d(train, validation, assume_unique=True)
    train_evaluation = np.sort(permutation(stream(FIXED_SEED, "train evaluation"), 0, train)[: len(test)])
    return Split(train, test, validation, train_evaluation)


def _official_or_drawn(pool: Pool, split_seed: int, name: str) -> tuple[Indices, Indices]:
    everything = np.arange(len(pool.labels), dtype=np.int64)
    if pool.official_train is not None:
        return everything[: pool.official_train], everything[pool.official_train :]
    known = catalog.datasets()[name].train_examples if name in catalog.datasets() else None
    size = (len(everything) + 1) // 2 if known is None else known
    if not 0 < size < len(everything):
        raise DataError(f"{name}: a training set of {size} leaves no test set of its {len(everything)} examples")
    order = permutation(stream(split_seed, "split"), 0, everything)
    return np.sort(order[:size]), np.sort(order[size:])


def _subset(indices: Indices, size: int, labels: npt.NDArray[np.int64] | None, split_seed: int, place: str) -> Indices:
    """Returns `size` of the indices, drawn uniformly or, where labels are given, the same share of every class; 0 is all of them."""
    if not 0 <= size <= len(indices):
        raise DataError(f"{place} = {size}, but there are {len(indices)} examples; 0 takes all")
    if size in (0, len(indices)):
        return indices
    order = permutation(stream(split_seed, "subset"), 0, indices)
    return np.sort(order[:size] if labels is None else _same_shares(order, size, labels))


def _holdout(labels: npt.NDArray[np.int64], train: Indices, fraction: float, name: str) -> Indices:
    """Returns that fraction of the training indices, as many as planning counts on, each class giving its share, to the nearest example."""
    total = held_out(len(train), fraction)
    if fraction > 0 and not 0 < total < len(train):
        raise DataError(f"{name}: holdout = {fraction:g} takes {total} of {len(train)} training examples; it must take some and leave some")
    if total == 0:
        return train[:0]
    return np.sort(_same_shares(permutation(stream(FIXED_SEED, "holdout"), 0, train), total, labels))


def _same_shares(order: Indices, total: int, labels: npt.NDArray[np.int64]) -> Indices:
    """Returns `total` of the indices: the first ones of each class, each class giving its share, to the nearest example."""
    members = [order[labels[order] == label] for label in np.unique(labels[order])]
    shares = np.array([len(indices) for indices in members]) * (total / len(order))
    quota = np.floor(shares).astype(np.int64)
    largest_remainders = np.argsort(quota - shares, kind="stable")[: total - int(quota.sum())]
    quota[largest_remainders] += 1
    return np.concatenate([indices[:count] for indices, count in zip(members, quota, strict=True)])
