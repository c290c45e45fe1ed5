"""Tasks, live: what outputs and targets of examples come to. The catalog says what each is called and how its metrics are shown.

Every loss is a mean over examples, by their weights, of what each contributes, so that micro-batches, noise and noise scale are about the
same quantity.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gapbench.catalog import task_of
from gapbench.core.registry import load_target
from gapbench.suite.runspec import RunSpec


class Task(ABC):
    """What a network is trained for, of all replicas at once."""

    @abstractmethod
    def losses(
        self, outputs: Float[Tensor, "replica outputs batch"], targets: Int[Tensor, "replica batch"]
    ) -> Float[Tensor, "replica batch"]:
        """Returns the loss of each example, in nats."""

    def weights(self, targets: Int[Tensor, "replica batch"]) -> Float[Tensor, "replica batch"] | None:
        """Returns how much each example counts in a mean, such as the tokens of a text; None where all count alike."""
        return None

    def correct(
        self, outputs: Float[Tensor, "replica outputs batch"], targets: Int[Tensor, "replica batch"]
    ) -> Bool[Tensor, "replica batch"] | None:
        """Returns which examples are right; None where nothing is right or wrong."""
        return None

    def outputs(self, classes: int) -> int:
        """Returns how many outputs an example has on data of so many classes."""
        return 1

    def values(
        self, outputs: Float[Tensor, "replica outputs batch"], targets: Int[Tensor, "replica batch"]
    ) -> Mapping[str, Float[Tensor, "replica batch"] | Bool[Tensor, "replica batch"]]:
        """Returns what each example contributes to the metrics of the task, by their names in the catalog."""
        return {"loss": self.losses(outputs, targets)}


class Classification(Task):
    """Labels, by the cross entropy of logits.

    Args:
        label_smoothing: share of each label that is spread over all classes in the loss that is trained on (Szegedy et al. 2016,
            arXiv:1512.00567, section 7). Metrics are of the labels themselves.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def losses(
        self, outputs: Float[Tensor, "replica outputs batch"], targets: Int[Tensor, "replica batch"]
    ) -> Float[Tensor, "replica batch"]:
        """See `Task`."""
        return F.cross_entropy(outputs, targets, reduction="none", label_smoothing=self.label_smoothing)

    def correct(
        self, outputs: Float[Tensor, "replica outputs batch"], targets: Int[Tensor, "replica batch"]
    ) -> Bool[Tensor, "replica batch"]:
        """See `Task`."""
        return outputs.argmax(dim=1) == targets

    def outputs(self, classes: int) -> int:
        """See `Task`."""
        return classes

    def values(
        self, outputs: Float[Tensor, "replica outputs batch"], targets: Int[Tensor, "replica batch"]
    ) -> Mapping[str, Float[Tensor, "replica batch"] | Bool[Tensor, "replica batch"]]:
        """See `Task`."""
        return {"loss": F.cross_entropy(outputs, targets, reduction="none"), "accuracy": self.correct(outputs, targets)}


class Reconstruction(Task):
    """Inputs: the model has its loss within, and its forward returns that of each example, [batch, 1]."""

    def losses(
        self, outputs: Float[Tensor, "replica outputs batch"], targets: Int[Tensor, "replica batch"]
    ) -> Float[Tensor, "replica batch"]:
        """See `Task`."""
        return outputs[:, 0]


def live_task(model: str, **options: float) -> Task:
    """Returns the task of a model by its name in the catalog; options are those of its target."""
    task: Task = load_target(task_of(model).target)(**options)
    return task


def training_task(spec: RunSpec) -> Task:
    """Returns the task of a run, with the loss that it trains on."""
    return live_task(spec.model.name, **({"label_smoothing": spec.label_smoothing} if spec.label_smoothing else {}))
