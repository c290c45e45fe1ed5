"""What a job has to do, counted: updates, probes, evaluations, examples evaluated."""

from __future__ import annotations

from typing import Any

from gapbench import catalog
from gapbench.sizing.sizes import facts_of
from gapbench.suite.batches import LATE, RECALIBRATION_EXAMPLES, evaluation_updates, probe_updates
from gapbench.suite.runspec import Frozen, RunSpec, has_batch_norm


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


def gradients_per_update(spec: RunSpec) -> int:
    """Returns how many gradients of its batch an update computes; 1 of an optimizer that the catalog does not know."""
    known = catalog.optimizers()
    return known[spec.optimizer.name].gradients_per_update if spec.optimizer.name in known else 1


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
