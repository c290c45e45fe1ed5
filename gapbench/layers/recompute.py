"""Recomputation: blocks of a network keep their inputs alone, and pass forward again when the backward pass comes to them.

The same numbers in less memory, for a forward pass more. So plain batch norm over a batch that no memory would hold stays what it is,
where cutting the batch would make it ghost batch norm.

Source: Chen, Xu, Zhang and Guestrin 2016, Training deep nets with sublinear memory cost (arXiv:1604.06174).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from gapbench.layers.ghost_batch_norm import GhostBatchNorm

FEWEST_LAYERS = 2
"""With weights, of a block: of a single layer everything that it keeps is its input."""


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """Returns the blocks of a network: the parts of its sequences that have several layers with weights, innermost ones."""
    parts = [part for sequence in network.modules() if isinstance(sequence, nn.Sequential) for part in sequence]
    found = [part for part in dict.fromkeys(parts) if _layers(part) >= FEWEST_LAYERS]
    return [part for part in found if not any(other in found for other in part.modules() if other is not part)]


class Recomputed:
    """The blocks of a network, made to pass forward again in training.

    Args:
        network: whose blocks; batch norm is converted already.
    """

    def __init__(self, network: nn.Module) -> None:
        self._on = True
        for block in blocks_of(network):
            norms = [layer for layer in block.modules() if isinstance(layer, GhostBatchNorm)]
            block.forward = self._twice(block.forward, norms)

    @contextmanager
    def off(self) -> Iterator[None]:
        """Within it blocks keep everything: their second pass would not see weights that are only put in their place for a while."""
        before, self._on = self._on, False
        try:
            yield
        finally:
            self._on = before

    def _twice(self, forward: Callable[..., Any], norms: Sequence[GhostBatchNorm]) -> Callable[..., Any]:
        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), _seen(norms)

        def passed(*inputs: Any) -> Any:
            if not self._on or not torch.is_grad_enabled():
                return forward(*inputs)
            return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts)

        return passed


def _layers(module: nn.Module) -> int:
    return sum(parameter.ndim >= 2 for parameter in module.parameters())


@contextmanager
def _seen(norms: Sequence[GhostBatchNorm]) -> Iterator[None]:
    """Within it batch norms leave nothing for their running statistics, which have seen the batch."""
    for norm in norms:
        norm.seen = True
    try:
        yield
    finally:
        for norm in norms:
            norm.seen = False
