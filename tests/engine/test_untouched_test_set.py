"""A run without `test_evaluation` never looks at the test set: whatever stands there, every number of it is the same."""

import dataclasses

import numpy as np
import pytest

from gapbench.core.events import Finished, Measured, Outcome, Progressed
from gapbench.engine.evaluation import Evaluator
from gapbench.engine.feed import Feed
from tests.engine.runs import run


def poisoned(pool):
    """The same pool with other images and impossible labels where the test set is."""
    images, labels = pool.images.copy(), pool.labels.copy()
    images[pool.official_train :] = 255 - images[pool.official_train :]
    labels[pool.official_train :] = 10**6
    return dataclasses.replace(pool, images=images, labels=labels)


def numbers(events):
    measured = [(event.replica, event.update, event.values) for event in events if isinstance(event, Measured)]
    summaries = [
        {name: value for name, value in event.summary.items() if not name.endswith(("_seconds", "_mib"))}
        for event in events
        if isinstance(event, Finished)
    ]
    return measured, summaries


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_poisoned_test_set_changes_no_number(spec, pool, split, replicas):
    specs = [spec(test_evaluation=False, seed=seed, learning_rate=0.05 * 2**seed, ghost_batch_size=10) for seed in range(replicas)]
    splits = [split(pool(), validation=20)] * replicas
    clean, poison = (numbers(run(specs, data, splits)) for data in (pool(), poisoned(pool())))
    assert clean == poison
    assert all(summary["validation_accuracy"] > 0.3 for summary in clean[1])


def test_a_run_that_does_evaluate_it_notices_the_poison(spec, pool, split):
    with pytest.raises(IndexError, match="out of bounds"):
        run([spec()], poisoned(pool()), [split(pool(), validation=20)])


def test_no_evaluated_example_is_one_of_the_test_set(spec, pool, split, monkeypatch):
    seen = []
    original = Feed.evaluation_batch
    monkeypatch.setattr(Feed, "evaluation_batch", lambda self, indices: (seen.append(indices.numpy()), original(self, indices))[1])
    own = split(pool(), validation=20)
    run([spec(test_evaluation=False)], pool(), [own])
    evaluated = np.unique(np.concatenate([indices.ravel() for indices in seen]))
    assert set(evaluated) == set(own.validation) | set(own.train_evaluation)
    assert not set(evaluated) & set(own.test)


def test_no_number_of_a_trial_speaks_of_the_test_set(spec, pool, split):
    events = run([spec(test_evaluation=False)], pool(), [split(pool(), validation=20)])
    metrics = {name for event in events if isinstance(event, Measured) for name, _, _ in event.values}
    ended = next(event for event in events if isinstance(event, Finished))
    assert not [name for name in {*metrics, *ended.summary} if "test" in name]
    assert {"validation_accuracy", "train_accuracy", "recalibrated_train_accuracy"} <= metrics
    assert ended.test_correct == b""
    assert all(event.headline == (None,) for event in events if isinstance(event, Progressed))


def test_leaving_the_test_set_alone_changes_no_trained_number(spec, pool, split):
    own = split(pool(), validation=20)
    with_tests, without = (run([spec(test_evaluation=look)], pool(), [own]) for look in (True, False))

    def curves(events):
        return [
            (event.update, value)
            for event in events
            if isinstance(event, Measured)
            for value in event.values
            if not value[0].removeprefix("recalibrated_").startswith("test_")
        ]

    assert curves(with_tests) == curves(without)


def test_folds_train_as_one_stack_each_on_its_own_part(spec, pool):
    from gapbench.workloads.datasets.splits import split as drawn

    specs = [spec(holdout=0.2, fold=fold, test_evaluation=False, train_examples=80) for fold in range(5)]
    splits = [drawn(pool(), one) for one in specs]
    together = numbers(run(specs, pool(), splits))[1]
    alone = numbers(run(specs[3:4], pool(), splits[3:4]))[1]
    assert together[3]["validation_loss"] == pytest.approx(alone[0]["validation_loss"], rel=1e-4)
    assert len({summary["validation_loss"] for summary in together}) == 5
    assert all(event.outcome is Outcome.OK for event in run(specs, pool(), splits) if isinstance(event, Finished))


def test_the_evaluator_holds_no_test_examples(spec, pool, split):
    import torch

    from gapbench.engine.trainer import Trainer

    trainer = Trainer(
        [spec(test_evaluation=False)], pool(), [split(pool(), validation=20)], device=torch.device("cpu"), emit=lambda _: None
    )
    assert isinstance(trainer.evaluator, Evaluator)
    assert set(trainer.evaluator._sets) == {"train", "validation"}
