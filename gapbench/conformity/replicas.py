"""Check of replicas: a run trained within a stack is the run trained alone."""

from __future__ import annotations

import torch
from torch import nn

from gapbench.catalog import ModelEntry
from gapbench.conformity.sheet import Answer, close, does_not_apply, failed, passed
from gapbench.conformity.workbench import BATCH, UPDATES, advance, make_spec, start
from gapbench.layers.stacked import can_stack, stack
from gapbench.suite.runspec import Component
from gapbench.workloads.datasets.arrays import Pool

SEEDS = (0, 1, 2)
TOLERANCE = 1e-5


def check_replicas(component: Component, model: nn.Module, pool: Pool, entry: ModelEntry) -> Answer:
    """Compares a stack of three seeds with each of them alone, and the stacked layers with the plain ones.

    Args:
        component: the model.
        model: it, with ghost batch norm in place.
        pool: data that it takes.
        entry: what it is declared as.
    """
    if not can_stack(model):
        if entry.stackable:
            return failed(
                "it is declared stackable and is no plain nn.Sequential of Flatten, Linear, BatchNorm1d, GroupNorm and ReLU",
                "write it so, or remove stackable=True",
            )
        return does_not_apply("its runs train one by one; only plain sequences of dense layers stack")
    images = torch.randn(BATCH, *_input_shape(pool), generator=torch.Generator().manual_seed(2))
    if not close(model(images), stack([model])(images[None])[0].T, TOLERANCE):
        return failed("its stacked form computes something else", "use torch's own layers as they are, without changing their forward")
    together = start([make_spec(model=component, seed=seed) for seed in SEEDS], pool)
    advance(together, UPDATES)
    bits = True
    for replica, seed in enumerate(SEEDS):
        alone = start([make_spec(model=component, seed=seed)], pool)
        advance(alone, UPDATES)
        if not close(alone.network.weights[0], together.network.weights[replica], TOLERANCE):
            return failed(
                f"seed {seed} ends elsewhere in a stack of {len(SEEDS)} than alone", "let no replica's values depend on another's"
            )
        bits = bits and torch.equal(alone.network.weights[0], together.network.weights[replica])
    how = "bit by bit" if bits else f"to {TOLERANCE:g}"
    hint = "" if entry.stackable else "; stackable=True in the decorator lets its seeds train together"
    return passed(f"a stack of {len(SEEDS)} seeds is {len(SEEDS)} runs, {how}{hint}")


def _input_shape(pool: Pool) -> tuple[int, ...]:
    if not pool.is_image:
        return tuple(pool.images.shape[1:])
    _, height, width, channels = pool.images.shape
    return channels, height, width
