"""`gapbench status` answers in words: how far, who, what failed, how to go on; on any width."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from gapbench.api import CellStatus, FailedRun, RunStatus, Status
from gapbench.console import print_status
from gapbench.core.events import Outcome
from gapbench.store import Failure, SessionJob
from tests.small import make_session

JOBS = (SessionJob("LB+LR × 2", ("a", "b"), 40, 1120, 0.81, 65.0), SessionJob("LB+LR+GBN+RA seed 3", ("c",), 0, 9, None, None))
SESSION = make_session(host="node7", seconds=60.0, jobs=JOBS, seconds_left=125.0, rough=True)


def run(number: int, outcome: Outcome, *, training: bool = False) -> RunStatus:
    return RunStatus(f"r{number}", "LB+LR", number, outcome, training, 5, 10, None)


def failed(seed: int, reason: str = "ValueError: a hole", outcome: Outcome = Outcome.CRASHED) -> FailedRun:
    return FailedRun("LB+LR", seed, Failure(f"r{seed}", outcome, reason, Path(f"results/small/runs/r{seed}/log.txt"), ("a", "b")))


CELLS = (
    CellStatus("SB", {Outcome.OK: 4, Outcome.SKIPPED: 1}, 0, 4000, 5000),
    CellStatus("LB+LR", {Outcome.OK: 1, Outcome.CRASHED: 1, Outcome.INTERRUPTED: 3}, 2, 120_000, 120_001),
)
RUNS = (run(0, Outcome.OK), run(1, Outcome.CRASHED), run(2, Outcome.INTERRUPTED, training=True), run(3, Outcome.SKIPPED))
STATUS = Status("small", Path("results/small").absolute(), "training", False, CELLS, RUNS, (failed(1),), 0, SESSION, 5.0, 120.0)


def printed(width: int = 80, **changes) -> str:
    console = Console(file=io.StringIO(), record=True, width=width)
    print_status(console, dataclasses.replace(STATUS, **changes))
    return console.export_text()


def test_while_it_trains_it_says_where_for_how_long_and_how_far_each_job_is():
    lines = [line.rstrip() for line in printed().splitlines()]
    assert lines == [
        "small: 2 of 4 runs have ended, training now",
        "on node7 for 1 min 05 s, about 2 min 00 s left",
        "cell   ok  failed  training  begun  waiting          updates  done",
        "SB      4                                 1      4,000/5,000  80 %",
        "LB+LR   1       1         2      1           120,000/120,001  99 %",
        "",
        "training              updates  test acc.  left",
        "LB+LR × 2            40/1,120     81.0 %  1:05",
        "LB+LR+GBN+RA seed 3       0/9             -:--",
        "",
        "LB+LR seed 1: crashed: ValueError: a hole",
        "    log: results/small/runs/r1/log.txt",
        "--retry trains these again",
    ]


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 120])
def test_the_tables_fit_and_done_and_failed_are_the_last_to_go(width):
    table = [line for line in printed(width).splitlines() if line.startswith(("cell", "SB ", "LB+L", "training")) and ":" not in line]
    assert max(len(line) for line in table) <= width
    if width >= 30:
        assert table[0].split()[-1] == "done"
        assert "failed" in table[0]


def test_what_was_killed_says_so_and_how_to_go_on():
    text = printed(state="stopped", lost=True, silent_seconds=840.0, failed=())
    assert "2 of 4 runs have ended, nothing is training" in text
    assert "nothing was heard from node7 for 14 min 00 s: it was killed; at most a minute of training is lost" in text
    assert "2 runs left, about 2 min 00 s of training; to go on: cd /home/me && gapbench run small.toml" in text
    assert "training      " not in text


def test_where_the_command_is_known_here_it_needs_no_folder():
    session = dataclasses.replace(SESSION, folder=str(Path.cwd()))
    assert "to go on: gapbench run small.toml" in printed(state="stopped", session=session)
    assert "cd " not in printed(state="stopped", session=session)


def test_without_a_session_the_suite_is_named():
    text = printed(state="stopped", session=None, silent_seconds=None, seconds_left=None, failed=())
    assert "2 runs left; `gapbench run` with the same suite goes on (results/small/suite.toml says what was asked)" in text


def test_every_state_has_its_words():
    assert "all 4 runs have ended" in printed(state="done")
    assert "stopping: checkpoints are being written" in printed(state="stopping")
    assert "tables and figures are being made" in printed(state="finishing")


def test_seeds_that_failed_alike_are_one_line_and_only_some_of_many_are_listed():
    alike = tuple(failed(seed) for seed in range(4))
    text = printed(failed=(*alike, failed(9, "the loss was not finite", Outcome.DIVERGED)))
    assert "LB+LR seeds 0 to 3: crashed: ValueError: a hole" in text
    assert "--retry trains 4 of them again" in text
    many = tuple(failed(seed, f"reason {seed}") for seed in range(40))
    assert "and 28 runs more; `gapbench status --json` lists all" in printed(failed=many)


def test_old_attempts_are_mentioned():
    assert "3 old attempts" in printed(old_attempts=3)
