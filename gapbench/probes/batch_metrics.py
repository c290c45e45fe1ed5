"""Loss and, of models that classify, accuracy of the batch that an update was made from."""

from __future__ import annotations

from torch import Tensor

from gapbench.probes.state import TrainState


def batch_metrics(state: TrainState) -> dict[str, Tensor]:
    """Mean loss and accuracy (a fraction) of the last batch, in training mode, augmented, before the update.

    The accuracy of a model that does not classify is NaN, and so is not recorded.
    """
    return {"batch_loss": state.batch_loss, "batch_accuracy": state.batch_correct / state.batch_size}
