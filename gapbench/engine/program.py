"""The step program: one update of all replicas, from a batch to moved weights, with nothing in it that waits for the device."""

from __future__ import annotations

import bisect
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gapbench.catalog import optimizers
from gapbench.core.errors import TrainingError
from gapbench.core.registry import load_target
from gapbench.engine.feed import Batch, MicroBatches, streams_of
from gapbench.engine.flat import FlatNetwork, Rows
from gapbench.engine.objective import TrainingObjective
from gapbench.engine.pieces import Piece
from gapbench.layers.keyed import keyed_layers, normals, uniforms
from gapbench.layers.rows import row_norms
from gapbench.optimizers import Extrapolated, Gradients, OfReplicas, Optimizer, extrapolation_steps, schedule
from gapbench.probes import Columns, TrainState
from gapbench.suite.batches import BatchTable
from gapbench.suite.runspec import RunSpec
from gapbench.workloads.tasks import training_task

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


class UpdateNoise:
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
        self._stream = streams_of([spec.order_seed for spec in specs], "noise", device)
        self._directions = streams_of([spec.order_seed for spec in specs], "extrapolation", device)
        self._positions = torch.arange(specs[0].batch_size, device=device)[None]

    def weights(self, update: int) -> Float[Tensor, "replica batch"]:
        """Returns the weight of every example of an update, counted from 0; their mean is 1, exactly where centred."""
        noise = normals(self._stream.at(update, self._positions))
        if self._centred:
            noise = noise - noise.mean(dim=1, keepdim=True)
        return (1.0 + self._deviation * noise).float()

    def directions(self, kind: str, layers: Sequence[Columns], like: Rows, draw: int) -> Rows:
        """Returns independent numbers of mean 0 and variance 1 for every weight, normal or, with kind `uniform`, uniform, by draw."""
        rows = torch.zeros_like(like)
        for layer in layers:
            columns = torch.arange(layer.start, layer.stop, device=like.device)[None]
            words = self._directions.at(draw, columns)
            rows[:, layer.start : layer.stop] = (uniforms(words) if kind == "uniform" else normals(words)).to(like.dtype)
        return rows

    def replace(self, gradients: Float[Tensor, "replica parameters"], layers: Sequence[Columns], update: int) -> None:
        """Puts a Gaussian direction of the same norm in the place of every replica's gradient."""
        norm = row_norms(gradients)
        for layer in layers:  # columns between layers are padding and stay zero
            columns = torch.arange(layer.start, layer.stop, device=gradients.device)[None]
            gradients[:, layer.start : layer.stop] = normals(self._stream.at(update, columns)).float()
        gradients.mul_((norm / row_norms(gradients))[:, None])


Probe = Callable[[TrainState], Mapping[str, Tensor]]

CLIP_EPSILON = 1e-6
"""Added to the norm before dividing, as torch's clip_grad_norm_ does."""
LOSSES = 256
"""Updates whose losses are kept before they are searched for the first that is not finite."""


@dataclass
class Passed:
    """What the first pass over each micro-batch of an update leaves, beside gradients; by the number of the micro-batch."""

    losses: dict[int, Float[Tensor, " replica"]] = field(default_factory=dict)
    shares: dict[int, Fraction] = field(default_factory=dict)
    counted: dict[int, Float[Tensor, " replica"]] = field(default_factory=dict)
    """Mean weight of the examples of each; only of a task that weighs them."""
    correct: dict[int, Float[Tensor, " replica"]] = field(default_factory=dict)
    """Examples that were right, NaN where nothing is right or wrong; only of an update that is observed."""
    examples: int = 0
    early: dict[str, Tensor] = field(default_factory=dict)
    """What micro-batch probes returned."""
    draws: int = 0
    """Times that fresh micro-batches were asked for."""

    def loss(self) -> Float[Tensor, " replica"]:
        """Returns the loss of the whole batch. Raises TrainingError where a part of it was never asked for."""
        if sum(self.shares.values()) != 1:
            raise TrainingError("the optimizer made an update without asking for the gradients of all of its micro-batches")
        numbers = sorted(self.losses)
        losses, shares = [self.losses[number] for number in numbers], [self.shares[number] for number in numbers]
        if not self.counted or len(numbers) == 1:
            return _shared(losses, shares)
        counted = [self.counted[number] for number in numbers]
        return _shared([loss * weight for loss, weight in zip(losses, counted, strict=True)], shares) / _shared(counted, shares)

    def right(self) -> Float[Tensor, " replica"]:
        """Returns how many examples of the whole batch were right."""
        first, *others = (self.correct[number] for number in sorted(self.correct))
        return sum(others, first)


class UpdateGradients(Gradients):
    """The gradients of an update that its optimizer asks for. See `optimizers.Gradients`.

    Args:
        program: whose update it is.
        update: its number.
        batches: its micro-batches, or a worker's share of them.
        weights: of all examples of the update, [replica, batch], where there is multiplicative noise.
        observe: whether probes are due.
        passed: of the whole update: a micro-batch that stands in it has been passed.
        number: of the first of `batches`.
        offset: position of its first example in the batch of the update.
    """

    def __init__(
        self,
        program: Program,
        update: int,
        batches: MicroBatches | Sequence[Batch],
        weights: Tensor | None,
        *,
        observe: bool,
        passed: Passed | None = None,
        number: int = 0,
        offset: int = 0,
    ) -> None:
        self.update = update
        self.passed = Passed() if passed is None else passed
        self._program = program
        self._batches = batches
        self._pieces: Sequence[Piece | Batch] = batches.pieces if isinstance(batches, MicroBatches) else batches
        self._share = sum((piece.share for piece in self._pieces), start=Fraction())
        self._weights = weights
        self._observe = observe
        self._number = number
        self._offset = offset

    def again(self, weights: Rows | None = None, *, fresh: bool = False, into: Rows | None = None) -> Rows:
        """See `optimizers.Gradients`."""
        network = self._program.network
        rows = torch.zeros_like(network.gradients) if into is None else into
        counted: Tensor | None = None
        with network.at(weights):
            offset = self._offset
            for number, batch in enumerate(self._fresh() if fresh else self._batches, self._number):
                first = not fresh and number not in self.passed.losses
                with nullcontext() if first else network.norms_unmoved():
                    network.use_groups_of(batch.group_size)
                    noise = None if self._weights is None else self._weights[:, offset : offset + batch.size]
                    factor = self._pass(batch, noise, rows, add=number > self._number, first=number if first else None)
                if isinstance(factor, Tensor):
                    counted = factor if counted is None else counted + factor
                offset += batch.size
            network.use_groups_of(None)
        return rows if counted is None else rows.div_(counted[:, None])

    def by_worker(self, workers: int) -> tuple[Gradients, ...]:
        """See `optimizers.Gradients`."""
        ends, share = [0], Fraction()
        for number, piece in enumerate(self._pieces, 1):
            share += piece.share
            if share == len(ends) * self._share / workers:
                ends.append(number)
        if len(ends) != workers + 1:
            raise TrainingError(
                f"an update of {len(self._pieces)} micro-batches cannot be dealt to {workers} workers in equal shares; "
                "let the micro-batch size divide that of each worker"
            )
        return tuple(
            UpdateGradients(
                self._program,
                self.update,
                self._batches[start:stop],
                self._weights,
                observe=self._observe,
                passed=self.passed,
                number=self._number + start,
                offset=self._offset + sum(piece.size for piece in self._pieces[:start]),
            )
            for start, stop in itertools.pairwise(ends)
        )

    def _fresh(self) -> Iterator[Batch]:
        if not isinstance(self._batches, MicroBatches):
            raise TrainingError("fresh examples are drawn by the host, which a recorded update does not ask")
        self.passed.draws += 1
        return self._batches.fresh(self.passed.draws - 1)

    def _pass(self, batch: Batch, noise: Tensor | None, rows: Rows, *, add: bool, first: int | None) -> float | Tensor:
        """Passes a micro-batch forward and backward: its gradient times its share goes to `rows`. Returns the share.

        It is a tensor where the mean over several micro-batches is by weights of their examples.

        Args:
            batch: the micro-batch.
            noise: weights of its examples in the gradient alone.
            rows: of the gradient.
            add: whether others are in it.
            first: its number, at its first pass.
        """
        program, passed = self._program, self.passed
        outputs = program.forward(batch)
        each, weights = program.task.losses(outputs, batch.labels), program.task.weights(batch.labels)
        loss = seen = mean_loss(each, batch.group_size, weights)
        if noise is not None:
            loss = mean_loss(each * noise, batch.group_size, weights)
        share: float | Tensor = float(batch.share / self._share)
        if weights is not None and len(self._pieces) > 1:
            counted = mean_loss(weights, batch.group_size)
            share = share * counted
            if first is not None:
                passed.counted[first] = counted
        if first is not None:
            passed.losses[first] = seen.detach()  # that of the examples as they are, also where the gradient weighs them
            passed.shares[first] = batch.share
            passed.examples += batch.size
        if first is None or not self._observe:
            program.network.backward(loss, share=share, rows=rows, add=add)
            return share
        right = program.task.correct(outputs.detach(), batch.labels)
        correct = torch.full_like(passed.losses[first], torch.nan) if right is None else right.float().sum(dim=1)
        passed.correct[first] = correct
        own = self._observed_backward(loss, share, rows, add=add)
        for name, value in program.look_early(self.update, batch, passed.losses[first], correct, own).items():
            passed.early[name] = passed.early[name] + value if name in passed.early else value
        return share

    def _observed_backward(self, loss: Tensor, share: float | Tensor, rows: Rows, *, add: bool) -> Rows:
        """Does the backward pass of a micro-batch, to the same bits, and returns the gradient of that micro-batch alone."""
        network = self._program.network
        if len(self._pieces) == 1 or not self._program.looks_early:
            network.backward(loss, share=share, rows=rows, add=add)
            return rows
        piece = torch.zeros_like(rows)
        network.backward(loss, share=share, rows=piece)
        if add:
            rows.add_(piece)
        else:
            rows.copy_(piece)
        return piece.div_(share[:, None]) if isinstance(share, Tensor) else piece.mul_(1.0 / share)


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
        self.noise = UpdateNoise(specs, device)
        self.extrapolated: Extrapolated | None = None
        if spec.extrapolation is not None:
            noise = functools.partial(self.noise.directions, spec.extrapolation.direction, network.layers, network.weights)
            self.extrapolated = Extrapolated(self.optimizer, spec.extrapolation, noise)
        self._clip_norm = None if spec.clip_norm is None else torch.tensor([item.clip_norm for item in specs], device=device)
        self._host_answers = device.type == "cpu"
        self._clip_limits = [] if self._clip_norm is None else self._clip_norm.tolist()
        self.task = training_task(spec)
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

    def _make(self, update: int, batches: MicroBatches, *, observe: bool) -> tuple[Float[Tensor, " replica"], TrainState | None]:
        """Makes an update. Returns its loss and what probes need."""
        if update in self._resets_at:
            self.optimizer.reset()
            if self.extrapolated is not None:
                self.extrapolated.reset()
        gradients = UpdateGradients(self, update, batches, self._noise_weights(update), observe=observe)
        now = self._schedules[0].at(update)
        hyperparameters = [now] * len(self._specs) if self._shared else [table.at(update) for table in self._schedules]
        norm = self._execute(gradients, hyperparameters, observe=observe)
        passed = gradients.passed
        loss = passed.loss()
        if not observe:
            return loss, None
        return loss, self._state(update, passed.examples, loss, passed.right(), self.network.gradients, norm, early=passed.early)

    def _execute(self, gradients: UpdateGradients, hyperparameters: OfReplicas, *, observe: bool) -> Float[Tensor, " replica"] | None:
        """Makes an update: the gradient, clipped; then running statistics and weights move. Returns the norm where somebody asks for it."""
        network = self.network
        if self.extrapolated is not None and gradients.update < len(self._steps):
            self.extrapolated.gather(gradients, gradients.update, self._steps[gradients.update].tolist())
        else:
            self.optimizer.gather(gradients, hyperparameters)
        if self.noise.isotropic:
            self.noise.replace(network.gradients, network.layers, gradients.update)
        norm = row_norms(network.gradients) if observe or self._clip_norm is not None else None
        if self._clip_norm is not None:
            self._clip(norm)
        network.commit_norms()
        self.optimizer.update(hyperparameters)
        network.weights_moved()
        return norm

    def _noise_weights(self, update: int) -> Float[Tensor, "replica batch"] | None:
        """Returns the weights of an update's examples; None where none are weighted."""
        return self.noise.weights(update) if self.noise.multiplicative else None

    @property
    def looks_early(self) -> bool:
        """Whether probes look at the gradients of micro-batches."""
        return bool(self._micro_batch_probes)

    def look_early(self, update: int, batch: Batch, loss: Tensor, correct: Tensor, gradients: Rows) -> dict[str, Tensor]:
        """Returns what micro-batch probes say of a micro-batch and its gradient."""
        if not self._micro_batch_probes:
            return {}
        seen = self._state(update, batch.size, loss, correct, gradients, pieces=_equal_pieces(batch.share))
        return {name: value for probe in self._micro_batch_probes for name, value in probe(seen).items()}

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
        steps = [extrapolation_steps(item, table.learning_rate) for item, table in zip(self._specs, self._schedules, strict=True)]
        self._steps = np.stack(steps, axis=1)
        """How far to extrapolate, [update, replica]."""
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
            self.network.backward(mean_loss(losses, weights=self.task.weights(batch.labels)), rows=rows, add=True)
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
            **({} if self.extrapolated is None else {"extrapolated": self.extrapolated.snapshot(replica)}),
            "clipped_updates": float(self.clipped_updates[replica]),
            "first_bad": int(self.first_bad(update)[replica]),
        }

    def restore(self, replica: int, snapshot: Mapping[str, Any]) -> None:
        """Takes back what `snapshot` returned."""
        updates = int(snapshot["optimizer"]["steps"])
        last = bisect.bisect_left(self._resets, updates)  # a reset that is due before the next update is still to come
        self.optimizer.restore(replica, {**snapshot["optimizer"], "steps": updates - (self._resets[last - 1] if last else 0)})
        if self.extrapolated is not None:
            self.extrapolated.restore(replica, snapshot["extrapolated"])
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

    def _state(
        self,
        update: int,
        examples: int,
        loss: Tensor,
        correct: Tensor,
        gradients: Rows,
        norm: Tensor | None = None,
        *,
        pieces: int = 1,
        early: Mapping[str, Tensor] | None = None,
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
            gradient_norm=row_norms(gradients) if norm is None else norm,
            batch_loss=loss,
            batch_correct=correct,
            clipped_updates=self.clipped_updates,
            learning_rate=rates[:, 0],
            layers=network.layers,
            micro_batches=pieces,
            early=dict(early or {}),
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


def mean_loss(
    losses: Float[Tensor, "replica batch"], group_size: int | None = None, weights: Float[Tensor, "replica batch"] | None = None
) -> Float[Tensor, " replica"]:
    """Returns each replica's mean loss, by the examples' weights where they have any.

    With `group_size` it is the mean over groups of so many examples of the mean within each. The last group may be smaller: its
    examples then weigh more.
    """
    if group_size is not None and losses.shape[1] % group_size:
        groups = torch.split(losses, group_size, dim=1)
        own = [None] * len(groups) if weights is None else torch.split(weights, group_size, dim=1)
        return torch.stack([mean_loss(group, None, each) for group, each in zip(groups, own, strict=True)]).mean(dim=0)
    return losses.mean(dim=1) if weights is None else (losses * weights).sum(dim=1) / weights.sum(dim=1)
