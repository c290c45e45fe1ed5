"""The seconds of a job are guessed from what it has to do, each in the bucket that results record."""

from __future__ import annotations

import pytest

from gapbench import cost
from gapbench.cost.guess import Guess, checkpoint_seconds, guess
from gapbench.suite import Component, load_suite

GUESS = Guess(update_seconds=0.1, probe_seconds=0.05, evaluation_seconds=0.5, example_seconds=0.001)
WORK = cost.Work(updates=1000, observed=60, evaluations=4, examples=10_000)
SB, LB = (load_suite("quickstart", only=f"arm={arm},seed=0").runs[0].spec for arm in ("SB", "LB"))


def test_a_job_is_the_sum_of_its_updates_probes_and_evaluations() -> None:
    assert GUESS.train(WORK) == pytest.approx(1000 * 0.1 + 60 * 0.05)
    assert GUESS.evaluation(WORK) == pytest.approx(4 * 0.5 + 10_000 * 0.001)


def test_long_jobs_write_a_checkpoint_a_minute() -> None:
    assert checkpoint_seconds(SB, 1, 59.0) == 0.0
    assert checkpoint_seconds(SB, 1, 200.0) == pytest.approx(3 * checkpoint_seconds(SB, 1, 61.0))
    assert checkpoint_seconds(SB, 8, 61.0) > checkpoint_seconds(SB, 1, 61.0) > 0.0


def test_guesses_grow_with_batch_and_replicas() -> None:
    single, stack, large = (guess(spec, replicas=replicas, device_kind="cpu") for spec, replicas in ((SB, 1), (SB, 8), (LB, 1)))
    assert single.update_seconds < stack.update_seconds < 8 * single.update_seconds
    assert single.update_seconds < large.update_seconds
    assert single.example_seconds < stack.example_seconds


def test_of_a_model_of_unknown_size_only_the_shape_is_known() -> None:
    unknown = SB.model_copy(update={"model": Component(name="plugin")})
    assert guess(unknown, replicas=1, device_kind="cpu") == Guess()
    assert cost.estimate(unknown).basis == "unknown"
    assert cost.estimate(unknown).seconds is None
