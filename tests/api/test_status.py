"""Status from files alone: of what trains elsewhere, of what was killed, of what is half written."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gapbench import api
from gapbench.core.errors import StoreError
from gapbench.core.events import Measured, Outcome
from gapbench.store import (
    CheckpointHeader,
    EventLog,
    ResultsDirectory,
    RunOutcome,
    SessionJob,
    StoredPlan,
    build_tables,
    write_checkpoint,
    write_session,
)
from gapbench.suite import load_suite
from tests.small import make_session


class Results:
    """A results directory in which nothing has trained yet, and what can happen to it."""

    def __init__(self, suite: Path) -> None:
        self.suite = load_suite(suite)
        self.path = suite.parent / "results" / "small"
        with ResultsDirectory.create(self.path, "small") as directory:
            directory.write_plan(StoredPlan("small", self.suite.runs), self.suite.resolved_toml())
        self.directory = ResultsDirectory.open_existing(self.path)

    def run(self, cell: str, seed: int):
        (run_id,) = [run.run_id for run in self.suite.runs if run.labels.cell == cell and run.spec.seed == seed]
        return self.directory.run(run_id)

    def begin(self, cell: str, seed: int, *updates: int):
        run = self.run(cell, seed)
        run.path.mkdir(parents=True, exist_ok=True)
        with closing(EventLog(run.events_path, 0)) as log:
            for update in updates:
                log.append(Measured(0, update, update, (("test_accuracy", "", 0.5),)))
        return run

    def end(self, cell: str, seed: int, outcome: Outcome = Outcome.OK, reason: str = "", update: int = 6) -> None:
        self.begin(cell, seed).write_outcome(RunOutcome(outcome, reason, update, {"test_accuracy": 0.9}))

    def session(self, *jobs: SessionJob, age: float = 0.0, **changes) -> None:
        write_session(self.path, make_session(**{"host": platform.node(), "jobs": jobs, **changes}))
        path = self.path / "session.json"
        os.utime(path, (path.stat().st_mtime - age,) * 2)

    def status(self) -> api.Status:
        return api.status(self.path)

    def of(self, cell: str, seed: int) -> api.RunStatus:
        (found,) = [run for run in self.status().runs if run.run_id == self.run(cell, seed).run_id]
        return found


@pytest.fixture
def results(suite):
    return Results(suite)


def test_what_never_began_waits(results):
    status = results.status()
    assert (status.state, status.in_use, status.lost, status.session) == ("stopped", False, False, None)
    cells = [(cell.cell, cell.waiting, cell.done, cell.failed, cell.training) for cell in status.cells]
    assert cells == [("SB", 2, 0, 0, 0), ("LB", 2, 0, 0, 0)]


def test_outcomes_are_counted_and_failures_have_reasons_and_logs(results):
    results.end("LB", 0)
    results.end("LB", 1, Outcome.CRASHED, "ValueError: a hole", update=3)
    results.run("LB", 1).append_log("Traceback\nValueError: a hole")
    status = results.status()
    assert [(cell.done, cell.failed, cell.waiting) for cell in status.cells] == [(0, 0, 2), (1, 1, 0)]
    (failed,) = status.failed
    assert (failed.cell, failed.seed, failed.failure.reason) == ("LB", 1, "ValueError: a hole")
    assert failed.failure.log == results.run("LB", 1).log_path
    assert status.retriable == 1
    assert results.of("LB", 0).test_accuracy == 0.9
    assert results.of("LB", 1).test_accuracy is None


def test_when_every_run_has_an_outcome_it_is_done(results):
    for cell in ("SB", "LB"):
        for seed in (0, 1):
            results.end(cell, seed)
    status = results.status()
    assert (status.state, status.seconds_left) == ("done", 0.0)


def test_events_and_checkpoints_say_how_far_a_run_is_and_a_stack_s_checkpoint_counts_for_all(results):
    leader, other = results.begin("SB", 0, 1, 7), results.begin("SB", 1, 1)
    assert (results.of("SB", 0).update, results.of("SB", 1).update) == (7, 1)
    header = CheckpointHeader((leader.run_id, other.run_id), 50, (0, 0), 1.0)
    write_checkpoint(leader.checkpoint_path, header, lambda file: None)
    assert (results.of("SB", 0).update, results.of("SB", 1).update) == (50, 50)
    assert results.of("SB", 1).outcome is Outcome.INTERRUPTED
    assert not results.of("SB", 1).training


@pytest.mark.parametrize("torn", [b'{"update": 9, "exam', b'{"update": 9}\n', b"\x00\x00\n", b"\xff", b"{}\n{"])
def test_a_line_that_is_being_written_is_not_read(results, torn):
    run = results.begin("SB", 0, 1, 5)
    with run.events_path.open("ab") as file:
        file.write(torn)
    assert results.of("SB", 0).update == 5


@pytest.mark.parametrize("text", ["", '{"outcome": "ok", "rea', "null"])
def test_an_outcome_that_is_no_outcome_is_none_yet(results, text):
    (results.begin("SB", 0, 5).path / "outcome.json").write_text(text)
    assert results.of("SB", 0).outcome is Outcome.INTERRUPTED


def test_while_it_trains_the_session_says_how_far_the_jobs_are(results):
    runs = (results.begin("SB", 0, 1).run_id, results.begin("SB", 1, 1).run_id)
    results.session(SessionJob("SB × 2", runs, 40, 112, 0.8, 5.0), age=10.0)
    with results.directory.locked():
        status = results.status()
        assert (status.state, status.in_use) == ("training", True)
        assert [(cell.training, cell.waiting) for cell in status.cells] == [(2, 0), (0, 2)]
        assert status.seconds_left == pytest.approx(90.0, abs=3.0)
        run = results.of("SB", 1)
        assert (run.training, run.update, run.test_accuracy) == (True, 40, 0.8)


def test_a_run_that_has_just_ended_does_not_train_any_more(results):
    results.end("SB", 0)
    results.session(SessionJob("SB seed 0", (results.run("SB", 0).run_id,), 40, 112, 0.8, 5.0))
    with results.directory.locked():
        assert not results.of("SB", 0).training
        assert results.status().cells[0].training == 0


def test_killed_on_this_machine_is_stopped_at_once_and_says_how_to_go_on(results):
    results.session(SessionJob("SB", (results.begin("SB", 0, 3).run_id,), 40, 112, 0.8, 5.0))
    status = results.status()
    assert (status.state, status.lost, status.seconds_left) == ("stopped", True, 100.0)
    assert status.session.command == "gapbench run small.toml"
    assert not any(run.training for run in status.runs)
    assert results.of("SB", 0).update == 3  # what the session saw after the checkpoint is lost


@pytest.mark.parametrize(("age", "state", "lost"), [(5.0, "training", False), (500.0, "stopped", True)])
def test_on_another_machine_its_sign_of_life_counts(results, age, state, lost):
    results.session(host="elsewhere", age=age)
    status = results.status()
    assert (status.state, status.lost) == (state, lost)


@pytest.mark.parametrize("state", ["ended", "interrupted"])
def test_after_its_end_a_session_is_no_sign_of_life(results, state):
    results.session(host="elsewhere", state=state)
    status = results.status()
    assert (status.state, status.lost) == ("stopped", False)


def test_a_session_that_is_stopping_or_making_tables_says_so(results):
    results.session(state="stopping")
    with results.directory.locked():
        assert results.status().state == "stopping"
        results.session(state="ended")
        assert results.status().state == "finishing"


def test_a_damaged_session_is_as_good_as_none(results):
    (results.path / "session.json").write_text('{"state": "trai')
    assert results.status().session is None


def test_looking_writes_nothing(results):
    results.begin("SB", 0, 1)
    (results.path / ".lock").unlink(missing_ok=True)
    before = {path: path.stat().st_mtime_ns for path in results.path.rglob("*")}
    results.status()
    assert {path: path.stat().st_mtime_ns for path in results.path.rglob("*")} == before


def test_a_look_at_the_lock_does_not_have_a_start_refused(results):
    """A start waits a moment for the lock, because whoever looks holds it for an instant."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom gapbench.store import ResultsDirectory\n"
        f"with ResultsDirectory.open_existing(Path({str(results.path)!r})).locked():\n"
        "    print('held', flush=True)\n    time.sleep(0.3)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with ResultsDirectory.create(results.path, "small"):
            pass


def test_as_json_has_every_number_and_is_strict(results):
    results.end("LB", 1, Outcome.DIVERGED, "not finite")
    results.session(host="elsewhere")
    content = json.loads(json.dumps(results.status().as_json(), allow_nan=False))
    assert (content["format"], content["suite"], content["state"]) == (1, "small", "training")
    assert [content[name] for name in ("runs", "done", "failed", "training", "waiting")] == [4, 0, 1, 0, 3]
    assert content["failed_list"][0]["reason"] == "not finite"
    assert [run["outcome"] for run in content["run_list"]].count("skipped") == 3
    assert content["cells"][1]["outcomes"] == {"skipped": 1, "diverged": 1}
    assert [content["cells"][1][name] for name in ("done", "failed", "training", "waiting")] == [0, 1, 0, 1]
    assert sorted(run["state"] for run in content["run_list"]) == ["diverged", "waiting", "waiting", "waiting"]


def test_equal_runs_under_two_labels_count_once_but_in_each_cell(results):
    planned = [*results.suite.runs]
    labels = planned[-1].labels.model_copy(update={"cell": "the same", "arm": "the same"})
    planned.append(planned[-1].model_copy(update={"labels": labels}))
    results.directory.write_plan(StoredPlan("small", tuple(planned)), "")
    results.end("LB", 1, Outcome.CRASHED, "x")
    status = results.status()
    assert len(status.runs) == 4
    assert len(status.failed) == 1
    assert [cell.failed for cell in status.cells] == [0, 1, 1]


def test_results_without_the_folders_of_their_runs_are_read_from_their_table(results, tmp_path):
    results.end("LB", 0)
    results.end("LB", 1, Outcome.DIVERGED, "not finite", update=3)
    with results.directory.locked():
        build_tables(results.directory)
    before = results.status()
    results.directory.runs_path.rename(tmp_path / "gone")
    after = results.status()
    assert after.cells == before.cells
    assert [run.test_accuracy for run in after.runs] == [run.test_accuracy for run in before.runs]
    assert [failed.failure.reason for failed in after.failed] == ["not finite"]


def test_an_archive_is_no_directory(results, tmp_path):
    (tmp_path / "results.tar.gz").write_bytes(b"")
    with pytest.raises(StoreError, match="gapbench report"):
        api.status(tmp_path / "results.tar.gz")


def test_status_imports_no_torch(results):
    code = f"import sys\nfrom gapbench import api\napi.status({str(results.path)!r})\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
