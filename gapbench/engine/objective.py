"""The objective over a network and its feed: loss, gradient and Hessian product that leave no trace in training."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from gapbench.core.errors import TrainingError
from gapbench.core.hashing import MASK32, derive_seed, sort_keys, stream
from gapbench.engine.feed import Batch, Feed
from gapbench.engine.flat import FlatNetwork, Rows
from gapbench.layers.keyed import keyed_layers
from gapbench.layers.recompute import Recomputed
from gapbench.probes import NormMode, ObjectiveBatch
from gapbench.suite.batches import CHUNK_EXAMPLES
from gapbench.suite.runspec import RunSpec
from gapbench.workloads.tasks import training_task

FEWEST_EXAMPLES = 128
"""Examples of a replica that may be computed at once even where its batches are smaller."""


class TrainingObjective:
    """`probes.Objective` of all replicas of a program.

    Args:
        network: the replicas.
        feed: their examples.
        specs: the runs, one a replica.
        micro_batch_size: examples of a replica that training computes at once.
        recomputed: the blocks of the network that pass forward again in training; they do not do so here.
    """

    def __init__(
        self, network: FlatNetwork, feed: Feed, specs: Sequence[RunSpec], micro_batch_size: int, recomputed: Recomputed | None = None
    ) -> None:
        spec = specs[0]
        self.update = 0
        """What `fresh` draws by, besides the draw."""
        self._network = network
        self._keeping_all = nullcontext if recomputed is None else recomputed.off
        self._feed = feed
        self._seeds = [item.order_seed for item in specs]
        self._chunk = max(1, min(CHUNK_EXAMPLES // len(specs), max(FEWEST_EXAMPLES, micro_batch_size)))
        self._ghost = spec.ghost_batch_size
        self._group = (spec.ghost_batch_size or spec.batch_size) if network.norms else 1
        self._task = training_task(spec)
        self._keyed = keyed_layers(network.module)
        self._fixed: dict[str, Int[Tensor, "replica train"]] = {}

    def at(self, update: int) -> TrainingObjective:
        """Returns the objective whose fresh examples are those of `update`."""
        moved = copy.copy(self)
        moved.update = update
        return moved

    def fresh(self, examples: int, draw: int, *, norm: NormMode = "train", purpose: str = "objective") -> ObjectiveBatch:
        """See `probes.Objective`."""
        examples, group = self._whole_groups(examples, norm)
        indices, counters = self._feed.draw(purpose, self.update, draw, torch.arange(examples, device=self._feed.home))
        return ObjectiveBatch(indices, counters, norm, group)

    def batch(self) -> ObjectiveBatch:
        """See `probes.Objective`."""
        batch = self._feed.batches.at(max(0, self.update - 1))
        indices, epochs = self._feed.examples(batch.first, batch.first + batch.size)
        # A ragged batch has groups of its own, and a batch without ghost batches is one group.
        group = 1 if not self._network.norms else self._ghost if self._ghost and batch.size % self._ghost == 0 else batch.size
        return ObjectiveBatch(indices, epochs.expand_as(indices), "train", group)

    def fixed(self, examples: int, *, norm: NormMode = "train") -> ObjectiveBatch:
        """See `probes.Objective`."""
        if "order" not in self._fixed:
            members = self._feed.members
            keys = sort_keys(stream(0, "objective fixed").at(0, members), members)
            self._fixed["order"] = keys.sort(dim=1).values & MASK32
        examples, group = self._whole_groups(min(examples, self._feed.train_size), norm)
        return ObjectiveBatch(self._fixed["order"][:, :examples], None, norm, group)

    @torch.no_grad()
    def loss(self, batch: ObjectiveBatch, weights: Rows | None = None) -> Float[Tensor, " replica"]:
        """See `probes.Objective`."""
        views = self._network.views(self._rows(weights))
        with self._leaving_no_trace(batch):
            parts = [self._losses(part, views) for part in self._chunks(batch)]
        total = torch.stack([losses.double().sum(dim=1) for losses, _ in parts]).sum(dim=0)
        return total / _counted([weights for _, weights in parts], batch)

    def gradient(self, batch: ObjectiveBatch, weights: Rows | None = None) -> Rows:
        """See `probes.Objective`."""
        return self._derivative(batch, weights, lambda loss, views: _gradients(loss, views, create_graph=False))

    def hessian_product(self, batch: ObjectiveBatch, vector: Rows, weights: Rows | None = None) -> Rows:
        """See `probes.Objective`."""
        directions = self._network.views(vector.detach().to(self._network.weights.dtype))

        def product(loss: Tensor, views: Sequence[Tensor]) -> Sequence[Tensor]:
            gradients = _gradients(loss, views, create_graph=True)
            along = torch.stack([(gradient * side).sum() for gradient, side in zip(gradients, directions, strict=True)]).sum()
            return _gradients(along, views, create_graph=False)

        return self._derivative(batch, weights, product)

    def _derivative(
        self, batch: ObjectiveBatch, weights: Rows | None, derive: Callable[[Tensor, Sequence[Tensor]], Sequence[Tensor]]
    ) -> Rows:
        """Returns what `derive` makes of the mean loss and the weights in the shapes of the parameters, as rows."""
        rows, counted = torch.zeros_like(self._network.weights), []
        with self._leaving_no_trace(batch), torch.enable_grad():
            for part in self._chunks(batch):
                views = [view.detach().requires_grad_() for view in self._network.views(self._rows(weights))]
                losses, own = self._losses(part, views)
                counted.append(own)
                pieces = derive(losses.sum() / batch.examples, views)
                torch._foreach_add_(self._network.views(rows), [piece.detach() for piece in pieces])
        share = _counted(counted, batch) / batch.examples
        return rows.div_(share.to(rows.dtype)[:, None]) if isinstance(share, Tensor) else rows

    def _losses(
        self, batch: ObjectiveBatch, views: Sequence[Tensor]
    ) -> tuple[Float[Tensor, "replica examples"], Float[Tensor, "replica examples"] | None]:
        """Returns the loss of each example, times its weight, at the weights that `views` are, and the weights of the examples.

        No loss depends on another replica's weights. Examples of most tasks have no weights.
        """
        network = self._network
        data = self._batch(batch)
        for layer in self._keyed:
            layer.keys = data.keys[0]
        # Buffers are copies, so that whatever a layer does to its own in training mode ends here.
        tensors = dict(zip(network.names, views, strict=True)) | {name: value.clone() for name, value in network.module.named_buffers()}
        with torch.autocast(data.images.device.type, enabled=False):
            outputs = functional_call(network.module, tensors, (data.images if network.stacked else data.images[0],))
        losses, counted = self._task.losses(outputs if network.stacked else outputs.T[None], data.labels), self._task.weights(data.labels)
        return losses if counted is None else losses * counted, counted

    def _batch(self, batch: ObjectiveBatch) -> Batch:
        return self._feed.evaluation_batch(batch.indices) if batch.draws is None else self._feed.drawn_batch(batch.indices, batch.draws)

    def _chunks(self, batch: ObjectiveBatch) -> tuple[ObjectiveBatch, ...]:
        # Batch norm of the whole group cannot be cut: then a chunk is one group, however large.
        return batch.split(max(self._chunk // batch.group, 1) * batch.group)

    def _whole_groups(self, examples: int, norm: NormMode) -> tuple[int, int]:
        """Returns how many examples a batch has and how many are normalized together."""
        if examples < 1:
            raise TrainingError(f"a batch of the objective needs at least one example, not {examples}")
        if norm == "running" or self._group == 1:
            return examples, 1
        group = min(self._group, examples)
        return examples // group * group, group

    def _rows(self, weights: Rows | None) -> Rows:
        return self._network.weights if weights is None else weights.to(self._network.weights.dtype)

    @contextmanager
    def _leaving_no_trace(self, batch: ObjectiveBatch) -> Iterator[None]:
        """Within it the modules are as `batch` asks; afterwards modes, pending norm moments, keys and random state are as before."""
        module, norms = self._network.module, self._network.norms
        modes = [(part, part.training) for part in module.modules()]
        ghosts = [(layer, layer.ghost_batch_size) for layer in norms]
        keys = [(layer, layer.keys) for layer in self._keyed]
        device = self._feed.device
        try:
            _set_modes(module, norms, batch)
            with (
                self._network.norms_unmoved(),
                self._keeping_all(),
                torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            ):
                # A user's own layers may draw: the same numbers at every call, so that losses at different weights can be compared.
                torch.manual_seed(derive_seed(self._seeds[0], f"objective {self.update}"))
                yield
        finally:
            for part, mode in modes:
                part.training = mode
            for norm, ghost in ghosts:
                norm.ghost_batch_size = ghost
            for layer, bound in keys:
                layer.keys = bound


def _gradients(loss: Tensor, views: Sequence[Tensor], *, create_graph: bool) -> tuple[Tensor, ...]:
    found: tuple[Tensor, ...] = torch.autograd.grad(loss, views, create_graph=create_graph, allow_unused=True, materialize_grads=True)
    return found


def _counted(weights: Sequence[Tensor | None], batch: ObjectiveBatch) -> Tensor | int:
    """Returns the sum of the weights of all examples, float64 [replica], or their number where they have none."""
    sums = [part.double().sum(dim=1) for part in weights if part is not None]
    return torch.stack(sums).sum(dim=0) if sums else batch.examples


def _set_modes(module: nn.Module, norms: Sequence[nn.Module], batch: ObjectiveBatch) -> None:
    module.train(batch.draws is not None)
    for norm in norms:
        norm.train(batch.norm == "train")
        norm.ghost_batch_size = batch.group  # type: ignore[assignment]
