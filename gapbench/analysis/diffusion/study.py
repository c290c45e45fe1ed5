"""The analysis of diffusion as a whole: a function of the two tidy tables and the plan's schedules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

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
    UPDATES,
    Decomposition,
    Logs,
    Twin,
    Walks,
    common_window,
    decayed_walk_exponent,
    jackknifed,
    order_estimate,
    read_walks,
    twins_of,
)
from gapbench.analysis.formats import range_text, signed
from gapbench.analysis.frames import Columns, Row, Study, grouped, named, tidy, with_bounds
from gapbench.analysis.stats import Array, Estimate, Interval, t_interval
from gapbench.suite.runspec import RunSpec

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class CellStudy:
    """How the weights of one cell walked."""

    walks: Walks
    reference: Walks | None
    """What it is compared with; None for the reference itself and where there is none."""
    exponents: list[Exponent]
    predictions: Predictions | str
    """Over the common window; or the reason why there are none."""
    collapses: list[Collapse]
    """Against the reference."""

    @property
    def name(self) -> str:
        """Of the cell."""
        return self.walks.cell.name


@dataclass(frozen=True, eq=False)
class PanelStudy:
    """The walks of one panel: cells that may be compared."""

    panel: Panel
    cells: tuple[CellStudy, ...]
    left_out: Mapping[str, str]
    """Cells without walks, with the reason."""
    common: Window
    """Empty where no cell has walks, or no update is left to compare them on."""
    twins: tuple[Twin, ...]

    @property
    def title(self) -> str:
        """Of the panel."""
        return self.panel.title

    @property
    def walks(self) -> list[Walks]:
        """Of every cell."""
        return [own.walks for own in self.cells]

    @property
    def told(self) -> list[CellStudy]:
        """The cells without twins of others, which by themselves are their originals again."""
        twins = [twin.perturbed for twin in self.twins]
        return [own for own in self.cells if own.walks not in twins]


def study(
    suite: str, runs: pd.DataFrame, curves: pd.DataFrame, specs: Mapping[str, RunSpec], *, first: int | None = None, last: int | None = None
) -> Study[tuple[PanelStudy, ...]]:
    """Analyses how the weights of every cell walked.

    Args:
        suite: its name.
        runs: runs.parquet.
        curves: curves.parquet.
        specs: by run id; cells whose schedule is not known are left out, and that is said.
        first: first update of every window; default: where clipping and warmup are over, at least 100 (less for short training).
        last: last update of the common window; it ends earlier where a rate falls or weight decay bends a walk.
    """
    looked_up = Curves(curves)
    read = {panel: {cell.name: read_walks(cell, looked_up, specs, first) for cell in panel.cells} for panel in read_panels(runs)}
    panels = tuple(_panel(panel, found, first, last) for panel, found in read.items())
    frames = {name: tidy(columns, (row for panel in panels for row in ROWS[name](panel))) for name, columns in COLUMNS.items()}
    return Study(suite, panels, {panel.title: list(sentences_of(panel)) for panel in panels}, frames)


def _panel(panel: Panel, read: Mapping[str, Walks | str], first: int | None, last: int | None) -> PanelStudy:
    walks = {name: found for name, found in read.items() if isinstance(found, Walks)}
    left_out = {name: found for name, found in read.items() if isinstance(found, str)}
    common = common_window([item.window for item in walks.values()], first, last) if walks else Window(1, 0)
    cells = []
    for item in walks.values():
        against = panel.reference_of(item.cell)
        reference = walks.get(against.name) if against is not None and against is not item.cell else None
        collapses = _collapses(item, reference, common) if reference else []
        cells.append(CellStudy(item, reference, [*exponents_of(item, common)], predictions_of(item, common), collapses))
    return PanelStudy(panel, tuple(cells), left_out, common, tuple(twins_of([*walks.values()])))


def _collapses(walks: Walks, reference: Walks, window: Window) -> list[Collapse]:
    if walks.decomposition is None or reference.decomposition is None:
        return []
    sides = (walks, walks.decomposition), (reference, reference.decomposition)
    found = [
        collapse(clock, quantity, *(_series(side, split, clock, quantity, window) for side, split in sides))
        for clock in CLOCKS
        for quantity in QUANTITIES
    ]
    return [one for one in found if one is not None]


def _series(walks: Walks, split: Decomposition, clock: str, quantity: str, window: Window) -> tuple[Array, Logs]:
    """Returns a quantity against a clock: over the common window against updates, else over the cell's own clean one.

    Other clocks run faster or slower from cell to cell, so that equal updates are no equal times.
    """
    window = window if clock == UPDATES else Window(walks.window.full.first, walks.window.clean_last)
    inside, logs = window.holds(split.updates), split.logs[quantity]
    return walks.clock.at(clock, split.updates[inside]), Logs(logs.replicates[:, inside], logs.sketch_error[inside])


# The numbers of the analysis of diffusion as tidy frames, one row a measurement.

TIMES = ("update", "sum_of_rates", "sum_of_squared_rates_per_example", "memory_passed")
MEASURED = ("value", "low", "high", "local_exponent", "local_exponent_low", "local_exponent_high")
PLACE = {"panel": "panel.title", "cell": "own.name"}
CELL = {**PLACE, **named("batch_size", "learning_rate", of="own.walks.cell")}
COLUMNS: dict[str, Columns] = {
    "walks": {
        **CELL, "n": "own.walks.n",
        **named(*TIMES, "cosine", "cosine_uncertain", "decay_alone", "quantity", *MEASURED, "null_exponent"),
    },
    "exponents": {
        **CELL, "quantity": "one.quantity", "window": "one.kind", **named("first", "last", of="one.window"),
        "memory_passed": "memory", "points": "one.points", "n": "one.estimate.n", **with_bounds("exponent", "one.estimate", "mean"),
        "reason": "one.reason",
    },
    "predictions": {
        **PLACE, "law": "law", "fitted_first": "found.fitted.first", "fitted_last": "found.fitted.last", "predicted": "found.last",
        **named("run_id", "relative_error"),
    },
    "collapse": {
        **PLACE, "reference": "own.reference.cell.name", **named("clock", "quantity", "first", "last", of="one"),
        **with_bounds("ratio", "one.ratio"), **with_bounds("deviation", "one.deviation"), "deviation_largest": "one.largest",
    },
    "twins": {
        "panel": "panel.title", "cell": "twin.original.cell.name", "perturbed": "twin.perturbed.cell.name",
        "perturbation": "twin.perturbation", **named("update", "share_of_spread"),
    },
}  # fmt: skip
"""Columns of each frame."""


def local_exponents(updates: Array, logs: Logs) -> tuple[Array, Array, Array]:
    """Returns the local exponent of a quantity over orders with its bounds, [point] each."""
    return jackknifed(local_exponent(updates, logs.replicates))


def run_exponents(walks: Walks) -> tuple[Array, Array, Array]:
    """Returns the local exponent of the runs' distances, mean over runs with its t interval; without interval (NaN) from one run."""
    return _bounded(local_exponent(walks.updates, np.log(walks.distances)))


def _walk_rows(panel: PanelStudy) -> Iterator[Row]:
    for own in panel.cells:
        walks = own.walks
        angle, uncertain = _angle(walks)
        for name, updates, measured in _quantities(walks):
            memory = walks.clock.memory(updates)
            rates, noise = (walks.clock.at(clock, updates) for clock in CLOCKS[1:])
            cosines = [angle.get(int(update)) for update in updates]
            columns = (updates.astype(int), rates, noise, memory, cosines, np.exp(-memory), decayed_walk_exponent(memory), *measured)
            names = (*TIMES, "cosine", "decay_alone", "null_exponent", *MEASURED)
            same = {"panel": panel, "own": own, "cosine_uncertain": uncertain, "quantity": name}
            for values in zip(*columns, strict=True):
                yield {**same, **dict(zip(names, values, strict=True))}


def _quantities(walks: Walks) -> Iterator[tuple[str, Array, tuple[Array, ...]]]:
    """Yields the distance of the runs and what it is made of over orders: name, updates, and value and local exponent with bounds."""
    yield "distance", walks.updates, (*_bounded(walks.distances), *run_exponents(walks))
    if (found := walks.decomposition) is not None:
        for name, logs in found.logs.items():
            values = [np.exp(part) for part in logs.with_bounds()]
            yield name, found.updates, (*values, *local_exponents(found.updates, logs))


def _exponent_rows(panel: PanelStudy) -> Iterator[Row]:
    for own in panel.cells:
        for one in own.exponents:
            yield {"panel": panel, "own": own, "one": one, "memory": own.walks.clock.memory_at(one.window.last)}


def _prediction_rows(panel: PanelStudy) -> Iterator[Row]:
    for own in panel.cells:
        found = own.predictions
        for law, errors in found.errors.items() if isinstance(found, Predictions) else ():
            for run_id, error in zip(own.walks.specs, errors, strict=True):
                yield {"panel": panel, "own": own, "found": found, "law": law, "run_id": run_id, "relative_error": error}


def _collapse_rows(panel: PanelStudy) -> Iterator[Row]:
    return ({"panel": panel, "own": own, "one": one} for own in panel.cells for one in own.collapses)


def _twin_rows(panel: PanelStudy) -> Iterator[Row]:
    for twin in panel.twins:
        for update, share in zip(twin.updates, twin.share, strict=True):
            yield {"panel": panel, "twin": twin, "update": int(update), "share_of_spread": share}


ROWS = {
    "walks": _walk_rows,
    "exponents": _exponent_rows,
    "predictions": _prediction_rows,
    "collapse": _collapse_rows,
    "twins": _twin_rows,
}
"""What yields the rows of each frame for a panel."""


def _angle(walks: Walks) -> tuple[dict[int, float], float]:
    """Returns the mean cosine by update, and how far off a derived one may be."""
    measured = (pair for cosine in walks.cosines for pair in zip(cosine.updates.astype(int), cosine.values, strict=True))
    by_update = grouped((int(update), float(value)) for update, value in measured)
    whole = {update: float(np.mean(values)) for update, values in by_update.items() if len(values) == len(walks.cosines)}
    return whole, max((cosine.uncertain for cosine in walks.cosines), default=float("nan"))


def _bounded(rows: Array) -> tuple[Array, Array, Array]:
    """Returns mean and t interval of rows [run, point]."""
    estimates = [t_interval(column) for column in rows.T]
    parts = [[one and getattr(one, name) for one in estimates] for name in ("mean", "low", "high")]
    mean, low, high = np.array(parts, dtype=np.float64)
    return mean, low, high


# What is said of how the weights walked: estimates, each with its interval by itself. Nothing is judged together, so nothing is a verdict.

UNKNOWN = "not determined, for the interval of one of the two holds 0"


def sentences_of(panel: PanelStudy) -> Iterator[str]:
    """Yields the sentences of a panel: five lines that say what matters, then all the rest.

    That is comparisons, drift and spread, exponents, predictions, and what is flagged or missing. Of a twin only what its original is
    compared with is said: by itself it is that cell again.
    """
    told = panel.told
    if panel.cells:
        yield from _summary(panel)
        yield _window(panel)
    if not panel.common.empty:
        yield from (text for own in told for text in _against(panel, own))
    yield from (_share(own.walks, own.walks.decomposition) for own in told if own.walks.decomposition is not None)
    yield from (_twin(twin, twin.last) for twin in panel.twins if twin.last is not None)
    if not panel.common.empty:
        yield from (text for own in told for text in _exponent_sentences(own))
        yield from (_prediction(own.name, own.predictions) for own in told)
    yield from (text for own in told for text in _flags(own.walks))
    yield from (f"{own.name}: drift and spread are not computed: {own.walks.reason}." for own in panel.cells if own.walks.reason)
    yield from (f"{name}: {reason}." for name, reason in panel.left_out.items())


def _summary(panel: PanelStudy) -> Iterator[str]:
    """Yields four lines, which the window follows: how far the first two cells go beside their reference's, and how that one walks."""
    if panel.common.empty:
        return
    compared = [own for own in panel.told if own.reference is not None and own.walks.decomposition is not None]
    for own in compared[:2]:
        assert own.reference is not None
        if (ends := _ends(own.walks, own.reference, panel.common.last)) is None:
            continue
        total, spread = (_ratio(ends.ratios[name]) if ends.known[name] else UNKNOWN for name in ("total", "spread"))
        yield f"In short, {own.name} beside {ends.reference}: distance from the start {total}; spread between data orders {spread}."
    first = next((own for own in panel.told if own.walks.decomposition is not None), None)
    if first is not None and first.walks.decomposition is not None:
        found = first.walks.decomposition
        share = order_estimate(found.share[:, -1], found.share[0, -1] * found.sketch_share)
        yield f"In short, {first.name}: the spread between data orders makes {_percent(share)} of its squared distance."
        grows = next((one for one in first.exponents if one.kind == "common" and one.quantity == DISTANCE and one.estimate), None)
        if grows is not None:
            yield f"In short, {_exponent(first.walks, grows)}"


def _window(panel: PanelStudy) -> str:
    first, last = panel.common.first, panel.common.last
    ends = {walks.window.clean_last for walks in panel.walks}
    why = "where the first rate falls, or training ends, or weight decay begins to bend a walk" if last in ends else "as asked"
    if panel.common.empty:
        return (
            f"No window is common to all cells: it would begin at update {first:,} and end at update {last:,}, {why}; so nothing is "
            "compared, fitted or predicted."
        )
    return f"Cells are compared on updates {panel.common}, the window that all of them have; it ends {why}."


def _share(walks: Walks, found: Decomposition) -> str:
    share = order_estimate(found.share[:, -1], found.share[0, -1] * found.sketch_share)
    values = {name: f"{float(np.exp(logs.value[-1])):.3g}" for name, logs in found.logs.items()}
    drift = values["drift"] if found.logs["drift"].separated()[-1] else "whose interval holds 0"
    return (
        f"{walks.cell.name} at update {int(found.updates[-1]):,}: total distance {values['total']}, drift {drift}, spread between "
        f"orders {values['spread']}, which is {_percent(share)} of the squared distance (n = {share.n} {walks.scope})."
    )


def _against(panel: PanelStudy, own: CellStudy) -> Iterator[str]:
    """Says how a cell's walk lies against its reference's at the end of the window and over it, and against which clock it collapses."""
    reference = own.reference
    if reference is None or own.walks.decomposition is None or reference.decomposition is None:
        return
    if (ends := _ends(own.walks, reference, panel.common.last)) is not None:
        parts = [f"{name} {_ratio(ratio) if ends.known[name] else UNKNOWN}" for name, ratio in ends.ratios.items()]
        yield f"{own.name} over {ends.reference} at update {ends.update:,}: {'; '.join(parts)}."
    spreads = sorted((one for one in own.collapses if one.quantity == "spread"), key=lambda one: round(one.deviation.value, 6))
    same_clocks = all(getattr(own.walks.cell, name) == getattr(reference.cell, name) for name in ("batch_size", "learning_rate"))
    scores = "; ".join(
        f"{_digits(one.deviation.value)} % ({range_text(100 * one.deviation.low, 100 * one.deviation.high, 0)}) against {one.clock}"
        for one in spreads
        if one.clock == UPDATES or not same_clocks
    )
    if scores:
        yield f"{own.name}: over the window its spread lies off that of {reference.cell.name} by {scores}."


@dataclass(frozen=True)
class _Ends:
    """Two walks side by side at their last common update."""

    reference: str
    update: int
    ratios: Mapping[str, Interval]
    """By quantity: of a cell's to its reference's."""
    known: Mapping[str, bool]
    """Whether both are told from 0."""


def _ends(walks: Walks, reference: Walks, last: float) -> _Ends | None:
    mine, theirs = walks.decomposition, reference.decomposition
    if mine is None or theirs is None:
        return None
    shared = np.intersect1d(mine.updates, theirs.updates)
    shared = shared[shared <= last]
    if not len(shared):
        return None
    places = int(np.searchsorted(mine.updates, shared[-1])), int(np.searchsorted(theirs.updates, shared[-1]))
    ratios = {name: ratio_at(mine.logs[name], theirs.logs[name], places) for name in QUANTITIES}
    known = {name: bool(mine.logs[name].separated()[places[0]] and theirs.logs[name].separated()[places[1]]) for name in QUANTITIES}
    return _Ends(reference.cell.name, int(shared[-1]), ratios, known)


def _twin(twin: Twin, last: Estimate) -> str:
    return (
        f"{twin.original.cell.name}: of its squared spread, {_percent(last)} is already there between runs of one order that started "
        f"{twin.perturbation:.0e} apart, at update {int(twin.updates[-1]):,} (n = {last.n} pairs)."
    )


def _ratio(ratio: Interval) -> str:
    return f"{ratio.value:.2f} times ({range_text(ratio.low, ratio.high, 2)})"


def _exponent_sentences(own: CellStudy) -> list[str]:
    """Says each exponent over the common window; a reason that all quantities share is said once."""
    found = [one for one in own.exponents if one.kind == "common"]
    return [_exponent(own.walks, one) for place, one in enumerate(found) if one.estimate or not place or one.reason != found[0].reason]


def _exponent(walks: Walks, one: Exponent) -> str:
    what = f"{walks.cell.name}: {'the distance of each run' if one.quantity == DISTANCE else f'the {one.quantity}'}"
    if one.estimate is None:
        return f"{what} on updates {one.window}: no exponent, for {one.reason}."
    estimate = one.estimate
    if estimate.low is None or estimate.high is None:
        return f"{what} grows with exponent {signed(estimate.mean, 2)} on updates {one.window} (one run: no interval)."
    laws = {"the log law's 0": 0.0, "a free walk's 0.5": 0.5}
    inside = [law for law, value in laws.items() if estimate.low <= value <= estimate.high]
    outside = [law for law in laws if law not in inside]
    sides = [f"leaves out {' and '.join(outside)}"] * bool(outside) + [f"holds {' and '.join(inside)}"] * bool(inside)
    scope = "" if walks.decomposition is not None else f" {walks.scope}"  # else the sentence on drift and spread says what n is of
    return (
        f"{what} grows with exponent {signed(estimate.mean, 2)} ({range_text(estimate.low, estimate.high, 2)}) on updates {one.window} "
        f"(n = {estimate.n}{scope}); its interval {' and '.join(sides)}."
    )


def _prediction(name: str, found: Predictions | str) -> str:
    if isinstance(found, str):
        return f"{name}: no law is tried beyond what it was fitted to: {found}."
    errors = ", ".join(f"{law} {100 * float(np.abs(values).mean()):.1f} %" for law, values in found.errors.items())
    span = f"fitted to updates {found.fitted}, at update {found.last:,}"
    preference = found.preference
    if preference is None or preference.low is None or preference.high is None:
        return f"{name}: mean error of the distance, {span}: {errors} (one run: no preference)."
    better, worse, sign = (LOG, POWER, 1) if preference.mean >= 0 else (POWER, LOG, -1)
    low, high = sorted((100 * sign * preference.low, 100 * sign * preference.high))
    lead = f"the error of the {better} is smaller than that of the {worse} by {100 * abs(preference.mean):.1f} % of the distance"
    lead += f" ({range_text(low, high, 1)})"
    return f"{name}: {lead}, {span} (n = {preference.n}); mean errors: {errors}."


def _flags(walks: Walks) -> Iterator[str]:
    window, name = walks.window, walks.cell.name
    if window.decayed:
        yield (
            f"{name}: its full window, to update {window.full.last:,}, reaches to {window.memory:.2g} of the weight-decay memory; beyond "
            f"{MEMORY:g} (update {window.clean_last:,}) decay bends the walk."
        )
    if window.clipped_until:
        beyond = "" if window.clean else ", which leaves it no window of its own: what is said of it is about clipped updates, too"
        yield f"{name}: more than {100 * CLIPPED:.0f} % of updates were clipped up to update {window.clipped_until:,}{beyond}."


def _percent(estimate: Estimate) -> str:
    text = f"{_digits(estimate.mean)} %"
    if estimate.low is None or estimate.high is None:
        return text
    digits = 0 if abs(estimate.mean) >= 0.1 else 1
    return f"{text} ({range_text(100 * max(0.0, estimate.low), 100 * min(1.0, estimate.high), digits)})"


def _digits(fraction: float) -> str:
    return signed(100 * fraction, 0 if abs(fraction) >= 0.1 else 1)
