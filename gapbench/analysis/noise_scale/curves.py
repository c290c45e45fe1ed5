"""Noise scales of a run along its training, from the raw sums in `curves.parquet`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from gapbench.analysis.curves import Curve, Curves
from gapbench.analysis.noise_scale.estimators import (
    Blocks,
    Scale,
    effective_dimension,
    scale_of_blocks,
    scale_with_interval,
    squared_gradient,
    trace_of_covariance,
)

Array = npt.NDArray[np.float64]

WINDOW = 8
"""Measurements of stream mode, at neighbouring updates, that one estimate is made of: one alone says next to nothing of |G|^2."""


@dataclass(frozen=True)
class Noise:
    """The noise scale of one run about one update."""

    update: float
    mode: Literal["probe", "stream"]
    """`probe`: at weights that stood still; `stream`: of several updates together."""
    size: float
    """Examples of a micro-batch."""
    count: float
    """Micro-batches of a measurement."""
    dataset: Scale
    """With |G|^2 of the training set's own gradient."""
    population: Scale
    """With |G|^2 of the population that the training set was drawn from: less by tr(Sigma) / N."""
    dimension: float | None = None
    """Effective dimension of the noise, tr(Sigma)^2 / tr(Sigma^2); None: not known."""


class NoiseCurves:
    """Reads noise scales from `curves.parquet`."""

    def __init__(self, curves: Curves) -> None:
        self._squares = curves.vectors("noise_squares")
        self._products = curves.vectors("noise_products")
        self._of = {name: curves.of(name) for name in ("noise_size", "noise_count", "gradient_norm", "batch_size")}
        self._stream = {name: curves.of(f"noise_stream_{name}") for name in ("count", "squares", "square_of_mean")}

    def probed(self, run_id: str, train_examples: int) -> list[Noise]:
        """Returns what probe mode measured, by update. Its examples are drawn with replacement, so that |G|^2 is the training set's."""
        if run_id not in self._squares or run_id not in self._products:
            return []
        updates, squares = self._squares[run_id]
        also, products = self._products[run_id]
        out = []
        for update in np.intersect1d(updates, also):
            size, count = (_at(self._of[name].get(run_id), update) for name in ("noise_size", "noise_count"))
            if size is None or count is None:
                continue
            own = squares[updates == update][0]
            blocks = Blocks(size, int(count), own, _symmetric(products[also == update][0], len(own)))
            dataset, population = scale_of_blocks(blocks), scale_of_blocks(blocks, subtract=1.0 / train_examples)
            dimension = effective_dimension(dataset.trace, blocks.square_of_covariance())
            out.append(Noise(float(update), "probe", size, count, dataset, population, dimension))
        return out

    def streamed(self, run_id: str, batch_size: int, train_examples: int) -> list[Noise]:
        """Returns what stream mode measured, WINDOW measurements at a time.

        Micro-batches of one batch share no example, so that the raw |G|^2 is the population's; that of the training set is more by
        tr(Sigma) / N.
        """
        counts, sums = (self._stream[name].get(run_id) for name in ("count", "squares"))
        if counts is None or sums is None:
            return []
        own, norms = self._stream["square_of_mean"].get(run_id), self._of["gradient_norm"].get(run_id)
        rows = []
        for update, count in zip(counts.updates, counts.values, strict=True):
            total, mean, norm = (_at(curve, update) for curve in (sums, own, norms))
            square_of_mean = mean if mean is not None else None if norm is None else norm**2
            if count >= 2 and total is not None and square_of_mean is not None:
                batch = _at(self._of["batch_size"].get(run_id), update) or batch_size  # where the batch changes, every size is recorded
                size = batch / count
                s = total / count
                trace = float(trace_of_covariance(s, square_of_mean, size, count))
                rows.append((update, count, trace, float(squared_gradient(s, square_of_mean, count))))
        out = []
        for start in range(0, len(rows) - WINDOW + 1, WINDOW):
            part = np.array(rows[start : start + WINDOW])
            traces, squares = part[:, 2], part[:, 3]
            update = float(np.exp(np.log(part[:, 0]).mean()))
            population, dataset = (_of_series(traces, squares + share * traces) for share in (0.0, 1.0 / train_examples))
            out.append(Noise(update, "stream", batch_size / float(part[0, 1]), float(part[0, 1]), dataset, population))
        return out


def _of_series(traces: Array, squares: Array) -> Scale:
    n = len(traces)
    without_traces, without_squares = (traces.sum() - traces) / (n - 1), (squares.sum() - squares) / (n - 1)
    return scale_with_interval(float(traces.mean()), float(squares.mean()), without_traces, without_squares)


def _symmetric(upper: Array, count: int) -> Array:
    full = np.zeros((count, count))
    full[np.triu_indices(count)] = upper
    return full + np.triu(full, 1).T


def _at(curve: Curve | None, update: float) -> float | None:
    if curve is None:
        return None
    found = np.flatnonzero(curve.updates == update)
    return float(curve.values[found[0]]) if len(found) else None
