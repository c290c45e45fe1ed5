"""Whole runs on the CPU, and what their events say."""

from __future__ import annotations

from typing import Any

from gapbench.core.events import Finished, Measured, Outcome, Snapshotted
from gapbench.engine import train


def run(specs, pool, splits, *, stop_at: int | None = None, **options) -> list[Any]:
    """The events of runs that train as one job, stopped after `stop_at` updates if that is given."""
    events: list[Any] = []

    def stop() -> Outcome | None:
        nonlocal stop_at
        stop_at = None if stop_at is None else stop_at - 1
        return Outcome.INTERRUPTED if stop_at == -1 else None

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
