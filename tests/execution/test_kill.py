"""Killing anything at any moment, and running the same command again, gives the same numbers as never having been disturbed."""

from __future__ import annotations

import io
import shutil
import signal
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from gapbench.api.keeping import load_results
from gapbench.store import read_tables

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")

DEADLINE_SECONDS = 120.0


def finish(process) -> None:
    _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, errors.decode()


def numbers(results: Path):
    """Everything that must not depend on how often a suite was killed."""
    tables = read_tables(results / "small")
    columns = ["run_id", "outcome", "test_accuracy", "train_loss", "updates", "examples", "replicas", "test_correct"]
    return tables.runs[columns].to_csv(), tables.curves.to_csv()


def without_replicas(texts):
    """A run that trains again trains alone, not in its stack."""
    runs, curves = texts
    return pd.read_csv(io.StringIO(runs)).drop(columns="replicas").to_csv(), curves


@pytest.fixture
def undisturbed(never_disturbed):
    path, results = never_disturbed
    return path, numbers(results)


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def begin(undisturbed, start, results, monkeypatch):
    """Starts the suite, slowly, and waits until something is true; returns the process and its workers."""

    def until(condition, seconds=0.02, slots=2):
        monkeypatch.setenv("FAKE_UPDATE_SECONDS", str(seconds))
        process = start(undisturbed[0], results, slots=slots)
        monkeypatch.delenv("FAKE_UPDATE_SECONDS")
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline, "nothing happened"
            time.sleep(0.005)
        return process, psutil.Process(process.pid).children()

    return until


@pytest.fixture
def checkpoints(results):
    return lambda: len(list(results.glob("*/runs/*/checkpoint.pt")))


@pytest.fixture
def outcomes(results):
    return lambda: len(list(results.glob("*/runs/*/outcome.json")))


def test_killing_the_parent_at_several_moments_changes_no_number(undisturbed, begin, start, results, checkpoints, outcomes):
    path, expected = undisturbed
    # The first: before there is any checkpoint, or about then.
    for moment in (lambda: any(results.glob("*/runs/*/events.jsonl")), checkpoints, outcomes):
        process, _ = begin(moment)
        process.kill()
        process.communicate()
    finish(start(path, results, slots=2))
    assert numbers(results) == expected
    assert checkpoints() == 0


def test_killing_parent_and_workers_at_once_changes_no_number(undisturbed, begin, start, results, checkpoints):
    """As a loss of power does: no worker can write a last checkpoint."""
    path, expected = undisturbed
    process, workers = begin(lambda: checkpoints() >= 2)
    for one in (process, *workers):
        one.kill()
    process.communicate()
    finish(start(path, results, slots=2))
    assert numbers(results) == expected


def test_a_worker_that_outlives_its_parent_ends_by_itself_with_a_checkpoint(begin, checkpoints, outcomes):
    process, workers = begin(lambda: checkpoints() >= 2, seconds=0.1)
    assert len(workers) == 2
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(workers, timeout=DEADLINE_SECONDS)
    assert not alive
    assert outcomes() == 0


def test_sigterm_stops_gently_and_exits_with_130(undisturbed, begin, start, results, checkpoints):
    path, expected = undisturbed
    process, _ = begin(checkpoints)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 130
    assert set(read_tables(results / "small").runs.outcome) <= {"interrupted", "skipped", "ok"}
    finish(start(path, results, slots=2))
    assert numbers(results) == expected


def test_a_killed_worker_is_retried_on_request_and_the_old_attempt_stays(undisturbed, begin, start, results, checkpoints):
    path, expected = undisturbed
    process, workers = begin(checkpoints, slots=1)
    workers[0].kill()
    process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    assert "crashed" in set(read_tables(results / "small").runs.outcome)
    again = start(path, results, slots=1)
    again.communicate(timeout=DEADLINE_SECONDS)
    assert again.returncode == 1  # without --retry a crash stays what it is
    finish(start(path, results, slots=2, retry=True))
    assert list(results.glob("*/runs/*~1/outcome.json"))
    assert numbers(results) == expected


def test_a_second_run_on_a_locked_directory_is_refused(undisturbed, begin, start, results):
    first, _ = begin(lambda: any(results.glob("*/runs/*/env.json")), seconds=0.3)
    second = start(undisturbed[0], results)
    _, errors = second.communicate(timeout=DEADLINE_SECONDS)
    assert second.returncode == 2
    assert f"{results / 'small'}: another gapbench" in errors.decode()
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=DEADLINE_SECONDS)
    assert first.returncode == 130


@pytest.fixture
def finished(never_disturbed, tmp_path):
    """A copy of finished results."""
    return shutil.copytree(never_disturbed[1], tmp_path / "finished")


def test_force_makes_new_attempts_with_the_same_numbers(undisturbed, finished, start):
    path, expected = undisturbed
    finish(start(path, finished, slots=2, force=True, only="arm=LB"))
    assert len(list(finished.glob("*/runs/*~1"))) == 2
    assert numbers(finished) == expected


@pytest.mark.parametrize("name", ["outcome.json", "events.jsonl"])
def test_a_damaged_file_of_a_finished_run_is_named_and_the_run_trains_again(undisturbed, finished, start, name, capsys):
    """A digit that flips leaves both files readable, and would change a table."""
    path, expected = undisturbed
    run = sorted((finished / "small" / "runs").iterdir())[0]
    text = (run / name).read_text()
    place = text.index("0.9") + 2
    (run / name).write_text(text[:place] + "7" + text[place + 1 :])
    load_results(finished / "small")
    assert f"{run}: {name} is damaged" in capsys.readouterr().err
    row = read_tables(finished / "small").runs.set_index("run_id").loc[run.name]
    assert (row.outcome, row.reason) == ("interrupted", f"{name} is damaged")
    finish(start(path, finished, slots=2))
    assert (run.parent / f"{run.name}~1").is_dir()
    assert without_replicas(numbers(finished)) == without_replicas(expected)


def test_damaged_leftovers_are_never_taken_for_results(undisturbed, finished, start):
    path, expected = undisturbed
    runs = sorted((finished / "small" / "runs").iterdir())
    (runs[0] / "outcome.json").write_text('{"outcome": "ok", "rea')
    (runs[0] / "events.jsonl").write_bytes(b'{"update": 3, "exam')
    (runs[1] / "outcome.json").unlink()
    (runs[1] / "checkpoint.pt").write_bytes(b"\x00" * 100)
    (runs[2] / "outcome.json").unlink()
    (runs[2] / ".events.jsonl.1-1.tmp").write_bytes(b"half")
    finish(start(path, finished, slots=2))
    assert numbers(finished) == expected
    assert not list(finished.glob("*/runs/*/.*.tmp"))
