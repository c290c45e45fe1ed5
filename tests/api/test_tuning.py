"""`api.tune` as a whole, with a worker whose accuracies have a best learning rate: rounds, resuming, price, the suite that comes out."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gapbench import api
from gapbench.api.planning import TooLongError
from gapbench.core.errors import GapbenchError, StoreError, SuiteError
from gapbench.core.events import Outcome
from gapbench.execution import Ended, Said, Tracker, executor
from gapbench.execution.notices import JobStarted
from gapbench.report.tuning import TuningFiles
from gapbench.suite import load_suite

SUITE = """
schema = 1
name = "small"
[run]
recipe = "digits"
epochs = 2
split_seed = 0
[grid]
seed = [0, 1]
[[arm]]
label = "SB"
batch_size = 16
[[arm]]
label = "LB"
batch_size = 64
[[arm]]
label = "LB+LR"
batch_size = 64
regime = "sqrt-lr"
[tune]
trials = 5
folds = 2
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Decoded data, shared by the tests here."""
    return tmp_path_factory.mktemp("cache")


def enter(patch: pytest.MonkeyPatch, folder: Path, cache: Path) -> Path:
    """Writes the suite into a folder and goes there. Its best rates are 0.1 at batch 16 and 6.4 at batch 64: beyond its grid."""
    patch.chdir(folder)
    patch.setenv("GAPBENCH_CACHE", str(cache))
    patch.setenv("FAKE_BEST", json.dumps({"16": 0.1, "64": 6.4}))
    patch.setattr(executor, "WORKER_COMMAND", (sys.executable, str(Path(__file__).parents[1] / "tuning" / "fake_trials.py")))
    patch.setattr("gapbench.report.tuning.write_figures", lambda *_: ((), {}))
    path = folder / "small.toml"
    path.write_text(SUITE, encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    """A suite that is not tuned yet."""
    return enter(monkeypatch, tmp_path, cache)


@dataclass(frozen=True)
class Once:
    """A search that was watched from its beginning to its end."""

    folder: Path
    report: api.TuneReport
    notices: list[Any]
    plan: api.TuningPlan
    announced: list[api.TuningPlan]


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Once]:
    """Tunes once for all tests that only look."""
    folder = tmp_path_factory.mktemp("once")
    with pytest.MonkeyPatch.context() as patch:
        path = enter(patch, folder, cache)
        plan = api.plan_tuning(path)
        assert not Path("results").exists()
        notices: list[Any] = []
        announced: list[api.TuningPlan] = []
        report = api.tune(path, announce=announced.append, observe=notices.append)
        yield Once(folder, report, notices, plan, announced)


@pytest.fixture
def done(once: Once, suite: Path) -> Path:
    """A copy of that search: its directory of trials; the tuned suite stands beside the suite."""
    shutil.copytree(once.folder / "results", "results")
    shutil.copy(once.folder / "small-tuned.toml", suite.with_name("small-tuned.toml"))
    return Path("results/small.tune")


def said(notices: list[Any]) -> list[str]:
    return [notice.text for notice in notices if isinstance(notice, Said)]


def test_every_cell_gets_its_best_rate_after_as_many_trials_as_any_other(once: Once) -> None:
    assert once.report.exit_status == 0
    found = {cell.title: cell for cell in once.report.cells}
    assert {title: cell.rate for title, cell in found.items()} == {"SB": 0.1, "LB = LB+LR": 6.4}
    assert {cell.trials for cell in found.values()} == {11}
    assert all(cell.interior for cell in found.values())
    assert [text.split(":")[0] for text in said(once.notices)] == [
        "round 1, grid", "round 2, extension 1", "round 3, extension 2", "round 4, refinement", "round 5, check"
    ]  # fmt: skip
    accuracy = found["SB"].accuracy
    assert accuracy is not None
    assert accuracy.n == 3
    assert found["SB"].near == (0.1, 0.1)  # 0.4 pp at a rate half a step away are more than luck


def test_the_tuned_suite_extends_the_old_one_and_its_cells_train_at_the_best_rates_on_the_whole_training_set(
    done: Path, suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gapbench.report.drawings", lambda _: {})
    tuned = load_suite(suite.with_name("small-tuned.toml"))
    assert tuned.name == "small-tuned"
    assert {(run.labels.cell, run.spec.learning_rate, run.labels.learning_rate_rule) for run in tuned.runs} == {
        ("SB", 0.1, "tuned"), ("LB", 6.4, "tuned"), ("LB+LR", 6.4, "tuned")
    }  # fmt: skip
    assert {(run.spec.holdout, run.spec.fold, run.spec.test_evaluation, run.spec.train_examples) for run in tuned.runs} == {
        (0.0, 0, True, 900)
    }
    assert [run.labels.reference_cell for run in tuned.runs] == [run.labels.reference_cell for run in load_suite(suite).runs]
    finished = api.run(suite.with_name("small-tuned.toml"))
    assert set(finished.outcomes.values()) == {Outcome.OK}
    assert "tuned" in finished.frame()["learning_rate_rule"].unique()


def test_trials_are_stored_as_runs_and_their_tables_hold_no_test_number(done: Path) -> None:
    runs = pd.read_parquet(done / "runs.parquet")
    assert not [name for name in runs.columns if name.startswith("test")]
    assert {"validation_accuracy", "validation_loss"} <= set(runs.columns)
    assert {cell.rpartition(", rate ")[0] for cell in runs["cell"]} == {"SB", "LB = LB+LR"}
    assert len(runs) == 2 * (11 * 2 + 5 * 3 * 2)
    assert not [path for path in (done / "tables").iterdir() if "test_accuracy" in path.read_text(encoding="utf-8")]
    for path in (done / "runs").glob("*/outcome.json"):
        outcome = json.loads(path.read_text(encoding="utf-8"))
        assert not [name for name in outcome["summary"] if "test" in name]


def test_whatever_is_lost_tuning_again_decides_the_same(done: Path, suite: Path) -> None:
    target = suite.with_name("small-tuned.toml")
    text, table = target.read_text(encoding="utf-8"), (done / "tables" / "tuning.csv").read_text(encoding="utf-8")
    folders = [folder for folder in sorted((done / "runs").iterdir()) if folder.is_dir()]
    chance = random.Random(0)
    for share in (0.05, 0.5):
        for folder in folders:
            if chance.random() <= share:
                shutil.rmtree(folder)
        target.unlink()
        assert api.tune(suite).suite_file == target
        assert target.read_text(encoding="utf-8") == text
        assert (done / "tables" / "tuning.csv").read_text(encoding="utf-8") == table


def test_an_interrupted_search_goes_on_and_comes_to_the_same_end(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gapbench.execution.scheduler import Scheduler

    original, ended = Scheduler.execute, []

    def interrupted(self: Scheduler, pending: Any, **more: Any) -> Any:
        done = original(self, pending[: len(pending) // 2 + 1], **more)
        ended.append(done)
        return type(done)(**{**vars(done), "interrupted": len(ended) in (1, 3)})

    monkeypatch.setattr(Scheduler, "execute", interrupted)
    results = [api.tune(suite)]
    while results[-1].suite_file is None:
        results.append(api.tune(suite))
        assert len(results) < 40
    assert results[0].exit_status == 130
    assert results[0].files is None
    cut_short = results[-1].suite_file
    assert cut_short is not None
    text = cut_short.read_text(encoding="utf-8")
    monkeypatch.setattr(Scheduler, "execute", original)
    whole = api.tune(suite, results="elsewhere", output="whole.toml").suite_file
    assert whole is not None
    assert whole.read_text(encoding="utf-8") == text


@pytest.mark.usefixtures("done")
def test_the_same_command_again_trains_nothing(suite: Path) -> None:
    notices: list[Any] = []
    api.tune(suite, output="again.toml", observe=notices.append)
    assert notices == []
    assert api.plan_tuning(suite).runs_at_most == 0


def test_a_file_that_is_there_is_never_written_over_and_nothing_trains(suite: Path) -> None:
    target = suite.with_name("small-tuned.toml")
    target.write_text("mine", encoding="utf-8")
    with pytest.raises(StoreError, match=r"small-tuned\.toml: exists already and is not written over; name another file with --output"):
        api.tune(suite)
    assert target.read_text(encoding="utf-8") == "mine"
    assert not Path("results").exists()
    with pytest.raises(StoreError, match="there is no folder"):
        api.tune(suite, output="nowhere/tuned.toml")


def test_the_plan_says_what_is_left_and_what_it_may_come_to_at_most(once: Once) -> None:
    plan = once.plan
    assert (plan.round, plan.runs) == ("grid", 2 * 5 * 2)
    assert plan.runs_at_most == 2 * (5 + 8 + 2) * (2 + 3 * 2)  # every rate may come to be checked
    assert [(cell.title, cell.lowest, cell.highest, cell.points, cell.held_out) for cell in plan.cells] == [
        ("SB", 0.025, 0.4, 5, 180), ("LB = LB+LR", 0.1, 1.6, 5, 180)
    ]  # fmt: skip
    assert 0 < plan.device_seconds < plan.device_seconds_at_most
    assert [one.runs_at_most for one in once.announced] == [plan.runs_at_most]


def test_a_limit_of_device_hours_counts_every_extension(suite: Path) -> None:
    plan = api.plan_tuning(suite)
    between = (plan.device_seconds + plan.device_seconds_at_most) / 2 / 3600
    with pytest.raises(TooLongError, match=r"up to .* device hours .*give \[tune\] fewer trials"):
        api.tune(suite, max_device_hours=between)
    with pytest.raises(GapbenchError, match="a number of at least 0"):
        api.tune(suite, max_device_hours=-1.0)
    assert not Path("results").exists()


def test_nothing_is_decided_on_trials_that_crashed(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_BEHAVIOR", json.dumps({"1000": "raise"}))
    report = api.tune(suite)
    assert report.exit_status == 1
    assert report.suite_file is None
    assert report.tuned is not None
    assert report.tuned.rounds == ("grid",)
    assert report.tuned.failed == 20
    assert len(report.failed) == 20
    assert all(cell.best is None for cell in report.cells)
    monkeypatch.delenv("FAKE_BEHAVIOR")
    assert api.tune(suite).exit_status == 1  # it stays what it is until it is retried
    assert api.tune(suite, retry=True).exit_status == 0


def test_a_cell_that_diverges_everywhere_is_said_and_no_suite_is_written(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_BEST", json.dumps({"16": 0.1, "64": 1e-9}))
    report = api.tune(suite)
    assert report.exit_status == 1
    found = {cell.title: cell for cell in report.cells}
    assert found["LB = LB+LR"].best is None
    assert found["LB = LB+LR"].diverged == found["LB = LB+LR"].trials == 13
    assert found["SB"].trials == 15  # with the two of the refinement
    assert found["SB"].rate == 0.1
    assert not suite.with_name("small-tuned.toml").exists()


def test_an_optimum_beyond_the_reach_is_written_and_said(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_BEST", json.dumps({"16": 0.1, "64": 1e6}))
    report = api.tune(suite)
    assert report.exit_status == 0
    assert {cell.title: cell.interior for cell in report.cells} == {"SB": True, "LB = LB+LR": False}
    assert report.suite_file is not None
    assert "LB = LB+LR: the best rate is the highest that was tried" in report.suite_file.read_text(encoding="utf-8")
    assert "At the edge of what was tried" in (report.results / "tables" / "tuning.md").read_text(encoding="utf-8")


def test_splits_that_every_seed_draws_cannot_be_tuned_because_one_seeds_test_set_trains_another(suite: Path) -> None:
    suite.write_text(SUITE.replace("split_seed = 0\n", ""), encoding="utf-8")
    with pytest.raises(SuiteError, match=r"every seed draws its own test set here.*split_seed = 0"):
        api.tune(suite)
    assert api.plan_tuning(suite, settings={"split_seed": "0"}).suite.startswith("small+")


def test_what_report_writes_of_trials_is_a_function_of_the_tables_also_before_the_end(done: Path, once: Once) -> None:
    files = api.report(done)
    assert isinstance(files, TuningFiles)
    assert files.tuned == once.report.tuned
    for folder in sorted((done / "runs").iterdir())[::3]:
        shutil.rmtree(folder)
    partial = api.report(done)
    assert isinstance(partial, TuningFiles)
    assert not partial.tuned.complete
    assert all(cell.best is None for cell in partial.tuned.cells)
    assert "The search is not finished" in (done / "tables" / "tuning.md").read_text(encoding="utf-8")


def test_trials_cannot_be_compared_as_if_they_were_results(done: Path) -> None:
    with pytest.raises(StoreError, match="trials of `gapbench tune`, which have no test numbers"):
        api.compare(done, done)
    assert api.status(done).state == "done"


def test_every_round_ends_and_begins_anew_for_those_who_watch(once: Once) -> None:
    tracker, seen = Tracker(), []
    for notice in once.notices:
        tracker.take(notice)
        if isinstance(notice, Ended):
            seen.append((tracker.runs_ended, tracker.runs))
    assert seen == [(20, 20), (8, 8), (8, 8), (8, 8), (60, 60)]


def test_a_stack_of_trials_is_named_by_its_cells_and_its_size(once: Once) -> None:
    titles = {notice.title for notice in once.notices if isinstance(notice, JobStarted)}
    assert any(title.startswith("SB × ") for title in titles)


def test_a_notebook_shows_what_was_found(once: Once, done: Path) -> None:
    assert "SB: 0.1" in repr(once.report)
    assert "<table" in once.report._repr_html_()
    assert once.plan.frame()["runs"].tolist() == [10, 10]
    assert list(api.figures(done)) == ["learning_rate"]
