"""The checks of a component, one after another, each with a name, a state, what was seen and what would mend it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gapbench.core.errors import place_of
from gapbench.engine.trainer import Trainer
from gapbench.probes import TrainState
from gapbench.suite.runspec import Component, Normalization, RunSpec
from gapbench.workloads.datasets.arrays import Pool, Split

State = Literal["pass", "fail", "warning", "does not apply"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    kind: str
    """dataset, model, optimizer, regime or probe."""
    component: str
    check: str
    """Name of the check."""
    state: State
    text: str
    """What was seen, or why it does not apply."""
    remedy: str = ""
    """What mends it; empty where nothing is to be mended."""


@dataclass(frozen=True)
class Answer:
    """What one check came to."""

    state: State
    text: str
    remedy: str = ""


def passed(text: str) -> Answer:
    """It holds."""
    return Answer("pass", text)


def failed(text: str, remedy: str) -> Answer:
    """It does not hold, and numbers would be wrong or a run would crash."""
    return Answer("fail", text, remedy)


def warned(text: str, remedy: str) -> Answer:
    """It may be meant so, but should be known."""
    return Answer("warning", text, remedy)


def does_not_apply(text: str) -> Answer:
    """There is nothing to check."""
    return Answer("does not apply", text)


@dataclass(frozen=True)
class Step:
    """A check to be made."""

    name: str
    look: Callable[[], Answer]
    needed: str = ""
    """Why none of the later checks can be made where this one fails; empty: they can."""


def make_checks(kind: str, component: str, steps: Sequence[Step]) -> list[Check]:
    """Makes the checks of a component one after another; what one of them raises is a failure."""
    checks, missing = [], ""
    for step in steps:
        answer = does_not_apply(missing) if missing else _looked(step)
        checks.append(Check(kind, component, step.name, answer.state, answer.text, answer.remedy))
        if answer.state == "fail":
            missing = step.needed
    return checks


def _looked(step: Step) -> Answer:
    try:
        return step.look()
    except Exception as error:  # the component is somebody else's code
        text = f"{type(error).__name__}: {first_sentence(error)}{place_of(error)}"
        return failed(text, "mend the error; its place is in brackets")


def first_sentence(error: BaseException) -> str:
    """Returns the first line of an error's text."""
    return (str(error).strip().splitlines() or ["no message"])[0]


def close(first: Tensor, second: Tensor, tolerance: float) -> bool:
    """Whether two tensors differ by no more than `tolerance` times the largest value."""
    return first.shape == second.shape and distance(first, second) <= tolerance


def distance(first: Tensor, second: Tensor) -> float:
    """Returns the largest difference of two tensors, as a share of the largest value."""
    scale = max(float(first.detach().abs().max()), 1e-12)
    return float((first.detach() - second.detach()).abs().max()) / scale


def same_bits(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors are equal bit by bit, NaN included."""
    return first.shape == second.shape and bool(torch.equal(first.nan_to_num(nan=1e30), second.nan_to_num(nan=1e30)))


def listed(parts: list[str]) -> str:
    """Returns "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def shape_text(shape: tuple[int, ...]) -> str:
    """Returns "28 x 28 x 1", or "13 features"."""
    return f"{shape[0]} features" if len(shape) == 1 else " x ".join(str(side) for side in shape)


# Small data and runs that components are checked on: random examples whose class shows, a few updates on the CPU.

Probe = Callable[[TrainState], Mapping[str, Tensor]]

TRAIN, TEST, BATCH, UPDATES = 64, 32, 16, 6
SMALL_MODEL = Component(name="mlp", options={"widths": [16, 16], "norm": "batch", "bias": False})
PLAIN_SGD = Component(name="sgd", options={"momentum": 0.9, "nesterov": False})


def make_pool(shape: tuple[int, ...], classes: int) -> Pool:
    """Returns examples of a shape, (height, width, channels) as bytes or (features,) as numbers, whose class shows in their mean."""
    generator = np.random.default_rng(0)
    labels = np.arange(TRAIN + TEST) % classes
    lift = (labels / classes).reshape(-1, *[1] * len(shape))
    values = 0.5 * generator.random((len(labels), *shape)) + 0.5 * lift
    if len(shape) == 1:
        return Pool(values.astype(np.float32), labels.astype(np.int64), classes, 1.0, TRAIN)
    return Pool((255 * values).astype(np.uint8), labels.astype(np.int64), classes, 255.0, TRAIN)


def make_spec(**changes: Any) -> RunSpec:
    """Returns a run of a few updates; `changes` replace fields."""
    seed = changes.get("seed", 0)
    fields: dict[str, Any] = {
        "dataset": Component(name="conformity"),
        "model": SMALL_MODEL,
        "optimizer": PLAIN_SGD,
        "batch_size": BATCH,
        "updates": UPDATES,
        "learning_rate": 0.05,
        "weight_decay": 1e-3,
        "normalization": Normalization(kind="global"),
        "train_examples": TRAIN,
        "reference_batch_size": BATCH,
        "reference_updates": UPDATES,
        "reference_learning_rate": 0.05,
        "evaluations": 2,
        "init_seed": seed,
        "order_seed": seed,
    }
    return RunSpec(**(fields | changes))


def start(specs: Sequence[RunSpec], pool: Pool, probes: Mapping[str, Sequence[Probe]] | None = None, *, objective: bool = False) -> Trainer:
    """Returns a trainer of these runs, one stack; without probes unless some are given, which get the objective if so."""
    train = np.arange(TRAIN, dtype=np.int64)
    split = Split(train, np.arange(TRAIN, TRAIN + TEST, dtype=np.int64), train[:0], train[:TEST])
    splits, cpu = [split] * len(specs), torch.device("cpu")
    return Trainer(specs, pool, splits, device=cpu, emit=lambda _event: None, probes=probes or {}, objective=objective)


def advance(trainer: Trainer, updates: int) -> Trainer:
    """Makes so many updates and returns the trainer."""
    for _ in range(updates):
        trainer.step()
    return trainer


def weights_of(trainer: Trainer, replica: int = 0) -> dict[str, Tensor]:
    """Returns parameters and buffers of one replica, copied."""
    return trainer.network.state_dict(replica)


def differing(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> list[str]:
    """Returns the names of tensors that are not equal bit by bit."""
    return [name for name in first if not same_bits(first[name].double(), second[name].double())]
