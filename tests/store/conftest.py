from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gapbench.core.events import Measured, Outcome
from gapbench.store import EventLog, ResultsDirectory, RunDirectory, RunOutcome, StoredPlan
from gapbench.suite import run_id
from gapbench.suite.runspec import Component, Labels, Phase, PlannedRun, RunSpec
from tests import small


def make_spec(seed: int = 0, **changes: Any) -> RunSpec:
    fields: dict[str, Any] = {
        "dataset": Component(name="digits", options={"train_size": 0, "test_size": 0}),
        "model": Component(name="mlp", options={"widths": [8], "norm": "batch", "bias": False}),
        "phases": (Phase(),),
        "train_examples": 900,
        "split_drawn": True,
    }
    fields |= dict.fromkeys(("batch_size", "reference_batch_size"), 32) | dict.fromkeys(("updates", "reference_updates"), 10)
    return small.make_spec(seed=seed, split_seed=seed, **fields | changes)


def make_run(cell: str = "SB", seed: int = 0, **changes: Any) -> PlannedRun:
    spec = make_spec(seed, **changes)
    return PlannedRun(run_id=run_id(spec), spec=spec, labels=Labels(suite="small", cell=cell, arm=cell, reference_cell=cell == "SB"))


def make_outcome(outcome: Outcome = Outcome.OK, accuracy: float = 0.9, **more: Any) -> RunOutcome:
    results = {"test_accuracy": accuracy, "test_loss": 0.5, "train_accuracy": 0.95, "train_loss": float("inf"), "weight_distance": 3.0}
    seconds = {"train_seconds": 2.0, "evaluation_seconds": 0.5, "other_seconds": 0.25}
    reason, correct = ("", b"\xf0\x01") if outcome is Outcome.OK else ("because", b"")
    return RunOutcome(outcome, reason, 10, results | seconds | {"peak_memory_mib": 300.0, "program": "eager"}, correct, **more)


def finish(run: RunDirectory, planned: PlannedRun, outcome: RunOutcome | None = None, updates: tuple[int, ...] = (1, 10)) -> None:
    run.begin(planned.spec)
    run.add_session(
        {"started_at": "2026-01-01T00:00:00+00:00", "threads": 1, "device": "cpu", "device_name": "a processor", "torch_version": "2.11"}
    )
    with closing(EventLog(run.events_path, 0)) as log:
        for update in updates:
            log.append(Measured(0, update, 32 * update, (("test_accuracy", "", 0.5), ("weight_distance", "fc", float("nan")))))
    if outcome is not None:
        run.write_outcome(outcome)


@pytest.fixture
def build() -> SimpleNamespace:
    """Helpers: build.spec, build.run, build.outcome, build.finish."""
    return SimpleNamespace(spec=make_spec, run=make_run, outcome=make_outcome, finish=finish)


@pytest.fixture
def results(tmp_path: Path) -> Iterator[ResultsDirectory]:
    """A results directory of suite "small", locked by this process."""
    with ResultsDirectory.create(tmp_path / "small", "small") as directory:
        yield directory


@pytest.fixture
def planned(results: ResultsDirectory) -> Callable[..., list[PlannedRun]]:
    """Stores a plan of runs."""

    def plan(*runs: PlannedRun) -> list[PlannedRun]:
        results.write_plan(StoredPlan("small", runs, {"arms": ["SB"]}), 'name = "small"\n')
        return list(runs)

    return plan


@pytest.fixture
def trained(results: ResultsDirectory, planned: Callable[..., list[PlannedRun]]) -> Callable[..., tuple[PlannedRun, RunDirectory]]:
    """Plans and trains one run; returns it with its folder."""

    def train(outcome: RunOutcome | None = None, **changes: Any) -> tuple[PlannedRun, RunDirectory]:
        (run,) = planned(make_run(**changes))
        finish(results.run(run.run_id), run, outcome or make_outcome())
        return run, results.run(run.run_id)

    return train
