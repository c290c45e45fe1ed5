"""The loss around the weights: its spread against distance, its sharpness and its curvature.

The landscape experiment is that of Hoffer et al. 2017, appendix B. The paper read "standard deviation linear in distance" as a random
potential of exponent 2. To first order every differentiable loss does that, with slope ||g|| / sqrt(D); so each spread stands beside the
one that the gradient predicts, and each rise of the mean beside what the curvature predicts, z^2 tr(H) / (2 D). Only where these fail has
the experiment said anything.

Sharpness is Keskar's measure, curvature the Hessian's top eigenvalue and trace. Where lambda_max * learning_rate / (2 (1 + momentum)) is
near 1, as full-batch training makes it (Cohen et al. 2021), a difference of sharpness between arms reads their learning rates; that share
of the edge of stability therefore stands beside every eigenvalue, with the loss at which it was measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gapbench import catalog
from gapbench.analysis.cells import Cell, Panel, Run, read_panels
from gapbench.analysis.curves import Curve, Curves
from gapbench.analysis.formats import MINUS
from gapbench.analysis.frames import Columns, Row, Study, grouped, named, tidy, with_bounds
from gapbench.analysis.stats import LEVEL, Array, Estimate, t_interval
from gapbench.suite.runspec import RunSpec

if TYPE_CHECKING:
    import pandas as pd

BINS = 10
FEWEST = 5
"""Losses that a bin needs: two are spent on its mean and trend."""
ROUNDS, TOLERANCE = 200, 1e-6
"""Steps that the fit of an exponent may take, and the last of which may change it by no more."""
KINDS = {"uniform": "landscape", "filter-normalized": "landscape_filter"}
"""Kinds of directions and the beginning of their metrics."""
ONE: Columns = {
    "panel": "panel.title", "cell": "one.cell.name", **named("run_id", "seed", of="one.run"), **named("update", "fraction", of="one"),
    "directions": "one.kind",
}  # fmt: skip
OF_BIN = ("bin", "losses", "distance", "standard_deviation", "first_order", "rise", "second_order")
COLUMNS: dict[str, Columns] = {
    "bins": {**ONE, **named(*OF_BIN)},
    "fits": {
        **ONE, **named("largest_distance", "center", "floor", "slope", "curvature", "curvature_error", of="one"),
        **named("exponent", "exponent_error"), "spread_ratio": "one.spread_ratio",
    },
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Bins:
    """Losses at distances in equal bins from 0 to the largest. Bins with fewer than FEWEST losses are left out."""

    number: npt.NDArray[np.int64]
    losses: npt.NDArray[np.int64]
    distance: Array
    """Root mean square: the spread of a linear loss is exactly slope times this."""
    deviation: Array
    """Standard deviation of the loss about its trend in the squared distance within the bin, so that a rising mean adds no spread."""
    rise: Array
    """Mean loss over the loss at the weights."""


@dataclass(frozen=True, eq=False)
class Landscape:
    """One run at one update along one kind of directions."""

    cell: Cell
    run: Run
    update: int
    fraction: float
    """Of the training, as the suite asked."""
    kind: str
    distances: Array
    losses: Array
    bins: Bins
    center: float
    """Loss at the weights."""
    floor: float
    """Standard deviation that the rounding of the weights alone gives."""
    slope: float
    """What the gradient predicts: spread per distance."""
    curvature: float
    """Mean of v H v; for uniform directions tr(H) / D."""
    curvature_error: float

    @property
    def largest_distance(self) -> float:
        """Of any direction."""
        return float(self.distances.max())

    @cached_property
    def fit(self) -> tuple[float, float]:
        """Exponent of the spread against distance and its standard error, the floor's variance subtracted; NaN if unknown."""
        return spread_exponent(self.distances, self.losses - self.center, self.floor)

    @property
    def spread_ratio(self) -> float:
        """Measured spread over that which the gradient predicts, over all bins: root of the mean squared ratio."""
        ratios = (self.bins.deviation**2 - self.floor**2) / (self.slope * self.bins.distance) ** 2
        return math.sqrt(max(float(np.average(ratios, weights=self.bins.losses - 2)), 0.0)) if len(ratios) else math.nan


Landscapes = Mapping[Panel, tuple[Landscape, ...]]
"""Those of a suite, by panel."""


def landscape_study(
    suite: str, runs: pd.DataFrame, curves: pd.DataFrame, specs: Mapping[str, RunSpec], *, bins: int = BINS
) -> Study[Landscapes]:
    """Reads the landscapes of every run.

    Args:
        suite: its name.
        runs: runs.parquet.
        curves: curves.parquet.
        specs: by run id, for what the probe was asked.
        bins: equal bins of distance from 0 to the largest.
    """
    read = Curves(curves)
    panels = {
        panel: tuple(one for cell in panel.cells for run in cell.runs for one in _landscapes(cell, run, read, specs.get(run.run_id), bins))
        for panel in read_panels(runs)
    }
    found = [(panel, one) for panel, own in panels.items() for one in own]
    fits = ({"panel": panel, "one": one, "exponent": one.fit[0], "exponent_error": one.fit[1]} for panel, one in found)
    of_bins = ({"panel": panel, "one": one, **row} for panel, one in found for row in _bin_rows(one))
    frames = {"bins": tidy(COLUMNS["bins"], of_bins), "fits": tidy(COLUMNS["fits"], fits)}
    return Study(suite, panels, {panel.title: list(_sentences(own, specs)) for panel, own in panels.items()}, frames)


def _landscapes(cell: Cell, run: Run, curves: Curves, spec: RunSpec | None, bins: int) -> Iterator[Landscape]:
    """Yields the landscapes of a run, by update and kind."""

    def value(metric: str, update: float) -> float:
        found = curves.value(metric, run.run_id, update)
        return math.nan if found is None else found

    distances = curves.vectors("landscape_distance").get(run.run_id)
    for update, away in zip(distances.updates, distances.values, strict=True) if distances else ():
        fraction = asked_fraction(spec, "landscape", int(update), cell)
        center, floor = (value(f"landscape_{what}", update) for what in ("center", "floor"))
        for kind, name in KINDS.items():
            losses = curves.vectors(f"{name}_loss").get(run.run_id)
            for loss in losses.at(update) if losses else ():
                predicted = (value(f"{name}_{what}", update) for what in ("slope", "curvature", "curvature_error"))
                found = binned(away, loss, center, bins)
                yield Landscape(cell, run, int(update), fraction, kind, away, loss, found, center, floor, *predicted)


def _sentences(found: Sequence[Landscape], specs: Mapping[str, RunSpec]) -> Iterator[str]:
    if not found:
        yield (
            'No run has measured its landscape: the suite needs probes = [{ name = "landscape", at = [0, 0.5] }] in [run] before it trains.'
        )
        return
    for own in grouped(((one.cell.name, one.update, one.kind), one) for one in found).values():
        yield _sentence(own, specs.get(own[0].run.run_id))
    yield (
        "A spread linear in distance is what any differentiable loss has to first order, so an exponent of 1 tells no random potential "
        "from a smooth loss."
    )


def _sentence(found: Sequence[Landscape], spec: RunSpec | None) -> str:
    first, options = found[0], probe_options(spec, "landscape")
    place = (
        f"{first.cell.name}, {when(first.fraction)}, {first.kind} directions to distance {max(one.largest_distance for one in found):.3g} "
        f"(norm statistics {options['norm']}, up to {options['examples']:,} fixed training examples): "
    )
    known = [one for one in found if math.isfinite(one.fit[0])]
    if not known:
        return f"{place}no exponent: the spread of the loss follows no power of distance above rounding."
    exponent, source = _exponent(known)
    ratio = t_interval([one.spread_ratio for one in known])
    assert ratio is not None
    return (
        f"{place}the spread of the loss grows with distance to the power {worded(exponent)} ({source}; first order has 1). It is "
        f"{worded(ratio)} times what the gradient predicts."
    )


def _bin_rows(one: Landscape) -> Iterator[Row]:
    bins = one.bins
    first, second = one.slope * bins.distance, 0.5 * one.curvature * bins.distance**2
    columns = (bins.number, bins.losses, bins.distance, bins.deviation, first, bins.rise, second)
    return (dict(zip(OF_BIN, values, strict=True)) for values in zip(*columns, strict=True))


def binned(distances: Array, losses: Array, center: float, bins: int) -> Bins:
    """Returns losses at distances in equal bins from 0 to the largest distance."""
    number = np.minimum((distances / distances.max() * bins).astype(np.int64), bins - 1)
    rows = []
    for one in range(bins):
        away, loss = distances[number == one], losses[number == one]
        if len(away) < FEWEST:
            continue
        trend = np.polynomial.Polynomial.fit(away**2, loss, 1)
        deviation = math.sqrt(float(((loss - trend(away**2)) ** 2).sum()) / (len(loss) - 2))
        rows.append((one, len(loss), math.sqrt(float((away**2).mean())), deviation, float(loss.mean()) - center))
    which, count, *measured = np.array(rows, dtype=np.float64).reshape(-1, 5).T
    return Bins(which.astype(np.int64), count.astype(np.int64), *measured)


def spread_exponent(distances: Array, rises: Array, floor: float) -> tuple[float, float]:
    """Returns the exponent p of a spread s z^p and its standard error, by maximum likelihood over all losses; NaN where it has none.

    A rise is normal with mean a z^2 + b z^4 and variance floor^2 + (s z^p)^2. Its mean by weighted least squares and its variance by
    scoring take turns; the information is that of the variance alone, which for normal losses is exact.
    """
    seen = distances > 0
    away, rise = distances[seen], rises[seen]
    if len(away) < FEWEST:
        return math.nan, math.nan
    scale = float(away.max())
    x, trend = np.log(away / scale), np.stack([(away / scale) ** 2, (away / scale) ** 4], axis=1)
    exponent, level = 1.0, math.log(max(float(np.mean((rise * scale / away) ** 2)), 1e-300))
    for _ in range(ROUNDS):
        signal = np.exp(level + 2 * exponent * x)
        variance = floor**2 + signal
        weight = 1 / np.sqrt(variance)
        mean = trend @ np.linalg.lstsq(trend * weight[:, None], rise * weight, rcond=None)[0]
        share = (signal / variance) ** 2
        about = x - np.average(x, weights=share)
        score = ((rise - mean) ** 2 - variance) / signal
        spread = float((share * about**2).sum())
        step = float(np.clip((share * about * score).sum() / spread / 2, -0.5, 0.5))
        level += float(np.clip(np.average(score, weights=share), -1.0, 1.0)) - 2 * step * float(np.average(x, weights=share))
        exponent += step
        if abs(step) < TOLERANCE:
            return exponent, 1 / math.sqrt(2 * spread)
        if not abs(exponent) < 20:
            break
    return math.nan, math.nan


def probe_options(spec: RunSpec | None, probe: str) -> dict[str, Any]:
    """Returns the options that a run's probe was asked with, defaults included."""
    defaults = {name: parameter.default for name, parameter in catalog.probes()[probe].parameters.items()}
    return defaults | (dict(spec.probe_options.get(probe, {})) if spec is not None else {})


def asked_fraction(spec: RunSpec | None, probe: str, update: int, cell: Cell) -> float:
    """Returns the fraction of training at which a probe was asked to look; rounded to whole updates where the spec is not known."""
    asked = [] if spec is None else [float(fraction) for fraction in probe_options(spec, probe)["at"] or spec.keep_weights]
    return next((fraction for fraction in asked if round(fraction * cell.planned_updates) == update), update / cell.planned_updates)


def when(fraction: float) -> str:
    """Returns "at 50 % of training"."""
    return f"at {100 * fraction:.3g} % of training" if fraction else "before training"


def worded(estimate: Estimate) -> str:
    """Returns "1.02 (0.98 to 1.06)", in three significant digits; without an interval where there is none."""
    low, high = estimate.low, estimate.high
    interval = "" if low is None or high is None else f" ({low:.3g} to {high:.3g})"
    return f"{estimate.mean:.3g}{interval}".replace("-", MINUS)


def _exponent(found: Sequence[Landscape]) -> tuple[Estimate, str]:
    """Returns the exponent with the t interval over runs; of one run with that of its own standard error."""
    estimate = t_interval([one.fit[0] for one in found])
    assert estimate is not None
    if estimate.n > 1:
        return estimate, f"n = {estimate.n} runs"
    from scipy.special import ndtri

    half = float(ndtri((1 + LEVEL) / 2)) * found[0].fit[1]
    return Estimate(estimate.mean, estimate.mean - half, estimate.mean + half, 1), "n = 1 run; interval over directions"


# Sharpness and curvature cell by cell.

METRICS = {
    "hessian": ("hessian_loss", "hessian_top", "hessian_edge", "hessian_trace"),
    "sharpness": ("sharpness_loss", "sharpness", "sharpness_subspace", "sharpness_filter"),
}
"""By probe."""
SHARPNESS_COLUMNS: Columns = {
    "panel": "panel.title", "cell": "one.cell.name", "learning_rate": "one.cell.learning_rate",
    **named("norm", "examples", "update", "fraction", of="one"), "metric": "metric", "n": "value.n",
    **with_bounds("value", "value", "mean"),
}  # fmt: skip
WORDS = {
    "hessian_top": "top Hessian eigenvalue {}",
    "hessian_edge": "which is {} of the edge of stability 2 (1 + momentum) / learning rate",
    "hessian_trace": "trace {}",
    "sharpness": "sharpness {} % in the full space",
    "sharpness_subspace": "{} % in a random subspace",
    "sharpness_filter": "{} % filter-normalized",
    "hessian_loss": "at loss {}",
    "sharpness_loss": "at loss {}",
}
"""By metric, in the order of a sentence."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What the runs of a cell measured after one update, metric by metric."""

    cell: Cell
    norm: str
    examples: int
    update: int
    fraction: float
    values: Mapping[str, Estimate]

    def text(self) -> str:
        """Returns the sentence of it."""
        n = max(estimate.n for estimate in self.values.values())
        asked = f"norm statistics {self.norm}, up to {self.examples:,} fixed training examples, n = {n}"
        parts = [words.format(worded(self.values[metric])) for metric, words in WORDS.items() if metric in self.values]
        return f"{self.cell.name}, {when(self.fraction)} ({asked}): {', '.join(parts)}."


def sharpness_study(
    suite: str, runs: pd.DataFrame, curves: pd.DataFrame, specs: Mapping[str, RunSpec]
) -> Study[Mapping[Panel, tuple[Measured, ...]]]:
    """Reads sharpness and curvature of every cell, with intervals over seeds.

    Args:
        suite: its name.
        runs: runs.parquet.
        curves: curves.parquet.
        specs: by run id, for what the probes were asked.
    """
    read = Curves(curves)
    panels = {panel: tuple(one for cell in panel.cells for one in _measured(cell, read, specs)) for panel in read_panels(runs)}
    rows = (
        {"panel": panel, "one": one, "metric": metric, "value": value}
        for panel, found in panels.items()
        for one in found
        for metric, value in one.values.items()
    )
    sentences = {panel.title: list(_sharpness_sentences(found)) for panel, found in panels.items()}
    return Study(suite, panels, sentences, {"sharpness": tidy(SHARPNESS_COLUMNS, rows)})


def _measured(cell: Cell, curves: Curves, specs: Mapping[str, RunSpec]) -> Iterator[Measured]:
    spec = next((specs[run.run_id] for run in cell.runs if run.run_id in specs), None)
    for probe, metrics in METRICS.items():
        options = probe_options(spec, probe)
        read = {metric: {run.run_id: curve for run in cell.ok_runs if (curve := curves.of(metric).get(run.run_id))} for metric in metrics}
        for update in sorted({int(update) for own in read.values() for curve in own.values() for update in curve.updates}):
            values = {metric: t_interval([*_sample(cell, own, update).values()]) for metric, own in read.items()}
            known = {metric: estimate for metric, estimate in values.items() if estimate is not None}
            fraction = asked_fraction(spec, probe, update, cell)
            yield Measured(cell, str(options["norm"]), int(options["examples"]), update, fraction, known)


def _sample(cell: Cell, curves: Mapping[str, Curve], update: float) -> dict[int, float]:
    values = {run_id: curve.value_at(update) for run_id, curve in curves.items()}
    return cell.sample({run_id: value for run_id, value in values.items() if value is not None})


def _sharpness_sentences(found: tuple[Measured, ...]) -> Iterator[str]:
    if not found:
        yield (
            'No run that ended ok has measured sharpness or curvature: the suite needs probes = ["hessian", "sharpness"] and '
            "keep_weights = [1] in [run] before it trains."
        )
        return
    yield from (one.text() for one in found)
    yield (
        "An eigenvalue whose share of the edge is near 1 reads the learning rate of the last update and not the minimum. Compare sharpness "
        "at equal loss, equal norm statistics and equal examples only."
    )
