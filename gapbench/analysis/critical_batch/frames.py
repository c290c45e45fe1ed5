"""The numbers of the analysis of critical batch sizes as tidy frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from gapbench.analysis.critical_batch.hyperbola import Interval
    from gapbench.analysis.critical_batch.study import CurveStudy, Study

COLUMNS: dict[str, tuple[str, ...]] = {
    "passages": ("panel", "method", "target", "batch_size", "learning_rate", "seed", "steps", "trained", "examples", "chosen"),
    "fits": (
        "panel", "method", "target", "critical_batch", "critical_batch_low", "critical_batch_high", "critical_batch_20_percent",
        "smallest_steps", "smallest_steps_low", "smallest_steps_high", "smallest_examples", "knee", "knee_low", "knee_high", "rejected",
        "extrapolated", "residual", "n", "batch_sizes", "critical_batch_with_censored", "critical_batch_with_censored_low",
        "critical_batch_with_censored_high", "statistics", "reason",
    ),
    "predictions": (
        "panel", "method", "target", "batch_size", "predicted", "predicted_naive", "smallest_steps", "smallest_examples",
        "counts",
    ),
}  # fmt: skip
"""Columns of each frame, also of an empty one."""


def frames_of(found: Study) -> dict[str, pd.DataFrame]:
    """Returns the frames by name."""
    import pandas as pd

    passages = [row for curve in found.curves for row in _passages(curve)]
    fits = [_fit(curve) for curve in found.curves]
    predictions = [row for curve in found.curves for row in _predictions(curve)]
    rows = {"passages": passages, "fits": fits, "predictions": predictions}
    return {name: pd.DataFrame(rows[name], columns=list(columns)) for name, columns in COLUMNS.items()}


def _predictions(curve: CurveStudy) -> Iterator[dict[str, Any]]:
    for one in curve.predictions:
        yield {
            "panel": curve.title,
            "method": curve.method,
            "target": curve.target,
            "batch_size": one.batch_size,
            "predicted": one.weighted,
            "predicted_naive": one.naive,
            "smallest_steps": one.smallest_steps,
            "smallest_examples": one.smallest_examples,
            "counts": one.counts,
        }


def _passages(curve: CurveStudy) -> Iterator[dict[str, Any]]:
    best = {one.batch_size: one.learning_rate for one in curve.chosen}
    for one in curve.passages:
        yield {
            "panel": curve.title,
            "method": curve.method,
            "target": curve.target,
            "batch_size": one.batch_size,
            "learning_rate": one.learning_rate or None,
            "seed": one.seed,
            "steps": one.steps,
            "trained": one.trained,
            "examples": None if one.steps is None else one.steps * one.batch_size,
            "chosen": best[one.batch_size] == one.learning_rate,
        }


def _fit(curve: CurveStudy) -> dict[str, Any]:
    fit = curve.fit
    row = {
        "panel": curve.title, "method": curve.method, "target": curve.target, "statistics": curve.statistics or None,
        "reason": curve.reason or None, **_interval("critical_batch_with_censored", curve.with_censored),
    }  # fmt: skip
    if fit is None:
        return row
    return row | {
        **_interval("critical_batch", fit.critical_batch),
        "critical_batch_20_percent": fit.overhead_batch(0.2),
        **_interval("smallest_steps", fit.smallest_steps),
        "smallest_examples": fit.smallest_examples,
        **_interval("knee", fit.knee),
        "rejected": fit.rejected,
        "extrapolated": fit.extrapolated,
        "residual": fit.residual,
        "n": fit.n,
        "batch_sizes": len(fit.batch_sizes),
    }


def _interval(name: str, found: Interval | None) -> dict[str, float | None]:
    return {
        name: found.value if found else None,
        f"{name}_low": found.low if found else None,
        f"{name}_high": found.high if found else None,
    }
