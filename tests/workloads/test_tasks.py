"""The task as a property of the model: cross entropy of logits, or the loss that the model returns."""

import pytest
import torch
import torch.nn.functional as F

from gapbench import catalog
from gapbench.engine.program import mean_loss
from gapbench.probes.state import ObjectiveBatch
from gapbench.suite.runspec import Component
from gapbench.workloads.tasks import Classification, live_task, training_task
from tests.engine.runs import make_trainer


def test_a_classification_has_torchs_cross_entropy_bit_by_bit_and_right_and_wrong():
    outputs, labels = torch.randn(2, 5, 7), torch.randint(5, (2, 7))
    task = live_task("mlp")
    assert torch.equal(task.losses(outputs, labels), F.cross_entropy(outputs, labels, reduction="none"))
    assert torch.equal(task.correct(outputs, labels), outputs.argmax(dim=1) == labels)
    assert task.outputs(classes=5) == 5


def test_a_model_with_its_loss_within_has_no_right_and_wrong():
    outputs, labels = torch.rand(1, 1, 6), torch.zeros(1, 6, dtype=torch.int64)
    task = live_task("variational-autoencoder")
    assert torch.equal(task.losses(outputs, labels), outputs[:, 0])
    assert task.correct(outputs, labels) is None
    assert task.outputs(classes=5) == 1


def test_a_task_measures_the_metrics_that_the_catalog_says():
    outputs, labels = torch.randn(1, 3, 4), torch.zeros(1, 4, dtype=torch.int64)
    for model in catalog.models():
        assert set(live_task(model).values(outputs, labels)) == {metric.name for metric in catalog.task_of(model).metrics}


def test_the_mean_over_unequal_groups_is_that_of_their_means():
    losses = torch.rand(1, 5)
    torch.testing.assert_close(mean_loss(losses, 3)[0], (losses[0, :3].mean() + losses[0, 3:].mean()) / 2)


class Weighed(Classification):
    """Examples of class 1 count three times."""

    def weights(self, targets):
        return 1.0 + 2.0 * (targets == 1)


@pytest.mark.parametrize("micro_batch_size", [None, 5])
def test_examples_count_by_their_weights_in_training_evaluation_and_objective(spec, pool, micro_batch_size):
    data, model = pool(), Component(name="mlp", options={"widths": [8], "norm": "none", "bias": True})
    trainer = make_trainer([spec(model=model, batch_size=20)], data,
        objective=True, probes={}, micro_batch_size=micro_batch_size,
    )  # fmt: skip
    trainer.program.task = trainer.program.objective._task = Weighed()

    def slowly(batch):
        weights = 1.0 + 2.0 * (batch.labels[0] == 1)
        outputs = trainer.program.forward(batch)[0].T
        loss = (F.cross_entropy(outputs, batch.labels[0], reduction="none") * weights).sum() / weights.sum()
        right = ((outputs.argmax(dim=1) == batch.labels[0]) * weights).sum() / weights.sum()
        return loss.detach(), right, torch.autograd.grad(loss, trainer.network.parameters)

    loss, _, gradients = slowly(trainer.feed.batch(0))
    found = trainer.program.objective.gradient(trainer.program.objective.at(1).batch())
    trainer.step()
    for rows in (trainer.network.gradients, found):
        for view, gradient in zip(trainer.network.views(rows), gradients, strict=True):
            torch.testing.assert_close(view[0], gradient[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(trainer.program._losses[0][0], loss)

    tested = torch.arange(100, 160)[None]
    loss, right, _ = slowly(trainer.feed.evaluation_batch(tested))
    values = trainer.evaluator.evaluate(recalibrate=False, batch_size=20).values
    assert values["test_loss"][0] == pytest.approx(float(loss), rel=1e-5)
    assert values["test_accuracy"][0] == pytest.approx(float(right))
    batch = ObjectiveBatch(tested, None, "running", 1)
    assert float(trainer.program.objective.loss(batch)[0]) == pytest.approx(float(loss), rel=1e-5)


def test_label_smoothing_is_of_the_loss_that_is_trained_on_and_of_no_metric(spec):
    outputs, labels = torch.randn(2, 5, 7), torch.randint(0, 5, (2, 7))
    task, plain = training_task(spec(label_smoothing=0.1)), training_task(spec())
    oracle = torch.nn.functional.cross_entropy(outputs, labels, reduction="none", label_smoothing=0.1)
    assert torch.equal(task.losses(outputs, labels), oracle)
    assert not torch.equal(task.losses(outputs, labels), plain.losses(outputs, labels))
    for name, values in plain.values(outputs, labels).items():
        assert torch.equal(task.values(outputs, labels)[name], values)
