"""A cell is its effective values: what a label says does not count, and what differs is said as people write it."""

from __future__ import annotations

import pytest

from gapbench.suite.identity import MIXED, differing, run_id, values_by_cell, values_of
from gapbench.suite.runspec import Component, Labels, PlannedRun


def planned(spec, cell="SB", **changes):
    one = spec(**changes)
    return PlannedRun(run_id=run_id(one), spec=one, labels=Labels(suite="s", cell=cell))


def test_runs_that_differ_only_in_their_seeds_have_the_same_values(spec):
    assert values_of(spec(seed=0)) == values_of(spec(seed=3, split_seed=3))
    assert values_of(spec(init_seed=4)) == values_of(spec(order_seed=5))


@pytest.mark.parametrize(
    ("changes", "key", "texts"),
    [
        ({"learning_rate": 0.2}, "learning_rate", ("0.1", "0.2")),
        ({"ghost_batch_size": 10}, "ghost_batch_size", ("off", "10")),
        ({"weight_decay": 0.0}, "weight_decay", ("0.001", "0.0")),
        ({"norm_momentum": None}, "norm_momentum", ("0.1", "not set")),
        ({"precision": "bf16"}, "precision", ("fp32", "bf16")),
        (
            {"model": Component(name="mlp", options={"widths": [16, 8], "norm": "batch", "bias": False})},
            "model.widths",
            ("[16,16]", "[16,8]"),
        ),
        (
            {"model": Component(name="mlp", version=2, options={"widths": [16, 16], "norm": "batch", "bias": False})},
            "model.version",
            ("1", "2"),
        ),
    ],
)
def test_what_differs_is_named_with_both_values(spec, changes, key, texts):
    first, second = values_of(spec()), values_of(spec(**changes))
    assert differing(first, second) == {key: texts}
    assert differing(second, first) == {key: texts[::-1]}


def test_what_changes_no_number_is_no_difference(spec):
    assert differing(values_of(spec()), values_of(spec(evaluations=3, time_limit_seconds=5.0, probes=("weight_norm",)))) == {}


def test_equal_ids_have_equal_values_and_equal_values_and_seeds_equal_ids(spec):
    variants = [spec(learning_rate=rate, ghost_batch_size=ghost) for rate in (0.1, 0.2) for ghost in (None, 10)]
    for one in variants:
        for other in variants:
            assert (run_id(one) == run_id(other)) == (values_of(one) == values_of(other))


def test_a_cell_whose_override_touches_one_seed_says_so(spec):
    runs = [planned(spec, seed=0, learning_rate=0.3), planned(spec, seed=1), planned(spec, "LB", seed=0)]
    values = values_by_cell(runs)
    assert values["SB"][MIXED] == ['{"learning_rate":0.1}', '{"learning_rate":0.3}']
    assert differing(values["LB"], values["SB"])[MIXED][0] == "the same for all seeds"
    assert "batch_size" in values["SB"]
