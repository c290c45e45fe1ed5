"""A batch size that follows the noise scale: the rule against a slow oracle, the table of batches, and what it is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapbench.core.errors import SuiteError
from gapbench.sizing import program_key, stack_pays
from gapbench.suite import RunSpec, Suite, load_suite, run_id
from gapbench.suite.batches import BatchTable, bounds_of_updates, decided, decision_steps
from gapbench.suite.regime import next_size
from gapbench.suite.runspec import AdaptiveBatch

Load = Callable[..., Suite]
RUN = '[run]\nrecipe = "digits"\nreference_batch_size = 16\nbatch_size = 64\nregime = "adaptive"\nghost_batch_size = 16\n'


def rule(**changes: Any) -> AdaptiveBatch:
    fields: dict[str, Any] = {
        "exchange_rate": 64.0, "smallest": 16, "largest": 1024, "unit": 8, "decisions": 20, "measure_every": 4, "smoothing": 0.9,
        "largest_change": 2.0,
    }  # fmt: skip
    return AdaptiveBatch(**(fields | changes))


@st.composite
def rules(draw: st.DrawFn) -> AdaptiveBatch:
    unit = draw(st.sampled_from([1, 3, 8, 32]))
    smallest = draw(st.integers(2, 20))
    return rule(
        exchange_rate=draw(st.floats(0.1, 1e5)),
        unit=unit,
        smallest=smallest * unit,
        largest=(smallest + draw(st.integers(1, 60))) * unit,
        largest_change=draw(st.floats(1.01, 20.0)),
    )


def cheapest(rule: AdaptiveBatch, noise_scale: float, now: int) -> set[int]:
    """The price of a step, B + B_noise examples and 1 + B_noise / B updates, at every size that is allowed."""
    allowed = [
        size
        for size in range(rule.unit, rule.largest + 1, rule.unit)
        if rule.smallest <= size and now / rule.largest_change <= size <= now * rule.largest_change
    ]
    prices = {size: size + noise_scale + rule.exchange_rate * (1.0 + noise_scale / size) for size in allowed}
    return {size for size in allowed if prices[size] <= min(prices.values()) * (1 + 1e-12)} or {now}


@given(rules(), st.floats(0.0, 1e7), st.integers(1, 80))
def test_the_next_size_is_the_one_whose_examples_and_updates_cost_least(rule: AdaptiveBatch, noise_scale: float, units: int) -> None:
    now = min(max(units * rule.unit, rule.smallest), rule.largest)
    assert next_size(rule, noise_scale, now) in cheapest(rule, noise_scale, now)


@given(rules(), st.lists(st.one_of(st.none(), st.just(math.nan), st.floats(0.0, math.inf)), max_size=30))
def test_sizes_stay_between_the_bounds_and_multiples_of_the_unit_and_change_by_a_factor_at_most(
    rule: AdaptiveBatch, scales: list[float | None]
) -> None:
    now = rule.smallest
    for scale in scales:
        size = next_size(rule, scale, now)
        assert rule.smallest <= size <= rule.largest
        assert size % rule.unit == 0
        assert now / rule.largest_change <= size <= now * rule.largest_change
        assert size == now or (scale is not None and not math.isnan(scale))
        now = size


def test_the_size_is_the_root_of_the_exchange_rate_times_the_noise_scale() -> None:
    free = rule(unit=1, smallest=2, largest=10**6, largest_change=1e6)
    assert [next_size(free, scale, 64) for scale in (1.0, 64.0, 1024.0, 10_000.0, math.inf)] == [8, 64, 256, 800, 10**6]
    assert next_size(free, 64.0, 1000) == 64


def adaptive_run(load: Load, text: str = "") -> RunSpec:
    (run,) = load(RUN + text).runs
    return run.spec


def test_the_regime_gives_every_run_bounds_in_examples_and_an_exchange_rate_of_its_batch_size(load: Load) -> None:
    spec = adaptive_run(load, "epochs = 20\n")
    assert spec.adaptive_batch == rule(smallest=16 * 2, largest=256, unit=16, learning_rate_scaling="sqrt")
    assert (spec.updates, spec.unramped_updates, spec.examples) == (281, 281, 281 * 64)
    assert spec.learning_rate == pytest.approx(0.2)
    assert not stack_pays(spec, "cpu")
    own = "[regimes.mine]\nadaptive_batch = {exchange_rate = 1000, largest = 100, unit = 10}\n"
    text = RUN.replace('"adaptive"\nghost_batch_size = 16', '"mine"\nmodel = {name = "mlp", norm = "none"}') + own
    (run,) = load(text).runs
    wanted = rule(exchange_rate=1000, smallest=20, largest=900, unit=10)  # no more than the training set
    assert run.spec.adaptive_batch == wanted


def test_the_identity_has_the_rule_and_a_run_whose_batch_stays_keeps_its_own(load: Load) -> None:
    spec = adaptive_run(load)
    plain = spec.model_copy(update={"adaptive_batch": None, "unramped_updates": None})
    other = spec.model_copy(update={"adaptive_batch": rule(exchange_rate=65.0)})
    assert len({run_id(one) for one in (spec, plain, other)}) == 3
    assert program_key(spec) != program_key(plain)
    (baseline,) = load(RUN.replace('"adaptive"', '"sqrt-lr"')).runs
    assert run_id(plain) == baseline.run_id


def test_a_ghost_batch_as_large_as_the_run_s_batch_is_kept_since_the_batch_changes(load: Load) -> None:
    (run,) = load(RUN.replace("ghost_batch_size = 16", "ghost_batch_size = 64")).runs
    assert run.spec.ghost_batch_size == 64
    assert run.spec.adaptive_batch is not None
    assert run.spec.adaptive_batch.smallest == 128  # of one group there would be nothing to tell the noise from


def tables(spec: RunSpec, sizes: list[int]) -> BatchTable:
    """The table after each decision, as a session makes it; what was trained before a decision is the same after it."""
    table, steps = decided(spec), decision_steps(spec)
    made: list[int] = []
    update = 0
    while update < table.updates:
        due = sum(step * spec.batch_size <= table.examples(update) for step in steps) - len(made)
        if due:
            made += [sizes[len(made) % len(sizes)]] * due
            after = decided(spec, made)
            assert all(after.at(before) == table.at(before) for before in range(update))
            table = after
        update += 1
    return table


@given(
    st.integers(1, 300),
    st.integers(1, 12),
    st.integers(1, 30),
    st.lists(st.integers(2, 40), min_size=1, max_size=30),
)
def test_examples_are_exact_whatever_is_decided_and_at_most_one_update_is_odd(
    updates: int, units: int, decisions: int, sizes: list[int]
) -> None:
    from tests.conftest import make_spec

    wanted = rule(unit=8, smallest=16, largest=320, decisions=decisions)
    spec = make_spec(
        batch_size=8 * units, ghost_batch_size=8, updates=updates, unramped_updates=updates, adaptive_batch=wanted, train_examples=1000
    )
    chosen = [8 * size for size in sizes]
    table = tables(spec, chosen)
    found = [table.at(update).size for update in range(table.updates)]
    assert sum(found) == table.end == table.examples(table.updates) == updates * 8 * units == spec.examples
    assert all(size % 8 == 0 for size in found)
    assert sum(size not in {8 * units, *chosen} for size in found) <= 1
    fewest, most = bounds_of_updates(spec)
    assert fewest <= table.updates <= most
    assert table.largest == 320


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RUN.replace("ghost_batch_size = 16\n", ""), "a batch that follows the noise scale needs a fixed ghost batch size"),
        (
            RUN + 'gradient_noise = {kind = "multiplicative"}\n',
            "gradient noise is of one batch size, and the batch follows the noise scale",
        ),
        (RUN + 'tail = "drop"\n', 'goes on from epoch to epoch, so tail = "drop" is not for it; choose "stream"'),
        (RUN + 'tail = "ragged"\n', 'goes on from epoch to epoch, so tail = "ragged" is not for it; choose "stream"'),
        (RUN + 'budget = {kind = "updates"}\n', 'makes as many updates as follow from its sizes; choose a budget of kind "epochs"'),
        (
            RUN + "[[override]]\nwhere = {batch_size = 64}\nset = {updates = 100}\n",
            "the updates of a run whose batch follows the noise scale follow from what is measured; set epochs",
        ),
        (RUN + 'learning_rate_factor = "momentum-gain"\n', '"momentum-gain" is of epochs of equally many updates'),
        (RUN + "phases = [{}, {start = 0.5, batch_size_factor = 2}]\n", "both change the batch size; choose one of them"),
        (
            RUN.replace('"adaptive"', '"mine"') + '[regimes.mine]\ndrops = "batch"\nadaptive_batch = {}\n'
            "[[override]]\nwhere = {batch_size = 64}\nset = {phases = [{}, {start = 0.5, learning_rate_factor = 0.5}]}\n",
            'adaptive_batch and drops = "batch" both change the batch size',
        ),
        (
            RUN.replace('"adaptive"', '"mine"') + "[regimes.mine]\nadaptive_batch = {smallest = 1, largest = 1}\n",
            "between 1 and 1 times the batch size 64 there are no two multiples of 16 examples (of 32 or more) among 900",
        ),
        (
            RUN.replace('"adaptive"', '"mine"') + "[regimes.mine]\nadaptive_batch = {exchange_rate = -1}\n",
            'exchange_rate must be "batch-size" or a positive number of examples',
        ),
    ],
)
def test_what_does_not_go_with_it_is_refused_in_words(load: Load, text: str, message: str) -> None:
    with pytest.raises(SuiteError) as caught:
        load(text)
    assert any(message in problem.message for problem in caught.value.problems), caught.value.problems


def test_the_shipped_suite_holds_it_against_fixed_batches_and_a_ramp_at_equal_examples() -> None:
    suite = load_suite("suites/adaptive-digits.toml")
    examples = {run.labels.cell: run.spec.examples for run in suite.runs}
    assert len(set(examples.values())) == 1
    adaptive = {run.labels.cell for run in suite.runs if run.spec.adaptive_batch}
    assert adaptive
    assert any(run.spec.batches.grows and run.labels.cell not in adaptive for run in suite.runs)
    assert len({run.spec.batch_size for run in suite.runs if not run.spec.batches.grows}) >= 3
