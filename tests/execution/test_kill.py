"""Killing anything at any moment, and running the same command again, gives the same numbers as never having been disturbed."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from gapbench.store import read_tables

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")

DEADLINE_SECONDS = 120.0


def wait_for(condition, process) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.005)


def finish(process) -> None:
    _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, errors.decode()


def numbers(results: Path):
    """Everything that must not depend on how often a suite was killed."""
    tables = read_tables(results / "small")
    columns = ["run_id", "outcome", "test_accuracy", "train_loss", "updates", "examples", "replicas", "test_correct"]
    return tables.runs[columns], tables.curves


def assert_equal(one, other) -> None:
    for left, right in zip(one, other, strict=True):
        assert left.to_csv() == right.to_csv()


@pytest.fixture
def undisturbed(never_disturbed):
    path, results = never_disturbed
    return path, numbers(results)


@pytest.fixture
def finished(never_disturbed, tmp_path):
    """A copy of finished results."""
    return shutil.copytree(never_disturbed[1], tmp_path / "finished")


def test_killing_the_parent_at_several_moments_changes_no_number(undisturbed, start, tmp_path, monkeypatch):
    path, expected = undisturbed
    monkeypatch.setenv("FAKE_UPDATE_SECONDS", "0.02")
    results = tmp_path / "results"
    moments = [
        lambda: any(results.glob("*/runs/*/events.jsonl")),  # before there is any checkpoint, or about then
        lambda: any(results.glob("*/runs/*/checkpoint.pt")),
        lambda: outcomes(results) >= 1,
    ]
    for moment in moments:
        process = start(path, results, slots=2)
        wait_for(moment, process)
        process.kill()
        process.communicate()
    finish(start(path, results, slots=2))
    assert_equal(numbers(results), expected)
    assert not list(results.glob("*/runs/*/checkpoint.pt"))


def test_killing_parent_and_workers_at_once_changes_no_number(undisturbed, start, tmp_path, monkeypatch):
    """As a loss of power does: no worker can write a last checkpoint."""
    path, expected = undisturbed
    monkeypatch.setenv("FAKE_UPDATE_SECONDS", "0.02")
    results = tmp_path / "results"
    process = start(path, results, slots=2)
    wait_for(lambda: len(list(results.glob("*/runs/*/checkpoint.pt"))) >= 2, process)
    workers = psutil.Process(process.pid).children()
    process.kill()
    for worker in workers:
        worker.kill()
    process.communicate()
    monkeypatch.delenv("FAKE_UPDATE_SECONDS")
    finish(start(path, results, slots=2))
    assert_equal(numbers(results), expected)


def test_a_worker_that_outlives_its_parent_ends_by_itself_with_a_checkpoint(undisturbed, start, tmp_path, monkeypatch):
    path, _ = undisturbed
    monkeypatch.setenv("FAKE_UPDATE_SECONDS", "0.1")
    results = tmp_path / "results"
    process = start(path, results, slots=2)
    wait_for(lambda: len(list(results.glob("*/runs/*/checkpoint.pt"))) >= 2, process)
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 2
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(workers, timeout=DEADLINE_SECONDS)
    assert not alive
    assert outcomes(results) == 0


def test_sigterm_stops_gently_and_exits_with_130(undisturbed, start, tmp_path, monkeypatch):
    path, expected = undisturbed
    monkeypatch.setenv("FAKE_UPDATE_SECONDS", "0.02")
    results = tmp_path / "results"
    process = start(path, results, slots=2)
    wait_for(lambda: any(results.glob("*/runs/*/checkpoint.pt")), process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 130
    assert set(read_tables(results / "small").runs.outcome) <= {"interrupted", "skipped", "ok"}
    monkeypatch.delenv("FAKE_UPDATE_SECONDS")
    finish(start(path, results, slots=2))
    assert_equal(numbers(results), expected)


def test_a_killed_worker_is_retried_on_request_and_the_old_attempt_stays(undisturbed, start, tmp_path, monkeypatch):
    path, expected = undisturbed
    monkeypatch.setenv("FAKE_UPDATE_SECONDS", "0.02")
    results = tmp_path / "results"
    process = start(path, results, slots=1)
    wait_for(lambda: any(results.glob("*/runs/*/checkpoint.pt")), process)
    os.kill(psutil.Process(process.pid).children()[0].pid, signal.SIGKILL)
    process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    assert "crashed" in set(read_tables(results / "small").runs.outcome)
    monkeypatch.delenv("FAKE_UPDATE_SECONDS")
    again = start(path, results, slots=1)
    again.communicate(timeout=DEADLINE_SECONDS)
    assert again.returncode == 1  # without --retry a crash stays what it is
    finish(start(path, results, slots=2, retry=True))
    assert list(results.glob("*/runs/*~1/outcome.json"))
    assert_equal(numbers(results), expected)


def test_a_second_run_on_a_locked_directory_is_refused(undisturbed, start, tmp_path, monkeypatch):
    path, _ = undisturbed
    monkeypatch.setenv("FAKE_UPDATE_SECONDS", "0.3")
    results = tmp_path / "results"
    first = start(path, results)
    wait_for(lambda: any(results.glob("*/runs/*/env.json")), first)
    second = start(path, results)
    _, errors = second.communicate(timeout=DEADLINE_SECONDS)
    assert second.returncode == 2
    assert str(results / "small") in errors.decode()
    assert "another gapbench" in errors.decode()
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=DEADLINE_SECONDS)
    assert first.returncode == 130


def test_force_makes_new_attempts_with_the_same_numbers(undisturbed, finished, start):
    path, expected = undisturbed
    results = finished
    finish(start(path, results, slots=2, force=True, only="arm=LB"))
    assert len(list(results.glob("*/runs/*~1"))) == 2
    assert_equal(numbers(results), expected)


def test_damaged_leftovers_are_never_taken_for_results(undisturbed, finished, start):
    path, expected = undisturbed
    results = finished
    runs = sorted((results / "small" / "runs").iterdir())
    (runs[0] / "outcome.json").write_text('{"outcome": "ok", "rea')
    (runs[0] / "events.jsonl").write_bytes(b'{"update": 3, "exam')
    (runs[1] / "outcome.json").unlink()
    (runs[1] / "checkpoint.pt").write_bytes(b"\x00" * 100)
    (runs[2] / "outcome.json").unlink()
    (runs[2] / ".events.jsonl.1-1.tmp").write_bytes(b"half")
    finish(start(path, results, slots=2))
    assert_equal(numbers(results), expected)
    assert not list(results.glob("*/runs/*/.*.tmp"))


def outcomes(results: Path) -> int:
    return len(list(results.glob("*/runs/*/outcome.json")))
