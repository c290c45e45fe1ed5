"""While runs train, others can read what is going on; afterwards, how it ended."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from gapbench.execution.heartbeat import Heartbeat

from gapbench.core.errors import StoreError
from gapbench.execution import Begun, Ended, ExpectedJob, JobProgressed, JobStarted, Stopping
from gapbench.store import ResultsDirectory, read_session

BEGUN = Begun(
    "small",
    Path("small"),
    2,
    0,
    0,
    1,
    1,
    ("cpu",),
    (ExpectedJob(("a", "b"), 40.0, 1.0, 0),),
    0.0,
    "measured",
    command="gapbench run small.toml",
)


@pytest.fixture
def results(tmp_path):
    with ResultsDirectory.create(tmp_path / "small", "small") as directory:
        yield directory


def session(results):
    return read_session(results.path).session


def test_the_state_follows_what_happens(results, monkeypatch):
    monkeypatch.setattr("gapbench.execution.heartbeat.BEAT_SECONDS", 3600.0)
    with Heartbeat(results) as beat:
        beat(BEGUN)
        begun = session(results)
        assert (begun.state, begun.pid, begun.command) == ("training", os.getpid(), "gapbench run small.toml")
        assert begun.seconds_left == pytest.approx(40.0, abs=5.0)
        for notice in (
            JobStarted(0, "SB × 2", ("a", "b"), 100, 0),
            JobProgressed(0, 0, 100, 0.0, ()),
            JobProgressed(0, 50, 100, 9.0, (0.5, 0.7)),
        ):
            beat(notice)
        beat.write("training")
        (job,) = session(results).jobs
        assert (job.title, job.run_ids, job.update, job.updates) == ("SB × 2", ("a", "b"), 50, 100)
        assert job.test_accuracy == pytest.approx(0.6)
        beat(Stopping(at_once=False))
        beat(Ended(interrupted=True))
    assert session(results).state == "interrupted"
    with Heartbeat(results) as beat:
        beat(BEGUN)
        beat(Ended(interrupted=False))
    assert session(results).state == "ended"


def test_an_error_of_ours_is_an_interruption(results):
    beat = Heartbeat(results)
    with contextlib.suppress(RuntimeError), beat:
        beat(BEGUN)
        raise RuntimeError
    assert session(results).state == "interrupted"


def test_it_beats_by_itself(results, monkeypatch):
    monkeypatch.setattr("gapbench.execution.heartbeat.BEAT_SECONDS", 0.01)
    with Heartbeat(results) as beat:
        beat(BEGUN)
        first = session(results).seconds
        while session(results).seconds == first:
            pass


def test_a_disk_that_cannot_be_written_to_does_not_stop_training(results, monkeypatch):
    def full(*_):
        raise StoreError("no space left")

    monkeypatch.setattr("gapbench.execution.heartbeat.write_session", full)
    with Heartbeat(results) as beat:
        beat(BEGUN)
    assert read_session(results.path) is None


def test_where_nothing_trains_nothing_is_written(results):
    with Heartbeat(results):
        pass
    assert read_session(results.path) is None


def test_a_suite_leaves_its_session_behind(train, suite_file):
    done = train(suite_file(last_seed=0))
    assert session(done.directory).state == "ended"
    assert session(done.directory).jobs == ()
