from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gapbench.core.errors import DataError
from gapbench.core.hashing import content_hash
from gapbench.suite.runspec import Component, RunSpec
from gapbench.workloads.datasets import cache, check_available, digits, fetch, load, split, verify
from gapbench.workloads.datasets.arrays import DataContext

DIGITS = Component(name="digits")


def test_digits_are_those_of_scikit_learn(context: DataContext) -> None:
    from sklearn.datasets import load_digits

    pool = load(DIGITS, context)
    bunch = load_digits()
    assert np.array_equal(pool.images[..., 0], bunch.images)
    assert np.array_equal(pool.labels, bunch.target)
    assert (pool.images.shape, pool.images.dtype, pool.images.max()) == ((1797, 8, 8, 1), np.uint8, 16)
    assert (pool.classes, pool.pixel_max, pool.official_train) == (10, 16.0, None)


def test_digits_need_no_files_and_no_network(context: DataContext) -> None:
    check_available(DIGITS, context)
    fetch("digits", context)
    assert verify("digits", context) == []


def test_digits_are_decoded_once(context: DataContext, monkeypatch: pytest.MonkeyPatch) -> None:
    load(DIGITS, context)
    cache.forget()
    monkeypatch.setattr(digits, "_decode", lambda: pytest.fail("decoded again"))
    load(DIGITS, context)


def test_digits_that_have_changed_are_refused(context: DataContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "CONTENT", "0123456789abcdef")
    with pytest.raises(DataError, match="install another version of scikit-learn"):
        load(DIGITS, context)


def test_the_split_is_900_to_897_and_drawn_by_the_split_seed(context: DataContext, make_spec: Callable[..., RunSpec]) -> None:
    pool = load(DIGITS, context)
    splits = [split(pool, make_spec("digits", split_seed=seed)) for seed in (0, 0, 1)]
    for drawn in splits:
        assert (len(drawn.train), len(drawn.test), len(drawn.validation)) == (900, 897, 0)
        assert np.array_equal(np.sort(np.concatenate([drawn.train, drawn.test])), np.arange(1797))
    assert np.array_equal(splits[0].train, splits[1].train)
    assert 350 < len(np.intersect1d(splits[0].train, splits[2].train)) < 550  # about half, as for independent draws


def test_the_split_of_seed_0_never_changes(context: DataContext, make_spec: Callable[..., RunSpec]) -> None:
    drawn = split(load(DIGITS, context), make_spec("digits", split_seed=0, holdout=0.1))
    assert content_hash(drawn.train, drawn.test, drawn.validation, drawn.train_evaluation) == "ee3c2cd7afde06bf"
