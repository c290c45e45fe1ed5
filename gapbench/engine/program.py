"""The step program: one update of all replicas, from a batch to moved weights, with nothing in it that waits for the device."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gapbench.catalog import optimizers
from gapbench.core.hashing import Stream, stream
from gapbench.core.registry import load_target
from gapbench.engine.feed import Batch, MicroBatches
from gapbench.engine.flat import FlatNetwork, Rows
from gapbench.engine.objective import TrainingObjective
from gapbench.layers.keyed import keyed_layers, normals
from gapbench.optimizers import Optimizer, schedule
from gapbench.probes import Layer, TrainState
from gapbench.suite.batches import BatchTable
from gapbench.suite.runspec import RunSpec
from gapbench.workloads.tasks import live_task

# Noise in gradients, as a control: weights of the examples of an update, or a random direction in the gradient's place.
#
# Multiplicative noise (Hoffer et al. 2017, section 4) weighs each example of a batch of M_L by z = 1 + sigma e. With
# sigma^2 = M_L / M_S - 1 the covariance of its mean gradient, C / M_L, becomes C / M_S, that of a batch of M_S. The e are
# centred over the batch, so that the noise is of the gradients' deviations from their mean; not centred, as in the paper, it also
# scales the mean gradient itself at random. The argument needs gradients that do not depend on the other examples of the batch: with
# batch norm, ghost batch size M_S.
#
# All draws are a counter hash of (seed, update, position in the batch): an example that stands twice in a batch draws twice, and
# centring needs no more than the update's number, so that micro-batches and stacks change nothing.


class GradientNoise:
    """The noise of all replicas by update number. Keeps no state.

    Args:
        specs: the runs, one a replica; whether there is noise, and which, is that of the first.
        device: where to train.
    """

    def __init__(self, specs: Sequence[RunSpec], device: torch.device) -> None:
        rule = specs[0].gradient_noise
        self.multiplicative = rule is not None and rule.kind == "multiplicative"
        self.isotropic = rule is not None and rule.kind == "isotropic"
        self._deviation = 0.0 if rule is None or rule.variance is None else rule.variance**0.5
        self._centred = rule is None or rule.centred is not False
        streams = [stream(spec.order_seed, "noise") for spec in specs]
        low = torch.tensor([[item.key_low] for item in streams], device=device)
        high = torch.tensor([[item.key_high] for item in streams], device=device)
        self._stream = Stream(low, high)  # type: ignore[arg-type]  # words may be tensors, see core.hashing
        self._positions = torch.arange(specs[0].batch_size, device=device)[None]

    def weights(self, update: int) -> Float[Tensor, "replica batch"]:
        """Returns the weight of every example of an update, counted from 0; their mean is 1, exactly where centred."""
        noise = normals(self._stream.at(update, self._positions))
        if self._centred:
            noise = noise - noise.mean(dim=1, keepdim=True)
        return (1.0 + self._deviation * noise).float()

    def replace(self, gradients: Float[Tensor, "replica parameters"], layers: Sequence[Layer], update: int) -> None:
        """Puts a Gaussian direction of the same norm in the place of every replica's gradient."""
        norm = gradients.norm(dim=1, keepdim=True)
        for layer in layers:  # columns between layers are padding and stay zero
            columns = torch.arange(layer.start, layer.stop, device=gradients.device)[None]
            gradients[:, layer.start : layer.stop] = normals(self._stream.at(update, columns)).float()
        gradients.mul_(norm / gradients.norm(dim=1, keepdim=True))


Probe = Callable[[TrainState], Mapping[str, Tensor]]

CLIP_EPSILON = 1e-6
"""Added to the norm before dividing, as torch's clip_grad_norm_ does."""
LOSSES = 256
"""Updates whose losses are kept before they are searched for the first that is not finite."""


@dataclass(frozen=True)
class Passed:
    """What the forward and backward passes of an update leave, beside gradients."""

    loss: Float[Tensor, " replica"]
    """Of the whole batch."""
    correct: Float[Tensor, " replica"] | None
    """Examples classified right, NaN where nothing is classified; None where the update is not observed."""
    examples: int
    early: Mapping[str, Tensor]
    """What micro-batch probes returned."""


class Program:
    """Forward, backward, clipping, optimizer, norm statistics and counters of one update.

    Args:
        network: the replicas.
        specs: the runs, one a replica; what they share (clipping or not, precision, optimizer) is that of the first.
        micro_batch_probes: called after each backward pass of an observed update, before clipping, with the gradient of that
            micro-batch; what they return under one name is added up over the micro-batches.
        resets: updates, counted from 0, before which the optimizer forgets its state, ascending.
    """

    kind = "eager"
    """How an update is executed; recorded in the results."""
    refused: tuple[str, ...] = ()
    """Faster ways that were tried, and why each was not taken."""

    def __init__(
        self,
        network: FlatNetwork,
        specs: Sequence[RunSpec],
        micro_batch_probes: Sequence[Probe] = (),
        *,
        resets: Sequence[int] = (),
    ) -> None:
        spec, device = specs[0], network.weights.device
        self.network = network
        self._module: Callable[[Tensor], Tensor] = network.module
        """What `forward` calls: the network's module, or a compiled form of it."""
        self._batch_size = spec.batch_size
        self._micro_batch_probes = micro_batch_probes
        self.objective: TrainingObjective | None = None
        """Set where a probe needs it."""
        self._specs = tuple(specs)
        self.follow(spec.batches, resets)
        self._shared = all(self._schedules[0].same_as(other) for other in self._schedules[1:])
        build = load_target(optimizers()[spec.optimizer.name].target)
        self.optimizer: Optimizer = build(network.buffers, spec.optimizer.options, shared=self._shared)
        self._has_momentum = "momentum" in spec.optimizer.options
        self._clip_norm = None if spec.clip_norm is None else torch.tensor([item.clip_norm for item in specs], device=device)
        self._host_answers = device.type == "cpu"
        self._clip_limits = [] if self._clip_norm is None else self._clip_norm.tolist()
        self.noise = GradientNoise(specs, device)
        self.task = live_task(spec.model.name)
        self._keyed = keyed_layers(network.module)
        self._autocast = torch.autocast(device.type, torch.bfloat16) if spec.precision == "bf16" else nullcontext()
        self.clipped_updates = torch.zeros(len(specs), device=device)
        self._first_bad = torch.full((len(specs),), -1, dtype=torch.int64, device=device)
        self._losses: list[Float[Tensor, " replica"]] = []
        self._settled = 0

    def update(self, update: int, batches: MicroBatches, *, observe: bool) -> TrainState | None:
        """Makes update number `update`, counted from 0. Returns what probes need if `observe`, else None.

        Args:
            update: its number.
            batches: the whole batch, or its micro-batches, whose shares of the update add up to 1. Their gradients are added up before the
                one step.
            observe: whether probes are due after it.
        """
        loss, state = self._make(update, batches, observe=observe)
        self._keep_loss(update, loss)
        return state

    def _make(self, update: int, batches: Iterable[Batch], *, observe: bool) -> tuple[Float[Tensor, " replica"], TrainState | None]:
        """Makes an update. Returns its loss and what probes need."""
        if update in self._resets_at:
            self.optimizer.reset()
        network = self.network
        passed = self._passed(update, batches, self._noise_weights(update), observe=observe)
        if self.noise.isotropic:
            self.noise.replace(network.gradients, network.layers, update)
        norm = self._norm(observe=observe)
        state = self._observed(update, passed, norm) if observe else None
        now = self._schedules[0].at(update)
        hyperparameters = [now] * len(passed.loss) if self._shared else [table.at(update) for table in self._schedules]
        self._finish(norm, lambda: self.optimizer.update(hyperparameters))
        return passed.loss, state

    def _norm(self, *, observe: bool) -> Float[Tensor, " replica"] | None:
        """Returns the norm of the gradients where somebody asks for it."""
        return self.network.gradients.norm(dim=1) if observe or self._clip_norm is not None else None

    def _finish(self, norm: Tensor | None, step: Callable[[], None]) -> None:
        """Ends an update whose gradients are there: clips them, moves running statistics and, by `step`, the weights."""
        if self._clip_norm is not None:
            self._clip(norm)
        self.network.commit_norms()
        step()
        self.network.weights_moved()

    def _noise_weights(self, update: int) -> Float[Tensor, "replica batch"] | None:
        """Returns the weights of an update's examples; None where none are weighted."""
        return self.noise.weights(update) if self.noise.multiplicative else None

    def _passed(self, update: int, batches: Iterable[Batch], weights: Tensor | None, *, observe: bool) -> Passed:
        """Passes all micro-batches forward and backward: their gradients are added up in the network's rows.

        Args:
            update: its number, for micro-batch probes alone.
            batches: its micro-batches.
            weights: of all its examples, [replica, batch], where there is multiplicative noise.
            observe: whether probes are due.
        """
        network = self.network
        losses: list[Tensor] = []
        shares: list[Fraction] = []
        correct: list[Tensor] = []
        examples = 0
        early: dict[str, Tensor] = {}
        for number, batch in enumerate(batches):
            network.use_groups_of(batch.group_size)
            outputs = self.forward(batch)
            size = batch.labels.shape[1]
            each = self.task.losses(outputs, batch.labels)
            loss = mean_loss(each, batch.group_size)
            losses.append(loss.detach())  # that of the examples as they are, also where the gradient weighs them
            if weights is not None:
                own = weights[:, examples : examples + size]
                loss = mean_loss(each * own, batch.group_size)
            shares.append(batch.share)
            examples += size
            if not observe:
                network.backward(loss, share=float(batch.share), add=number > 0)
                continue
            right = self.task.correct(outputs.detach(), batch.labels)
            correct.append(torch.full_like(losses[-1], torch.nan) if right is None else right.float().sum(dim=1))
            piece = self._observed_backward(loss, batch.share, add=number > 0)
            if self._micro_batch_probes:
                seen = self._state(update, size, losses[-1], correct[-1], piece, pieces=_equal_pieces(batch.share))
                for probe in self._micro_batch_probes:
                    for name, value in probe(seen).items():
                        early[name] = early[name] + value if name in early else value
        network.use_groups_of(None)
        return Passed(_shared(losses, shares), sum(correct[1:], correct[0]) if correct else None, examples, early)

    def _observed(self, update: int, passed: Passed, norm: Tensor | None) -> TrainState:
        """Returns what probes need after an update."""
        assert norm is not None
        assert passed.correct is not None
        state = self._state(update, passed.examples, passed.loss, passed.correct, self.network.gradients, norm)
        state.early.update(passed.early)
        return state

    def _keep_loss(self, update: int, loss: Float[Tensor, " replica"]) -> None:
        """Keeps the loss of an update until the next look for one that is not finite."""
        if len(self._losses) == LOSSES:
            self._settle(update)
        self._losses.append(loss)

    def _recent_losses(self, updates: int) -> Float[Tensor, "update replica"] | None:
        """Returns the losses since the last look, after `updates` updates; None where there are none."""
        kept = torch.stack(self._losses) if self._losses else None
        self._losses.clear()
        return kept

    def follow(self, batches: BatchTable, resets: Sequence[int]) -> None:
        """Takes a table of batches and the updates before which the optimizer forgets its state; what was made stays as it was."""
        self._schedules = [schedule(item, batches) for item in self._specs]
        self._resets = tuple(resets)
        self._resets_at = frozenset(resets)

    def untrained(self) -> TrainState:
        """Returns the state before the first update. What belongs to a batch or an update is NaN there, and so is recorded nowhere."""
        network = self.network
        unknown = torch.full_like(self.clipped_updates, torch.nan)
        return TrainState(
            update=0,
            batch_size=self._batch_size,
            weights=network.weights,
            initial_weights=network.initial_weights,
            gradients=torch.full_like(network.gradients, torch.nan),
            gradient_norm=unknown,
            batch_loss=unknown,
            batch_correct=unknown,
            clipped_updates=self.clipped_updates,
            learning_rate=unknown,
            layers=network.layers,
            provided=None if self.objective is None else self.objective.at(0),
        )

    def gradients(self, update: int | None, batches: Iterable[Batch]) -> Rows:
        """Returns the gradient of the mean loss over pieces of equal size, with the noise of an update where its number is given.

        Nothing moves, but norm layers have moments pending.
        """
        rows = torch.zeros_like(self.network.gradients)
        weights, pieces = None if update is None else self.noise.weights(update), 0
        for batch in batches:
            size = batch.labels.shape[1]
            losses = self.task.losses(self.forward(batch), batch.labels)
            if weights is not None:
                losses = losses * weights[:, pieces * size : (pieces + 1) * size]
            self.network.backward(mean_loss(losses), rows=rows, add=True)
            pieces += 1
        return rows.div_(pieces)

    def first_bad(self, updates: int) -> Int[Tensor, " replica"]:
        """Returns, after `updates` updates, the number of the first whose loss was not finite, counted from 1; -1: none."""
        self._settle(updates)
        return self._first_bad

    def forward(self, batch: Batch) -> Float[Tensor, "replica outputs batch"]:
        """Returns the outputs of all replicas, logits or losses, in the module's present mode."""
        module = self._module
        for layer in self._keyed:
            layer.keys = batch.keys[0]
        with self._autocast:
            if self.network.stacked:
                return module(batch.images).float()
            return module(batch.images[0]).float().T[None]

    def snapshot(self, replica: int, update: int) -> dict[str, Any]:
        """Returns optimizer state and counters of one replica after `update` updates."""
        return {
            "optimizer": self.optimizer.snapshot(replica, update),
            "clipped_updates": float(self.clipped_updates[replica]),
            "first_bad": int(self.first_bad(update)[replica]),
        }

    def restore(self, replica: int, snapshot: Mapping[str, Any]) -> None:
        """Takes back what `snapshot` returned."""
        updates = int(snapshot["optimizer"]["steps"])
        last = bisect.bisect_left(self._resets, updates)  # a reset that is due before the next update is still to come
        self.optimizer.restore(replica, {**snapshot["optimizer"], "steps": updates - (self._resets[last - 1] if last else 0)})
        self.clipped_updates[replica] = snapshot["clipped_updates"]
        self._first_bad[replica] = snapshot["first_bad"]
        self._settled = updates

    def _settle(self, updates: int) -> None:
        """Looks for the first non-finite loss among those kept since the last look: a few calls for many updates."""
        losses = self._recent_losses(updates)
        if losses is not None:
            bad = ~torch.isfinite(losses)
            found = bad.any(dim=0) & (self._first_bad < 0)
            self._first_bad = torch.where(found, bad.int().argmax(dim=0) + (self._settled + 1), self._first_bad)
        self._settled = updates

    def _clip(self, norm: Tensor | None) -> None:
        assert norm is not None
        assert self._clip_norm is not None
        # On the CPU the answer is at hand: where nothing is clipped, a pass over all gradients is saved (times 1 is exact).
        if self._host_answers and all(map(_within, norm.tolist(), self._clip_limits)):
            return
        scale = (self._clip_norm / (norm + CLIP_EPSILON)).clamp(max=1.0)
        self.clipped_updates += scale < 1.0
        self.network.gradients.mul_(scale[:, None])

    def _observed_backward(self, loss: Tensor, share: Fraction, *, add: bool) -> Rows:
        """Does the backward pass of a micro-batch, to the same bits, and returns the gradient of that micro-batch alone."""
        network = self.network
        if share == 1 or not self._micro_batch_probes:
            network.backward(loss, share=float(share), add=add)
            return network.gradients
        piece = torch.zeros_like(network.gradients)
        network.backward(loss, share=float(share), rows=piece)
        if add:
            network.gradients.add_(piece)
        else:
            network.gradients.copy_(piece)
        return piece.mul_(float(1 / share))

    def _state(
        self, update: int, examples: int, loss: Tensor, correct: Tensor, gradients: Rows, norm: Tensor | None = None, *, pieces: int = 1
    ) -> TrainState:
        """Returns the state after the backward pass of a micro-batch, one of `pieces`, or of the whole batch, of so many examples."""
        network = self.network
        now = [table.at(update) for table in self._schedules]
        rates = torch.tensor([(item.learning_rate, item.momentum) for item in now], dtype=torch.float32).to(loss.device, non_blocking=True)
        return TrainState(
            update=update + 1,
            batch_size=examples,
            weights=network.weights,
            initial_weights=network.initial_weights,
            gradients=gradients,
            gradient_norm=gradients.norm(dim=1) if norm is None else norm,
            batch_loss=loss,
            batch_correct=correct,
            clipped_updates=self.clipped_updates,
            learning_rate=rates[:, 0],
            layers=network.layers,
            micro_batches=pieces,
            momentum=rates[:, 1] if self._has_momentum else None,
            provided=None if self.objective is None else self.objective.at(update + 1),
        )


def _within(norm: float, limit: float) -> bool:
    return norm + CLIP_EPSILON <= limit


def _equal_pieces(share: Fraction) -> int:
    """Returns how many pieces of this share make an update; 0 where they are of unequal sizes."""
    return share.denominator if share.numerator == 1 else 0


def _shared(losses: Sequence[Tensor], shares: Sequence[Fraction]) -> Tensor:
    """Returns the loss of an update from those of its pieces."""
    if len(losses) == 1:
        return losses[0]
    if len(set(shares)) == 1:
        return torch.stack([*losses]).mean(dim=0)
    return sum((loss * float(share) for loss, share in zip(losses[1:], shares[1:], strict=True)), losses[0] * float(shares[0]))


def mean_loss(losses: Float[Tensor, "replica batch"], group_size: int | None = None) -> Float[Tensor, " replica"]:
    """Returns each replica's mean loss.

    With `group_size` it is the mean over groups of so many examples of the mean within each. The last group may be smaller: its
    examples then weigh more.
    """
    if group_size is None or losses.shape[1] % group_size == 0:
        return losses.mean(dim=1)
    return torch.stack([group.mean(dim=1) for group in torch.split(losses, group_size, dim=1)]).mean(dim=0)
