"""The norm that a network is built with: batch norm, group norm or none, as its option `norm` says.

Group norm (Wu and He 2018, arXiv:1803.08494) normalizes each example by itself, in groups of 16 channels, the best of the numbers
of channels a group in their table 3. So no example depends on the others of its batch, and what the ghost batch size changes is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

import torch
from torch import nn

from gapbench.layers.ghost_batch_norm import GhostBatchNorm

Norm: TypeAlias = Literal["batch", "group", "none"]

CHANNELS_PER_GROUP = 16


def norm_groups(channels: int) -> int:
    """Returns the number of groups of group norm: groups of 16 channels, or one of all channels where 16 does not divide them."""
    return channels // CHANNELS_PER_GROUP if channels % CHANNELS_PER_GROUP == 0 else 1


def norm1d(norm: Norm, features: int) -> list[nn.Module]:
    """Returns the norm of a dense layer's outputs [batch, features]; an empty list where there is none."""
    return _norm(norm, features, nn.BatchNorm1d)


def norm2d(norm: Norm, channels: int) -> list[nn.Module]:
    """Returns the norm of a convolution's outputs [batch, channels, height, width]; an empty list where there is none."""
    return _norm(norm, channels, nn.BatchNorm2d)


def _norm(norm: Norm, channels: int, batch_norm: type[nn.BatchNorm1d] | type[nn.BatchNorm2d]) -> list[nn.Module]:
    if norm == "batch":
        return [batch_norm(channels)]
    return [nn.GroupNorm(norm_groups(channels), channels)] if norm == "group" else []


# Batch norm statistics recomputed at the current weights, for measurements that a lagging moving average would bias.
#
# A moving average reaches back over updates, and a large batch makes few of them: on early curves that alone looks like a
# batch-size effect (several percentage points in the first updates). Recalibrated statistics are those of fixed examples,
# grouped as in training, at the weights as they are.


@contextmanager
def recalibrated(model: nn.Module, forward: Callable[[], None]) -> Iterator[None]:
    """Within the context the norm layers of `model` hold the statistics of `forward`, afterwards their own again.

    Args:
        model: any module with GhostBatchNorm layers; its training mode is restored.
        forward: passes the fixed examples through the model, in training mode, one batch or several.
    """
    layers = [module for module in model.modules() if isinstance(module, GhostBatchNorm)]
    kept = [(layer.running_mean.clone(), layer.running_var.clone(), layer.steps.clone()) for layer in layers]
    rules = [(layer.momentum, layer.running_statistics, layer.deferred, layer.form) for layer in layers]
    mode = model.training
    for layer in layers:
        layer.reset_running_statistics()
        # Deferred: all batches of the forward are committed together, as the groups of one.
        layer.momentum, layer.running_statistics, layer.deferred = None, "mean", True
    try:
        model.train()
        with torch.no_grad():
            forward()
        for layer in layers:
            layer.commit()
        model.train(mode)
        yield
    finally:
        model.train(mode)
        for layer, (mean, variance, steps), (momentum, statistics, deferred, form) in zip(layers, kept, rules, strict=True):
            layer.running_mean.copy_(mean)
            layer.running_var.copy_(variance)
            layer.steps.copy_(steps)
            layer.momentum, layer.running_statistics, layer.deferred, layer.form = momentum, statistics, deferred, form
