"""Outcomes, cost and provenance, from plain records."""

from __future__ import annotations

from typing import Any

import pytest

from gapbench.analysis import arms_table
from gapbench.report.html.runs import cautions, costs, duration, facts, failures, outcome_counts, total_cost
from gapbench.store import Prediction
from tests.analysis import synthetic


def record(run_id: str, **changes: Any) -> dict[str, Any]:
    return {
        "run_id": run_id, "cell": "LB", "seed": 0, "outcome": "ok", "reason": "", "train_seconds": 2.0, "evaluation_seconds": 1.0,
        "other_seconds": 0.5, "peak_memory_mib": 100.0, "updates": 10, "started_at": "2026-01-01T10:00:00+00:00", "torch_version": "2.11.0",
        "git_commit": "a" * 40, "git_dirty": False, "precision": "fp32", **changes,
    }  # fmt: skip


def test_cost_adds_the_three_buckets_and_compares_only_what_was_predicted_and_ended_ok() -> None:
    rows = [record("a"), record("b", train_seconds=4.0), record("c", outcome="crashed", cell="SB")]
    predictions = {"a": Prediction(7.0, "rough"), "c": Prediction(1.0, "rough")}
    large, small = costs(rows, predictions)
    assert large.seconds == (6.0, 2.0, 1.0)
    assert large.total == 9.0
    assert (large.predicted, large.actual, large.compared) == (7.0, 3.5, 1)
    assert small.predicted is None
    assert total_cost(rows, predictions).total == 12.5


def test_a_run_that_two_cells_share_is_paid_once() -> None:
    rows = [record("a"), record("a", cell="another name")]
    assert total_cost(rows, {}).total == 3.5
    assert [cost.total for cost in costs(rows, {})] == [3.5, 3.5]


def test_runs_that_never_began_cost_nothing() -> None:
    idle = record("a", outcome="skipped", train_seconds=None, evaluation_seconds=None, other_seconds=None, peak_memory_mib=None)
    (cost,) = costs([idle], {})
    assert (cost.runs, cost.total, cost.memory_mib) == (0, 0.0, None)


def test_failures_have_their_reason_or_what_their_outcome_means() -> None:
    rows = [record("a"), record("b", outcome="diverged", reason="loss is infinite"), record("c", outcome="interrupted", reason=None)]
    said = [(one["outcome"], one["reason"]) for one in failures(rows)]
    assert said == [("diverged", "loss is infinite"), ("interrupted", "began and has not ended")]


def test_outcomes_are_counted_by_cell() -> None:
    runs, curves = synthetic.digits_suite(3, only=["SB", "LB"], diverged=[("LB", 1)])
    counts = outcome_counts(arms_table(runs, curves).panels)
    assert counts == [("SB", {"ok": 3, "diverged": 0}), ("LB", {"ok": 2, "diverged": 1})]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (0.84, "0.8 s"), (42.4, "42 s"), (59.7, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_mixtures_are_named_and_whether_cells_differ_in_them() -> None:
    runs, curves = synthetic.digits_suite(2, only=["SB", "LB"])
    table = arms_table(runs, curves)
    apart = [record("a", cell="SB"), record("b", torch_version="2.12.0")]
    (said,) = cautions(apart, table, [])
    assert (
        said == "Several versions of torch: 2.11.0 (1 run), 2.12.0 (1 run); cells differ in them, so a batch gap may hold a part of that."
    )
    alike = [record("a", cell=cell, torch_version=version) for cell in ("SB", "LB") for version in ("1", "2")]
    (said,) = cautions(alike, table, [])
    assert said.endswith("every cell has the same mixture.")
    assert cautions([record("a"), record("b", cell="SB")], table, []) == []


def test_uncommitted_changes_missing_seeds_and_late_clipping_are_said() -> None:
    runs, curves = synthetic.digits_suite(3, only=["SB", "LB"])
    runs = runs[~((runs["cell"] == "LB") & (runs["seed"] == 2))]
    runs.loc[runs["cell"] == "LB", "clipped_share_late"] = 0.034
    said = cautions([record("a", git_dirty=True), record("b")], arms_table(runs, curves), [])
    assert said[0] == "LB was not planned for seed 2, which other cells have."
    assert "1 of 2 runs were trained from a checkout with uncommitted changes" in said[1]
    assert "clipped in 3.4 %" in said[2]


def test_what_older_results_did_not_record_is_said_and_not_guessed() -> None:
    old = record("a")
    del old["git_dirty"]
    said = dict(facts([old]))
    assert said["uncommitted changes"] == "not recorded"
    assert said["commit"] == "a" * 12
    assert said["started, UTC"] == "2026-01-01 10:00"
