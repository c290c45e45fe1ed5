"""Growth exponents of a cell's walks with intervals over its runs, and how well the named laws predict what they were not fitted to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gapbench.analysis.diffusion.ensemble import Walks
from gapbench.analysis.diffusion.laws import FEWEST_POINTS, LAWS, nested_fit
from gapbench.analysis.diffusion.orders import jackknife_error
from gapbench.analysis.diffusion.window import Window
from gapbench.analysis.intervals import LEVEL, Estimate, t_interval, t_quantile

Array = npt.NDArray[np.float64]

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
    common: bool
    """Whether this is the window that all cells have, the comparable one."""
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


def exponents_of(walks: Walks, common: Window) -> list[Exponent]:
    """Returns the exponents of a cell: of each run's distance, and of drift and spread, over the common and the full window."""
    out = []
    for window, shared in ((common, True), (walks.window.full, False)):
        out.append(_of_runs(walks, window, shared))
        if walks.decomposition is not None:
            out += [_of_orders(walks, name, window, shared) for name in ("drift", "spread")]
    return out


def predictions_of(walks: Walks, window: Window) -> Predictions | str:
    """Returns the predictions of a cell, or why there are none."""
    inside = (walks.updates >= window.first) & (walks.updates <= window.last)
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


def _of_runs(walks: Walks, window: Window, shared: bool) -> Exponent:
    inside = (walks.updates >= window.first) & (walks.updates <= window.last)
    points = int(inside.sum())
    if points < FEWEST_POINTS:
        return Exponent(DISTANCE, window, shared, None, points, _too_few(points))
    found = nested_fit(walks.updates[inside], walks.distances[:, inside]).exponent
    if np.isnan(found).any():
        return Exponent(DISTANCE, window, shared, None, points, f"{np.isnan(found).sum()} of {walks.n} runs determine no exponent")
    return Exponent(DISTANCE, window, shared, t_interval(found), points)


def _of_orders(walks: Walks, quantity: str, window: Window, shared: bool) -> Exponent:
    assert walks.decomposition is not None
    updates, logs = walks.decomposition.updates, walks.decomposition.logs[quantity]
    inside = (updates >= window.first) & (updates <= window.last)
    points = int(inside.sum())
    if points < FEWEST_POINTS:
        return Exponent(quantity, window, shared, None, points, _too_few(points))
    values = np.exp(logs.replicates[:, inside])
    if not (np.isfinite(values).all() and logs.separated()[inside].all()):
        return Exponent(quantity, window, shared, None, points, f"the {quantity} is not separated from zero everywhere")
    found = nested_fit(updates[inside], values).exponent
    if np.isnan(found).any():
        return Exponent(quantity, window, shared, None, points, f"the {quantity} determines no exponent")
    mean, half = float(found[0]), t_quantile(LEVEL, logs.orders - 1) * float(jackknife_error(found))
    return Exponent(quantity, window, shared, Estimate(mean, mean - half, mean + half, logs.orders), points)


def _too_few(points: int) -> str:
    return f"{points} {'measurement' if points == 1 else 'measurements'} in the window; {FEWEST_POINTS} are needed"
