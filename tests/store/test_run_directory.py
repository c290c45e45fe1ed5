"""The folder of a run: it exists only when its outcome does, holds the run that its name says, its events and its log."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapbench.core.errors import StoreError
from gapbench.core.events import Measured, Outcome
from gapbench.store import (
    CheckpointHeader,
    EventLog,
    RunOutcome,
    commit,
    read_failure,
    read_payload,
    recover,
    stack_line,
    start_line,
    write_checkpoint,
)
from gapbench.store.files import to_json
from gapbench.store.run_directory import MAXIMUM_LINE, TAIL_BYTES, last_lines, last_update, read_events, read_header


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
def test_a_damaged_outcome_and_one_that_is_no_end_are_none(one, build, text):
    run, _ = one
    run.write_outcome(build.outcome(Outcome.INTERRUPTED))
    assert run.outcome() is None
    (run.path / "outcome.json").write_text(text)
    assert run.outcome() is None


def test_no_flipped_bit_of_an_outcome_changes_a_number(one, build):
    run, planned = one
    build.finish(run, planned, build.outcome())
    path = run.path / "outcome.json"
    whole, expected = path.read_bytes(), run.outcome()
    for place in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        read = run.outcome()
        assert read in (None, expected)  # white space may be another
        assert (read is None) == (run.damage() == "outcome.json is damaged")


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b + b"\n", lambda b: b.replace(b"0.5", b"0.7")])
def test_events_of_a_finished_run_that_are_not_what_was_written_are_damage(one, build, damage):
    run, planned = one
    build.finish(run, planned)
    assert run.damage() == ""
    run.write_outcome(build.outcome())
    assert run.damage() == ""
    run.events_path.write_bytes(damage(run.events_path.read_bytes()))
    assert run.damage() == "events.jsonl is damaged"
    run.events_path.unlink()
    assert run.damage() == "events.jsonl is damaged"


def test_outcomes_from_before_there_were_hashes_are_read_as_they_were(one, build):
    run, planned = one
    build.finish(run, planned)
    (run.path / "outcome.json").write_text(json.dumps(to_json(build.outcome().as_json())))
    assert run.outcome().summary["test_accuracy"] == 0.9
    run.events_path.write_bytes(b"")
    assert run.damage() == ""


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
    assert [path.name for path in run.path.iterdir()] == ["spec.json"]


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


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b"", lambda b: b[:-40] + bytes(40)])
def test_a_checkpoint_of_another_length_or_with_a_zeroed_end_is_refused(tmp_path, damage):
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, CheckpointHeader(("a",), 7, (10,), 1.5), lambda file: file.write(bytes(range(1, 100))))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="checksum"):
        read_payload(path)


def test_no_flipped_bit_of_a_checkpoint_is_read(tmp_path):
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, CheckpointHeader(("a",), 7, (10,), 1.5), lambda file: file.write(b"\x00\nbinary\n"))
    whole = path.read_bytes()
    for place in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="checksum"):
            read_payload(path)


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


# events.jsonl: what was measured survives as it was, and is cut exactly to a checkpoint.


def event(update: int, *values: float) -> Measured:
    return Measured(0, update, 10 * update, tuple((f"metric{index}", "", value) for index, value in enumerate(values)))


def write(path, *events, keep_bytes=0) -> int:
    with closing(EventLog(path, keep_bytes)) as log:
        for one in events:
            log.append(one)
        return log.sync()


@given(values=st.lists(st.floats(), max_size=4), update=st.integers(0, 2**40))
def test_events_come_back_as_they_were(tmp_path_factory, values, update):
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    write(path, event(update, *values))
    assert repr(list(read_events(path))) == repr([event(update, *values)])  # not by value: NaN equals nothing


def test_beginning_anew_cuts_everything_and_resuming_what_lies_behind_the_checkpoint(tmp_path):
    path = tmp_path / "events.jsonl"
    write(path, event(7, 0.7))
    size = write(path, event(1, 0.1), event(2, 0.2))
    write(path, event(3, 0.3), event(4, 0.4), keep_bytes=size)
    write(path, event(3, 0.5), keep_bytes=size)
    assert [one.update for one in read_events(path)] == [1, 2, 3]
    assert list(read_events(path))[-1] == event(3, 0.5)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file that is always full")
def test_a_full_disk_is_refused_in_words_by_events_and_log(tmp_path, results, build):
    (tmp_path / "events.jsonl").symlink_to("/dev/full")
    with (
        closing(EventLog(tmp_path / "events.jsonl", 0)) as log,
        pytest.raises(StoreError, match=r"events\.jsonl: cannot be written .*space"),
    ):
        log.append(event(1, 0.1))
    run = results.run(build.run().run_id)
    run.begin(build.spec())
    run.log_path.symlink_to("/dev/full")
    with pytest.raises(StoreError, match=r"log\.txt: cannot be written"):
        run.append_log("words")


def test_a_torn_last_line_ends_the_log(tmp_path):
    path = tmp_path / "events.jsonl"
    write(path, event(1, 0.1))
    with path.open("ab") as file:
        file.write(b'{"update":2,"examples":20,"val')
    assert [one.update for one in read_events(path)] == [1]
    assert last_update(path) == 1


def test_the_last_update_is_found_at_the_end_of_a_long_log(tmp_path):
    path = tmp_path / "events.jsonl"
    write(path, *(event(update, 0.5) for update in range(3000)))
    assert last_update(path) == 2999
    assert last_update(tmp_path / "missing.jsonl") is None
    assert list(read_events(tmp_path / "missing.jsonl")) == []


# log.txt: its last lines are those of the last start, without control codes and bookkeeping.

START = start_line("2026-01-01T00:00:00+00:00", 0, "cpu")
AGAIN = start_line("2026-01-01T01:00:00+00:00", 12, "cuda:0")


@pytest.fixture
def tail(tmp_path):
    def of(text, **more):
        path = tmp_path / "log.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return last_lines(path, **more)

    return of


def test_a_start_says_where_training_begins_or_goes_on():
    assert START == "[2026-01-01T00:00:00+00:00] begins at update 0 on cpu"
    assert AGAIN == "[2026-01-01T01:00:00+00:00] goes on after update 12 on cuda:0"


def test_only_what_was_printed_since_the_last_start_counts(tail):
    assert tail(f"{START}\nold\n{AGAIN}\n{stack_line('x')}\nnew\n\nnewer") == ("new", "newer")
    assert tail(f"{START}\nold\n{AGAIN}\n") == ()


def test_the_last_lines_are_taken(tail):
    assert tail("".join(f"line {number}\n" for number in range(100)), number=3) == ("line 97", "line 98", "line 99")


def test_control_codes_do_not_reach_a_terminal(tail):
    assert tail("\x1b[31mred\x1b[0m\x07\n\x1b]0;title\x07bell\n\x1b[2J\ttab") == ("red", "bell", "    tab")


def test_of_a_progress_bar_the_last_state_is_left(tail):
    assert tail("10 %\r50 %\r100 %\r\nnext\n") == ("100 %", "next")


def test_marks_under_the_lines_of_a_traceback_are_left_out(tail):
    lines = ['  File "x.py", line 1', "    f(x)", "    ^^^^", "    ~~^~~", "ValueError: no"]
    assert tail("\n".join(lines)) == (*lines[:2], lines[-1])


def test_any_bytes_and_any_length_are_fit_to_print(tail):
    lines = tail(b"\xff\xfe\x00broken\n" + b"x" * 2 * TAIL_BYTES)
    assert len(lines) == 1
    assert len(lines[0]) == MAXIMUM_LINE
    assert tail(b"\xff\xfe\x00broken\n")[0].endswith("broken")


def test_without_a_log_there_are_no_lines(tmp_path):
    assert last_lines(tmp_path / "log.txt") == ()


def test_a_failure_knows_its_reason_and_its_log(results, build, trained):
    assert read_failure(results.run(build.run().run_id)) is None
    _, folder = trained(RunOutcome(Outcome.CRASHED, "ValueError: no"))
    folder.append_log("Traceback\nValueError: no")
    failure = read_failure(folder)
    assert (failure.outcome, failure.reason, failure.log) == (Outcome.CRASHED, "ValueError: no", folder.log_path)
    assert failure.last_lines == ("Traceback", "ValueError: no")
    folder.write_outcome(build.outcome())
    assert read_failure(folder) is None
