"""The seconds of a job are the sum of its parts, each in the bucket that results record."""

from __future__ import annotations

import pytest

from gapbench import cost
from gapbench.cost.parts import Parts, buckets, guessed_parts
from gapbench.suite import Component, load_suite

PARTS = Parts(
    begin_seconds=1.0,
    update_seconds=0.1,
    probe_seconds=0.05,
    evaluation_seconds=0.5,
    example_seconds=0.001,
    setup_seconds=2.0,
    program_seconds=7.0,
    outside_seconds=3.0,
)
WORK = cost.Work(updates=1000, observed=60, evaluations=4, examples=10_000)
SB, LB = (load_suite("quickstart", only=f"arm={arm},seed=0").runs[0].spec for arm in ("SB", "LB"))


def test_every_part_is_in_its_bucket() -> None:
    found = buckets(PARTS, WORK)
    assert found.train == pytest.approx(1.0 + 1000 * 0.1 + 60 * 0.05)
    assert found.evaluation == pytest.approx(4 * 0.5 + 10_000 * 0.001)
    assert found.other == pytest.approx(2.0)
    assert found.total == pytest.approx(found.train + found.evaluation + found.other)


def test_long_jobs_write_a_checkpoint_a_minute() -> None:
    assert buckets(PARTS, WORK, checkpoint_seconds=0.25).other == pytest.approx(2.0 + 1 * 0.25)  # 116 s


def test_the_first_job_of_a_program_pays_for_it() -> None:
    assert buckets(PARTS, WORK, first=True).other == pytest.approx(9.0)


def test_guesses_grow_with_batch_and_replicas_and_are_none_for_what_is_not_known() -> None:
    single, stack, large = (guessed_parts(spec, replicas=replicas, device_kind="cpu") for spec, replicas in ((SB, 1), (SB, 8), (LB, 1)))
    assert single is not None
    assert stack is not None
    assert large is not None
    assert single.update_seconds < stack.update_seconds < 8 * single.update_seconds
    assert single.update_seconds < large.update_seconds
    assert single.example_seconds < stack.example_seconds
    assert guessed_parts(SB.model_copy(update={"model": Component(name="plugin")}), replicas=1, device_kind="cpu") is None
