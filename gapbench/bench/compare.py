"""Interleaved rounds of both sides of every case, each in a fresh process; medians and their ratio."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from gapbench.bench.cases import CASES
from gapbench.core.errors import GapbenchError
from gapbench.core.registry import unknown_name
from gapbench.execution.pool import MALLOC_VARIABLES

GATE_TOLERANCE = 1e-3
BUSY = 0.3
"""Load of other programs, in cores, above which a timing means little."""


@dataclass(frozen=True)
class BenchRow:
    """One case: median images a second of both sides, and the ratio of each round."""

    case: str
    summary: str
    ours: float
    plain: float
    our_update_ms: float
    plain_update_ms: float
    ratios: tuple[float, ...]
    goal: float

    @property
    def ratio(self) -> float:
        """Median over rounds of ours to theirs."""
        return statistics.median(self.ratios)


@dataclass(frozen=True)
class BenchReport:
    """All cases, and what may have disturbed them."""

    rows: tuple[BenchRow, ...]
    threads: int
    warnings: tuple[str, ...]


def compare(
    names: Sequence[str] = tuple(CASES), *, rounds: int = 3, seconds: float = 6.0, on_message: Callable[[str], None] = lambda _text: None
) -> BenchReport:
    """Times the engine against plain loops.

    Args:
        names: cases, see `CASES`.
        rounds: how often each side is timed; sides take turns, so that a noisy minute hits both.
        seconds: length of one timing, after a warm-up.
        on_message: receives a line about progress.

    Raises GapbenchError for an unknown case, a side that fails, or sides that do not compute the same.
    """
    for name in names:
        if name not in CASES:
            raise GapbenchError(unknown_name("case", name, CASES))
    threads = max(1, psutil.cpu_count(logical=True) or 1)
    busy = psutil.cpu_percent(interval=1.0) / 100 * threads
    warnings = [f"the machine is busy ({busy:.1f} cores in use); ratios may be off"] if busy > BUSY else []
    rows = []
    for name in names:
        difference = _measure(name, "gate", seconds, threads)["difference"]
        if not difference <= GATE_TOLERANCE:
            raise GapbenchError(f"case {name}: the two sides' first losses differ by {difference:.1e} (relative); nothing was timed")
        sides: dict[str, list[dict[str, float]]] = {"ours": [], "plain": []}
        for number in range(rounds):
            for side in ("ours", "plain") if number % 2 == 0 else ("plain", "ours"):
                sides[side].append(_measure(name, side, seconds, threads))
            ours, plain = sides["ours"][-1]["images_per_second"], sides["plain"][-1]["images_per_second"]
            on_message(f"{name}, round {number + 1} of {rounds}: {ours:,.0f} against {plain:,.0f} images/s, ratio {ours / plain:.2f}")
        rows.append(
            BenchRow(
                case=name,
                summary=CASES[name].summary,
                ours=statistics.median(item["images_per_second"] for item in sides["ours"]),
                plain=statistics.median(item["images_per_second"] for item in sides["plain"]),
                our_update_ms=statistics.median(item["update_ms"] for item in sides["ours"]),
                plain_update_ms=statistics.median(item["update_ms"] for item in sides["plain"]),
                ratios=tuple(a["images_per_second"] / b["images_per_second"] for a, b in zip(sides["ours"], sides["plain"], strict=True)),
                goal=CASES[name].goal,
            )
        )
    return BenchReport(tuple(rows), threads, tuple(warnings))


def _measure(name: str, side: str, seconds: float, threads: int) -> dict[str, float]:
    # Stacks train on one thread, as the scheduler runs them; so does the loop that they are held against.
    threads = 1 if CASES[name].replicas > 1 else threads
    command = [sys.executable, "-m", "gapbench.bench.measure", name, side, str(seconds), str(threads)]
    # Our side runs as the scheduler's workers do; a plain loop has the environment that it is started in.
    ours = MALLOC_VARIABLES if side == "ours" else {}
    environment = {**ours, **os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise GapbenchError(f"case {name}, side {side}: the timing process failed: {last[0]}")
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result
