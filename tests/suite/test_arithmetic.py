from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapbench.catalog import Budget
from gapbench.suite.batches import evaluations_of, exactly, updates_of_budget, updates_of_epochs
from gapbench.suite.regime import learning_rate_factor


def updates(kind: str, batch_size: int, *, epochs: float, examples: int, reference: int, factor: float = 1.0, tail: str = "stream") -> int:
    budget = Budget(kind=kind, factor=factor)  # type: ignore[arg-type]
    return updates_of_budget(budget, epochs=epochs, examples=examples, batch_size=batch_size, reference_batch_size=reference, tail=tail)


@pytest.mark.parametrize(
    ("kind", "batch_size", "epochs", "examples", "reference", "expected"),
    [
        ("epochs", 16, 30, 900, 16, 1687),  # digits
        ("epochs", 512, 30, 900, 16, 52),
        ("updates", 512, 30, 900, 16, 1687),
        ("epochs", 128, 100, 50000, 128, 39062),  # ResNet-44; the released code takes 39,100 in 391 updates an epoch
        ("epochs", 4096, 100, 50000, 128, 1220),
        ("updates", 4096, 100, 50000, 128, 39062),
        ("epochs", 128, 50, 60000, 128, 23437),  # F1
        ("examples", 4096, 50, 60000, 128, 732),
        ("examples", 512, 30, 900, 16, 52),
    ],
)
def test_updates_are_those_of_the_paper_without_its_rounding(
    kind: str, batch_size: int, epochs: float, examples: int, reference: int, expected: int
) -> None:
    assert updates(kind, batch_size, epochs=epochs, examples=examples, reference=reference) == expected


def test_fractions_of_epochs_are_taken_as_the_decimal_numbers_that_were_written() -> None:
    assert math.floor(0.29 * 100) == 28  # what floating point makes of it
    assert updates_of_epochs(exactly(0.29), 100, 1, "stream") == 29
    assert updates_of_epochs(exactly(0.29), 1000, 10, "stream") == 29


def test_dropped_tails_count_whole_batches_of_an_epoch() -> None:
    assert updates("epochs", 512, epochs=30, examples=900, reference=16, tail="drop") == 30
    assert updates("updates", 512, epochs=30, examples=900, reference=16, tail="drop") == 30 * 56
    assert updates("examples", 512, epochs=30, examples=900, reference=16, tail="drop") == 30 * 56 * 16 // 512


def test_a_factor_multiplies_the_budget_before_it_is_rounded() -> None:
    assert updates("epochs", 16, epochs=30, examples=900, reference=16, factor=4) == 6750
    assert updates("updates", 512, epochs=30, examples=900, reference=16, factor=0.5) == 843


@given(
    epochs=st.integers(1, 60), examples=st.integers(8, 5000), reference=st.integers(1, 64), batch_size=st.integers(1, 512),
    tail=st.sampled_from(["stream", "drop"]),
)  # fmt: skip
def test_budgets_never_exceed_what_they_name(epochs: int, examples: int, reference: int, batch_size: int, tail: str) -> None:
    kinds = ("epochs", "updates", "examples")
    at = {kind: updates(kind, batch_size, epochs=epochs, examples=examples, reference=reference, tail=tail) for kind in kinds}
    reference_updates = updates("epochs", reference, epochs=epochs, examples=examples, reference=reference, tail=tail)
    assert at["updates"] == reference_updates
    assert at["epochs"] * batch_size <= epochs * examples < (at["epochs"] + 1) * batch_size or tail == "drop"
    assert at["examples"] * batch_size <= reference_updates * reference < (at["examples"] + 1) * batch_size


def test_learning_rates_scale_by_none_square_root_or_ratio() -> None:
    assert learning_rate_factor("none", 4096, 128) == 1.0
    assert learning_rate_factor("sqrt", 4096, 128) == math.sqrt(32)
    assert learning_rate_factor("linear", 4096, 128) == 32.0


@pytest.mark.parametrize(
    ("updates", "reference", "tests", "train_evaluation", "expected"),
    [
        (1687, 16, 897, 897, 12),  # digits: 10.8, raised to 12
        (23437, 128, 10000, 10000, 13),  # F1: 13.5
        (39062, 128, 10000, 10000, 22),  # ResNet-44: 22.5
        (390625, 128, 10000, 10000, 60),  # 225, capped
    ],
)
def test_evaluations_take_about_three_percent_of_the_training_time(
    updates: int, reference: int, tests: int, train_evaluation: int, expected: int
) -> None:
    found = evaluations_of(
        reference_updates=updates, reference_batch_size=reference, test_examples=tests, train_evaluation_examples=train_evaluation
    )
    assert found == expected
