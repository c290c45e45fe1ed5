"""Whole runs on the CPU, and what their events say."""

from __future__ import annotations

from typing import Any

import torch

from gapbench.core.events import Finished, Measured, Outcome, Snapshotted
from gapbench.engine import train
from gapbench.engine.trainer import Trainer
from tests.small import make_split


def make_trainer(specs, pool, splits=None, **options) -> Trainer:
    """A trainer of runs on the CPU, each on the official split unless others are given."""
    return Trainer(
        specs,
        pool,
        splits or [make_split(pool)] * len(specs),
        **{"device": torch.device("cpu"), "emit": lambda _event: None} | options,
    )


def advance(updates: int, *trainers: Trainer) -> None:
    """Makes updates of all of them in turns."""
    for _ in range(updates):
        for trainer in trainers:
            trainer.step()


def run(specs, pool, splits=None, *, stop_at: int | None = None, **options) -> list[Any]:
    """The events of runs that train as one job, stopped after `stop_at` updates if that is given."""
    events: list[Any] = []

    def stop() -> Outcome | None:
        nonlocal stop_at
        stop_at = None if stop_at is None else stop_at - 1
        return Outcome.INTERRUPTED if stop_at == -1 else None

    splits = splits or [make_split(pool)] * len(specs)
    train(specs, pool, splits, **{"device": "cpu", "emit": events.append, "stop": stop, "checkpoint_seconds": 1e9} | options)
    return events


def finished(events) -> dict[int, Finished]:
    """The end of every replica."""
    return {event.replica: event for event in events if isinstance(event, Finished)}


def snapshots_of(events) -> list[dict[str, Any]]:
    return [event.snapshot for event in events if isinstance(event, Snapshotted)]


def curve(events, metric: str, replica: int = 0) -> dict[int, float]:
    """A metric of the whole network by update."""
    return {
        event.update: value
        for event in events
        if isinstance(event, Measured) and event.replica == replica
        for name, layer, value in event.values
        if name == metric and layer == ""
    }
