"""The last lines of a log are what a person would look at: of the last start, without control codes and bookkeeping."""

from __future__ import annotations

import pytest

from gapbench.core.events import Outcome
from gapbench.store import RunOutcome, last_lines, read_failure, stack_line, start_line
from gapbench.store.run_directory import MAXIMUM_LINE, TAIL_BYTES

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
    assert tail('  File "x.py", line 1\n    f(x)\n    ^^^^\n    ~~^~~\nValueError: no\n') == (
        '  File "x.py", line 1',
        "    f(x)",
        "ValueError: no",
    )


def test_any_bytes_and_any_length_are_fit_to_print(tail):
    lines = tail(b"\xff\xfe\x00broken\n" + b"x" * 2 * TAIL_BYTES)
    assert len(lines) == 1
    assert len(lines[0]) == MAXIMUM_LINE
    assert tail(b"\xff\xfe\x00broken\n")[0].endswith("broken")


def test_without_a_log_there_are_no_lines(tmp_path):
    assert last_lines(tmp_path / "log.txt") == ()


def test_a_failure_knows_its_reason_and_its_log(results, build, planned):
    (run,) = planned(build.run())
    folder = results.run(run.run_id)
    assert read_failure(folder) is None
    build.finish(folder, run, RunOutcome(Outcome.CRASHED, "ValueError: no"))
    folder.append_log("Traceback\nValueError: no")
    failure = read_failure(folder)
    assert (failure.outcome, failure.reason, failure.log) == (Outcome.CRASHED, "ValueError: no", folder.log_path)
    assert failure.last_lines == ("Traceback", "ValueError: no")
    folder.write_outcome(build.outcome())
    assert read_failure(folder) is None
