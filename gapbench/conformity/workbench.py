"""Small data and runs that components are checked on: random examples whose class shows, a few updates on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gapbench.engine.session import Session
from gapbench.probes import TrainState
from gapbench.suite.runspec import Component, Normalization, RunSpec
from gapbench.workloads.datasets.arrays import Pool, Split

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


def start(specs: Sequence[RunSpec], pool: Pool, probes: Mapping[str, Sequence[Probe]] | None = None, *, objective: bool = False) -> Session:
    """Returns a session of these runs, one stack; without probes unless some are given, which get the objective if so."""
    train = np.arange(TRAIN, dtype=np.int64)
    split = Split(train, np.arange(TRAIN, TRAIN + TEST, dtype=np.int64), train[:0], train[:TEST])
    splits, cpu = [split] * len(specs), torch.device("cpu")
    return Session(specs, pool, splits, device=cpu, emit=lambda _event: None, probes=probes or {}, objective=objective)


def advance(session: Session, updates: int) -> None:
    """Makes so many updates."""
    for _ in range(updates):
        session.step()


def weights_of(session: Session, replica: int = 0) -> dict[str, Tensor]:
    """Returns parameters and buffers of one replica, copied."""
    return session.network.state_dict(replica)


def differing(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> list[str]:
    """Returns the names of tensors that are not equal bit by bit."""
    from gapbench.conformity.sheet import same_bits

    return [name for name in first if not same_bits(first[name].double(), second[name].double())]
