"""The gradient noise scale of McCandlish et al. 2018: unbiased estimates of tr(Sigma) and |G|^2, and their ratio with its interval.

With mean gradients g_1 .. g_M of b examples each, s = mean |g_m|^2 and q = |mean g_m|^2:

    tr(Sigma) ~ b M / (M - 1) (s - q)        |G|^2 ~ (M q - s) / (M - 1)

which is the two-batch form of McCandlish et al. 2018, appendix A.1, with small batch b and large batch M b, all M norms used. |G|^2 may
come out negative. The noise scale tr(Sigma) / |G|^2 of several measurements is the ratio of their means; the mean of their ratios is biased
without bound, because single measurements of |G|^2 come near zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from gapbench.analysis.cells import Cell, Panel, read_panels
from gapbench.analysis.curves import Curve, Curves, common_updates
from gapbench.analysis.formats import large
from gapbench.analysis.frames import Columns, Row, Study, grouped, named, tidy, with_bounds
from gapbench.analysis.stats import LEVEL, Array, fieller, t_quantile

if TYPE_CHECKING:
    import pandas as pd

NEAR_ZERO = 3.0
"""Where |G|^2 is within so many standard errors of zero, the interval of the ratio is Fieller's, which may have no upper end."""


@dataclass(frozen=True)
class Scale:
    """A noise scale, in examples, with its interval."""

    value: float
    """tr(Sigma) / |G|^2; infinity where the estimate of |G|^2 is not positive."""
    low: float | None
    """Lower bound; None: none can be given."""
    high: float | None
    """Upper bound; None: there is none, so that the scale is "at least" the lower one."""
    trace: float
    """tr(Sigma), the covariance of single examples' gradients."""
    square: float
    """|G|^2."""
    n: int
    """Measurements, or blocks of one, that the interval rests on."""

    @property
    def known(self) -> float | None:
        """The value where it is finite, else None."""
        return self.value if np.isfinite(self.value) else None


def trace_of_covariance(mean_square: Array | float, square_of_mean: Array | float, size: float, count: Array | float) -> Array:
    """Returns the unbiased estimate of tr(Sigma), per example.

    Args:
        mean_square: s, the mean over micro-batches of |g_m|^2.
        square_of_mean: q, |mean g_m|^2.
        size: b, examples of a micro-batch.
        count: M, micro-batches, at least 2.
    """
    return np.asarray(size * count / (np.asarray(count) - 1.0) * (mean_square - square_of_mean))


def squared_gradient(mean_square: Array | float, square_of_mean: Array | float, count: Array | float) -> Array:
    """Returns the unbiased estimate of |G|^2: the mean of g_m . g_n over pairs of different micro-batches. Arguments as above."""
    return np.asarray((np.asarray(count) * square_of_mean - mean_square) / (np.asarray(count) - 1.0))


@dataclass(frozen=True, eq=False)
class Blocks:
    """One measurement at frozen weights, its micro-batches in K blocks of equal number."""

    size: float
    """b, examples of a micro-batch."""
    count: int
    """M, micro-batches in all."""
    squares: Array
    """Mean |g_m|^2 of each block's micro-batches, [K]."""
    products: Array
    """h_j . h_k of the blocks' mean gradients, [K, K]."""

    def estimates(self) -> tuple[float, float, Array, Array]:
        """Returns tr(Sigma) and |G|^2, and the same with each block left out, [K]."""
        blocks = len(self.squares)
        s, q = self.squares.mean(), self.products.mean()
        without_s = (self.squares.sum() - self.squares) / (blocks - 1)
        without_q = (self.products.sum() - 2.0 * self.products.sum(axis=1) + np.diag(self.products)) / (blocks - 1) ** 2
        fewer = self.count * (blocks - 1) / blocks
        return (
            float(trace_of_covariance(s, q, self.size, self.count)),
            float(squared_gradient(s, q, self.count)),
            trace_of_covariance(without_s, without_q, self.size, fewer),
            squared_gradient(without_s, without_q, fewer),
        )

    def square_of_covariance(self) -> float:
        """Returns the unbiased estimate of tr(Sigma^2), from products of blocks that have nothing in common (four blocks or more).

        Source: Li and Chen 2012, Annals of Statistics 40(2), equation 2.2.
        """
        own = len(self.squares)
        apart = self.products - np.diag(np.diag(self.products))
        pairs = float((apart**2).sum())
        chains = float((apart.sum(axis=1) ** 2).sum()) - pairs
        disjoint = float(apart.sum()) ** 2 - 4.0 * chains - 2.0 * pairs
        two, three, four = own * (own - 1), own * (own - 1) * (own - 2), own * (own - 1) * (own - 2) * (own - 3)
        of_blocks = pairs / two - 2.0 * chains / three + disjoint / four
        return of_blocks * (self.size * self.count / own) ** 2


def scale_of_blocks(blocks: Blocks, *, subtract: float = 0.0) -> Scale:
    """Returns the noise scale of one measurement at frozen weights.

    Args:
        blocks: what was measured.
        subtract: what is taken from |G|^2, as a share of tr(Sigma): 1 / N for the value of the population that N examples were drawn from.
    """
    trace, square, traces, squares = blocks.estimates()
    # Where noise outweighs the gradient, |G|^2 is a sum of products of pure noise, whose variance the jackknife counts twice.
    noise = 2.0 * max(0.0, blocks.square_of_covariance()) / (blocks.size**2 * blocks.count * (blocks.count - 1))
    return scale_with_interval(trace, square - subtract * trace, traces, squares - subtract * traces, counted_twice=noise)


def scale_of_series(traces: Array, squares: Array) -> Scale:
    """Returns the noise scale of several measurements near the same weights: the ratio of their means, with its interval.

    Args:
        traces: tr(Sigma) of each measurement.
        squares: |G|^2 of each.
    """
    n = len(traces)
    without = [(values.sum() - values) / (n - 1) if n > 1 else values for values in (traces, squares)]
    return scale_with_interval(float(traces.mean()), float(squares.mean()), *without)


def scale_with_interval(trace: float, square: float, traces: Array, squares: Array, *, counted_twice: float = 0.0) -> Scale:
    """Returns the ratio with its 95 % interval by the jackknife.

    Away from |G|^2 = 0 the interval is of the logarithm of the ratio, else Fieller's with the jackknife's covariance.

    Args:
        trace: tr(Sigma).
        square: |G|^2.
        traces: tr(Sigma) with each part left out, [K].
        squares: |G|^2 with the same part left out, [K].
        counted_twice: part of the variance of |G|^2 that the jackknife counts twice.
    """
    n = len(traces)
    value = trace / square if square > 0.0 else float("inf")
    if n < 2:
        return Scale(value, None, None, trace, square, n)
    spread = np.stack([traces - traces.mean(), squares - squares.mean()])
    covariance = (n - 1) / n * spread @ spread.T
    covariance[1, 1] -= min(counted_twice, 0.5 * covariance[1, 1])
    t = t_quantile(LEVEL, n - 1)
    if square > NEAR_ZERO * np.sqrt(covariance[1, 1]) and trace > 0.0 and (squares > 0.0).all() and (traces > 0.0).all():
        logs = np.log(traces / squares)
        half = t * float(np.sqrt((n - 1) / n * ((logs - logs.mean()) ** 2).sum()))
        return Scale(value, float(value * np.exp(-half)), float(value * np.exp(half)), trace, square, n)
    low, high = fieller(trace, square, covariance, t)
    return Scale(value, low, high, trace, square, n)


def effective_dimension(trace: float, square_of_covariance: float) -> float | None:
    """Returns tr(Sigma)^2 / tr(Sigma^2): over how many directions the noise is spread; None where the estimates are not positive."""
    return trace**2 / square_of_covariance if trace > 0.0 and square_of_covariance > 0.0 else None


# A run along its training, from the raw sums in `curves.parquet`.

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


def probed_noise(curves: Curves, run_id: str, train_examples: int) -> list[Noise]:
    """Returns what probe mode measured, by update. Its examples are drawn with replacement, so that |G|^2 is the training set's."""
    measured = [found[run_id] for name in ("noise_squares", "noise_products") if run_id in (found := curves.vectors(name))]
    out = []
    for update in common_updates(measured) if len(measured) == 2 else ():
        size, count = (curves.value(name, run_id, update) for name in ("noise_size", "noise_count"))
        if size is None or count is None:
            continue
        squares, products = (curve.at(update)[0] for curve in measured)
        blocks = Blocks(size, int(count), squares, _symmetric(products, len(squares)))
        dataset, population = scale_of_blocks(blocks), scale_of_blocks(blocks, subtract=1.0 / train_examples)
        dimension = effective_dimension(dataset.trace, blocks.square_of_covariance())
        out.append(Noise(float(update), "probe", size, count, dataset, population, dimension))
    return out


def streamed_noise(curves: Curves, run_id: str, batch_size: int, train_examples: int) -> list[Noise]:
    """Returns what stream mode measured, WINDOW measurements at a time.

    Micro-batches of one batch share no example, so that the raw |G|^2 is the population's; that of the training set is more by
    tr(Sigma) / N.
    """
    counts = curves.of("noise_stream_count").get(run_id)
    rows = []
    for update, count in zip(counts.updates, counts.values, strict=True) if counts else ():
        names = ("noise_stream_squares", "noise_stream_square_of_mean", "gradient_norm", "batch_size")
        total, mean, norm, batch = (curves.value(name, run_id, update) for name in names)
        square_of_mean = mean if mean is not None else None if norm is None else norm**2
        if count >= 2 and total is not None and square_of_mean is not None:
            size, s = (batch or batch_size) / count, total / count  # where the batch changes, every size is recorded
            trace = float(trace_of_covariance(s, square_of_mean, size, count))
            rows.append((update, count, trace, float(squared_gradient(s, square_of_mean, count))))
    out = []
    for start in range(0, len(rows) - WINDOW + 1, WINDOW):
        part = np.array(rows[start : start + WINDOW])
        traces, squares = part[:, 2], part[:, 3]
        update, count = float(np.exp(np.log(part[:, 0]).mean())), float(part[0, 1])
        population, dataset = (scale_of_series(traces, squares + share * traces) for share in (0.0, 1.0 / train_examples))
        out.append(Noise(update, "stream", batch_size / count, count, dataset, population))
    return out


def _symmetric(upper: Array, count: int) -> Array:
    full = np.zeros((count, count))
    full[np.triu_indices(count)] = upper
    return full + np.triu(full, 1).T


# The runs of a suite, in sentences and as a frame.

COLUMNS: Columns = {
    "panel": "run.panel.title", "cell": "run.cell.name", **named("batch_size", "learning_rate", of="run.cell"),
    **named("run_id", "seed", of="run"), **named("mode", "update", of="noise"), **named("examples", "train_loss"),
    "micro_batch_size": "noise.size", "micro_batches": "noise.count", "trace": "noise.dataset.trace",
    "squared_gradient": "noise.dataset.square", **with_bounds("noise_scale", "noise.dataset", "known"),
    "squared_gradient_population": "noise.population.square", **with_bounds("noise_scale_population", "noise.population", "known"),
    "effective_dimension": "noise.dimension", "n": "noise.dataset.n",
}  # fmt: skip


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


def study(suite: str, runs: pd.DataFrame, curves: pd.DataFrame) -> Study[tuple[RunNoise, ...]]:
    """Analyses the raw sums of the probes noise_scale and noise_scale_stream, run by run."""
    looked_up = Curves(curves)
    recalibrated, running = looked_up.of("recalibrated_train_loss"), looked_up.of("train_loss")
    found = []
    for panel in read_panels(runs):
        for cell in panel.cells:
            for run in cell.ok_runs:
                probed = probed_noise(looked_up, run.run_id, cell.train_examples)
                streamed = streamed_noise(looked_up, run.run_id, cell.batch_size, cell.train_examples)
                if probed or streamed:
                    loss = recalibrated.get(run.run_id) or running.get(run.run_id)
                    found.append(RunNoise(panel, cell, run.run_id, run.seed, tuple(probed), tuple(streamed), loss))
    sentences = grouped((one.panel.title, _sentence(one)) for one in found)
    none = {"noise scale": ["No run has measured it; name the probe noise_scale or noise_scale_stream in [run] of the suite."]}
    return Study(suite, tuple(found), sentences or none, {"noise": tidy(COLUMNS, (row for one in found for row in _rows(one)))})


def scale_text(scale: Scale) -> str:
    """Returns "870 (95 % interval 700 to 1,090)", or "at least 700"."""
    if scale.low is None:
        return f"{_number(scale.value)} (no interval)"
    if scale.high is None:
        return f"at least {_number(scale.low)} (95 %: the interval of the squared gradient holds 0)"
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
    return large(value) if np.isfinite(value) else "unbounded"


def _rows(run: RunNoise) -> Iterator[Row]:
    for noise in (*run.probed, *run.streamed):
        examples, loss = noise.update * run.cell.batch_size, loss_at(run.loss, noise.update)
        yield {"run": run, "noise": noise, "examples": examples, "train_loss": loss}
