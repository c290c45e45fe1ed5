"""Parameter tensors in flat rows: their norms in one call, and numbers of each tensor spread over its columns."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gapbench.optimizers.base import FlatBuffers


class Tensors:
    """The parameter tensors of all replicas, for rules that look at each of them (LARS, LAMB).

    Fused weights, such as those of queries, keys and values in one matrix, are one tensor here.

    Args:
        buffers: with the tensors' places.
    """

    def __init__(self, buffers: FlatBuffers) -> None:
        replicas, columns = buffers.weights.shape
        starts = [tensor.start for tensor in buffers.tensors]
        # The padding behind a tensor is zero, so that it may be counted with it: norms stay what they are.
        widths = [stop - start for start, stop in itertools.pairwise([*starts, columns])]
        self._widths = widths * replicas
        self._starts = torch.tensor(starts, device=buffers.weights.device)
        self._tensor_of = torch.arange(len(starts)).repeat_interleave(torch.tensor(widths)).to(buffers.weights.device)
        self._buffers = buffers

    def norms(self, rows: Float[Tensor, "replica parameters"]) -> Float[Tensor, "replica tensor"]:
        """Returns the L2 norm of each tensor."""
        return torch.stack(torch._foreach_norm(torch.split(rows.view(-1), self._widths))).view(len(rows), -1)

    def sizes(self, rows: Float[Tensor, "replica parameters"]) -> Float[Tensor, "replica tensor"]:
        """Returns the root mean square of the numbers of each tensor."""
        numbers = [(tensor.stop - tensor.start) ** 0.5 for tensor in self._buffers.tensors]
        return self.norms(rows) / torch.tensor(numbers, dtype=rows.dtype, device=rows.device)

    def spread(self, values: Float[Tensor, "replica tensor"]) -> Float[Tensor, "replica parameters"]:
        """Returns the value of each tensor in all of its columns."""
        return values.index_select(1, self._tensor_of)

    def first(self, rows: Float[Tensor, "replica parameters"]) -> Float[Tensor, "replica tensor"]:
        """Returns what stands in the first column of each tensor: of rows that are constant over it, such as weight decay."""
        return rows.index_select(1, self._starts)

    def chosen(self, which: str) -> Bool[Tensor, " tensor"]:
        """Returns whether each tensor is one of `matrices` (two dimensions or more), `decayed` (with weight decay) or `all`."""
        chosen = [
            which == "all" or (len(tensor.shape) > 1 if which == "matrices" else tensor.start < self._buffers.decayed)
            for tensor in self._buffers.tensors
        ]
        return torch.tensor(chosen, device=self._starts.device)
