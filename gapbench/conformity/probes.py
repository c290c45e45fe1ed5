"""Checks of a probe: it looks and changes nothing, and what it returns can be recorded replica by replica."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gapbench.catalog import ProbeEntry
from gapbench.catalog import probes as known_probes
from gapbench.conformity.sheet import (
    Answer,
    Check,
    Step,
    close,
    failed,
    listed,
    make_checks,
    make_pool,
    make_spec,
    passed,
    same_bits,
    start,
    warned,
)
from gapbench.core.registry import load_target
from gapbench.engine.trainer import Trainer
from gapbench.probes import TrainState

UPDATES = 12
_TENSORS = ("weights", "initial_weights", "gradients", "gradient_norm", "batch_loss", "batch_correct", "clipped_updates", "learning_rate")


@dataclass
class Watched:
    """A probe that is called as the engine calls it, and whose answers are kept here instead of being recorded."""

    probe: Any
    answers: list[Any] = field(default_factory=list)
    trained: list[Any] = field(default_factory=list)
    """Those after at least one update; before it there is neither gradient nor learning rate, and what is made of them is NaN."""
    repeated: bool = True
    """Whether asking twice gave the same."""
    touched: set[str] = field(default_factory=set)
    """What of the state it changed."""
    state: TrainState | None = None

    def __call__(self, state: TrainState) -> Mapping[str, Tensor]:
        """Asks twice and looks what happened to the state; hands nothing to the engine."""
        before = {name: getattr(state, name).clone() for name in _TENSORS}
        first, second = self.probe(state), self.probe(state)
        self.touched |= {name for name in _TENSORS if not same_bits(before[name], getattr(state, name))}
        self.repeated = self.repeated and _equal(first, second)
        self.answers.append(_kept(first))
        self.trained += self.answers[-1:] if state.update else []
        self.state = state
        return {}


def check_probe(name: str, options: Mapping[str, Any]) -> list[Check]:
    """Returns the checks of a probe with these options."""
    entry = known_probes()[name]
    pool = make_pool((8, 8, 1), 10)
    specs = [make_spec(seed=seed, updates=UPDATES, reference_updates=UPDATES, clip_norm=0.5, keep_weights=(0.0, 0.5)) for seed in (0, 1)]
    given = {option: value for option, value in options.items() if entry.stage != "checkpoint" or option != "at"}
    watched = Watched(functools.partial(load_target(entry.target), **given))
    trainers: dict[str, Trainer] = {}

    def runs() -> Answer:
        trainers["with"] = _drive(start(specs, pool, {entry.stage: [watched]}, objective=entry.needs_objective))
        asked = ", with the objective" if entry.needs_objective else ""
        return passed(f"stage {entry.stage}{asked}, called {len(watched.answers)} times in {UPDATES} updates of two replicas")

    unrecorded = "what it returns cannot be recorded"
    steps = (
        Step("runs", runs, needed="it does not run"),
        Step("names", lambda: _names(watched.answers, entry), needed=unrecorded),
        Step("shapes", lambda: _shapes(watched, entry), needed=unrecorded),
        Step("finite", lambda: _finite(watched.trained)),
        Step("pure", lambda: _pure(watched, trainers["with"], _drive(start(specs, pool)))),
        Step("repeatable", lambda: _repeatable(watched)),
        Step("replicas", lambda: _replicas(watched, entry, specs, pool)),
    )
    return make_checks("probe", name, steps)


def _drive(trainer: Trainer) -> Trainer:
    """Trains to the end and calls the probes as the training loop does."""
    trainer.probe(trainer.program.untrained(), "checkpoint")
    while trainer.update < trainer.spec.updates:
        state = trainer.step()
        if state is None:
            continue
        if trainer.update in trainer.probe_updates:
            trainer.probe(state, "update")
        if trainer.update in trainer.evaluation_updates:
            trainer.probe(state, "evaluation")
            trainer.evaluate()
        if trainer.update in trainer.keep_updates:
            trainer.probe(state, "checkpoint")
    return trainer


def _names(answers: list[Any], entry: ProbeEntry) -> Answer:
    for answer in answers:
        if not isinstance(answer, Mapping):
            return failed(f"it returns {type(answer).__name__}, not metrics by name", 'return a dict, such as {"my_metric": tensor}')
        text, remedy = entry.mismatch([str(name) for name in answer])
        if text:
            return failed(f"it {text}", remedy)
    return passed(listed(sorted({name for answer in answers for name in answer})))


def _shapes(watched: Watched, entry: ProbeEntry) -> Answer:
    state = watched.state
    assert state is not None
    replicas, layers = len(state.weights), len(state.layers)
    for answer in watched.answers:
        for name, value in answer.items():
            if not isinstance(value, Tensor):
                return failed(
                    f"{name} is {type(value).__name__}, not a tensor",
                    "return tensors and never call item() or float(): that waits for the device",
                )
            wanted = (replicas, layers) if name.endswith("/layer") else (replicas,)
            if name.endswith("/bucket") and value.ndim == 2:
                wanted = (replicas, value.shape[1])
            if tuple(value.shape) != wanted:
                return failed(
                    f"{name} has shape {list(value.shape)}, not {list(wanted)}",
                    "reduce over the parameters only (dim=1): one value a replica",
                )
            if value.device != state.weights.device:
                return failed(f"{name} is on {value.device}, not on {state.weights.device}", "compute on the device of state.weights")
    shapes = {"[replica]": set(entry.metrics) - set(entry.vectors), "[replica, bucket]": entry.vectors, "[replica, layer]": entry.per_layer}
    return passed(f"{' and '.join(shape for shape, some in shapes.items() if some)}, on the training device")


def _finite(answers: list[Any]) -> Answer:
    if bad := sorted({name for answer in answers for name, value in answer.items() if not torch.isfinite(value).all()}):
        return warned(f"{listed(bad)} is not always finite", "such values are left out of the curves; say in the summary when that is so")
    return passed("every value")


def _pure(watched: Watched, with_probe: Trainer, without: Trainer) -> Answer:
    if watched.touched:
        return failed(
            f"it changes {listed(sorted(watched.touched))} of the state", "compute on copies: no in-place operations (x.mul_) on the state"
        )
    if not same_bits(with_probe.network.weights, without.network.weights):
        remedy = "use no random numbers but generators of your own and change nothing outside the probe"
        return failed("training goes elsewhere with it", remedy)
    return passed("training ends with the same bits with and without it")


def _repeatable(watched: Watched) -> Answer:
    if not watched.repeated:
        return failed("asked twice about one state it answers differently", "let the answer depend on the state only")
    return passed("the same answer to the same state")


def _replicas(watched: Watched, entry: ProbeEntry, specs: list[Any], pool: Any) -> Answer:
    for replica, spec in enumerate(specs):
        alone = Watched(watched.probe)
        _drive(start([spec], pool, {entry.stage: [alone]}, objective=entry.needs_objective))
        for together, single in zip(watched.answers, alone.answers, strict=True):
            for name, value in single.items():
                if not close(value[0].double(), together[name][replica].double(), 1e-4) and torch.isfinite(value[0]).all():
                    return failed(
                        f"{name} of a replica in a stack is not that of the run alone",
                        "keep replicas apart: reduce over dim=1, never over dim=0",
                    )
    return passed("a replica's values are those of the run alone")


def _kept(answer: Any) -> Any:
    if not isinstance(answer, Mapping):
        return answer
    return {name: value.detach().clone() if isinstance(value, Tensor) else value for name, value in answer.items()}


def _equal(first: Any, second: Any) -> bool:
    if not isinstance(first, Mapping) or not isinstance(second, Mapping):
        return type(first) is type(second)
    if first.keys() != second.keys():
        return False
    pairs = [(first[name], second[name]) for name in first]
    return all(same_bits(one, two) if isinstance(one, Tensor) and isinstance(two, Tensor) else bool(one == two) for one, two in pairs)
