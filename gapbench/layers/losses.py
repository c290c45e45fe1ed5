"""The loss of each example, as the catalog names it for a model: cross entropy of its logits, or what the model itself returns.

A model that explains its inputs and not their labels has its loss within: its forward returns [batch, 1], each example's loss in nats.
Every loss is a mean over examples of what each contributes, so that micro-batches, noise and noise scale are about the same quantity.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gapbench.catalog import models


@dataclass(frozen=True)
class Loss:
    """How outputs become losses."""

    classifies: bool
    """Whether outputs are logits; otherwise they are the losses, and there is no accuracy."""

    def of_examples(
        self, outputs: Float[Tensor, "replica outputs batch"], labels: Int[Tensor, "replica batch"]
    ) -> Float[Tensor, "replica batch"]:
        """Returns the loss of each example, in nats."""
        return F.cross_entropy(outputs, labels, reduction="none") if self.classifies else outputs[:, 0]

    def correct(
        self, outputs: Float[Tensor, "replica outputs batch"], labels: Int[Tensor, "replica batch"]
    ) -> Bool[Tensor, "replica batch"] | None:
        """Returns which examples are classified right; None where nothing is classified."""
        return outputs.argmax(dim=1) == labels if self.classifies else None


CROSS_ENTROPY = Loss(classifies=True)


def loss_of(model: str) -> Loss:
    """Returns the loss of a model by its name in the catalog."""
    return Loss(classifies=models()[model].classifies)
