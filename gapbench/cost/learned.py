"""The parts of a job as far as this machine knows them: a guess, a short measurement, and what the last jobs took, in growing trust.

A job that trained tells the sum of a bucket, not its parts. So the shape (what an update, a probe, an evaluated example cost beside each
other) comes from the short measurement or, where there is none, from the guess, and the jobs scale it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from gapbench.cost import calibration
from gapbench.cost.calibration import Entry, TimedJob
from gapbench.cost.parts import NOTHING_KNOWN, Parts, buckets, guessed_parts
from gapbench.cost.place import Place
from gapbench.cost.work import Work, work_of
from gapbench.suite.runspec import RunSpec

Basis: TypeAlias = Literal["measured", "calibrated", "rough", "unknown"]

FADING = 0.5
"""Trust in a job beside the next one of its length."""
ENOUGH_SHARE = 0.1
"""A job of this share of the asked updates counts a quarter, one of a tenth of that hardly at all: short ones warm up most of their time,
and the three updates of `--smoke` do nothing else."""
MEASUREMENT_TRUST = 0.2
"""Trust in a short measurement; the last job of full length counts 0.8."""
GUESS_TRUST = 0.02
"""The same of a guess."""


@dataclass(frozen=True)
class Learned:
    """What is known of the parts of a job."""

    parts: Parts
    basis: Basis
    """measured: by jobs that trained here; calibrated: by a short measurement here; rough: guessed."""


def learned_parts(spec: RunSpec, place: Place | None, *, replicas: int, device_kind: str) -> Learned | None:
    """Returns the parts of a job, or None where nothing is known and nothing can be guessed.

    Args:
        spec: of one of its runs.
        place: where it would train; None: anywhere, so that only a guess is possible.
        replicas: runs of the job.
        device_kind: "cpu" or "cuda".
    """
    guess = guessed_parts(spec, replicas=replicas, device_kind=device_kind)
    if place is None:
        return None if guess is None else Learned(guess, "rough")
    entry = calibration.lookup(spec, place, replicas=replicas)
    measured = entry.measured if entry else None
    asked = work_of(spec, replicas=replicas)
    shape = measured or (None if guess is None else _corrected(guess, calibration.relatives(spec, place, replicas=replicas), asked))
    jobs = entry.jobs if entry else ()
    if shape is None and not jobs:
        return None
    trust = _trust(jobs, asked)
    basis: Basis = "rough" if measured is None else "calibrated"
    if sum(trust) >= MEASUREMENT_TRUST:
        basis = "measured"
    elif shape is None:
        basis = "rough"
    prior = 0.0 if shape is None else GUESS_TRUST if measured is None else MEASUREMENT_TRUST
    return Learned(_scaled(shape or NOTHING_KNOWN, jobs, trust, prior), basis)


def _corrected(guess: Parts, relatives: Sequence[Entry], asked: Work) -> Parts:
    """Returns a guess corrected by what guesses were wrong for the same model at the nearest batch size that was timed."""
    for entry in relatives:
        if entry.guess is None or not (entry.jobs or entry.measured):
            continue
        known = entry.measured or entry.guess
        if entry.jobs:
            known = _scaled(known, entry.jobs, _trust(entry.jobs, asked), MEASUREMENT_TRUST if entry.measured else GUESS_TRUST)
        train = _ratio(known.update_seconds, entry.guess.update_seconds)
        evaluation = _ratio(known.example_seconds, entry.guess.example_seconds)
        return _times(guess, train, evaluation).model_copy(update={name: getattr(known, name) for name in _ONCE})
    return guess


def _scaled(shape: Parts, jobs: Sequence[TimedJob], trust: Sequence[float], prior: float) -> Parts:
    """Returns a shape scaled so that the jobs, by their trust, would have taken what they took.

    Args:
        shape: the parts beside each other.
        jobs: what trained.
        trust: of each of them.
        prior: of the shape as it is.
    """
    expected = [buckets(shape, job.work) for job in jobs]
    train = _mean([_ratio(job.train_seconds, found.train) for job, found in zip(jobs, expected, strict=True)], trust, 1.0, prior)
    evaluation = _mean(
        [_ratio(job.evaluation_seconds, found.evaluation) for job, found in zip(jobs, expected, strict=True)], trust, 1.0, prior
    )
    # What happens once a job takes as long in a short job as in a long one.
    once = [FADING**age for age in reversed(range(len(jobs)))]
    setup = _mean([job.setup_seconds for job in jobs], once, shape.setup_seconds, prior)
    outside = _mean([job.outside_seconds for job in jobs], once, shape.outside_seconds, prior)
    return _times(shape, train, evaluation).model_copy(update={"setup_seconds": setup, "outside_seconds": outside})


def _times(parts: Parts, train: float, evaluation: float) -> Parts:
    factors = {"begin": train, "update": train, "probe": train, "evaluation": evaluation, "example": evaluation}
    return parts.model_copy(update={f"{name}_seconds": factor * getattr(parts, f"{name}_seconds") for name, factor in factors.items()})


def _trust(jobs: Sequence[TimedJob], asked: Work) -> list[float]:
    """Returns how much each job counts: recent ones and long ones more."""
    trust = []
    for position, job in enumerate(jobs):
        later = sum(other.work.updates == job.work.updates for other in jobs[position + 1 :])
        trust.append(FADING**later * (job.work.updates / (job.work.updates + ENOUGH_SHARE * asked.updates)) ** 2)
    return trust


def _mean(values: Sequence[float | None], weights: Sequence[float], prior: float, weight: float) -> float:
    known = [(value, weight) for value, weight in zip(values, weights, strict=True) if value is not None]
    total = weight + sum(weight for _, weight in known)
    return prior if total <= 0.0 else (weight * prior + sum(value * weight for value, weight in known)) / total


def _ratio(actual: float, expected: float) -> float:
    return actual / expected if expected > 0.0 else 1.0


_ONCE = ("setup_seconds", "program_seconds", "outside_seconds")
