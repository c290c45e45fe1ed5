"""Published steps by batch size, critical batch sizes and noise scales, as data with their source.

published.critical_batch.steps("zhang2024")["85M"].steps
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from gapbench.core.errors import UnknownNameError
from gapbench.core.registry import unknown_name

SERIES = ("zhang2024",)
"""Papers with steps by batch size."""


@dataclass(frozen=True)
class PublishedSteps:
    """Steps to one target by batch size."""

    target: str
    batch_sizes: tuple[float, ...]
    steps: tuple[float, ...]
    unit: str
    """Of batch sizes."""
    source: str
    how: str


@dataclass(frozen=True)
class PublishedTask:
    """A row of McCandlish et al. 2018, table 1: at the start of training, and the average."""

    task: str
    critical_batch: tuple[float, float]
    noise_scale: tuple[float, float]
    source: str
    how: str


def steps(paper: str) -> Mapping[str, PublishedSteps]:
    """Returns the series of a paper by name.

    Raises:
        UnknownNameError: no series of such a paper are kept.
    """
    if paper not in SERIES:
        raise UnknownNameError(unknown_name("paper", paper, SERIES))
    data = _data(paper)
    source = f"{data['short']}, {data['source']}"
    sizes = tuple(float(size) for size in data["batch_sizes"])
    return {
        name: PublishedSteps(entry["target"], sizes, tuple(float(value) for value in entry["steps"]), data["unit"], source, data["how"])
        for name, entry in data["series"].items()
    }


def tasks() -> tuple[PublishedTask, ...]:
    """Returns what McCandlish et al. 2018 report of every task."""
    data = _data("mccandlish2018")
    source = f"{data['short']}, {data['source']}"
    return tuple(
        PublishedTask(row["task"], _pair(row["critical_batch"]), _pair(row["noise_scale"]), source, data["how"]) for row in data["rows"]
    )


def _pair(values: list[float]) -> tuple[float, float]:
    start, average = values
    return float(start), float(average)


@functools.cache
def _data(paper: str) -> dict[str, Any]:
    return tomllib.loads(resources.files("gapbench.published").joinpath(f"{paper}.toml").read_text(encoding="utf-8"))
