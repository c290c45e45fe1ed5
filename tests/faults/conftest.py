"""Every test ends with the same invariants: a status in words and no traceback, `--retry` ends well, equal numbers, no leftover."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gapbench.store import read_tables

EXECUTION = Path(__file__).parents[1] / "execution"
DEADLINE_SECONDS = 600.0
"""Only what hangs takes so long."""

SUITE = """
schema = 1
name = "small"
[run]
recipe = "digits"
[grid]
seed = "0..1"
[[arm]]
label = "SB"
batch_size = 16
budget = { kind = "updates", factor = 0.01 }
[[arm]]
label = "LB"
batch_size = 512
budget = { kind = "updates", factor = 0.01 }
"""

EXIT_STATUSES = {0, 1, 2, 130}

LEFTOVERS = ("*.tmp", "stack-outcomes.json", "checkpoint.pt")


@dataclass(frozen=True)
class Place:
    """A suite file, and where its results go."""

    suite: Path
    results: Path

    def start(self, variables: dict[str, str] | None = None, **arguments: Any) -> subprocess.Popen[bytes]:
        """Starts `gapbench run` with the fake worker."""
        command = [
            sys.executable,
            str(EXECUTION / "fake_run.py"),
            str(self.suite),
            str(self.results),
            json.dumps({"slots": 2, **arguments}),
        ]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **(variables or {})})

    def run(self, variables: dict[str, str] | None = None, **arguments: Any) -> tuple[int, str]:
        """Runs it to the end and returns its exit status and what it said."""
        process = self.start(variables, **arguments)
        _, errors = process.communicate(timeout=DEADLINE_SECONDS)
        return process.returncode, errors.decode(errors="replace")

    @property
    def runs(self) -> list[Path]:
        return sorted(path for path in (self.results / "small" / "runs").iterdir() if "~" not in path.name)

    def numbers(self) -> tuple[str, str]:
        """What must not depend on any fault; a run that trains again trains alone, so `replicas` may differ."""
        tables = read_tables(self.results / "small")
        columns = ["run_id", "outcome", "test_accuracy", "train_loss", "updates", "examples", "test_correct"]
        return tables.runs[columns].to_csv(), tables.curves.to_csv()

    def leftovers(self) -> list[Path]:
        inside = [self.results / "small", *self.runs]
        return [path for folder in inside for pattern in LEFTOVERS for path in folder.glob(pattern)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A suite that trained without any fault."""
    folder = tmp_path_factory.mktemp("undisturbed")
    place = Place(folder / "small.toml", folder / "results")
    place.suite.write_text(SUITE, encoding="utf-8")
    status, words = place.run({"GAPBENCH_CACHE": str(folder / "cache")})
    assert status == 0, words
    return place


@pytest.fixture
def recovers(undisturbed: Place) -> Callable[[Place], None]:
    """Checks that the same command with --retry ends well, with equal numbers and no leftover."""

    def check(place: Place) -> None:
        status, words = place.run(retry=True)
        assert status == 0, words
        assert place.numbers() == undisturbed.numbers()
        assert place.leftovers() == []

    return check
