"""The task as a property of the model: cross entropy of logits, or the loss that the model returns."""

import torch
import torch.nn.functional as F

from gapbench import catalog
from gapbench.engine.program import mean_loss
from gapbench.workloads.tasks import live_task


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
