"""Searches of suites that a test writes down as text, with scores from a formula instead of training."""

from __future__ import annotations

import math
import random
import textwrap
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from gapbench.suite.runspec import RunSpec
from gapbench.suite.tunable import load_tunable
from gapbench.tuning import KEY, Trials, Tuned, read_tuned

Accuracy = Callable[[RunSpec], float | None]


@pytest.fixture
def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Trials]:
    """Returns the search of a suite: its text without schema and name, and `--set` options."""
    monkeypatch.chdir(tmp_path)

    def make(text: str, **settings: str) -> Trials:
        Path("suite.toml").write_text(f'schema = 1\nname = "suite"\n{textwrap.dedent(text)}', encoding="utf-8")
        return Trials(load_tunable("suite.toml", settings=settings or None))

    return make


def best_at(rates: dict[int, float]) -> Accuracy:
    """Accuracy by learning rate, with the best rate of each batch size; from four times that rate on, runs diverge."""

    def accuracy(spec: RunSpec) -> float | None:
        away = math.log2(spec.learning_rate / rates[spec.batch_size])
        return None if away >= 2 else 0.95 - 0.008 * abs(away) + 1e-4 * (spec.seed % 3) + 1e-5 * spec.fold

    return accuracy


def flat_at(rates: dict[int, float]) -> Accuracy:
    """The same, but rates up to a step from the best one differ by luck alone; those farther away are much worse."""

    def accuracy(spec: RunSpec) -> float | None:
        away = abs(math.log2(spec.learning_rate / rates[spec.batch_size]))
        luck = random.Random(f"{spec.seed} {spec.fold} {spec.learning_rate}").gauss(0.0, 0.001)
        return 0.95 - 0.02 * (away > 1.01) + 1e-5 * (away < 0.1) + luck

    return accuracy


def play(search: Trials, accuracy: Accuracy) -> Tuned:
    """Plays a whole search and returns what is read of its tables."""
    known: dict[str, tuple[str, float, float]] = {}
    while True:
        state = search.replay(known.get)
        if state.complete:
            break
        for trial in search.of_round(state.rounds[-1]):
            found = accuracy(trial.spec)
            known[trial.run_id] = ("diverged", math.nan, math.nan) if found is None else ("ok", found, 1 - found)
    rows = [
        {"run_id": run.run_id, "outcome": known[run.run_id][0], "validation_accuracy": known[run.run_id][1], "validation_loss": 0.1}
        for run in search.planned(state.rounds)
    ]
    return read_tuned(pd.DataFrame(rows), {KEY: search.metadata(state.rounds)})
