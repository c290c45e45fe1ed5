"""The analysis of diffusion as a whole: a function of the two tidy tables and the plan's schedules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gapbench.analysis.cells import Panel, read_panels
from gapbench.analysis.curves import Curves, Window
from gapbench.analysis.diffusion.laws import (
    DISTANCE,
    LOG,
    POWER,
    Collapse,
    Exponent,
    Predictions,
    collapse,
    exponents_of,
    local_exponent,
    predictions_of,
    ratio_at,
)
from gapbench.analysis.diffusion.walks import (
    CLIPPED,
    CLOCKS,
    MEMORY,
    QUANTITIES,
    Logs,
    Reader,
    Twin,
    Walks,
    common_window,
    decayed_walk_exponent,
    jackknife_error,
    twins_of,
)
from gapbench.analysis.formats import range_text, signed
from gapbench.analysis.stats import LEVEL, Estimate, Interval, bounds, t_interval, t_quantile
from gapbench.suite.runspec import RunSpec

if TYPE_CHECKING:
    import pandas as pd


Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PanelStudy:
    """The walks of one panel: cells that may be compared."""

    panel: Panel
    walks: tuple[Walks, ...]
    left_out: Mapping[str, str]
    """Cells without walks, with the reason."""
    common: Window | None
    """None where no cell has walks."""
    exponents: Mapping[str, list[Exponent]]
    """By cell."""
    predictions: Mapping[str, Predictions | str]
    """By cell, over the common window; or the reason why there are none."""
    collapses: Mapping[str, list[Collapse]]
    """By cell that is not its own reference."""
    twins: tuple[Twin, ...]

    def reference_of(self, walks: Walks) -> Walks | None:
        """Returns the walks that a cell is compared with; None for the reference itself and where there is none."""
        reference = self.panel.reference_of(walks.cell)
        found = [other for other in self.walks if reference is not None and other.cell is reference and other is not walks]
        return found[0] if found else None


@dataclass(frozen=True, eq=False)
class Study:
    """Drift, spread, exponents, predictions and collapse of every cell; in sentences and as frames."""

    suite: str
    panels: tuple[PanelStudy, ...]

    @cached_property
    def sentences(self) -> dict[str, list[str]]:
        """What can be concluded, by panel: every conclusion with its interval, or "not separated"."""
        return {panel.panel.title: sentences_of(panel) for panel in self.panels}

    @cached_property
    def frames(self) -> dict[str, pd.DataFrame]:
        """The numbers as tidy frames: walks, exponents, predictions, collapse, twins."""
        return frames_of(self.panels)

    def __repr__(self) -> str:
        return f"Study({self.suite!r}: {sum(len(panel.walks) for panel in self.panels)} cells)"


def study(
    suite: str,
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    specs: Mapping[str, RunSpec],
    *,
    first: int | None = None,
    last: int | None = None,
) -> Study:
    """Analyses how the weights of every cell walked.

    Args:
        suite: its name.
        runs: runs.parquet.
        curves: curves.parquet.
        specs: by run id; cells whose schedule is not known are left out, and that is said.
        first: first update of every window; default: where clipping and warmup are over, at least 100 (less for short training).
        last: last update of the common window; it ends earlier where a rate falls or weight decay bends a walk.
    """
    reader = Reader(runs, Curves(curves), specs, first)
    return Study(suite, tuple(_panel(panel, reader, first, last) for panel in read_panels(runs)))


def _panel(panel: Panel, reader: Reader, first: int | None, last: int | None) -> PanelStudy:
    read = {cell.name: reader.read(cell) for cell in panel.cells}
    walks = tuple(found for found in read.values() if isinstance(found, Walks))
    left_out = {name: found for name, found in read.items() if isinstance(found, str)}
    if not walks:
        return PanelStudy(panel, (), left_out, None, {}, {}, {}, ())
    common = common_window({item.cell.name: item.window for item in walks}, first, last)
    bare = PanelStudy(panel, walks, left_out, common, {}, {}, {}, ())
    return PanelStudy(
        panel,
        walks,
        left_out,
        common,
        {item.cell.name: exponents_of(item, common) for item in walks},
        {item.cell.name: predictions_of(item, common) for item in walks},
        {item.cell.name: _collapses(item, reference, common) for item in walks if (reference := bare.reference_of(item)) is not None},
        tuple(twins_of(walks)),
    )


def _collapses(walks: Walks, reference: Walks, window: Window) -> list[Collapse]:
    if walks.decomposition is None or reference.decomposition is None:
        return []
    found = [
        collapse(clock, quantity, _series(walks, clock, quantity, window), _series(reference, clock, quantity, window))
        for clock in CLOCKS
        for quantity in QUANTITIES
    ]
    return [one for one in found if one is not None]


def _series(walks: Walks, clock: str, quantity: str, window: Window) -> tuple[Array, Logs]:
    """Returns a quantity against a clock: over the common window against updates, else over the cell's own clean one.

    Other clocks run faster or slower from cell to cell, so that equal updates are no equal times.
    """
    assert walks.decomposition is not None
    updates, logs = walks.decomposition.updates, walks.decomposition.logs[quantity]
    window = window if clock == CLOCKS[0] else Window(walks.window.full.first, walks.window.clean_last)
    inside = window.holds(updates)
    return walks.clock.at(clock, updates[inside]), Logs(logs.replicates[:, inside], logs.sketch_error[inside])


# The numbers of the analysis of diffusion as tidy frames, one row a measurement.

COLUMNS: dict[str, tuple[str, ...]] = {
    "walks": (
        "panel", "cell", "batch_size", "learning_rate", "n", "update", "sum_of_rates", "sum_of_squared_rates_per_example",
        "memory_passed", "cosine", "cosine_uncertain", "decay_alone", "quantity", "value", "low", "high", "local_exponent",
        "local_exponent_low", "local_exponent_high", "null_exponent",
    ),
    "exponents": (
        "panel", "cell", "batch_size", "learning_rate", "quantity", "window", "first", "last", "memory_passed", "points", "n",
        "exponent", "exponent_low", "exponent_high", "reason",
    ),
    "predictions": ("panel", "cell", "law", "fitted_first", "fitted_last", "predicted", "run_id", "relative_error"),
    "collapse": (
        "panel", "cell", "reference", "clock", "quantity", "first", "last", "ratio", "ratio_low", "ratio_high", "deviation",
        "deviation_low", "deviation_high", "deviation_largest",
    ),
    "twins": ("panel", "cell", "perturbed", "perturbation", "update", "share_of_spread"),
}  # fmt: skip
"""Columns of each frame, also of an empty one."""
MEASURED = ("value", "low", "high", "local_exponent", "local_exponent_low", "local_exponent_high")


def frames_of(panels: Sequence[PanelStudy]) -> dict[str, pd.DataFrame]:
    """Returns the frames by name."""
    import pandas as pd

    rows = {"walks": _walks, "exponents": _exponents, "predictions": _predictions, "collapse": _collapse, "twins": _twins}
    return {
        name: pd.DataFrame([{"panel": panel.panel.title, **row} for panel in panels for row in rows[name](panel)], columns=list(columns))
        for name, columns in COLUMNS.items()
    }


def local_exponents(updates: Array, logs: Logs) -> tuple[Array, Array, Array]:
    """Returns the local exponent of a quantity over orders with its bounds, [point] each."""
    found = local_exponent(updates, logs.replicates)
    half = t_quantile(LEVEL, logs.orders - 1) * jackknife_error(found)
    return found[0], found[0] - half, found[0] + half


def run_exponents(walks: Walks) -> tuple[Array, Array, Array]:
    """Returns the local exponent of the runs' distances, mean over runs with its t interval; without interval (NaN) from one run."""
    found = local_exponent(walks.updates, np.log(walks.distances))
    return _bounded(found)


def _walks(panel: PanelStudy) -> Iterator[dict[str, Any]]:
    for walks in panel.walks:
        angle, uncertain = _angle(walks)
        series: list[tuple[str, Array, tuple[Array, ...]]] = [
            ("distance", walks.updates, (*_bounded(walks.distances), *run_exponents(walks)))
        ]
        if (found := walks.decomposition) is not None:
            for name, logs in found.logs.items():
                values = [np.exp(one) for one in (logs.value, *logs.bounds())]
                series.append((name, found.updates, (*values, *local_exponents(found.updates, logs))))
        for name, updates, measured in series:
            memory = walks.clock.memory(updates)
            columns: dict[str, Sequence[Any] | npt.NDArray[Any]] = {
                "update": updates.astype(int),
                "sum_of_rates": walks.clock.at(CLOCKS[1], updates),
                "sum_of_squared_rates_per_example": walks.clock.at(CLOCKS[2], updates),
                "memory_passed": memory,
                "cosine": [angle.get(int(update)) for update in updates],
                "decay_alone": np.exp(-memory),
                "null_exponent": decayed_walk_exponent(memory),
                **dict(zip(MEASURED, measured, strict=True)),
            }
            same = {**_about(walks), "n": walks.n, "cosine_uncertain": uncertain, "quantity": name}
            for place in range(len(updates)):
                yield {**same, **{column: values[place] for column, values in columns.items()}}


def _exponents(panel: PanelStudy) -> Iterator[dict[str, Any]]:
    for walks in panel.walks:
        for one in panel.exponents[walks.cell.name]:
            estimate = one.estimate
            yield {
                **_about(walks),
                "quantity": one.quantity,
                "window": "common" if one.common else "full",
                "first": one.window.first,
                "last": one.window.last,
                "memory_passed": float(walks.clock.memory(np.array([max(1, one.window.last)]))[0]),
                "points": one.points,
                "n": estimate.n if estimate else None,
                **bounds("exponent", estimate),
                "reason": one.reason,
            }


def _predictions(panel: PanelStudy) -> Iterator[dict[str, Any]]:
    for walks in panel.walks:
        found = panel.predictions[walks.cell.name]
        for law, errors in found.errors.items() if not isinstance(found, str) else ():
            assert not isinstance(found, str)
            for run_id, error in zip(walks.run_ids, errors, strict=True):
                yield {
                    "cell": walks.cell.name,
                    "law": law,
                    "fitted_first": found.fitted.first,
                    "fitted_last": found.fitted.last,
                    "predicted": found.last,
                    "run_id": run_id,
                    "relative_error": float(error),
                }


def _collapse(panel: PanelStudy) -> Iterator[dict[str, Any]]:
    for walks in panel.walks:
        reference = panel.reference_of(walks)
        for one in panel.collapses.get(walks.cell.name, ()):
            yield {
                "cell": walks.cell.name,
                "reference": reference.cell.name if reference else "",
                **{name: getattr(one, name) for name in ("clock", "quantity", "first", "last")},
                **bounds("ratio", one.ratio),
                **bounds("deviation", one.deviation),
                "deviation_largest": one.largest,
            }


def _twins(panel: PanelStudy) -> Iterator[dict[str, Any]]:
    for twin in panel.twins:
        for update, share in zip(twin.updates, twin.share, strict=True):
            yield {
                "cell": twin.original.cell.name,
                "perturbed": twin.perturbed.cell.name,
                "perturbation": twin.perturbation,
                "update": int(update),
                "share_of_spread": float(share),
            }


def _about(walks: Walks) -> dict[str, Any]:
    return {"cell": walks.cell.name, "batch_size": walks.cell.batch_size, "learning_rate": walks.cell.learning_rate}


def _angle(walks: Walks) -> tuple[dict[int, float], float]:
    """Returns the mean cosine by update, and how far off a derived one may be."""
    by_update: dict[int, list[float]] = {}
    for cosine in walks.cosines:
        for update, value in zip(cosine.updates, cosine.values, strict=True):
            by_update.setdefault(int(update), []).append(float(value))
    whole = {update: float(np.mean(values)) for update, values in by_update.items() if len(values) == len(walks.cosines)}
    return whole, max((cosine.uncertain for cosine in walks.cosines), default=float("nan"))


def _bounded(rows: Array) -> tuple[Array, Array, Array]:
    """Returns mean and t interval of rows [run, point]."""
    estimates = [t_interval(column) for column in rows.T]
    return _part(estimates, "mean"), _part(estimates, "low"), _part(estimates, "high")


def _part(estimates: Iterable[Any], name: str) -> Array:
    return np.array([np.nan if (value := getattr(estimate, name)) is None else value for estimate in estimates], dtype=np.float64)


# What can be concluded of how the weights walked: sentences, each with its interval, or "not separated".

UPDATES = "updates"
UNKNOWN = "not determined, for it is not separated from 0 in one of the two"


def sentences_of(panel: PanelStudy) -> list[str]:
    """Returns the sentences of a panel: window, comparisons, drift and spread, exponents, predictions, then what is flagged or missing.

    Of a twin only what its original is compared with is said: by itself it is that cell again.
    """
    if panel.common is None:
        return [f"{name}: {reason}." for name, reason in panel.left_out.items()]
    twins = {twin.perturbed.cell.name for twin in panel.twins}
    told = [walks for walks in panel.walks if walks.cell.name not in twins]
    out = [_window(panel)]
    out += [text for walks in told for text in _against(panel, walks)]
    out += [_share(walks) for walks in told if walks.decomposition is not None]
    out += [_twin(twin) for twin in panel.twins if twin.last is not None]
    out += [text for walks in told for text in _sentences_exponents(walks, panel.exponents[walks.cell.name])]
    out += [_prediction(walks, panel.predictions[walks.cell.name]) for walks in told]
    out += [text for walks in told for text in _flags(walks)]
    out += [f"{walks.cell.name}: drift and spread are not computed: {walks.reason}." for walks in panel.walks if walks.reason]
    return out + [f"{name}: {reason}." for name, reason in panel.left_out.items()]


def _window(panel: PanelStudy) -> str:
    assert panel.common is not None
    last = panel.common.last
    ends = {min(walks.window.full.last, walks.window.clean_last) for walks in panel.walks}
    why = "where the first rate falls, or training ends, or weight decay begins to bend a walk" if last in ends else "as asked"
    return f"Cells are compared on updates {panel.common}, the window that all of them have; it ends {why}."


def _share(walks: Walks) -> str:
    found = walks.decomposition
    assert found is not None
    share = found.share[:, -1]
    error = np.hypot(float(jackknife_error(share)), share[0] * found.sketch_share)
    half = t_quantile(LEVEL, len(share) - 2) * error
    estimate = Estimate(float(share[0]), float(share[0] - half), float(share[0] + half), len(share) - 1)
    values = {name: float(np.exp(logs.value[-1])) for name, logs in found.logs.items()}
    drift = "not separated from 0" if not found.logs["drift"].separated()[-1] else f"{values['drift']:.3g}"
    return (
        f"{walks.cell.name} at update {int(found.updates[-1]):,}: total distance {values['total']:.3g}, drift {drift}, spread between "
        f"orders {values['spread']:.3g}, which is {_percent(estimate)} of the squared distance (n = {estimate.n} {walks.scope})."
    )


def _against(panel: PanelStudy, walks: Walks) -> list[str]:
    """Says how a cell's walk lies against its reference's at the end of the window and over it, and against which clock it collapses."""
    reference = panel.reference_of(walks)
    if reference is None or walks.decomposition is None or reference.decomposition is None:
        return []
    out = [text for text in (_at_the_end(panel, walks, reference),) if text]
    found = panel.collapses.get(walks.cell.name, [])
    spreads = sorted((one for one in found if one.quantity == "spread"), key=lambda one: round(one.deviation.value, 6))
    same_clocks = (walks.cell.batch_size, walks.cell.learning_rate) == (reference.cell.batch_size, reference.cell.learning_rate)
    scores = "; ".join(
        f"{_digits(one.deviation.value)} % ({range_text(100 * one.deviation.low, 100 * one.deviation.high, 0)}) against {one.clock}"
        for one in spreads
        if one.clock == UPDATES or not same_clocks
    )
    if scores:
        out.append(f"{walks.cell.name}: over the window its spread lies off that of {reference.cell.name} by {scores}.")
    return out


def _at_the_end(panel: PanelStudy, walks: Walks, reference: Walks) -> str:
    assert panel.common is not None
    mine, theirs = walks.decomposition, reference.decomposition
    assert mine is not None
    assert theirs is not None
    shared = np.intersect1d(mine.updates, theirs.updates)
    shared = shared[shared <= panel.common.last]
    if not len(shared):
        return ""
    places = int(np.searchsorted(mine.updates, shared[-1])), int(np.searchsorted(theirs.updates, shared[-1]))
    ratios = {name: ratio_at(mine.logs[name], theirs.logs[name], places) for name in QUANTITIES}
    known = {name: mine.logs[name].separated()[places[0]] and theirs.logs[name].separated()[places[1]] for name in QUANTITIES}
    parts = [f"{name} {_ratio(ratio) if known[name] else UNKNOWN}" for name, ratio in ratios.items()]
    total, spread = (_separated(ratios[name]) for name in ("total", "spread"))
    lead = "; as far from the start, but not by the same diffusion" if spread and not total else ""
    return f"{walks.cell.name} over {reference.cell.name} at update {int(shared[-1]):,}: {'; '.join(parts)}{lead}."


def _twin(twin: Twin) -> str:
    return (
        f"{twin.original.cell.name}: of its squared spread, {_percent(twin.last)} is already there between runs of one order that started "
        f"{twin.perturbation:.0e} apart, at update {int(twin.updates[-1]):,} (n = {twin.last.n if twin.last else 0} pairs)."
    )


def _ratio(ratio: Interval) -> str:
    words = ("longer" if ratio.value > 1 else "shorter") if _separated(ratio) else "not separated"
    return f"{ratio.value:.2f} times ({range_text(ratio.low, ratio.high, 2)}), {words}"


def _separated(ratio: Interval) -> bool:
    return not ratio.low <= 1 <= ratio.high


def _sentences_exponents(walks: Walks, found: list[Exponent]) -> list[str]:
    """Says each exponent over the common window; a reason that all quantities share is said once."""
    own = [one for one in found if one.common]
    return [_exponent(walks, one) for place, one in enumerate(own) if one.estimate or not place or one.reason != own[0].reason]


def _exponent(walks: Walks, one: Exponent) -> str:
    what = f"{walks.cell.name}: {'the distance of each run' if one.quantity == DISTANCE else f'the {one.quantity}'}"
    if one.estimate is None:
        return f"{what} on updates {one.window}: no exponent, for {one.reason}."
    estimate = one.estimate
    if estimate.low is None or estimate.high is None:
        return f"{what} grows with exponent {signed(estimate.mean, 2)} on updates {one.window} (one run: no interval)."
    named = (("the log law's 0", 0.0), ("a free walk's 0.5", 0.5))
    excluded = [label for label, value in named if not estimate.low <= value <= estimate.high]
    kept = [label for label, value in named if estimate.low <= value <= estimate.high]
    verdict = "; ".join([f"excludes {' and '.join(excluded)}"] * bool(excluded) + [f"not separated from {' or '.join(kept)}"] * bool(kept))
    return (
        f"{what} grows with exponent {signed(estimate.mean, 2)} ({range_text(estimate.low, estimate.high, 2)}) on updates {one.window} "
        f"(n = {estimate.n} {walks.scope}): {verdict}."
    )


def _prediction(walks: Walks, found: Predictions | str) -> str:
    if isinstance(found, str):
        return f"{walks.cell.name}: no law is tried beyond what it was fitted to: {found}."
    errors = ", ".join(f"{name} {100 * float(np.abs(values).mean()):.1f} %" for name, values in found.errors.items())
    span = f"fitted to updates {found.fitted}, at update {found.last:,}"
    preference = found.preference
    if preference is None or preference.low is None or preference.high is None:
        return f"{walks.cell.name}: mean error of the distance, {span}: {errors} (one run: no preference)."
    better, worse, sign = (LOG, POWER, 1) if preference.mean >= 0 else (POWER, LOG, -1)
    low, high = sorted((100 * sign * preference.low, 100 * sign * preference.high))
    lead = f"{better} preferred over {worse} by {100 * abs(preference.mean):.1f} % ({range_text(low, high, 1)}) of the distance"
    if preference.low <= 0 <= preference.high:
        lead = f"log law and power law not separated ({better} ahead by {100 * abs(preference.mean):.1f} %, {range_text(low, high, 1)})"
    return f"{walks.cell.name}: {lead}, {span} (n = {preference.n}); mean errors: {errors}."


def _flags(walks: Walks) -> list[str]:
    window, name = walks.window, walks.cell.name
    out = []
    if window.decayed:
        out.append(
            f"{name}: its full window, to update {window.full.last:,}, reaches to {window.memory:.2g} of the weight-decay memory; beyond "
            f"{MEMORY:g} (update {window.clean_last:,}) decay bends the walk."
        )
    if window.clipped_until:
        beyond = "" if window.clean else ", which leaves it no window of its own: what is said of it is about clipped updates, too"
        out.append(f"{name}: more than {100 * CLIPPED:.0f} % of updates were clipped up to update {window.clipped_until:,}{beyond}.")
    return out


def _percent(estimate: Estimate | None) -> str:
    assert estimate is not None
    text = f"{_digits(estimate.mean)} %"
    if estimate.low is None or estimate.high is None:
        return text
    digits = 0 if abs(estimate.mean) >= 0.1 else 1
    return f"{text} ({range_text(100 * max(0.0, estimate.low), 100 * min(1.0, estimate.high), digits)})"


def _digits(fraction: float) -> str:
    return signed(100 * fraction, 0 if abs(fraction) >= 0.1 else 1)
