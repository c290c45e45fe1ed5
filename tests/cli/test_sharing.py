"""compare, merge and export at the command line: what they say, what they write, and with which status they end."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gapbench.core.events import Outcome
from gapbench.store import RunDirectory


@pytest.fixture
def twice(call, suite):
    """The same suite trained on two machines: results/small and other/small."""
    call("run", suite)
    call("run", suite, "--results", "other")


def change(run: Path, **summary: object) -> None:
    folder = RunDirectory(run, run.name)
    outcome = folder.outcome()
    folder.write_outcome(replace(outcome, summary={**outcome.summary, **summary}))


def test_equal_results_compare_without_regression(call, twice):
    result = call("compare", "small", "other/small", "--fail-on", "regression", "--fail-on", "difference")
    assert "identical" in result.stdout
    assert "A: small (suite small, 4 of 4 runs ok)" in result.stdout
    assert result.stderr.splitlines() == ["no regression", "no difference"]


def test_a_regression_fails_and_says_where_only_when_it_is_asked_for(call, twice):
    for run in sorted(Path("other/small/runs").glob("*b512*")):
        folder = RunDirectory(run, run.name)
        folder.write_outcome(replace(folder.outcome(), outcome=Outcome.DIVERGED, reason="the loss was not finite"))
    assert "2 runs are ok in A, diverged in B (the loss was not finite)" in call("compare", "small", "other/small").stdout
    result = call("compare", "small", "other/small", "--fail-on", "regression", code=1)
    assert "regression: LB: 2 runs are ok in A, diverged in B" in result.stderr
    call("compare", "other/small", "small", "--fail-on", "regression")
    call("compare", "other/small", "small", "--fail-on", "difference", code=1)


def test_a_comparison_is_written_as_csv_and_never_over_a_file(call, refused, twice):
    assert "written: c.csv" in call("compare", "small", "other/small", "--csv", "c.csv").stdout
    assert Path("c.csv").read_text().startswith("cell,in,")
    assert "exists already" in refused("compare", "small", "other/small", "--csv", "c.csv")


def test_a_paper_can_be_compared_with(call, twice):
    text = call("compare", "published:hoffer2017", "small").stdout
    assert "only in B: SB, LB" in text
    assert "nothing to compare" in text


def test_merge_says_what_came_from_where_and_what_differs(call, twice):
    run = sorted(Path("other/small/runs").iterdir())[0]
    change(run, test_accuracy=0.5)
    text = call("merge", "small", "other/small", "--into", "both").stdout
    assert "both: 4 runs: 4 from results/small, 0 from other/small" in text
    assert "3 runs with exactly equal numbers" in text
    assert f"not the same: {run.name}: results/small: ok, test accuracy" in text
    assert "kept that of results/small" in text
    assert "SB" in call("report", "both").stdout


def test_merge_says_how_to_go_on_where_something_is_left(call, suite):
    call("run", suite, "--only", "arm=SB")
    call("run", suite, "--only", "arm=SB,seed=0", "--results", "other")
    text = call("merge", "small", "other/small", "--into", "both/small").stdout
    assert "2 runs left: `gapbench run` with the suite file and --results both trains them" in text
    text = call("merge", "small", "other/small", "--into", "all").stdout
    assert "2 runs left: rename it to small, then `gapbench run` with the suite file and --results . trains them" in text
    call("run", suite, "--results", "both")
    assert "left" not in call("merge", "both/small", "small", "--into", "whole").stdout


def test_merge_never_writes_over_anything(refused, twice):
    Path("both").mkdir()
    assert "exists already" in refused("merge", "small", "other/small", "--into", "both")


def test_merge_needs_a_target(call, twice):
    assert "--into" in call("merge", "small", "other/small", code=2).stderr


def test_export_says_what_it_wrote(call, twice):
    text = call("export", "small", "--csv", "csv", "--latex", "arms.tex").stdout
    assert text.splitlines() == ["csv: runs.csv, curves.csv and arms.csv", "arms.tex: a table of 2 cells"]


def test_export_without_tensorboard_says_how_to_get_it_and_writes_nothing(refused, twice, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert "pip install 'gapbench[tensorboard]'" in refused("export", "small", "--csv", "csv", "--tensorboard", "events")


def test_help_defines_what_fails(call):
    text = " ".join(call("compare", "--help").stdout.split())
    for words in ("separated below", "ok in A and not in B", "missing in B", "environment"):
        assert words in text
