"""Views say what is going on, on any width, in a terminal and without one."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable
from pathlib import Path

import pytest
from rich.console import Console

from gapbench import catalog
from gapbench.console import view, words
from gapbench.console.live import LineView, LiveView, begun_text, ended_text, job_text, overall_line, prediction_text
from gapbench.core.events import Outcome
from gapbench.execution import Begun, Ended, JobEnded, Notice, Said, Stopping, Tracker
from gapbench.execution.devices import cpu
from gapbench.execution.jobs import Slot
from gapbench.execution.notices import ExpectedJob, JobProgressed, JobStarted
from gapbench.store import Failure

JOBS = (ExpectedJob(("a", "b"), 40.0, 1.0, 0), ExpectedJob(("c",), 30.0, 1.0, 1), ExpectedJob(("d",), 30.0, 1.0, 1))
BEGUN = Begun(
    suite="small",
    results=Path("results/small"),
    runs=4,
    done=2,
    failed=0,
    slots=tuple(Slot(number, cpu(), 1) for number in range(2)),
    jobs=JOBS,
    seconds_before=0.0,
    basis="unknown",
    command="gapbench run small.toml",
)
CRASH = Failure("c", Outcome.CRASHED, "ValueError: a hole", Path("results/small/runs/c/log.txt"), ("Traceback", "ValueError: a hole"))
ACCURACY, LOSS = (catalog.metrics()[name] for name in ("accuracy", "loss"))


NOTICES = (
    BEGUN,
    Said("memory did not suffice"),
    JobStarted(0, "[SB] × 2", ("a", "b"), 1687, 0, ACCURACY),
    JobStarted(1, "LB seed 3", ("c",), 52, 26, ACCURACY),
    JobProgressed(0, 0, 1687, 0.0, ()),
    JobProgressed(0, 800, 1687, 12345.0, (0.9, None)),
    JobEnded(1, "LB seed 3", {"c": Outcome.CRASHED}, CRASH.reason, failures=(CRASH,)),
)


def shown(screen, width: int, height: int = 24, notices=NOTICES) -> list[str]:
    """What stands on a terminal after these notices."""
    here = screen(width, height)
    with LiveView(here.console, Tracker(now=lambda: 5.0)) as live:
        for notice in notices:
            live(notice)
        live.refresh()
        return here.lines


def live_lines(width: int, height: int = 9) -> list[str]:
    """The lines that are drawn in place."""
    tracker = Tracker()
    for notice in NOTICES:
        tracker.take(notice)
    return [line.plain for line in LiveView(Console(file=io.StringIO()), tracker).draw(width, height)]


def logged(notices: Iterable[Notice], width: int = 200) -> list[str]:
    """What stands in a log after these notices."""
    out = io.StringIO()
    lines = LineView(Console(file=out, width=width))
    for notice in notices:
        lines(notice)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [8, 20, 30, 36, 40, 56, 60, 76, 80, 116, 120, 240])
@pytest.mark.parametrize("height", [1, 2, 3, 4, 10, 50])
def test_the_live_lines_fit_any_terminal_and_the_last_is_about_all_runs(width, height):
    lines = live_lines(width, height)
    assert len(lines) <= height
    if width >= 20:
        assert max(map(len, lines)) <= width
        assert "3/6 runs" in lines[-1]


def test_wider_terminals_show_more():
    assert live_lines(24)[:2] == ["arm       done  left", "[SB] × 2  47 %  -:--"]
    assert live_lines(30)[:2] == ["arm         updates  left", "[SB] × 2  800/1,687  -:--"]
    wide = ["arm         updates  examples  test acc.  left", "[SB] × 2  800/1,687   12.3k/s     90.0 %  -:--"]
    assert live_lines(100)[:2] == wide


def test_the_line_about_all_runs_shows_failures_time_and_a_bar_where_there_is_room():
    assert live_lines(100)[-1].endswith("  3/6 runs, 1 failed  0:00  -:-- left")
    assert live_lines(100)[-1].startswith("━")
    assert live_lines(30)[-1] == "3/6 runs, 1 failed, -:-- left"
    assert live_lines(20)[-1] == "3/6 runs, 1 failed"


def test_without_unicode_the_bar_is_of_plain_characters():
    line = overall_line(Tracker(), 60, ascii_only=True).plain
    assert line.isascii()
    assert "---" in line


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120, 240])
def test_messages_stay_above_the_live_lines_and_paths_are_whole(screen, width):
    lines = shown(screen, width)
    text = "".join(lines)
    assert "results/small/runs/c/log.txt" in text
    above, below = text.split("results/small/runs/c/log.txt")
    for word in ("small: ", "training 4 runs", "(2 done before)", "memory did not suffice", "crashed: ValueError: a hole", "| Traceback"):
        assert word.replace(" ", "") in above.replace(" ", "")
    assert "[SB] × 2" in below
    assert "LB seed 3" not in below


def test_many_jobs_do_not_outgrow_the_screen(screen):
    lines = shown(screen, 80, 12, [BEGUN, *(JobStarted(slot, f"job {slot}", (f"r{slot}",), 10, 0) for slot in range(64))])
    assert "and 56 more" in lines[-2]
    assert len([line for line in lines if line.startswith("job ")]) == 8


def test_a_failure_is_quoted_once_and_told_every_time(screen):
    again = JobEnded(1, "LB seed 4", {"d": Outcome.CRASHED}, CRASH.reason, failures=(dataclasses.replace(CRASH, run_id="d"),))
    text = "\n".join(shown(screen, 80, 40, [*NOTICES, again]))
    assert text.count("| Traceback") == 1
    assert text.count("crashed: ValueError: a hole") == 2
    assert text.count("log: ") == 2


def test_of_a_stack_the_runs_that_failed_are_counted(screen):
    outcomes = {"a": Outcome.OK, "b": Outcome.DIVERGED}
    failure = Failure("b", Outcome.DIVERGED, "the loss was not finite", Path("b/log.txt"), ())
    text = "\n".join(shown(screen, 80, 40, [*NOTICES[:4], JobEnded(0, "SB × 2", outcomes, failures=(failure,))]))
    assert "SB × 2: 1 of 2 diverged: the loss was not finite" in text


def test_at_the_end_only_words_are_left(screen):
    lines = shown(screen, 200, 24, [*NOTICES, JobEnded(0, "SB × 2", {"a": Outcome.OK, "b": Outcome.OK}), Ended(interrupted=False)])
    assert lines[-1] == "trained 3 runs in 0 s; tables and figures follow"
    assert not any("[SB]" in line for line in lines)


def test_control_c_says_what_happens_and_how_to_go_on(screen):
    lines = shown(screen, 200, 24, [*NOTICES, Stopping(at_once=False), Stopping(at_once=True), Ended(interrupted=True)])
    assert lines[-4:] == [
        "stopping: what is training writes a checkpoint first, to go on from there later (Ctrl-C again: stop at once)",
        "stopping at once: what was training goes on from its last checkpoint, at most a minute old",
        "interrupted after 0 s: 3 of 6 runs have ended",
        "to go on: gapbench run small.toml",
    ]


def test_the_start_says_how_many_on_what_and_how_long_and_the_end_compares():
    tracker = Tracker(now=lambda: 5.0)
    begun = dataclasses.replace(BEGUN, failed=1, basis="measured")
    tracker.take(begun)
    assert begun_text(begun) == "small: training 4 runs (2 done before, 1 of them not ok) on cpu, 2 slots with 1 thread"
    assert prediction_text(begun, tracker) == "predicted to take 1 min 00 s"
    assert "not all of it was timed" in prediction_text(dataclasses.replace(begun, basis="rough"), tracker)
    tracker.take(Ended(interrupted=False))
    assert ended_text(Ended(interrupted=False), tracker) == "trained 0 runs in 0 s (predicted: 1 min 00 s); tables and figures follow"


def test_lines_say_how_every_job_ended():
    ended = JobEnded(0, "[SB] × 2", {"a": Outcome.OK, "b": Outcome.OK}, headline={"a": 0.9, "b": 0.8}, metric=ACCURACY)
    assert logged([*NOTICES, ended], width=40) == [
        "small: training 4 runs (2 done before) on cpu, 2 slots with 1 thread",
        "how long that takes cannot be predicted before something of it has trained",
        "results: results/small",
        "memory did not suffice",
        "[3/6] LB seed 3: crashed: ValueError: a hole",
        "    | Traceback",
        "    | ValueError: a hole",
        "    log: results/small/runs/c/log.txt",
        "[5/6] [SB] × 2: ok, test accuracy 85.0 %",
    ]


def test_a_job_that_classifies_nothing_is_shown_by_its_loss(screen):
    started, ended = JobStarted(0, "VAE", ("v",), 100, 0, LOSS), JobEnded(0, "VAE", {"v": Outcome.OK}, headline={"v": 81.234}, metric=LOSS)
    lines = shown(screen, 80, notices=(BEGUN, started, JobProgressed(0, 50, 100, 1.0, (81.6789,))))
    assert any(line.split()[:7] == ["arm", "updates", "examples", "test", "loss", "left"] for line in lines), lines
    assert any("81.68 nats" in line for line in lines)
    assert job_text(ended) == "VAE: ok, test loss 81.23 nats"
    both = shown(screen, 80, notices=(BEGUN, started, JobStarted(1, "SB", ("s",), 100, 0, ACCURACY)))
    assert any(line.split() == ["arm", "updates", "examples", "test", "left"] for line in both), both


def test_a_long_silence_is_broken(monkeypatch):
    monkeypatch.setattr("gapbench.console.live.QUIET_SECONDS", -1.0)
    lines = logged(NOTICES[:6])
    assert "[SB] × 2: update 800 of 1,687, test accuracy 90.0 %" in lines
    assert lines[-1].endswith("% of all, unknown time left")


def test_a_reader_that_goes_away_is_no_reason_to_stop(monkeypatch):
    def closed(*_):
        raise BrokenPipeError

    file = io.StringIO()
    monkeypatch.setattr(file, "write", closed)
    lines = LineView(words.LastingConsole(file=file))
    for notice in NOTICES:
        lines(notice)


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}])
def test_a_terminal_whose_cursor_moves_gets_the_live_view(screen, variables):
    assert isinstance(view(Console(file=screen(80, 24), _environ={"TERM": "xterm", **variables})), LiveView)


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"TERM": "unknown"}, {"TTY_INTERACTIVE": "0"}])
def test_any_other_terminal_gets_lines(screen, variables):
    assert isinstance(view(Console(file=screen(80, 24), _environ={"TERM": "xterm", **variables})), LineView)


def test_a_pipe_gets_lines_also_where_colors_are_forced():
    assert isinstance(view(Console(file=io.StringIO(), _environ={"TERM": "xterm", "FORCE_COLOR": "1"})), LineView)


def test_durations_read_well():
    seconds = (0, 0.2, 59.7, 61, 3600, 7500, 360000, None)
    assert [*map(words.duration, seconds)] == ["0 s", "< 1 s", "60 s", "1 min 01 s", "1 h 00 min", "2 h 05 min", "4 d 4 h", ""]
    assert [*map(words.clock, seconds)] == ["0:00", "0:00", "1:00", "1:01", "1:00:00", "2:05:00", "100:00:00", "-:--"]


def test_counts_sizes_and_rates_read_well():
    assert [words.count(1, "run"), words.count(1500, "run"), words.count(2, "entry", "entries")] == ["1 run", "1,500 runs", "2 entries"]
    assert [words.size(512), words.size(1536), words.size(3 << 30)] == ["512 B", "1.5 KiB", "3.0 GiB"]
    assert [words.mebibytes(None), words.mebibytes(350.4), words.mebibytes(2048)] == ["?", "350 MiB", "2.0 GiB"]
    assert [words.rate(950), words.rate(12345), words.rate(2.5e6)] == ["950/s", "12.3k/s", "2.50M/s"]
    assert words.percent(0.9784) == "97.8 %"


def test_seeds_are_listed_as_ranges():
    assert [words.numbers(seeds) for seeds in ([0], [2, 0], [3, 1, 2, 0, 7], [])] == ["0", "0, 2", "0 to 3, 7", ""]
