from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapbench.execution import LocalProcesses, Settings, choose_devices, execute
from gapbench.execution.executor import Executor, Setup
from gapbench.execution.notices import Notice
from gapbench.store import ResultsDirectory, StoredPlan, build_tables, read_tables
from gapbench.suite import Suite, load_suite

HERE = Path(__file__).parent
FAKE_WORKER = (sys.executable, str(HERE / "fake_worker.py"))

SUITE = """
schema = 1
name = "small"
[run]
recipe = "digits"
[grid]
seed = "0..{last_seed}"
[[arm]]
label = "SB"
batch_size = 16
budget = {{ kind = "updates", factor = {factor} }}
[[arm]]
label = "LB"
batch_size = 512
budget = {{ kind = "updates", factor = {factor} }}
"""
"""SB trains as a stack, LB run by run; a factor of 0.005 is 8 updates."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))


def write_suite(folder: Path, last_seed: int = 2, factor: float = 0.005) -> Path:
    path = folder / "small.toml"
    path.write_text(SUITE.format(last_seed=last_seed, factor=factor), encoding="utf-8")
    return path


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    """What a worker without data needs."""
    return Setup(
        results=tmp_path,
        suite="",
        device="cpu",
        device_label="cpu",
        device_name="a processor",
        threads=1,
        cache_dir=tmp_path,
        offline=True,
        machine={},
        checkpoint_seconds=60.0,
    )


@pytest.fixture
def suite_file(tmp_path: Path) -> Callable[..., Path]:
    return lambda **values: write_suite(tmp_path, **values)


@dataclasses.dataclass
class Done:
    suite: Suite
    directory: ResultsDirectory
    outcomes: dict[str, str]
    notices: list[Notice]
    interrupted: bool

    def run_of(self, arm: str, seed: int) -> Any:
        (run_id,) = {run.run_id for run in self.suite.runs if run.labels.arm == arm and run.spec.seed == seed}
        return self.directory.run(run_id)

    def tables(self) -> Any:
        build_tables(self.directory)
        return read_tables(self.directory.path)


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Done]:
    """Trains a suite file with fake workers, as processes of this one unless another executor is given."""

    def run(path: Path, observe: Callable[[Notice], None] | None = None, executor: Executor | None = None, **settings: Any) -> Done:
        suite = load_suite(path)
        notices: list[Notice] = []

        def both(notice: Notice) -> None:
            notices.append(notice)
            if observe:
                observe(notice)

        specs = {run.run_id: run.spec for run in suite.runs}
        with ResultsDirectory.create(tmp_path / "results" / suite.name, suite.name) as directory:
            directory.write_plan(StoredPlan(suite.name, suite.runs), suite.resolved_toml())
            how = Settings(**{"devices": choose_devices("cpu"), "checkpoint_seconds": 0.0, "slots": 1, **settings})
            where = executor or LocalProcesses(FAKE_WORKER)
            done = execute(directory, specs, list(specs), how, titles=lambda job: job.run_ids[0], observe=both, executor=where)
            outcomes = {run_id: outcome.value for run_id, outcome in done.outcomes.items()}
            return Done(suite, directory, outcomes, notices, done.interrupted)

    return run


def start_suite(suite: Path, results: Path, **arguments: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(HERE / "fake_run.py"), str(suite), str(results), json.dumps(arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture
def start() -> Callable[..., subprocess.Popen[bytes]]:
    """Starts `fake_run.py` as a process of its own."""
    return start_suite


@pytest.fixture(scope="session")
def never_disturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A suite file, and the parent of its results when nothing interferes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    path = write_suite(folder, last_seed=1, factor=0.02)
    process = start_suite(path, folder / "results", slots=2)
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    return path, folder / "results"
