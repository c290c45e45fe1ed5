"""The folder of a run: it exists only when its outcome does, and holds the run that its name says."""

from __future__ import annotations

import json

import pytest

from gapbench.core.errors import StoreError
from gapbench.core.events import Outcome
from gapbench.store import CheckpointHeader, commit, read_header, read_payload, recover, write_checkpoint


@pytest.fixture
def one(results, build):
    planned = build.run()
    run = results.run(planned.run_id)
    return run, planned


def test_a_run_is_skipped_then_interrupted_then_what_its_outcome_says(one, build):
    run, planned = one
    assert run.state() is Outcome.SKIPPED
    build.finish(run, planned)
    assert run.state() is Outcome.INTERRUPTED
    assert run.updates_done() == 10
    run.write_outcome(build.outcome(Outcome.DIVERGED))
    assert run.state() is Outcome.DIVERGED


def test_an_outcome_comes_back_as_it_was(one, build):
    run, _ = one
    outcome = build.outcome(replicas=8)
    run.write_outcome(outcome)
    read = run.outcome()
    assert (read.outcome, read.test_correct, read.replicas, read.finished_at) == (Outcome.OK, b"\xf0\x01", 8, outcome.finished_at)
    assert read.summary["test_accuracy"] == 0.9
    assert float(read.summary["train_loss"]) == float("inf")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"outcome": "ok"}', '{"outcome": "interrupted"}', "null"])
def test_a_damaged_outcome_is_none(one, text):
    run, planned = one
    run.begin(planned.spec)
    (run.path / "outcome.json").write_text(text)
    assert run.outcome() is None


def test_an_outcome_that_is_no_end_is_none(one, build):
    run, _ = one
    run.write_outcome(build.outcome(Outcome.INTERRUPTED))
    assert run.outcome() is None


def test_a_folder_with_another_runs_spec_is_an_error(one, build):
    run, planned = one
    run.begin(planned.spec)
    (run.path / "spec.json").write_text(build.spec(seed=1).model_dump_json())
    with pytest.raises(StoreError, match=f"does not hold run {planned.run_id}"):
        run.begin(planned.spec)


def test_what_changes_no_number_may_change_in_the_spec(one):
    run, planned = one
    run.begin(planned.spec)
    run.begin(planned.spec.model_copy(update={"evaluations": 3, "time_limit_seconds": 60.0}))
    assert run.spec().evaluations == 3


def test_beginning_removes_what_a_killed_process_left(one):
    run, planned = one
    run.begin(planned.spec)
    (run.path / ".outcome.json.123-0.tmp").write_bytes(b"half")
    run.begin(planned.spec)
    assert not list(run.path.glob("*.tmp"))
    assert not list(run.path.glob(".*.tmp"))


def test_every_start_is_a_session_of_its_own(one):
    run, planned = one
    run.begin(planned.spec)
    run.add_session({"threads": 1})
    run.add_session({"threads": 2})
    assert [session["threads"] for session in run.sessions()] == [1, 2]


def test_a_run_that_another_process_trains_is_locked(one):
    run, _ = one
    with run.locked(), pytest.raises(StoreError, match="another process is still training"):
        run.locked(timeout=0.0).__enter__()
    with run.locked():
        pass


def test_a_checkpoint_is_one_line_that_needs_no_torch_and_a_payload(tmp_path):
    path = tmp_path / "checkpoint.pt"
    header = CheckpointHeader(("a", "b"), 7, (10, 20), 1.5)
    write_checkpoint(path, header, lambda file: file.write(b"\x00\nbinary\n"))
    assert read_header(path) == header
    assert read_payload(path) == b"\x00\nbinary\n"


@pytest.mark.parametrize("content", [b"", b"\x80\x02", b"{}\n", b'{"format": "gapbench-checkpoint", "stack": [], "event_bytes": []}\n'])
def test_a_damaged_checkpoint_is_none(tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    assert read_header(tmp_path / "checkpoint.pt") is None


@pytest.fixture
def stack(results, build):
    members = [build.run(seed=seed) for seed in range(3)]
    runs = [results.run(member.run_id) for member in members]
    for run, member in zip(runs, members, strict=True):
        build.finish(run, member)
    write_checkpoint(runs[0].checkpoint_path, CheckpointHeader(tuple(run.run_id for run in runs), 5, (1, 1, 1), 1.0), lambda _: None)
    return runs


def test_committing_a_stack_writes_all_outcomes_and_removes_its_checkpoint(stack, build):
    commit({run: build.outcome() for run in stack})
    assert [run.state() for run in stack] == [Outcome.OK] * 3
    assert not stack[0].checkpoint_path.exists()
    assert not stack[0].journal_path.exists()


def test_a_crashed_stack_keeps_its_checkpoint_for_those_who_want_to_look(stack, build):
    commit({run: build.outcome(Outcome.CRASHED) for run in stack})
    assert stack[0].checkpoint_path.exists()


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_kill_while_a_stack_is_committed_leaves_all_outcomes_or_none(results, stack, build, monkeypatch, written):
    outcomes = {run: build.outcome() for run in stack}
    original = type(stack[0]).write_outcome

    def die(run, outcome):
        if sum(other.outcome() is not None for other in stack) == written:
            raise SystemExit
        original(run, outcome)

    monkeypatch.setattr(type(stack[0]), "write_outcome", die)
    with pytest.raises(SystemExit):
        commit(outcomes)
    monkeypatch.undo()
    assert recover(results.runs_path) == 3 - written
    assert [run.state() for run in stack] == [Outcome.OK] * 3
    assert recover(results.runs_path) == 0


def test_a_kill_before_the_journal_is_whole_leaves_no_outcome(results, stack):
    stack[0].journal_path.write_text(json.dumps({"a": 1})[:-2])
    assert recover(results.runs_path) == 0
    assert [run.outcome() for run in stack] == [None] * 3
