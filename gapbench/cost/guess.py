"""A rough guess at the seconds of a job, from counts and the speed of a kind of device. What jobs took corrects it: `calibration.py`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from gapbench import catalog
from gapbench.sizing.decisions import compiled_layers, recomputes, worth_compiling
from gapbench.sizing.kinds import KINDS, MOST_AT_A_TIME
from gapbench.sizing.sizes import facts_of, model_size
from gapbench.suite.batches import CHUNK_EXAMPLES, LATE, RECALIBRATION_EXAMPLES, evaluation_updates, probe_updates
from gapbench.suite.runspec import Frozen, RunSpec, has_batch_norm

# What a job has to do, counted: updates, probes, evaluations, examples evaluated.


class Work(Frozen):
    """Of one replica."""

    updates: int
    observed: int
    """Updates after which probes run, evaluations included."""
    evaluations: int
    examples: int
    """Examples that all evaluations together pass through the network, and probes of stage `checkpoint`."""


def work_of(spec: RunSpec, *, replicas: int = 1) -> Work:
    """Returns what one replica of a job has to do, of so many that train as a stack."""
    moments, batches = evaluation_updates(spec.batches, spec.evaluations), spec.batches
    once = evaluated_examples(spec)
    has_norm = has_batch_norm(spec.model)
    again = sum(has_norm and (update == spec.updates or batches.steps(update) < LATE * batches.all_steps) for update in moments)
    more = _seen_tests(spec) + _train_evaluation(spec) + min(RECALIBRATION_EXAMPLES, spec.train_examples)
    observed = len(probe_updates(spec.updates).union(moments))
    examples = len(moments) * once + again * more + _looked_at(spec, replicas)
    return Work(updates=spec.updates, observed=observed, evaluations=len(moments), examples=examples)


def evaluated_examples(spec: RunSpec) -> int:
    """Returns how many examples one plain evaluation measures: the test set unless left alone, as many for training, those held out."""
    held_out = round(spec.train_examples * spec.holdout / (1.0 - spec.holdout))
    return _seen_tests(spec) + _train_evaluation(spec) + held_out


def _looked_at(spec: RunSpec, replicas: int) -> int:
    """Returns how many examples the probes of stage `checkpoint` pass through the network, all their looks together."""
    known, batches, total = catalog.probes(), spec.batches, 0.0
    for name, options in spec.probe_options.items():
        if name not in known or not known[name].passes:
            continue
        entry = known[name]
        values: dict[str, Any] = {key: options.get(key, parameter.default) for key, parameter in entry.parameters.items()}
        looks = {batches.updates_at(round(fraction * batches.all_steps)) for fraction in values["at"] or spec.keep_weights}
        passes = sum(weight * (values[key] if key else 1.0) for key, weight in entry.passes.items())
        total += len(looks) * passes * min(values["examples"], spec.train_examples) * (replicas if entry.one_by_one else 1)
    return round(total)


def _seen_tests(spec: RunSpec) -> int:
    return _tests(spec) if spec.test_evaluation else 0


def _train_evaluation(spec: RunSpec) -> int:
    """Returns how many training examples an evaluation measures: as many as there are test examples."""
    return min(_tests(spec), spec.train_examples)


def _tests(spec: RunSpec) -> int:
    """Returns the size of the test set; where it is not known before the data are loaded, that of the training set stands for it."""
    facts = facts_of(spec)
    return int(spec.dataset.option("test_size", 0) or (facts.test_examples if facts else spec.train_examples))


COMPILE_SECONDS = 1.0
"""Of a layer, for the first time on a machine (the compiler keeps what it made). On one of two CPU cores that trained besides, ResNet-44
took 1.3 and F1 3."""
CHECKPOINT_SECONDS = 60.0
"""Between checkpoints."""
CHECKPOINT_BYTES = 16
"""Of a checkpoint, a parameter: weights, momentum, initial weights, and what else an optimizer keeps."""
CHECKPOINT_BYTES_PER_SECOND = 1e8
"""At which checkpoints are written; F1 on MNIST (23 MB) took 0.17 to 0.3 s each."""


@dataclass(frozen=True)
class Guess:
    """What a job is made of, in seconds of all its replicas together."""

    update_seconds: float = 1.0
    probe_seconds: float = 0.0
    """What an update takes more when probes look at it."""
    evaluation_seconds: float = 0.0
    """An evaluation, besides its examples."""
    example_seconds: float = 1.0
    """An evaluated example of every replica."""
    setup_seconds: float = 0.0
    """Once a job: network, feed, first tensors."""
    program_seconds: float = 0.0
    """What a worker's first job of a program takes more: compiling, kernels chosen, memory fetched."""
    outside_seconds: float = 0.0
    """Once a job, outside of what results record: data read, folders made, outcomes written."""

    def train(self, work: Work) -> float:
        """Returns the seconds of training."""
        return work.updates * self.update_seconds + work.observed * self.probe_seconds

    def evaluation(self, work: Work) -> float:
        """Returns the seconds of all evaluations."""
        return work.evaluations * self.evaluation_seconds + work.examples * self.example_seconds


def guess(spec: RunSpec, *, replicas: int, device_kind: str) -> Guess:
    """Returns a rough guess. Of a model of unknown size only the shape is known: training grows with updates, evaluation with examples."""
    size = model_size(spec)
    if size is None:
        return Guess()
    kind = KINDS[device_kind]
    launch, weights = size.layers * kind.layer_seconds, replicas * size.parameters * kind.parameter_seconds
    compiles = worth_compiling(spec, replicas=replicas, device_kind=device_kind)
    return Guess(
        update_seconds=1e-4 + launch + _work_seconds(spec, replicas, device_kind),
        probe_seconds=launch + weights,
        evaluation_seconds=2e-3,
        example_seconds=replicas * (size.evaluation_flops(1) / kind.flops_per_second + launch / 3.0 / CHUNK_EXAMPLES),
        setup_seconds=0.01 + 2.0 * weights,
        program_seconds=0.05 + (COMPILE_SECONDS * compiled_layers(spec) if compiles else 0.0),
        outside_seconds=0.05,
    )


def checkpoint_seconds(spec: RunSpec, replicas: int, trained_seconds: float) -> float:
    """Returns a rough guess at what all checkpoints of a job take that trains for so long."""
    size = model_size(spec)
    once = 0.02 + (0.0 if size is None else replicas * size.parameters * CHECKPOINT_BYTES / CHECKPOINT_BYTES_PER_SECOND)
    return trained_seconds // CHECKPOINT_SECONDS * once


def jobs_at_a_time(spec: RunSpec, *, replicas: int, device_kind: str) -> int:
    """Returns how many jobs of a kind a GPU trains at a time with gain: ceil(T_launch / T_work) of an update, from 1 to MOST_AT_A_TIME.

    T_launch grows with the layers alone; T_work with examples, weights and replicas, so that a large stack fills a GPU by itself. That
    many jobs beside one another have about as much work as each has launches; more could only wait for each other: their kernels take
    turns on the device unless its owner runs CUDA's multi-process service. Both are guesses and never what was timed: how a plan is laid
    out must not change while it trains.

    Args:
        spec: of one of its runs.
        replicas: runs of the job.
        device_kind: "cpu" or "cuda"; on a CPU, whose slots are its cores, and for a model of unknown size the answer is 1.
    """
    size = model_size(spec)
    if device_kind == "cpu" or size is None:
        return 1
    launch = size.layers * KINDS[device_kind].layer_seconds
    return min(MOST_AT_A_TIME, max(1, math.ceil(launch / _work_seconds(spec, replicas, device_kind))))


def _work_seconds(spec: RunSpec, replicas: int, device_kind: str) -> float:
    """Returns what an update costs beyond its kernels, arithmetic and weights moved, of a model whose size is known."""
    size, kind = model_size(spec), KINDS[device_kind]
    assert size is not None
    examples = spec.examples / spec.updates * spec.gradients_per_update
    if spec.adaptive_batch is not None:  # a measured batch is computed once more
        examples *= 1.0 + 1.0 / spec.adaptive_batch.measure_every
    flops = size.training_flops(examples) + (size.evaluation_flops(examples) if recomputes(spec, device_kind) else 0.0)
    return replicas * (size.parameters * kind.parameter_seconds + flops / kind.flops_per_second)
