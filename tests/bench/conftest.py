from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import pytest
import torch

from gapbench.bench.cases import Case, Comparison, Side, Task
from gapbench.bench.peers import Build
from gapbench.bench.programs import PROGRAMS, random_pool
from gapbench.bench.records import Machine
from gapbench.suite.runspec import Component

TINY = Task(
    "cifar10", Component(name="resnet", options={"depth": 8}), (8, 8, 3), 16, crop_padding=1, flip=True, examples=64, test_examples=8
)
"""A residual network of eight layers on random 8 x 8 images."""


@pytest.fixture
def tiny() -> Task:
    return TINY


@pytest.fixture
def tiny_mlp() -> Task:
    model = Component(name="mlp", options={"widths": [16], "norm": "batch", "bias": False})
    return Task("digits", model, (4, 4, 1), 8, replicas=3, examples=40, test_examples=8)


@pytest.fixture
def build() -> Callable[..., Any]:
    """Builds a program on random data of a task, on the CPU."""

    def make(task: Task, program: str = "ours", precision: str = "fp32") -> Any:
        return PROGRAMS[program](Build(task, random_pool(task), precision, torch.device("cpu"), compiled=False))

    return make


@pytest.fixture
def case() -> Case:
    """Ours, twice, and two rivals."""
    return Case(
        "tiny",
        "a tiny case",
        "cpu",
        TINY,
        (Side("ours", "ours"), Side("slow", "reference"), Side("quick", "memory")),
        (Comparison("ours", ("slow", "quick"), 2.0), Comparison("ours", ("slow",), 1.05, "cost")),
    )


@pytest.fixture
def machine() -> Machine:
    return Machine("cpu", "Some Processor, 2 cores", 2, "2.15.0", "3.12.0", "0.1.0", "abcdef012345")


@pytest.fixture
def timings(case: Case, machine: Machine) -> Callable[..., list[dict[str, Any]]]:
    """Makes the timings of one round: `speeds` by side, that of the first twice."""

    def make(
        number: int, speeds: Sequence[float], *, group: str = "g", at: str = "2026-01-01T00:00:00+00:00", **more: Any
    ) -> list[dict[str, Any]]:
        sides = [(side.name, False) for side in case.sides] + [(case.sides[0].name, True)]
        return [
            {
                **asdict(machine),
                "group": group,
                "case": case.name,
                "round": number,
                "side": side,
                "again": again,
                "started_at": at,
                "loaded": False,
                "load_cores": 0.1,
                "precision": "fp32",
                "form": "eager",
                "examples_per_second": speed,
                "updates": 10,
                "examples": 160,
                "seconds": 2.0,
                "cpu_seconds": 3.0,
                "first_update_seconds": 0.5,
                "flops_per_example": 1e6,
                "peak_flops_per_second": 1e9,
                "threads": 2,
                "batch_size": 16,
                "replicas": 1,
                **more,
            }
            for (side, again), speed in zip(sides, speeds, strict=True)
        ]

    return make


@pytest.fixture
def answer_of_a_side() -> dict[str, Any]:
    """What a measuring process says of a side."""
    return {
        "form": "eager", "first_update_seconds": 0.1, "updates": 10, "examples": 1000, "seconds": 1.0, "cpu_seconds": 1.0,
        "event_seconds": None, "flops_per_example": 1e6, "bytes_per_example": None, "clock_before_mhz": None, "clock_after_mhz": None,
    }  # fmt: skip
