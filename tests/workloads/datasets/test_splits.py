from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapbench.core.errors import DataError
from gapbench.suite.runspec import Component, RunSpec
from gapbench.workloads.datasets.arrays import Pool, Split
from gapbench.workloads.datasets.splits import split

BASE = RunSpec(
    dataset=Component(name="toy"),
    model=Component(name="mlp"),
    optimizer=Component(name="sgd"),
    batch_size=1,
    updates=1,
    learning_rate=0.1,
    train_examples=1,
    reference_batch_size=1,
    reference_updates=1,
    reference_learning_rate=0.1,
)


def spec(*, options: dict[str, Any] | None = None, **fields: Any) -> RunSpec:
    return BASE.model_copy(update={"dataset": Component(name="toy", options=options or {}), **fields})


def make_pool(examples: int, official_train: int | None, classes: int = 4) -> Pool:
    labels = np.random.default_rng(examples).integers(0, classes, examples)
    return Pool(np.zeros((examples, 1, 1, 1), np.uint8), labels, classes, 255.0, official_train)


def equal(one: Split, other: Split) -> bool:
    return all(np.array_equal(getattr(one, part), getattr(other, part)) for part in ("train", "test", "validation", "train_evaluation"))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Pool, RunSpec]:
    examples = draw(st.integers(20, 300))
    official = draw(st.none() | st.integers(10, examples - 5))
    train = (examples + 1) // 2 if official is None else official
    options = {"train_size": draw(st.just(0) | st.integers(10, train)), "test_size": draw(st.just(0) | st.integers(1, examples - train))}
    holdout = draw(st.just(0.0) | st.floats(0.1, 0.8))
    seeds = {"split_seed": draw(st.integers(0, 5)), "seed": draw(st.integers(0, 5))}
    return make_pool(examples, official), spec(options=options, holdout=holdout, **seeds)


@given(cases())
def test_parts_are_disjoint_ascending_and_of_the_sizes_asked_for(case: tuple[Pool, RunSpec]) -> None:
    pool, run = case
    drawn = split(pool, run)
    train = pool.official_train if pool.official_train is not None else (len(pool.labels) + 1) // 2
    test = len(pool.labels) - train
    train, test = run.dataset.option("train_size") or train, run.dataset.option("test_size") or test
    assert len(drawn.test) == test
    assert len(drawn.validation) == round(run.holdout * train)
    assert len(drawn.train) == train - len(drawn.validation)
    assert len(drawn.train_evaluation) == min(len(drawn.test), len(drawn.train))
    together = np.concatenate([drawn.train, drawn.test, drawn.validation])
    assert len(np.unique(together)) == len(together)
    assert np.isin(drawn.train_evaluation, drawn.train).all()
    for part in (drawn.train, drawn.test, drawn.validation, drawn.train_evaluation):
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
        assert ((part >= 0) & (part < len(pool.labels))).all()
    if pool.official_train is not None:
        assert (drawn.test >= pool.official_train).all()
        assert (np.concatenate([drawn.train, drawn.validation]) < pool.official_train).all()


@given(cases(), st.integers(0, 100), st.integers(1, 64))
def test_seeds_of_the_run_and_its_batch_size_do_not_move_the_split(case: tuple[Pool, RunSpec], seed: int, batch_size: int) -> None:
    pool, run = case
    other = run.model_copy(update={"seed": seed, "init_seed": seed, "order_seed": seed, "batch_size": batch_size, "learning_rate": 1.0})
    assert equal(split(pool, run), split(pool, other))


@given(st.integers(20, 300), st.floats(0.1, 0.8), st.integers(0, 1000))
def test_the_held_out_part_of_an_official_training_set_is_the_same_for_every_split_seed(size: int, holdout: float, seed: int) -> None:
    pool = make_pool(size + 10, size)
    fixed, other = (split(pool, spec(holdout=holdout, split_seed=value)) for value in (0, seed))
    assert equal(fixed, other)


@given(cases())
def test_the_held_out_part_has_every_class_in_its_share(case: tuple[Pool, RunSpec]) -> None:
    pool, run = case
    drawn = split(pool, run)
    before = np.concatenate([drawn.train, drawn.validation])
    share = len(drawn.validation) / len(before)
    for label in range(pool.classes):
        held_out = np.count_nonzero(pool.labels[drawn.validation] == label)
        assert abs(held_out - share * np.count_nonzero(pool.labels[before] == label)) < 1


def test_a_larger_held_out_part_contains_the_smaller_one() -> None:
    pool = make_pool(500, 400)
    small, large = (split(pool, spec(holdout=holdout)).validation for holdout in (0.1, 0.3))
    assert np.isin(small, large).mean() > 0.95  # rounding by class may move single examples


@given(st.integers(1, 200), st.integers(0, 50))
def test_a_larger_subset_contains_the_smaller_one(size: int, seed: int) -> None:
    pool = make_pool(260, 200)
    small = split(pool, spec(options={"train_size": size}, split_seed=seed))
    large = split(pool, spec(options={"train_size": min(size + 20, 200)}, split_seed=seed))
    assert np.isin(small.train, large.train).all()


def test_subsets_change_with_the_split_seed() -> None:
    pool = make_pool(600, 400)
    one, other = (split(pool, spec(options={"train_size": 100, "test_size": 50}, split_seed=seed)) for seed in (0, 1))
    assert len(np.intersect1d(one.train, other.train)) < 50
    assert len(np.intersect1d(one.test, other.test)) < 30


@settings(deadline=None)
@given(st.integers(0, 30))
def test_subsets_are_drawn_uniformly_over_positions(seed: int) -> None:
    pool = make_pool(5000, 4000)
    drawn = split(pool, spec(options={"train_size": 1000}, split_seed=seed))
    counts = np.histogram(drawn.train, bins=4, range=(0, 4000))[0]
    assert (np.abs(counts - 250) < 80).all()  # six standard deviations


def test_the_split_agrees_with_a_slow_oracle() -> None:
    from gapbench.core.hashing import stream

    pool = make_pool(40, None)
    key = stream(3, "split")
    order = sorted(range(40), key=lambda index: (key.at(0, index), index))
    drawn = split(pool, spec(split_seed=3))
    assert drawn.train.tolist() == sorted(order[:20])
    assert drawn.test.tolist() == sorted(order[20:])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"options": {"train_size": 401}}, "toy: train_size = 401, but there are 400 examples; 0 takes all"),
        ({"options": {"test_size": 101}}, "toy: test_size = 101, but there are 100 examples"),
        ({"options": {"test_size": -1}}, "toy: test_size = -1"),
        ({"holdout": 0.001}, "holdout = 0.001 takes 0 of 400 training examples"),
        ({"options": {"train_size": 2}, "holdout": 0.9}, "holdout = 0.9 takes 2 of 2 training examples"),
    ],
)
def test_more_than_there_is_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(make_pool(500, 400), spec(**fields))


def test_a_drawn_split_as_large_as_the_catalog_says_must_fit(make_spec: Callable[..., RunSpec]) -> None:
    with pytest.raises(DataError, match="a training set of 900 leaves no test set of its 500 examples"):
        split(make_pool(500, None), make_spec("digits"))


@given(cases())
def test_a_stratified_subset_has_the_same_share_of_every_class_to_the_nearest_example(case: tuple[Pool, RunSpec]) -> None:
    pool, run = case
    sizes = {name: run.dataset.option(name) for name in ("train_size", "test_size")}
    run = run.model_copy(update={"holdout": 0.0})
    everything = split(pool, run.model_copy(update={"dataset": Component(name="toy")}))
    drawn = split(pool, run.model_copy(update={"dataset": Component(name="toy", options={**sizes, "stratified": True})}))
    for name, part, whole in (("train_size", drawn.train, everything.train), ("test_size", drawn.test, everything.test)):
        size = sizes[name] or len(whole)
        assert len(part) == size
        assert np.isin(part, whole).all()
        shares = np.bincount(pool.labels[whole], minlength=4) * (size / len(whole))
        assert (np.abs(np.bincount(pool.labels[part], minlength=4) - shares) < 1).all()


def test_another_seed_draws_another_stratified_subset() -> None:
    pool = make_pool(200, 150)
    drawn = [split(pool, spec(options={"train_size": 60, "stratified": True}, split_seed=seed)).train for seed in (0, 1, 0)]
    assert np.array_equal(drawn[0], drawn[2])
    assert not np.array_equal(drawn[0], drawn[1])
