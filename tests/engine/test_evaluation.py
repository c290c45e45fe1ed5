"""Recalibrated statistics against their definition: batch after batch of the fixed examples, each a group as training has it."""

import copy

import pytest
import torch

from gapbench.engine import evaluation
from gapbench.layers.norms import recalibrated
from gapbench.suite.runspec import Component
from tests.engine.runs import advance, make_trainer

RESNET8 = Component(name="resnet", options={"depth": 8})


def batch_after_batch(trainer, batch_size):
    """Evaluates under the statistics of whole batches that pass one by one; what does not fill a batch is left out."""
    program, feed = trainer.program, trainer.feed
    whole = feed.train_size // batch_size * batch_size

    def forward():
        for indices in feed.members[:, :whole].split(batch_size, dim=1):
            program.forward(feed.calibration_batch(indices))

    module = trainer.network.module.eval()
    values = {}
    with torch.no_grad(), recalibrated(module, forward):
        for name in ("test", "train"):
            trainer.evaluator._measure(name, "recalibrated_", values)
    module.train()
    return values


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("chunk", [evaluation.CHUNK_EXAMPLES, 40])
@pytest.mark.parametrize("batch_size", [7, 20, 100])
def test_groups_that_pass_at_once_give_the_statistics_of_batches(spec, pool, monkeypatch, replicas, chunk, batch_size):
    monkeypatch.setattr(evaluation, "CHUNK_EXAMPLES", chunk)
    trainer = make_trainer([spec(seed=seed, batch_size=batch_size, crop_padding=1) for seed in range(replicas)], pool())
    advance(3, trainer)
    found = trainer.evaluator.evaluate(recalibrate=True, batch_size=batch_size).values
    for name, expected in batch_after_batch(trainer, batch_size).items():
        assert found[name] == pytest.approx(expected, rel=1e-5), name
    assert found["recalibrated_test_loss"] != pytest.approx(found["test_loss"], rel=1e-3)


def test_the_same_of_a_convolutional_network(spec, pool):
    data = pool(height=8, channels=3)
    trainer = make_trainer([spec(model=RESNET8, batch_size=10)], data)
    advance(3, trainer)
    found = trainer.evaluator.evaluate(recalibrate=True, batch_size=10).values
    for name, expected in batch_after_batch(trainer, 10).items():
        assert found[name] == pytest.approx(expected, rel=1e-4), name


def test_recalibrating_leaves_no_trace(spec, pool):
    trainer = make_trainer([spec(batch_size=20)], pool())
    advance(3, trainer)
    layers = trainer.network.norms
    for layer in layers:
        layer.form = "as trained"
    before = copy.deepcopy(trainer.network.module.state_dict())
    trainer.evaluator.evaluate(recalibrate=True, batch_size=20)
    assert all(torch.equal(value, before[name]) for name, value in trainer.network.module.state_dict().items())
    assert {(layer.ragged_group_size, layer.form, layer.deferred, len(layer._pending)) for layer in layers} == {
        (None, "as trained", True, 0)
    }


def test_a_network_without_batch_norm_passes_each_example_once(spec, pool, monkeypatch):
    trainer = make_trainer([spec(model=Component(name="mlp", options={"widths": [16], "norm": "none"}))], pool())
    trainer.step()
    seen, forward = [], trainer.program.forward
    monkeypatch.setattr(trainer.program, "forward", lambda batch: (seen.append(batch.labels.shape[1]), forward(batch))[1])
    values = trainer.evaluator.evaluate(recalibrate=True, batch_size=20).values
    assert sum(seen) == 60 + 60
    for name in ("test_loss", "train_loss", "test_accuracy", "train_accuracy"):
        assert values[f"recalibrated_{name}"] == values[name]
