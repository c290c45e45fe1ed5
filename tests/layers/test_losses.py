"""The loss as a property of the model: cross entropy of logits, or what the model returns."""

import torch
import torch.nn.functional as F

from gapbench import catalog
from gapbench.engine.program import batch_loss
from gapbench.layers.losses import CROSS_ENTROPY, Loss, loss_of


def test_cross_entropy_is_torchs_bit_by_bit():
    outputs, labels = torch.randn(2, 5, 7), torch.randint(5, (2, 7))
    assert torch.equal(CROSS_ENTROPY.of_examples(outputs, labels), F.cross_entropy(outputs, labels, reduction="none"))
    assert torch.equal(CROSS_ENTROPY.correct(outputs, labels), outputs.argmax(dim=1) == labels)


def test_a_model_with_its_loss_within_has_no_right_and_wrong():
    own = Loss(classifies=False)
    outputs, labels = torch.rand(1, 1, 6), torch.zeros(1, 6, dtype=torch.int64)
    assert torch.equal(own.of_examples(outputs, labels), outputs[:, 0])
    assert own.correct(outputs, labels) is None


def test_the_mean_over_unequal_groups_is_of_whatever_loss():
    outputs, labels = torch.rand(1, 1, 5), torch.zeros(1, 5, dtype=torch.int64)
    wanted = (outputs[0, 0, :3].mean() + outputs[0, 0, 3:].mean()) / 2
    torch.testing.assert_close(batch_loss(outputs, labels, 3, loss=Loss(classifies=False))[0], wanted)


def test_the_catalog_says_which_loss_a_model_has():
    own = {name: entry.loss for name, entry in catalog.models().items() if not loss_of(name).classifies}
    assert own == {"autoencoder": "reconstruction", "variational-autoencoder": "evidence-lower-bound"}
