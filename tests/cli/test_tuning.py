"""`gapbench tune` and `gapbench report <suite>.tune`: what is said, where, and with which exit status."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gapbench.execution import executor


@pytest.fixture
def tunable(suite: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The suite with one split for all seeds and few trials."""
    monkeypatch.setattr(executor, "WORKER_COMMAND", (sys.executable, str(Path(__file__).parents[1] / "tuning" / "fake_trials.py")))
    text = suite.read_text(encoding="utf-8").replace("epochs = 2\n", "epochs = 2\nsplit_seed = 0\n")
    suite.write_text(text + "[tune]\ntrials = 5\nfolds = 1\nextend_at_most = 2\n", encoding="utf-8")
    return suite


def test_plan_says_what_would_be_tried_and_writes_nothing(call, tunable):
    result = call("tune", tunable, "--plan")
    assert "the same number of trials for each" in result.stdout
    assert "0.025 to 0.4" in result.stdout
    assert "next: grid, 10 runs on cpu" in result.stdout
    assert "at most 72 runs with every extension and the check" in result.stdout
    assert not Path("results").exists()


def test_tune_ends_with_its_table_and_the_suite_to_run(call, tunable, refused):
    result = call("tune", tunable)
    assert "next: grid" in result.stderr
    assert "round 1, grid" in result.stderr
    assert "best rate" in result.stdout
    assert "The test set was left alone." in result.stdout
    assert "small-tuned.toml: the tuned suite" in result.stdout
    assert "learning_rate" in call("report", "small.tune").stdout
    assert "tuned" in call("plan", "small-tuned.toml").stdout or Path("small-tuned.toml").is_file()
    assert Path("results/small.tune/figures/learning_rate.svg").is_file()
    before = Path("small-tuned.toml").read_text(encoding="utf-8")
    again = call("tune", tunable, code=2)
    assert "exists already and is not written over" in again.stderr
    assert Path("small-tuned.toml").read_text(encoding="utf-8") == before
    assert "the search is complete" in call("tune", tunable, "--plan").stdout
    call("tune", tunable, "--output", "other.toml")
    assert "rate" in Path("other.toml").read_text(encoding="utf-8")


def test_mistakes_are_said_before_anything_trains(call, suite, tunable):
    tunable.write_text(tunable.read_text(encoding="utf-8").replace("trials = 5", "trials = 2"), encoding="utf-8")
    assert "tune.trials: must be at least 3, not 2" in call("tune", tunable, code=2).stderr
    assert (
        "more than --max-device-hours" in call("tune", "quickstart", "--set", "split_seed=0", "--max-device-hours", "0.001", code=2).stderr
    )
    assert "every seed draws its own test set here" in call("tune", "quickstart", code=2).stderr
    assert not Path("results").exists()


def test_without_an_eligible_rate_the_exit_status_is_one(call, tunable, monkeypatch):
    monkeypatch.setenv("FAKE_BEST", '{"16": 1e-9}')
    result = call("tune", tunable, code=1)
    assert "none eligible" in result.stdout
    assert "no suite is written" in result.stderr
