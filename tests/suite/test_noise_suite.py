"""The shipped suite of the noise scale asks every batch size for as much, and looks often enough."""

from __future__ import annotations

from collections import defaultdict

import pytest

from gapbench.suite import RunSpec, load_suite
from gapbench.suite.batches import evaluation_updates

PASSAGE = 0.36
"""Fraction of the updates at which the easiest target is reached at a good rate, seen in trials."""


@pytest.fixture(scope="module")
def by_size() -> dict[int, list[RunSpec]]:
    found: dict[int, list[RunSpec]] = defaultdict(list)
    for run in load_suite("mnist-noise-scale").runs:
        found[run.spec.batch_size].append(run.spec)
    return dict(found)


def test_every_batch_size_has_as_many_rates_about_its_own_guess_and_as_many_seeds(by_size: dict[int, list[RunSpec]]) -> None:
    assert sorted(by_size) == [8, 16, 32, 64, 128, 256, 512, 1024, 2048]
    for size, specs in by_size.items():
        rates = sorted({spec.learning_rate for spec in specs})
        assert len(specs) == 15
        assert [rate / rates[0] for rate in rates] == pytest.approx([1, 2, 4, 8, 16])
        assert rates[2] == pytest.approx(0.3 / (1 + 64 / size), rel=0.1)


def test_all_runs_share_the_data_set_and_nothing_bends_their_steps(by_size: dict[int, list[RunSpec]]) -> None:
    specs = [spec for own in by_size.values() for spec in own]
    assert {spec.split_seed for spec in specs} == {0}
    assert {spec.optimizer.options["momentum"] for spec in specs} == {0.0}
    assert all(len(spec.phases) == 1 and spec.weight_decay == 0 and spec.clip_norm is None and not spec.crop_padding for spec in specs)


def test_two_evaluations_around_a_passage_are_close_to_each_other(by_size: dict[int, list[RunSpec]]) -> None:
    for specs in by_size.values():
        updates = evaluation_updates(specs[0].batches, specs[0].evaluations)
        after = next(update for update in updates if update >= PASSAGE * specs[0].updates)
        before = updates[updates.index(after) - 1]
        assert after - before <= max(1.0, 0.022 * after) + 1  # a whole update is the least
