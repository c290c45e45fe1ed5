"""A network in flat buffers: the parameters of all replicas in one tensor [replica, parameters], of which those of modules are views.

The optimizer, clipping and weight distance then cost a few kernels, whatever the number of tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gapbench.core.errors import TrainingError
from gapbench.layers.ghost_batch_norm import GhostBatchNorm, commit_all
from gapbench.layers.stacked import StackedLinear, stack
from gapbench.optimizers import FlatBuffers
from gapbench.probes import Columns

Rows: TypeAlias = Float[Tensor, "replica parameters"]

SHADOWED = (nn.Linear, nn.Conv2d, StackedLinear)
"""Layers whose weights are read in bf16 where activations are: matrix products and convolutions, as autocast would have it."""
ALIGNMENT = 16
"""Every tensor starts at a multiple of 16 floats (64 bytes), so that no replica's arithmetic depends on its place in a stack."""


class FlatNetwork:
    """One module that computes all replicas, its weights and gradients in flat rows.

    Args:
        models: one plain model a replica, same architecture, each with its initial weights; ghost batch norm already in place.
        device: where to train.
        decay_matrices_only: whether weight decay spares tensors of fewer than two dimensions.
        stacked: compute the replicas as a stack; needed for more than one.
        bf16: the weights of SHADOWED layers are read from a copy of the rows in bf16, rounded once an update for all layers; autocast
            would round each of them, and its gradient, by itself. To the same bits: weights, gradients and updates stay fp32.
    """

    def __init__(
        self, models: Sequence[nn.Module], *, device: torch.device, decay_matrices_only: bool, stacked: bool, bf16: bool = False
    ) -> None:
        self.stacked = stacked
        shapes = {name: parameter.shape for name, parameter in models[0].named_parameters()}
        decays = {name: len(shape) >= 2 or not decay_matrices_only for name, shape in shapes.items()}
        self.module = (stack(models) if stacked else models[0]).to(device)
        self.names = sorted(shapes, key=lambda name: not decays[name])  # stable: those with decay first, else in the model's order
        self.layers, self.decayed, width = _layout(self.names, shapes, decays)
        self.weights: Float[Tensor, "replica parameters"] = torch.zeros(len(models), width, device=device)
        self.gradients: Float[Tensor, "replica parameters"] = torch.zeros(len(models), width, device=device)
        named = dict(self.module.named_parameters())
        self.parameters = [named[name] for name in self.names]
        self._weight_views = self.views(self.weights)
        for view, parameter in zip(self._weight_views, self.parameters, strict=True):
            view.copy_(parameter.detach())
            parameter.data = view
        self._shadow = self.weights.to(torch.bfloat16) if bf16 else None
        if self._shadow is not None:
            shadowed = {id(module.weight) for module in self.module.modules() if isinstance(module, SHADOWED)}
            for view, parameter in zip(self.views(self._shadow), self.parameters, strict=True):
                if id(parameter) in shadowed:
                    parameter.data = view
        self._gradient_views = self.views(self.gradients)
        self._ones = torch.ones(len(models), device=device)
        self.initial_weights = self.weights.clone()
        self.norms = [module for module in self.module.modules() if isinstance(module, GhostBatchNorm)]
        for norm in self.norms:
            norm.deferred = True
        self._group_size: int | None = None

    @property
    def buffers(self) -> FlatBuffers:
        """Returns what the optimizer works on."""
        return FlatBuffers(self.weights, self.gradients, self.decayed, tuple(self.layers))

    def backward(
        self,
        loss: Float[Tensor, " replica"],
        *,
        share: float | Float[Tensor, " replica"] = 1.0,
        rows: Rows | None = None,
        add: bool = False,
    ) -> None:
        """Writes `share` times the gradient of each replica's loss into its flat row. No loss depends on another replica's weights.

        Args:
            loss: of a batch or micro-batch.
            share: of the update's loss that this one is; one a replica where examples have weights.
            rows: where to; default: `gradients`.
            add: adds to what is there.
        """
        whole = isinstance(share, float) and share == 1.0
        gradients = torch.autograd.grad(loss, self.parameters, self._ones if whole else self._ones * share)
        views = self._gradient_views if rows is None or rows is self.gradients else self.views(rows)
        if add:
            torch._foreach_add_(views, gradients)
        else:
            torch._foreach_copy_(views, gradients)

    def weights_moved(self) -> None:
        """Tells the network that `weights` have changed."""
        if self._shadow is not None:
            self._shadow.copy_(self.weights)

    @contextmanager
    def at(self, weights: Rows | None) -> Iterator[None]:
        """Within it the network computes at other weights, if any are given; afterwards its own are back, bit by bit."""
        if weights is None:
            yield
            return
        kept = self.weights.clone()
        self._put(weights)
        try:
            yield
        finally:
            self._put(kept)

    def _put(self, weights: Rows) -> None:
        self.weights.copy_(weights)
        self.weights_moved()

    @contextmanager
    def norms_unmoved(self) -> Iterator[None]:
        """What is passed within it leaves nothing for `commit_norms`."""
        kept = [list(norm._pending) for norm in self.norms]
        try:
            yield
        finally:
            for norm, pending in zip(self.norms, kept, strict=True):
                norm._pending[:] = pending

    def use_groups_of(self, group_size: int | None) -> None:
        """Lets the norm layers cut coming batches into groups of so many examples, the last maybe smaller; None: as their runs say."""
        if group_size != self._group_size:
            self._group_size = group_size
            for norm in self.norms:
                norm.ragged_group_size = group_size

    def commit_norms(self) -> None:
        """Moves the running statistics of all norm layers by one update."""
        commit_all(self.norms)

    def forget_pending(self) -> None:
        """Drops what forwards left for `commit_norms`, and a group size of a batch that was not finished."""
        self.use_groups_of(None)
        for norm in self.norms:
            norm.forget_pending()

    @property
    def moved(self) -> list[Tensor]:
        """All tensors that an update moves or writes."""
        shadow = [] if self._shadow is None else [self._shadow]
        return [self.weights, self.gradients, *shadow, *self.module.buffers()]

    def snapshot(self, replica: int) -> dict[str, Any]:
        """Returns weights and buffers of one replica, on the CPU."""
        return {
            "weights": self.weights[replica].cpu().clone(),
            "initial_weights": self.initial_weights[replica].cpu().clone(),
            "buffers": {name: self._of(buffer, replica).cpu().clone() for name, buffer in self.module.named_buffers()},
        }

    def restore(self, replica: int, snapshot: Mapping[str, Any]) -> None:
        """Takes back what `snapshot` returned, whatever stack the replica was in then."""
        self.weights[replica].copy_(snapshot["weights"])
        self.weights_moved()
        self.initial_weights[replica].copy_(snapshot["initial_weights"])
        for name, buffer in self.module.named_buffers():
            self._of(buffer, replica).copy_(snapshot["buffers"][name])

    def state_dict(self, replica: int) -> dict[str, Tensor]:
        """Returns one replica's parameters and buffers by name, as those of the plain model, on the CPU."""
        weights = dict(zip(self.names, self._weight_views, strict=True))
        tensors = [*((name, weights[name]) for name, _ in self.module.named_parameters()), *self.module.named_buffers()]
        return {name: self._of(tensor.detach(), replica).cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors}

    def _of(self, tensor: Tensor, replica: int) -> Tensor:
        # Counters of steps have no dimension and are the same for all replicas of a stack.
        return tensor[replica] if self.stacked and tensor.ndim else tensor

    def views(self, rows: Rows) -> list[Tensor]:
        """Returns the pieces of flat rows in the shapes of the parameters."""
        return [self._view(rows, layer, parameter) for layer, parameter in zip(self.layers, self.parameters, strict=True)]

    def _view(self, rows: Tensor, layer: Columns, parameter: nn.Parameter) -> Tensor:
        columns = rows[:, layer.start : layer.stop]
        if self.stacked:
            return columns.view(parameter.shape)
        if parameter.ndim == 4:  # kernels in channels-last order, the layout that convolutions want beside such images
            outputs, inputs, height, width = parameter.shape
            return columns[0].view(outputs, height, width, inputs).permute(0, 3, 1, 2)
        return columns[0].view(parameter.shape)


def _layout(names: Sequence[str], shapes: Mapping[str, torch.Size], decays: Mapping[str, bool]) -> tuple[tuple[Columns, ...], int, int]:
    layers, start, decayed = [], 0, 0
    for name in names:
        stop = start + shapes[name].numel()
        layers.append(Columns(name, start, stop, tuple(shapes[name])))
        start = -(-stop // ALIGNMENT) * ALIGNMENT
        if decays[name]:
            decayed = start
    return tuple(layers), decayed, start


def check_untied(model: nn.Module) -> None:
    """Raises TrainingError where two layers of a model share a parameter: each has columns of its own in the flat rows."""
    names: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        first = names.setdefault(id(parameter), name)
        if first != name:
            raise TrainingError(
                f"the model's parameters {first} and {name} are one tensor, and tied weights cannot be trained here; "
                "give each layer its own, or use one layer in both places: self.layer(self.layer(x))"
            )
