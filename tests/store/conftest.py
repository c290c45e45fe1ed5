from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gapbench.core.events import Measured, Outcome
from gapbench.store import EventLog, ResultsDirectory, RunDirectory, RunOutcome, StoredPlan
from gapbench.suite import run_id
from gapbench.suite.runspec import Component, Labels, PlannedRun, RunSpec


def make_spec(seed: int = 0, **changes: Any) -> RunSpec:
    fields: dict[str, Any] = {
        "dataset": Component(name="digits", options={"train_size": 0, "test_size": 0}),
        "model": Component(name="mlp", options={"widths": [8], "norm": "batch", "bias": False}),
        "optimizer": Component(name="sgd", options={"momentum": 0.9, "nesterov": False}),
        "batch_size": 32,
        "updates": 10,
        "learning_rate": 0.1,
        "seed": seed,
        "init_seed": seed,
        "order_seed": seed,
        "split_seed": seed,
        "split_drawn": True,
        "train_examples": 900,
        "reference_batch_size": 32,
        "reference_updates": 10,
        "reference_learning_rate": 0.1,
    }
    return RunSpec(**(fields | changes))


def make_run(cell: str = "SB", seed: int = 0, **changes: Any) -> PlannedRun:
    spec = make_spec(seed, **changes)
    return PlannedRun(run_id=run_id(spec), spec=spec, labels=Labels(suite="small", cell=cell, arm=cell, reference_cell=cell == "SB"))


def make_outcome(outcome: Outcome = Outcome.OK, accuracy: float = 0.9, **more: Any) -> RunOutcome:
    summary = {
        "test_accuracy": accuracy,
        "test_loss": 0.5,
        "train_accuracy": 0.95,
        "train_loss": float("inf"),
        "weight_distance": 3.0,
        "train_seconds": 2.0,
        "evaluation_seconds": 0.5,
        "other_seconds": 0.25,
        "peak_memory_mib": 300.0,
        "program": "eager",
    }
    return RunOutcome(
        outcome, "" if outcome is Outcome.OK else "because", 10, summary, b"\xf0\x01" if outcome is Outcome.OK else b"", **more
    )


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
def build() -> Any:
    """Helpers: build.spec, build.run, build.outcome, build.finish."""

    class Build:
        spec = staticmethod(make_spec)
        run = staticmethod(make_run)
        outcome = staticmethod(make_outcome)
        finish = staticmethod(finish)

    return Build


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
