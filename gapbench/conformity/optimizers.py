"""Checks of an optimizer: it goes downhill, obeys its hyperparameters, keeps replicas apart and resumes exactly."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gapbench.catalog import optimizers
from gapbench.conformity.sheet import (
    UPDATES,
    Answer,
    Check,
    Step,
    advance,
    close,
    does_not_apply,
    failed,
    make_checks,
    make_pool,
    make_spec,
    passed,
    same_bits,
    start,
    warned,
)
from gapbench.core.registry import load_target
from gapbench.layers.rows import Columns
from gapbench.optimizers import FlatBuffers, Gradients, Hyperparameters, Optimizer
from gapbench.suite.runspec import Component

COLUMNS, DECAYED = 64, 48
TENSORS = (
    Columns("kernel", 0, 32, (8, 4)), Columns("matrix", 32, DECAYED, (4, 4)),
    Columns("scale", DECAYED, 56, (8,)), Columns("shift", 56, COLUMNS, (8,)),
)  # fmt: skip
RATE = 0.01
FRESH = 1 << 20
"""Fresh gradients have the noise of updates from here on."""
Gradient = Callable[[Tensor, int, int], Tensor]
"""From a replica's weights, its seed and the update's number."""


def check_optimizer(name: str, options: Mapping[str, Any]) -> list[Check]:
    """Returns the checks of an optimizer."""
    bench = Bench(name, options)
    steps = (
        Step("builds", bench.builds, needed="it cannot be built"),
        Step("gradients", bench.asks_as_declared),
        Step("downhill", bench.downhill),
        Step("repeatable", bench.repeatable),
        Step("learning rate", bench.obeys_learning_rate),
        Step("rate in the state", bench.keeps_rate_out_of_state),
        Step("weight decay", bench.obeys_weight_decay),
        Step("replicas", bench.keeps_replicas_apart),
        Step("on the device", bench.takes_tensors),
        Step("snapshot and restore", bench.resumes),
        Step("trains", bench.trains),
    )
    return make_checks("optimizer", name, steps)


class Walk:
    """Rows of weights that an optimizer moves, one a seed."""

    def __init__(self, build: Callable[..., Optimizer], options: Mapping[str, Any], seeds: Sequence[int], *, decayed: int, shared: bool):
        self.seeds = seeds
        self.weights = torch.stack([torch.randn(COLUMNS, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        self.gradients = torch.zeros_like(self.weights)
        self.optimizer = build(FlatBuffers(self.weights, self.gradients, decayed, TENSORS), dict(options), shared=shared)
        self.updates = 0
        self.gradients_made = 0.0
        """In gradients of a whole batch."""

    def go(
        self, updates: int, gradient: Gradient, hyperparameters: Callable[[int, int], Hyperparameters], *, on_device: bool = False
    ) -> Walk:
        """Makes updates; hyperparameters are a function of the update's number and the replica's seed."""
        for _ in range(updates):
            rows = [hyperparameters(self.updates, seed) for seed in self.seeds]
            now = Hyperparameters.on_device(rows) if on_device else rows
            self.optimizer.gather(WalkGradients(self, gradient), now)
            self.optimizer.update(now)
            self.updates += 1
        return self


class WalkGradients(Gradients):
    """The gradients of a walk, and what was asked of them."""

    def __init__(self, walk: Walk, gradient: Gradient, share: float = 1.0) -> None:
        self._walk = walk
        self._gradient = gradient
        self._share = share

    def again(self, weights: Tensor | None = None, *, fresh: bool = False, into: Tensor | None = None) -> Tensor:
        """See `Gradients`."""
        walk = self._walk
        walk.gradients_made += self._share
        number = FRESH + round(walk.gradients_made) if fresh else walk.updates
        places = walk.weights if weights is None else weights
        rows = torch.stack([self._gradient(place, seed, number) for place, seed in zip(places, walk.seeds, strict=True)])
        return rows if into is None else into.copy_(rows)

    def by_worker(self, workers: int) -> tuple[Gradients, ...]:
        """See `Gradients`."""
        return tuple(WalkGradients(self._walk, self._gradient, self._share / workers) for _ in range(workers))


class Bench:
    """One optimizer under test."""

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self.component = Component(name=name, version=optimizers()[name].version, options=dict(options))

    @functools.cached_property
    def target(self) -> Any:
        """What the catalog names."""
        return load_target(optimizers()[self.component.name].target)

    def walk(self, seeds: Sequence[int] = (0,), *, decayed: int = DECAYED, shared: bool = True) -> Walk:
        """Returns a fresh start."""
        return Walk(self.target, self.component.options, seeds, decayed=decayed, shared=shared)

    def builds(self) -> Answer:
        """It is what the engine calls."""
        target = self.target
        if not isinstance(target, type) or not issubclass(target, Optimizer):
            return failed("it is no subclass of gapbench.optimizers.Optimizer", "derive it from that class and define move and state_names")
        names = getattr(target, "state_names", None)
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            return failed("state_names is no tuple of texts", 'name its tensors of state, such as state_names = ("momentum_buffer",)')
        self.walk().go(1, _noisy, self.plain)
        return passed(f"state: {', '.join(names) or 'none'}")

    def plain(self, _update: int = 0, _seed: int = 0) -> Hyperparameters:
        """Returns a small rate without decay."""
        return Hyperparameters(RATE, 0.0, float(self.component.option("momentum", 0.0)))

    def asks_as_declared(self) -> Answer:
        """Budgets and prices count the gradients that it declares."""
        declared, updates = optimizers()[self.component.name].gradients_per_update, 10
        made = self.walk().go(updates, _noisy, self.plain).gradients_made / updates
        if abs(made - declared) > 1 / updates:
            return failed(f"it computes {made:.3g} gradients an update and declares {declared}", f"declare gradients_per_update={made:.0f}")
        return passed(f"{declared} an update, as declared")

    def downhill(self) -> Answer:
        """On |w|^2 / 2 it comes nearer to zero."""
        walk = self.walk()
        before = float(walk.weights.norm())
        after = float(walk.go(50, lambda weights, _seed, _update: weights.clone(), self.plain).weights.norm())
        if not after < before:
            moved = "goes uphill or diverges" if after != before else "does not move"
            return failed(
                f"on |w|^2 / 2 it {moved}: |w| from {before:.3g} to {after:.3g}", "move against the gradient: w <- w - learning_rate d"
            )
        return passed(f"on |w|^2 / 2, 50 updates: |w| from {before:.3g} to {after:.3g}")

    def repeatable(self) -> Answer:
        """Twice the same."""
        first, second = (self.walk().go(20, _noisy, self.plain).weights for _ in range(2))
        if not same_bits(first, second):
            return failed("two walks with the same gradients differ", "use no random numbers: noise would not be repeated after a resume")
        return passed("20 updates twice, bit by bit")

    def obeys_learning_rate(self) -> Answer:
        """The table's rate is the rate: nothing moves at zero."""
        walk = self.walk().go(5, _noisy, self.plain)
        before = walk.weights.clone()
        still = Hyperparameters(0.0, 0.0, self.plain().momentum)
        walk.go(3, _noisy, lambda _update, _seed: still)
        if not same_bits(before, walk.weights):
            never = self.walk()
            start = never.weights.clone()
            if same_bits(start, never.go(3, _noisy, lambda _update, _seed: still).weights):
                return warned(
                    "the rate enters the state: at rate 0 weights move on by what larger rates left there, so a drop takes effect late",
                    "keep the rate out of the state and multiply the step by it, or say in the summary that it is inside",
                )
            return failed(
                "weights move at learning rate 0", "take the rate from hyperparameters.learning_rate at every update, never from an option"
            )
        smaller = Hyperparameters(RATE / 2, 0.0, self.plain().momentum)
        if same_bits(self.walk().go(5, _noisy, lambda _update, _seed: smaller).weights, before):
            return failed("half the learning rate makes the same steps", "multiply the step by hyperparameters.learning_rate")
        return passed("follows the table: half the rate goes elsewhere, rate 0 stands still")

    def keeps_rate_out_of_state(self) -> Answer:
        """After the same gradients the state is the same at any rate; else a drop of the rate reaches the weights only later."""

        def state(rate: float) -> Mapping[str, Tensor]:
            hyperparameters = Hyperparameters(rate, 0.0, self.plain().momentum)
            return self.walk().go(5, _elsewhere, lambda _update, _seed: hyperparameters).optimizer.state

        first, second = state(RATE), state(RATE / 2)
        scaled = [name for name in first if not close(first[name], second[name], 1e-6)]
        if scaled:
            return warned(
                f"the learning rate enters its state ({', '.join(scaled)}): after a drop or a warmup, earlier gradients still move the "
                "weights at the rates of their own updates",
                "multiply by the rate when the weights move (w <- w - learning_rate v), as the built-in rules do, or say so in the summary",
            )
        return passed("the same after the same gradients, whatever the rate")

    def obeys_weight_decay(self) -> Answer:
        """Decay shrinks the decayed columns and no others."""
        decay = Hyperparameters(RATE, 0.1, self.plain().momentum)
        walk = self.walk()
        before = walk.weights.clone()
        walk.go(5, lambda weights, _seed, _update: torch.zeros_like(weights), lambda _update, _seed: decay)
        if not same_bits(before[:, DECAYED:], walk.weights[:, DECAYED:]):
            return failed(
                "weight decay reaches parameters that are to be spared", "use the hyperparameters that move is given, not stored ones"
            )
        if same_bits(before, walk.weights):
            return warned("weight decay has no effect", "use hyperparameters.weight_decay, or say in the summary that it is left out")
        if not walk.weights[:, :DECAYED].norm() < before[:, :DECAYED].norm():
            return failed(
                "weight decay makes weights grow", "add weight_decay * w to the gradient, or subtract learning_rate * weight_decay * w"
            )
        return passed("shrinks the decayed parameters and spares the others")

    def keeps_replicas_apart(self) -> Answer:
        """A row moves as it does alone, whatever rows lie beside it."""
        # All columns decayed and shared hyperparameters: all rows are one tile. Else each row has tiles of its own.
        for shared, decayed in ((True, COLUMNS), (False, DECAYED)):

            def own(_update: int, seed: int, shared: bool = shared) -> Hyperparameters:
                return Hyperparameters(RATE if shared else RATE * (1 + seed), 1e-3, self.plain().momentum)

            together = self.walk((0, 1, 2), decayed=decayed, shared=shared).go(10, _noisy, own)
            for row, seed in enumerate(together.seeds):
                alone = self.walk((seed,), decayed=decayed, shared=shared).go(10, _noisy, own)
                if not close(alone.weights[0], together.weights[row], 1e-6):
                    how = "with shared hyperparameters (all rows are one tile)" if shared else "with hyperparameters of its own"
                    return failed(
                        f"replica {row} of a stack moves otherwise than alone, {how}",
                        "work element by element; a rule with norms of tensors, such as LARS, says layerwise = True and gets each",
                    )
        return passed("three replicas move as each does alone, with shared and with own hyperparameters")

    def takes_tensors(self) -> Answer:
        """`move` makes the same step with hyperparameters in tensors."""
        if not self.walk().optimizer.follows_device:
            return does_not_apply("its move takes no tensors as hyperparameters; on a GPU its updates are executed one operation at a time")
        own = lambda update, seed: Hyperparameters(RATE * (1 + seed) / (1 + update), 0.1, self.plain().momentum)  # noqa: E731
        by_tiles, by_rows = (self.walk((0, 1), shared=False).go(10, _noisy, own, on_device=there).weights for there in (False, True))
        if not close(by_tiles, by_rows, 1e-5):
            return failed(
                "with hyperparameters on the device it moves otherwise than with the same ones on the host",
                "multiply by them as by tensors [replica, 1], as gapbench.optimizers.base.plus does, or say follows_device = False",
            )
        return passed("10 updates with hyperparameters on the device are those with them on the host")

    def resumes(self) -> Answer:
        """Goes on from a snapshot bit by bit, also at another place of a stack."""
        straight = self.walk((0, 1), shared=False).go(10, _noisy, self.plain)
        first = self.walk((0, 1), shared=False).go(5, _noisy, self.plain)
        resumed = self.walk((1, 0), shared=False)
        resumed.updates = 5
        for row, old in enumerate((1, 0)):
            resumed.weights[row].copy_(first.weights[old])
            resumed.optimizer.restore(row, first.optimizer.snapshot(old, 5))
        resumed.go(5, _noisy, self.plain)
        if not same_bits(straight.weights, resumed.weights.flip(0)):
            return failed(
                "a run that is resumed after 5 of 10 updates ends elsewhere",
                "keep all state in tensors named in state_names and in tile.steps, never in plain attributes",
            )
        return passed("resumed after 5 of 10 updates, at another place of the stack, bit by bit")

    def trains(self) -> Answer:
        """A small network, through the engine."""
        trainer = start([make_spec(optimizer=self.component, learning_rate=RATE)], make_pool((8, 8, 1), 10))
        before = trainer.network.weights.clone()
        advance(trainer, UPDATES)
        if not torch.isfinite(trainer.network.weights).all():
            return failed(f"the weights of a small network are not finite after {UPDATES} updates", "look for a division by zero or a root")
        if same_bits(before, trainer.network.weights):
            return failed("the weights of a small network do not move", "change tile.weights in place")
        return passed(f"a small network, {UPDATES} updates, weights stay finite")


def _elsewhere(weights: Tensor, seed: int, update: int) -> Tensor:
    """A gradient that does not depend on where the weights are."""
    return _noisy(torch.zeros_like(weights), seed, update)


def _noisy(weights: Tensor, seed: int, update: int) -> Tensor:
    """A gradient with noise of its own for every replica and update."""
    return weights + torch.randn(len(weights), generator=torch.Generator().manual_seed(1000 * seed + update))
