"""The numbers of the analysis of diffusion as tidy frames, one row a measurement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gapbench.analysis.diffusion.clocks import CLOCKS, decayed_walk_exponent
from gapbench.analysis.diffusion.ensemble import Walks
from gapbench.analysis.diffusion.laws import local_exponent
from gapbench.analysis.diffusion.orders import QUANTITIES, Logs, jackknife_error
from gapbench.analysis.intervals import LEVEL, t_interval, t_quantile

if TYPE_CHECKING:
    import pandas as pd

    from gapbench.analysis.diffusion.study import PanelStudy

Array = npt.NDArray[np.float64]

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
        series: list[tuple[str, Array, tuple[Array, Array, Array], tuple[Array, Array, Array]]] = [
            ("distance", walks.updates, _bounded(walks.distances), run_exponents(walks))
        ]
        found = walks.decomposition
        for name in QUANTITIES if found is not None else ():
            assert found is not None
            logs = found.logs[name]
            low, high = logs.bounds()
            series.append((name, found.updates, (np.exp(logs.value), np.exp(low), np.exp(high)), local_exponents(found.updates, logs)))
        for name, updates, bounded, exponents in series:
            clocks = [walks.clock.at(clock, updates) for clock in CLOCKS[1:]]
            memory = walks.clock.memory(updates)
            null = decayed_walk_exponent(memory)
            for place, update in enumerate(updates):
                yield {
                    **_about(walks),
                    "n": walks.n,
                    "update": int(update),
                    "sum_of_rates": clocks[0][place],
                    "sum_of_squared_rates_per_example": clocks[1][place],
                    "memory_passed": memory[place],
                    "cosine": angle.get(int(update)),
                    "cosine_uncertain": uncertain,
                    "decay_alone": float(np.exp(-memory[place])),
                    "quantity": name,
                    **dict(zip(("value", "low", "high"), (part[place] for part in bounded), strict=True)),
                    **dict(
                        zip(
                            ("local_exponent", "local_exponent_low", "local_exponent_high"),
                            (part[place] for part in exponents),
                            strict=True,
                        )
                    ),
                    "null_exponent": null[place],
                }


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
                "exponent": estimate.mean if estimate else None,
                "exponent_low": estimate.low if estimate else None,
                "exponent_high": estimate.high if estimate else None,
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
                "clock": one.clock,
                "quantity": one.quantity,
                "first": one.first,
                "last": one.last,
                "ratio": one.ratio.value,
                "ratio_low": one.ratio.low,
                "ratio_high": one.ratio.high,
                "deviation": one.deviation.value,
                "deviation_low": one.deviation.low,
                "deviation_high": one.deviation.high,
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
