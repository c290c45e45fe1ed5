"""The analysis of noise scales as a whole: every run's along its training, in sentences and frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gapbench.analysis.cells import Cell, Panel, read_panels
from gapbench.analysis.curves import Curve, Curves
from gapbench.analysis.noise_scale.estimators import Noise, NoiseCurves, Scale

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "panel", "cell", "batch_size", "learning_rate", "run_id", "seed", "mode", "update", "examples", "train_loss", "micro_batch_size",
    "micro_batches", "trace", "squared_gradient", "noise_scale", "noise_scale_low", "noise_scale_high", "squared_gradient_population",
    "noise_scale_population", "noise_scale_population_low", "noise_scale_population_high", "effective_dimension", "n",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class RunNoise:
    """Noise scales of one run."""

    panel: Panel
    cell: Cell
    run_id: str
    seed: int
    probed: tuple[Noise, ...]
    streamed: tuple[Noise, ...]
    loss: Curve | None
    """Train loss at evaluations."""

    @property
    def best(self) -> tuple[Noise, ...]:
        """Those of probe mode where there are any, for their weights stand still; else those of stream mode."""
        return self.probed or self.streamed


@dataclass(frozen=True, eq=False)
class NoiseStudy:
    """Noise scales of a suite."""

    suite: str
    runs: tuple[RunNoise, ...]

    @cached_property
    def sentences(self) -> dict[str, list[str]]:
        """What can be said of every run, by panel."""
        out: dict[str, list[str]] = {}
        for run in self.runs:
            out.setdefault(run.panel.title, []).append(_sentence(run))
        return out or {"noise scale": ["No run has measured it; name the probe noise_scale or noise_scale_stream in [run] of the suite."]}

    @cached_property
    def frames(self) -> dict[str, pd.DataFrame]:
        """One row a run and update."""
        import pandas as pd

        return {"noise": pd.DataFrame([row for run in self.runs for row in _rows(run)], columns=list(COLUMNS))}

    def __repr__(self) -> str:
        return f"NoiseStudy({self.suite!r}: {len(self.runs)} runs)"


def study(suite: str, runs: pd.DataFrame, curves: pd.DataFrame) -> NoiseStudy:
    """Analyses the raw sums of the probes noise_scale and noise_scale_stream."""
    looked_up = Curves(curves)
    noise = NoiseCurves(looked_up)
    recalibrated, running = looked_up.of("recalibrated_train_loss"), looked_up.of("train_loss")
    found = []
    for panel in read_panels(runs):
        for cell in panel.cells:
            for run in cell.ok_runs:
                probed = tuple(noise.probed(run.run_id, cell.train_examples))
                streamed = tuple(noise.streamed(run.run_id, cell.batch_size, cell.train_examples))
                if probed or streamed:
                    loss = recalibrated.get(run.run_id) or running.get(run.run_id)
                    found.append(RunNoise(panel, cell, run.run_id, run.seed, probed, streamed, loss))
    return NoiseStudy(suite, tuple(found))


def scale_text(scale: Scale) -> str:
    """Returns "870 (95 % interval 700 to 1,090)", or "at least 700"."""
    if scale.low is None:
        return f"{_number(scale.value)} (no interval)"
    if scale.high is None:
        return f"at least {_number(scale.low)} (95 %: the squared gradient is not separated from 0)"
    return f"{_number(scale.value)} (95 % interval {_number(scale.low)} to {_number(scale.high)})"


def loss_at(loss: Curve | None, update: float) -> float | None:
    """Returns the train loss about an update, interpolated against log updates; None outside of the evaluations.

    In log loss, but where the loss, being a density's, falls below zero.
    """
    if loss is None or not loss.updates[0] <= update <= loss.updates[-1] or update <= 0:
        return None
    at, updates = np.log(update), np.log(np.maximum(loss.updates, 0.5))
    if below_zero(loss):
        return float(np.interp(at, updates, loss.values))
    return float(np.exp(np.interp(at, updates, np.log(np.maximum(loss.values, 1e-12)))))


def below_zero(loss: Curve | None) -> bool:
    """Whether a loss has no logarithm everywhere."""
    return loss is not None and bool(loss.values.min() < 0)


def _sentence(run: RunNoise) -> str:
    first, last = run.best[0], run.best[-1]
    how = "weights standing still" if run.probed else "along training"
    dimension = f"; its noise lies in about {_number(last.dimension)} directions" if last.dimension else ""
    return (
        f"{run.cell.name}, seed {run.seed} ({how}): noise scale {scale_text(first.dataset)} examples at update {first.update:,.0f}, "
        f"{scale_text(last.dataset)} at update {last.update:,.0f}{dimension}."
    )


def _number(value: float) -> str:
    if not np.isfinite(value):
        return "unbounded"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _rows(run: RunNoise) -> Iterator[dict[str, Any]]:
    for noise in (*run.probed, *run.streamed):
        yield {
            "panel": run.panel.title,
            "cell": run.cell.name,
            "batch_size": run.cell.batch_size,
            "learning_rate": run.cell.learning_rate,
            "run_id": run.run_id,
            "seed": run.seed,
            "mode": noise.mode,
            "update": noise.update,
            "examples": noise.update * run.cell.batch_size,
            "train_loss": loss_at(run.loss, noise.update),
            "micro_batch_size": noise.size,
            "micro_batches": noise.count,
            "trace": noise.dataset.trace,
            "squared_gradient": noise.dataset.square,
            "noise_scale": _finite(noise.dataset.value),
            "noise_scale_low": noise.dataset.low,
            "noise_scale_high": noise.dataset.high,
            "squared_gradient_population": noise.population.square,
            "noise_scale_population": _finite(noise.population.value),
            "noise_scale_population_low": noise.population.low,
            "noise_scale_population_high": noise.population.high,
            "effective_dimension": noise.dimension,
            "n": noise.dataset.n,
        }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
