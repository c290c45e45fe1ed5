"""Laws of growth fitted to curves: one nested exponent, and the named laws that make predictions beyond the fitted updates.

    d = a + b (t^p - 1) / p,   p = 0: a + b ln t (the logarithmic law), p = 1/2: a walk on a flat potential

One exponent with an interval over runs says more than a choice among laws: points of one trajectory are correlated, so that information
criteria prefer wrong laws in a fifth of all draws, and mostly by a lot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from gapbench.analysis.curves import Window
from gapbench.analysis.diffusion.walks import Decomposition, Logs, Walks, jackknife_error, order_estimate, order_quantile
from gapbench.analysis.formats import counted, signed
from gapbench.analysis.stats import Array, Estimate, Interval, interval_of_log, t_interval
from gapbench.catalog import published

BOUND = 3.0
"""Exponents are looked for between -BOUND and BOUND; a curve whose best one lies there determines none."""
FEWEST_POINTS = 5
"""For three parameters and something left over."""

_GRID = np.linspace(-BOUND, BOUND, 241)
_MEMORIES = np.linspace(np.log(0.02), np.log(100.0), 241)
_ROUNDS = 5


@dataclass(frozen=True)
class NestedFit:
    """Least squares of d = a + b (t^p - 1) / p, one for each curve."""

    exponent: Array
    """p by curve; NaN where the curve determines none (it lies at a bound, or the curve is flat)."""
    standard_error: Array
    """Of p, from the residuals as if they were independent. Those of one trajectory are not: too small as an interval."""


def nested_fit(updates: Array, values: Array) -> NestedFit:
    """Fits the nested exponent.

    Args:
        updates: [point], positive, four or more.
        values: [curve, point].
    """
    logs = np.log(updates) - np.log(updates).mean()  # the family is the same in any unit of time

    def shape(exponent: Array) -> Array:
        return _box_cox(logs, exponent)

    exponent = _profile(values, shape, _GRID, intercept=True)
    error = _standard_error(logs, values, exponent)
    flat = np.ptp(values, axis=1) <= 1e-9 * np.abs(values).max(axis=1, initial=0.0)
    lost = (np.abs(exponent) >= BOUND) | flat
    return NestedFit(np.where(lost, np.nan, exponent), np.where(lost, np.nan, error))


def local_exponent(updates: Array, log_values: Array, width: float = 1.0) -> Array:
    """Returns d ln(value) / d ln(update): the least squares slope over the points within half of `width` e-folds on either side.

    Args:
        updates: [point].
        log_values: [..., point], natural logarithms.
        width: of the neighbourhood, in e-folds of the update count.

    Returns:
        [..., point], NaN where fewer than three points are near or the neighbourhood is cut off by an end.
    """
    logs = np.log(updates)
    out = np.full(log_values.shape, np.nan)
    for place, centre in enumerate(logs):
        near = np.abs(logs - centre) <= width / 2 + 1e-9
        reaches = centre - width / 2 >= logs[0] - 0.1 and centre + width / 2 <= logs[-1] + 0.1
        if near.sum() >= 3 and reaches:
            x = logs[near] - logs[near].mean()
            out[..., place] = (log_values[..., near] * x).sum(axis=-1) / (x @ x)
    return out


def predict_logarithmic(updates: Array, values: Array, at: Array) -> Array:
    """Fits a + b ln t and returns what it says of the updates `at`: [curve, len(at)]."""
    return _predicted(np.log(updates)[None], np.log(at)[None], values, intercept=True)


def predict_power(updates: Array, values: Array, at: Array) -> Array:
    """The same of c t^p."""
    centre = np.log(updates).mean()
    power = _profile(values, lambda p: np.exp(p[:, None] * (np.log(updates) - centre)), _GRID, intercept=False)[:, None]
    shapes = np.exp(power * (np.log(updates) - centre)), np.exp(power * (np.log(at) - centre))
    return _predicted(*shapes, values, intercept=False)


def predict_saturation(updates: Array, values: Array, at: Array) -> Array:
    """The same of a sqrt(1 - e^(-t / tau)): a walk that forgets, as under weight decay. Tau from 0.02 to 100 times the last update."""

    def shape(logarithm: Array, times: Array) -> Array:
        return np.asarray(np.sqrt(-np.expm1(-times / (updates[-1] * np.exp(logarithm[:, None])))))

    tau = _profile(values, lambda logarithm: shape(logarithm, updates), _MEMORIES, intercept=False)
    return _predicted(shape(tau, updates), shape(tau, at), values, intercept=False)


LAWS: dict[str, Callable[[Array, Array, Array], Array]] = {
    "log law": predict_logarithmic,
    "power law": predict_power,
    "weight-decay saturation": predict_saturation,
}
"""Two parameters each, so that none predicts better by bending more."""


def _box_cox(logs: Array, exponent: Array) -> Array:
    """Returns (t^p - 1) / p, [exponent, point]."""
    p = np.asarray(exponent)[:, None]
    small = np.abs(p) < 1e-9
    return np.asarray(np.where(small, logs, np.expm1(p * logs) / np.where(small, 1.0, p)))


def _profile(values: Array, shape: Callable[[Array], Array], grid: Array, *, intercept: bool) -> Array:
    """Returns, by curve, the nonlinear parameter whose shape explains most: the best of a grid, refined by parabolas."""
    own = values - _level(values, intercept)
    best = grid[np.square(own @ _unit(shape(grid), intercept).T).argmax(axis=1)]
    step = float(grid[1] - grid[0])
    for _ in range(_ROUNDS):
        low, middle, high = (np.square((own * _unit(shape(best + shift), intercept)).sum(axis=1)) for shift in (-step, 0.0, step))
        bend = low - 2 * middle + high
        moved = np.where(bend < 0, 0.5 * (low - high) / np.where(bend < 0, bend, 1.0), 0.0)
        best = np.clip(best + step * np.clip(moved, -1.0, 1.0), grid[0], grid[-1])
        step /= 4
    return np.asarray(best)


def _unit(shapes: Array, intercept: bool) -> Array:
    own = shapes - _level(shapes, intercept)
    return np.asarray(own / np.linalg.norm(own, axis=1, keepdims=True))


def _level(rows: Array, intercept: bool) -> Array | float:
    """Returns what an intercept takes out of every row: its mean, [row, 1]."""
    return np.asarray(rows.mean(axis=1, keepdims=True)) if intercept else 0.0


def _predicted(shapes: Array, later: Array, values: Array, *, intercept: bool) -> Array:
    """Returns the least squares fit of values to shapes [curve or 1, point], carried on to `later`."""
    shift, level = _level(shapes, intercept), _level(values, intercept)
    x = shapes - shift
    slope = ((values - level) * x).sum(axis=1, keepdims=True) / np.square(x).sum(axis=1, keepdims=True)
    return np.asarray(level + slope * (later - shift))


def _standard_error(logs: Array, values: Array, exponent: Array) -> Array:
    """Returns the standard error of p from the curvature of the sum of squares in (a, b, p)."""
    x = _box_cox(logs, exponent)
    small = np.abs(exponent)[:, None] < 1e-4
    p = np.where(small, 1.0, exponent[:, None])
    slope_in_p = np.where(small, logs**2 / 2 + exponent[:, None] * logs**3 / 3, (np.exp(p * logs) * (p * logs - 1) + 1) / p**2)
    centred, target = x - x.mean(axis=1, keepdims=True), values - values.mean(axis=1, keepdims=True)
    b = (target * centred).sum(axis=1) / np.square(centred).sum(axis=1)
    left = np.square(target - b[:, None] * centred).sum(axis=1)
    bend = b[:, None] * slope_in_p
    bend = bend - bend.mean(axis=1, keepdims=True)
    own = bend - centred * ((bend * centred).sum(axis=1) / np.square(centred).sum(axis=1))[:, None]
    freedom = len(logs) - 3
    weight = np.square(own).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.sqrt(left / freedom / weight)) if freedom > 0 else np.full(len(values), np.nan)


# Growth exponents of a cell's walks with intervals over its runs, and how well the named laws predict what they were not fitted to.

DISTANCE = "distance"
"""Of each run by itself, as the paper has it; the other quantities are those of all orders together."""
LOG, POWER = "log law", "power law"
REACH = 4
"""Predictions are fitted up to a REACH-th of the last update."""


@dataclass(frozen=True)
class Exponent:
    """The nested exponent p of one cell over one window."""

    quantity: str
    window: Window
    kind: str
    """`common`: the window that all cells have, the comparable one; `full`: the cell's own."""
    estimate: Estimate | None
    """Over runs by t interval, or over orders by jackknife; None where a run determines none."""
    points: int
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What each law, fitted to the first part of the window, said of its end."""

    fitted: Window
    last: int
    errors: dict[str, Array]
    """(predicted - measured) / measured distance at `last`, by law and run."""
    preference: Estimate | None
    """Mean over runs of |error of the power law| - |error of the log law|: positive prefers the log law. A fraction of the distance."""


def exponents_of(walks: Walks, common: Window) -> Iterator[Exponent]:
    """Yields the exponents of a cell: of each run's distance, and of drift and spread, over the common and the full window."""
    for kind, window in (("common", common), ("full", walks.window.full)):
        yield _of_runs(walks, window, kind)
        if walks.decomposition is not None:
            yield from (_of_orders(walks.decomposition, name, window, kind) for name in ("drift", "spread"))


def predictions_of(walks: Walks, window: Window) -> Predictions | str:
    """Returns the predictions of a cell, or why there are none."""
    inside = window.holds(walks.updates)
    if not inside.any():
        return f"nothing was measured in updates {window}"
    last = walks.updates[inside].max()
    early = inside & (walks.updates <= last / REACH)
    if early.sum() < FEWEST_POINTS:
        return f"{early.sum()} measurements from update {window.first:,} up to a quarter of {last:,.0f}; {FEWEST_POINTS} are needed"
    measured = walks.distances[:, walks.updates == last]
    times = walks.updates[early]
    errors = {name: ((law(times, walks.distances[:, early], np.array([last])) - measured) / measured)[:, 0] for name, law in LAWS.items()}
    better = np.abs(errors[POWER]) - np.abs(errors[LOG])
    return Predictions(Window(int(times[0]), int(times[-1])), int(last), errors, t_interval(better))


def _of_runs(walks: Walks, window: Window, kind: str) -> Exponent:
    inside = window.holds(walks.updates)
    found, reason = _exponents(walks.updates[inside], walks.distances[:, inside])
    if lost := np.isnan(found).sum():
        reason = f"{lost} of {walks.n} runs determine no exponent"
    return Exponent(DISTANCE, window, kind, None if reason else t_interval(found), int(inside.sum()), reason)


def _of_orders(split: Decomposition, quantity: str, window: Window, kind: str) -> Exponent:
    logs, inside = split.logs[quantity], window.holds(split.updates)
    values = np.exp(logs.replicates[:, inside])
    known = np.isfinite(values).all() and logs.separated()[inside].all()
    found, reason = _exponents(split.updates[inside], values, "" if known else f"the {quantity} is not separated from zero everywhere")
    if np.isnan(found).any():
        reason = f"the {quantity} determines no exponent"
    return Exponent(quantity, window, kind, None if reason else order_estimate(found), int(inside.sum()), reason)


def _exponents(updates: Array, values: Array, unknown: str = "") -> tuple[Array, str]:
    """Returns the exponent of every curve [curve]; or none, and why: too few points, or what is not known of the values."""
    if len(updates) < FEWEST_POINTS:
        return np.array([]), f"{counted(len(updates), 'measurement')} in the window; {FEWEST_POINTS} are needed"
    return (np.array([]), unknown) if unknown else (nested_fit(updates, values).exponent, "")


# The same exponent on a paper's own curves: one digitised curve a batch size, so a standard error from its residuals and no interval.

FEWEST_READ = 4
"""Points that three parameters and a standard error need."""


@dataclass(frozen=True)
class PublishedExponent:
    """The nested exponent of one published curve."""

    figure: str
    batch_size: int
    first: int
    last: int
    points: int
    exponent: float | None
    """None where too few points were read."""
    standard_error: float | None
    source: str


def published_exponents(paper: str) -> list[PublishedExponent]:
    """Returns the exponents of every curve of weight distance that was read off a paper's figures.

    Raises:
        UnknownNameError: no figures of such a paper are kept.
    """
    return [
        _published(figure, curve)
        for figure in published.figures(paper).values()
        if figure.y == "weight distance"
        for curve in figure.curves
    ]


def _published(figure: published.PublishedFigure, curve: published.PublishedCurve) -> PublishedExponent:
    exponent = error = None
    if len(curve.x) >= FEWEST_READ:
        fit = nested_fit(np.array(curve.x), np.array([curve.y]))
        if np.isfinite(fit.exponent[0]):
            exponent, error = float(fit.exponent[0]), float(fit.standard_error[0])
    first, last = int(curve.x[0]), int(curve.x[-1])
    return PublishedExponent(figure.name, curve.batch_size, first, last, len(curve.x), exponent, error, figure.source)


def published_sentences(exponents: list[PublishedExponent]) -> list[str]:
    """Returns what the published curves say, with the caution that they need."""
    out = []
    for one in exponents:
        where = f"{one.figure}, batch size {one.batch_size}, updates {one.first:,} to {one.last:,}"
        if one.exponent is None or one.standard_error is None:
            out.append(f"{where}: no exponent, for {one.points} points were read; {FEWEST_READ} are needed.")
        else:
            out.append(f"{where}: exponent {signed(one.exponent, 2)}, standard error {one.standard_error:.2f} ({one.points} points).")
    out.append(
        "One curve each: the standard errors take residuals for independent, which those of one trajectory are not, so they are too small; "
        "windows differ from batch size to batch size, and the exponent depends on the window."
    )
    return out


# Whether the curves of two batch sizes fall on one another: against updates, the sum of rates, or the noise that was put in.

POINTS = 60
"""Of the common range, evenly spaced in the logarithm of the clock."""


@dataclass(frozen=True)
class Collapse:
    """One cell's curve against the reference's, over the clock's common range."""

    clock: str
    quantity: str
    first: float
    """Beginning of the common range, as the clock shows it."""
    last: float
    ratio: Interval
    """Geometric mean of cell / reference."""
    deviation: Interval
    """Mean of |cell - reference| / reference: the collapse score, 0 is perfect."""
    largest: float
    """Largest |cell - reference| / reference."""


def collapse(clock: str, quantity: str, cell: tuple[Array, Logs], reference: tuple[Array, Logs]) -> Collapse | None:
    """Compares two curves where both have values; None where their clocks do not overlap, or one is not known.

    Args:
        clock: its name.
        quantity: its name.
        cell: what the clock shows at each point, ascending, and the logarithms there.
        reference: the same. Intervals are t intervals by jackknife over the orders of either side.
    """
    if len(cell[0]) < 2 or len(reference[0]) < 2:
        return None
    low, high = max(cell[0][0], reference[0][0]), min(cell[0][-1], reference[0][-1])
    if not high > low * 1.05:
        return None
    grid = np.geomspace(low, high, POINTS)
    mine, theirs = (_interpolated(times, logs.replicates, grid) for times, logs in (cell, reference))
    if not (np.isfinite(mine).all() and np.isfinite(theirs).all()):
        return None
    sketch = [float(_interpolated(times, logs.sketch_error[None], grid).mean()) for times, logs in (cell, reference)]
    quantile = order_quantile(mine, theirs)
    by_cell, by_reference = mine - theirs[0], mine[0] - theirs

    def half(of_cell: Array, of_reference: Array) -> float:
        errors = (float(jackknife_error(of_cell)), float(jackknife_error(of_reference)), *sketch)
        return quantile * float(np.sqrt(np.square(errors).sum()))

    log_ratio = float(by_cell[0].mean())
    wide = half(by_cell.mean(axis=1), by_reference.mean(axis=1))
    off = [np.abs(np.expm1(logs)).mean(axis=1) for logs in (by_cell, by_reference)]
    deviation, around = float(off[0][0]), half(*off)
    return Collapse(
        clock,
        quantity,
        float(low),
        float(high),
        interval_of_log(log_ratio, wide),
        Interval(deviation, max(0.0, deviation - around), deviation + around),
        float(np.abs(np.expm1(by_cell[0])).max()),
    )


def ratio_at(cell: Logs, reference: Logs, places: tuple[int, int]) -> Interval:
    """Returns cell / reference at one point of either, with its interval."""
    mine, theirs = places
    log_ratio = float(cell.value[mine] - reference.value[theirs])
    half = order_quantile(cell.replicates, reference.replicates) * float(np.hypot(cell.error()[mine], reference.error()[theirs]))
    return interval_of_log(log_ratio, half)


def _interpolated(times: Array, rows: Array, grid: Array) -> Array:
    return np.stack([np.interp(np.log(grid), np.log(times), row) for row in rows])
