"""Batch norm statistics recomputed at the current weights, for measurements that a lagging moving average would bias.

A moving average reaches back over updates, and a large batch makes few of them: on early curves that alone looks like a
batch-size effect (several percentage points in the first updates). Recalibrated statistics are those of fixed examples,
grouped as in training, at the weights as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from gapbench.layers.ghost_batch_norm import GhostBatchNorm


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
