"""What an update was made of: loss and accuracy of its batch, the gradient's norm, how often it was clipped, the learning rate."""

from __future__ import annotations

from torch import Tensor

from gapbench.probes.state import TrainState


def batch_metrics(state: TrainState) -> dict[str, Tensor]:
    """Mean loss and accuracy (a fraction) of the last batch, in training mode, augmented, before the update.

    The accuracy of a model that does not classify is NaN, and so is not recorded.
    """
    return {"batch_loss": state.batch_loss, "batch_accuracy": state.batch_correct / state.batch_size}


def clipping(state: TrainState) -> dict[str, Tensor]:
    """Share of all updates so far whose gradient was scaled down, a fraction.

    A threshold on the gradient's norm is a learning rate that depends on the batch size.
    """
    return {"clipped_share": state.clipped_updates / max(state.update, 1)}


def gradient_norm(state: TrainState) -> dict[str, Tensor]:
    """Global L2 norm of the last batch's gradient, before clipping and without weight decay.

    Its square's mean is |G|^2 + tr(Sigma) / batch size, so it depends on the batch size.
    """
    return {"gradient_norm": state.gradient_norm}


def learning_rate(state: TrainState) -> dict[str, Tensor]:
    """Learning rate of the last update, with warmup and phases."""
    return {"learning_rate": state.learning_rate}
