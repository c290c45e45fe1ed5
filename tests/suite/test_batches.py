"""The course of a run against slow enumerations: how many updates, which examples each has, and when the run is measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gapbench.catalog import Budget
from gapbench.core.errors import GapbenchError
from gapbench.suite import RunSpec
from gapbench.suite.batches import (
    BatchTable,
    UpdateBatch,
    by_epoch,
    chunk_size,
    evaluation_updates,
    evaluations_of,
    exactly,
    examples_of_updates,
    grown,
    keep_updates,
    late_evaluations,
    phase_starts,
    plain,
    probe_updates,
    ramp,
    shortened,
    uniform,
    updates_of_budget,
    updates_of_epochs,
    updates_of_examples,
)
from gapbench.suite.regime import learning_rate_factor
from gapbench.suite.runspec import Phase


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


def positions(table: BatchTable) -> list[list[int]]:
    """Every update's positions, one by one."""
    return [[*range(batch.first, batch.first + batch.size)] for batch in map(table.at, range(table.updates))]


def walked(examples: int, batch_size: int, epochs: int, tail: str) -> list[list[int]]:
    """Positions of the batches of whole epochs, by walking through every example as a plain loader does."""
    found: list[list[int]] = []
    waiting: list[int] = []
    for epoch in range(epochs):
        for index in range(examples):
            waiting.append(epoch * examples + index)
            if len(waiting) == batch_size:
                found.append(waiting)
                waiting = []
        if tail != "stream":
            if waiting and tail == "ragged":
                found.append(waiting)
            waiting = []
    return found


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 7), st.sampled_from(["stream", "drop", "ragged"]))
def test_positions_and_counts_are_those_of_a_plain_loader(examples: int, batch_size: int, epochs: int, tail: str) -> None:
    batch_size = min(batch_size, examples)
    expected = walked(examples, batch_size, epochs, tail)
    updates = updates_of_epochs(Fraction(epochs), examples, batch_size, tail)
    assert updates == len(expected)
    table = plain(batch_size, updates, examples, tail)
    assert positions(table) == expected
    epoch_of = [batch[0] // examples for batch in expected]
    firsts = [update for update in range(updates) if update == 0 or epoch_of[update] != epoch_of[update - 1]]
    assert list(table.epoch_starts(examples)) == firsts
    assert table.end == (expected[-1][-1] + 1 if expected else 0)
    seen = 0
    for number, batch in enumerate(expected):
        assert table.examples(number) == examples_of_updates(number, examples, batch_size, tail) == seen
        assert table.at(number).batch_size == batch_size
        seen += len(batch)
    assert table.examples(updates) == examples_of_updates(updates, examples, batch_size, tail) == seen


@given(st.integers(0, 500), st.integers(1, 50), st.integers(1, 50), st.sampled_from(["stream", "drop", "ragged"]))
def test_updates_of_examples_are_the_most_that_fit(seen: int, examples: int, batch_size: int, tail: str) -> None:
    batch_size = min(batch_size, examples)
    updates = updates_of_examples(seen, examples, batch_size, tail)
    assert examples_of_updates(updates, examples, batch_size, tail) <= seen < examples_of_updates(updates + 1, examples, batch_size, tail)


starts = st.lists(st.integers(1, 99), max_size=4, unique=True).map(lambda values: [0.0, *(value / 100 for value in sorted(values))])


@given(st.integers(1, 9), st.integers(1, 300), starts, st.data())
def test_a_ramp_has_the_examples_of_every_phase_to_the_last_one(batch_size: int, updates: int, begins: list[float], data: Any) -> None:
    factors = [(start, float(data.draw(st.integers(1, 12)))) for start in begins]
    table = ramp(batch_size, updates, factors)
    # Slowly: every update of the run that does not grow belongs to a phase, and its examples are dealt out phase by phase.
    phase_of = [max(index for index, start in enumerate(begins) if exactly(start) * updates <= update) for update in range(updates)]
    expected: list[int] = []
    for index, (_, factor) in enumerate(factors):
        left, size = phase_of.count(index) * batch_size, int(factor) * batch_size
        sizes = []
        while left:
            sizes.insert(0, min(left, size))
            left -= sizes[0]
        expected += sizes
    assert [table.at(update).size for update in range(table.updates)] == expected
    assert [place for places in positions(table) for place in places] == [*range(updates * batch_size)]
    assert (table.all_steps, table.examples(table.updates)) == (updates, updates * batch_size)
    for step in range(updates + 1):
        reached = table.updates_at(step)
        assert table.steps(reached) >= step
        assert reached == 0 or table.steps(reached - 1) < step


def test_phases_begin_where_written_decimals_say() -> None:
    assert phase_starts([0.0, 0.29, 0.81], 100) == [0, 29, 81]
    assert phase_starts([0.0, 1 / 3, 2 / 3], 3) == [0, 1, 2]  # two thirds are a little more than that in floating point
    assert phase_starts([0.81], 39062) == [math.ceil(0.81 * 39062)]


def test_a_factor_must_make_whole_examples() -> None:
    assert grown(96, 1 / 0.3) == 320
    with pytest.raises(GapbenchError, match=r"0\.3 times the batch size 16 is 4\.8"):
        grown(16, 0.3)
    with pytest.raises(GapbenchError, match="no whole number"):
        grown(2, 0.1)


def test_a_table_goes_on_where_it_ends() -> None:
    table = uniform(4, 3).extended(0, 9).extended(2, 10).extended(1, 7)
    assert [table.at(update) for update in range(6)] == [
        (0, 4, 4),
        (4, 4, 4),
        (8, 4, 4),
        (12, 10, 10),
        (22, 10, 10),
        (32, 7, 7),
    ]
    assert (table.updates, table.end, table.sizes, table.largest) == (6, 39, (4, 7, 10), 10)


def test_blocks_of_examples_end_where_batches_change() -> None:
    table = by_epoch(4, 5, 11, ragged=False)  # 0-7, 11-18, 22-25
    assert [table.stretch_end(position) for position in (0, 5, 11, 22)] == [8, 8, 19, 26]
    assert [table.following(position) for position in (4, 8, 19, 26)] == [(4, 4, 4), (11, 4, 4), (22, 4, 4), None]


@given(st.integers(1, 16), st.integers(1, 16), st.data())
def test_ragged_batches_are_cut_as_torch_chunk_cuts_them(chunks: int, ghost: int, data: Any) -> None:
    size = data.draw(st.integers(1, chunks * ghost))
    group = chunk_size(UpdateBatch(0, size, chunks * ghost), ghost)
    sizes = [len(chunk) for chunk in torch.arange(size).chunk(chunks)]
    assert sizes == [min(group, size - start) for start in range(0, size, group)]


def test_the_released_codes_last_batch_at_4096_is_31_groups_of_27_and_one_of_11() -> None:
    table = by_epoch(4096, 1300, 50_000, ragged=True)
    last = table.at(12)
    assert (last.first, last.size, last.batch_size) == (49_152, 848, 4096)
    group = chunk_size(last, 128)
    assert (group, -(-848 // group), 848 % group) == (27, 32, 11)
    assert table.at(13).first == 50_000
    assert table.examples(1300) == 100 * 50_000  # 100 epochs of the released code: 1,300 updates where floor would make 1,220


def test_a_run_knows_its_batches(spec: Callable[..., RunSpec]) -> None:
    assert spec(tail="ragged", batch_size=30).examples == 7 * 100 + 2 * 30  # 30 updates, four an epoch of 100
    phases = (Phase(), Phase(start=0.5, batch_size_factor=3.0))
    growing = spec(phases=phases, unramped_updates=30, updates=20)
    assert (growing.examples, growing.batches.sizes) == (600, (20, 60))
    with pytest.raises(GapbenchError, match="as many updates as its phases make, 20"):
        _ = growing.model_copy(update={"updates": 21}).batches
    with pytest.raises(GapbenchError, match='tail "stream"'):
        _ = growing.model_copy(update={"tail": "drop"}).batches


@pytest.mark.parametrize("updates", [1, 3, 12, 40])
def test_a_shortened_ramp_still_has_every_batch_size(spec: Callable[..., RunSpec], updates: int) -> None:
    phases = (Phase(), Phase(start=0.5, batch_size_factor=4.0), Phase(start=0.75, batch_size_factor=16.0))
    whole = spec(phases=phases, unramped_updates=1000, updates=ramp(20, 1000, [(0.0, 1.0), (0.5, 4.0), (0.75, 16.0)]).updates)
    short = whole.model_copy(update=shortened(whole, updates))
    assert {20, 80, 320} <= set(short.batches.sizes)
    assert short.updates < whole.updates
    assert shortened(spec(), updates) == {"updates": updates}


@given(st.integers(1, 200_000))
def test_probes_are_log_spaced_about_twenty_a_decade_and_end_with_the_run(updates):
    points = sorted(probe_updates(updates))
    assert points[0] >= 1
    assert points[-1] == updates
    decade = [point for point in points if 1000 <= point < 10_000]
    if updates >= 20_000:
        assert 18 <= len(decade) <= 22


@given(st.integers(1, 60), st.integers(1, 50_000))
def test_evaluations_end_with_the_run_and_are_no_more_than_asked(evaluations, updates):
    points = evaluation_updates(uniform(20, updates), evaluations)
    assert points[-1] == updates
    assert points[0] >= 1
    assert len(points) <= evaluations
    assert list(points) == sorted(set(points))


@given(st.integers(6, 60), st.integers(100, 50_000))
def test_five_evaluations_lie_in_the_last_five_percent(evaluations, updates):
    assert sum(point >= 0.955 * updates for point in evaluation_updates(uniform(20, updates), evaluations)) == 5


def test_runs_of_different_length_are_evaluated_at_the_same_fractions():
    short, long = (evaluation_updates(uniform(20, updates), 20) for updates in (1000, 100_000))
    assert [point / 1000 for point in short] == [round(point / 100_000, 3) for point in long]


def test_fewer_than_a_hundred_updates_have_one_last_evaluation():
    assert [point for point in evaluation_updates(uniform(20, 52), 20) if point > 0.95 * 52] == [52]


def test_weights_are_kept_at_fractions_of_the_updates():
    assert keep_updates(uniform(20, 52), (0.0, 0.5, 1.0)) == {0: 0.0, 26: 0.5, 52: 1.0}


def test_late_evaluations_are_those_in_the_last_five_percent():
    for updates in (40, 99, 100, 101, 1687):
        assert sum(update > 0.95 * updates for update in evaluation_updates(uniform(16, updates), 20)) == late_evaluations(updates, 20)
    assert late_evaluations(1000, 3) == 3


@given(st.integers(1, 400_000))
def test_probes_are_numpys_geometric_spacing(updates):
    points = max(2, math.ceil(20 * math.log10(max(updates, 2))) + 1)
    assert probe_updates(updates) == {int(update) for update in np.rint(np.geomspace(1, updates, points))}
