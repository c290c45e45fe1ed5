"""Checks of a data set: it loads the same every time, is what it is declared as, and keeps training and test examples apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from gapbench.catalog import datasets as known_datasets
from gapbench.conformity.sheet import (
    Answer,
    Check,
    Step,
    does_not_apply,
    failed,
    first_sentence,
    make_checks,
    make_spec,
    passed,
    shape_text,
    warned,
)
from gapbench.core.errors import GapbenchError, place_of
from gapbench.core.hashing import content_hash
from gapbench.suite.runspec import Component
from gapbench.workloads import datasets
from gapbench.workloads.datasets import DataContext, Pool, Split

DARK = 0.1
"""Bytes that reach less than this share of pixel_max are probably scaled otherwise than declared."""


def check_dataset(name: str, options: Mapping[str, Any], context: DataContext) -> list[Check]:
    """Returns the checks of a data set; its files are read, and downloaded where the context allows that."""
    component = Component(name=name, version=known_datasets()[name].version, options=dict(options))
    pools: list[Pool] = []

    def loads() -> Answer:
        try:
            datasets.check_available(component, context, twice=False)
            pools.append(datasets.load(component, context))
        except GapbenchError as error:
            cause = error.__cause__
            return failed(
                f"{first_sentence(error)}{place_of(cause) if cause else ''}", "bring what its loader returns, or the declaration, in order"
            )
        pool = pools[0]
        kind = "images" if pool.is_image else "examples"
        return passed(f"{len(pool.labels):,} {kind} of {shape_text(pool.images.shape[1:])}, {pool.classes} classes, as declared")

    def split() -> Split:
        return datasets.split(pools[0], _spec(component, 0))

    steps = (
        Step("loads as declared", loads, needed="it does not load"),
        Step("same every time", lambda: _same_every_time(component, context, pools[0])),
        Step("labels", lambda: _labels(pools[0], split())),
        Step("values", lambda: _values(pools[0])),
        Step("split by seed", lambda: _split_by_seed(pools[0], component)),
        Step("training and test apart", lambda: _apart(pools[0], split())),
    )
    return make_checks("dataset", name, steps)


def _spec(component: Component, seed: int) -> Any:
    return make_spec(dataset=component, split_seed=seed)


def _same_every_time(component: Component, context: DataContext, pool: Pool) -> Answer:
    datasets.forget()
    again = datasets.load(component, context)
    if content_hash(pool.images, pool.labels) != content_hash(again.images, again.labels):
        return failed(
            "loading it twice gives two data sets", "let its loader depend on its options only, with a fixed seed for random numbers"
        )
    return passed("loaded twice, byte by byte")


def _labels(pool: Pool, split: Split) -> Answer:
    counts = np.bincount(pool.labels[split.train], minlength=pool.classes)
    if missing := [str(label) for label in np.flatnonzero(counts == 0)]:
        return warned(f"no training example of class {', '.join(missing[:8])}", "check the number of classes, or the split")
    return passed(f"0 to {pool.classes - 1}, {counts.min():,} to {counts.max():,} training examples of each class")


def _values(pool: Pool) -> Answer:
    highest = float(pool.images.max())
    if pool.is_image and highest > pool.pixel_max:
        return failed(f"bytes reach {highest:g}, above pixel_max = {pool.pixel_max:g}", "declare the pixel_max that means 1.0")
    if pool.is_image and highest < DARK * pool.pixel_max:
        return warned(
            f"bytes reach only {highest:g} of pixel_max = {pool.pixel_max:g}", "declare the pixel_max that means 1.0, or scale the bytes up"
        )
    return passed(f"{float(pool.images.min()):.4g} to {highest:.4g}" + (f" of {pool.pixel_max:g}" if pool.is_image else ""))


def _split_by_seed(pool: Pool, component: Component) -> Answer:
    first, again, other = (datasets.split(pool, _spec(component, seed)) for seed in (0, 0, 1))
    if not np.array_equal(first.train, again.train) or not np.array_equal(first.test, again.test):
        return failed("one seed gives two splits", "let nothing but the seed decide")
    sizes = f"{len(first.train):,} for training, {len(first.test):,} for test"
    if np.array_equal(first.train, other.train) and np.array_equal(first.test, other.test):
        return passed(f"{sizes}; its own split, the same for every seed")
    return passed(f"{sizes}; drawn by the seed, the same each time")


def _apart(pool: Pool, split: Split) -> Answer:
    if np.intersect1d(split.train, split.test).size:
        return failed("an example is in both", "name each example once")
    if len(pool.labels) > 200_000:
        return does_not_apply("more than 200,000 examples are not compared one by one")
    train, test = ({_digest(pool, index) for index in part} for part in (split.train, split.test))
    shared = sum(_digest(pool, index) in train for index in split.test)
    if shared:
        text = f"{shared:,} of {len(split.test):,} test examples are also among the training examples, byte by byte"
        return warned(text, "remove copies, or say so where results are reported: memorizing them counts as generalizing")
    return passed(f"no test example is a copy of a training example ({len(test):,} different ones)")


def _digest(pool: Pool, index: int) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(pool.images[index]).tobytes(), digest_size=12).digest()
