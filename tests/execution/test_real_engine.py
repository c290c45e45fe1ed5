"""With the real engine: a suite that is killed twice and finished has exactly the numbers of one that never was."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from gapbench.store import ResultsDirectory, read_tables
from gapbench.store.tables import columns_from

SUITE = """
schema = 1
name = "real"
[run]
recipe = "digits"
epochs = 6
[grid]
seed = [0, 1]
[[arm]]
label = "SB"
batch_size = 16
[[arm]]
label = "LB+LR+GBN"
batch_size = 512
regime = "sqrt-lr"
ghost_batch_size = 16
"""

RUN = """
import dataclasses, sys
from gapbench import api, execution, report
from gapbench.api import running
running.execute = lambda directory, runs, selected, settings, **more: execution.execute(
    directory, runs, selected, dataclasses.replace(settings, checkpoint_seconds=0.1), **more
)
report.write_report = lambda folder: None
execution.usable_cores = lambda: 1
sys.exit(api.run(sys.argv[1], results=sys.argv[2], devices="cpu").exit_status)
"""

DEADLINE_SECONDS = 180.0


def start(suite: Path, results: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", RUN, str(suite), str(results)], stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, errors.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_kills_change_no_number(tmp_path, monkeypatch):
    monkeypatch.setenv("GAPBENCH_CACHE", str(tmp_path / "cache"))
    suite = tmp_path / "real.toml"
    suite.write_text(SUITE)
    finish(start(suite, tmp_path / "undisturbed"))
    results = tmp_path / "results"
    for updates in (1, 100):
        process = start(suite, results)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while _checkpointed(results) < updates:
            assert process.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        workers = psutil.Process(process.pid).children()
        process.kill()
        for worker in workers:
            worker.kill()
        process.communicate()
    finish(start(suite, results))
    expected, found = read_tables(tmp_path / "undisturbed" / "real"), read_tables(results / "real")
    numbers = ["run_id", "outcome", "updates", "test_correct", *columns_from("result")]
    assert set(expected.runs.outcome) == {"ok"}
    assert found.runs[numbers].equals(expected.runs[numbers])
    assert found.curves.equals(expected.curves)


def _checkpointed(results: Path) -> int:
    """Returns the updates that runs are known to have done, summed over those that are not finished."""
    if not (results / "real" / "runs").is_dir():
        return 0
    runs = ResultsDirectory(results / "real", "real").run_folders()
    return sum(run.updates_done() for run in runs if run.checkpoint() is not None or run.outcome() is not None)
