"""What a search came to, read from the tables of its results directory alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gapbench import catalog
from gapbench.analysis.frames import Columns, named, records
from gapbench.analysis.stats import Estimate, bounds, t_interval
from gapbench.catalog import Metric
from gapbench.core.errors import StoreError
from gapbench.core.events import Outcome
from gapbench.tuning.search import (
    Point,
    Range,
    Rules,
    Search,
    Stage,
    alike_by,
    best_of,
    ends_of,
    ranked,
    rate_of,
    replay,
    scores_of,
    values_of,
)  # fmt: skip

if TYPE_CHECKING:
    import pandas as pd

KEY = "tune"
"""Of the report settings in the tables of a directory of trials."""


OF_TRIED: Columns = {
    "cell": "cell.title", "batch_size": "cell.batch_size", "learning_rate": "one.rate", "validation_accuracy": "one.accuracy.mean",
    **named("n", "eligible"),
}  # fmt: skip


@dataclass(frozen=True)
class Tried:
    """A learning rate of a cell, at its best other values."""

    power: int
    rate: float
    accuracy: Estimate | None
    """On the held-out part, over the seeds of the trials (each the mean over its folds); None where a run diverged."""
    alike: bool = False
    """Whether it belongs to the rates that cannot be told from the best one."""


@dataclass(frozen=True)
class CellResult:
    """What the search found for one cell, or for several that only differ in what is searched."""

    title: str
    cells: tuple[str, ...]
    batch_size: int
    regimes: tuple[str, ...]
    budget: str
    panel: str
    """Data set and model, and those of the model's options in which the cells differ."""
    tried: tuple[Tried, ...]
    """Every learning rate that has outcomes, from the lowest."""
    trials: int
    """Points that were tried: learning rates times combinations of all else."""
    diverged: int
    """Of them, those that are not eligible."""
    best: Point | None = None
    """None while the search goes on, and where no point is eligible."""
    rate: float | None = None
    other: Mapping[str, float] = field(default_factory=dict)
    """The best values of what else is searched."""
    other_at_edge: tuple[str, ...] = ()
    """Those of them that are the lowest or highest of their list."""
    interior: bool | None = None
    """Whether lower and higher rates than the best were tried; None where the rate is not searched."""
    ends: tuple[Point, Point] | None = None
    """The lowest and the highest of the rates, without a gap, that cannot be told from the best one: the 95 % interval of the difference
    in held-out accuracy, over seeds and folds, holds zero."""
    near: tuple[float, float] | None = None
    """The learning rates of `ends`."""
    near_ends: tuple[bool, bool] = (True, True)
    """Whether that range ends within what was tried, below and above."""
    accuracy: Estimate | None = None
    """Of the best point on the fresh seeds, each the mean over its folds."""
    loss: float | None = None
    """Mean loss of the best point there."""
    rate_of_lowest_loss: float | None = None
    """Among the points of the check."""
    words: tuple[tuple[str, ...], ...] = ()
    """Of each cell: what its name is put together from."""


@dataclass(frozen=True)
class Tuned:
    """A whole search."""

    suite: str
    rules: Rules
    step: float
    search: tuple[str, ...]
    holdout: float
    held_out: tuple[int, ...]
    """Examples of one held-out part, of every cell."""
    folds: int
    seeds: tuple[int, ...]
    check_seeds: tuple[int, ...]
    cells: tuple[CellResult, ...]
    complete: bool
    """Whether the search has come to its end."""
    rounds: tuple[str, ...]
    failed: int
    """Runs that crashed, ran out of memory or of time: no decision rests on them, so the search waits."""

    @property
    def found(self) -> bool:
        """Whether every cell has its best values."""
        return self.complete and all(cell.best is not None for cell in self.cells)

    def frame(self) -> pd.DataFrame:
        """Returns one row a cell; rates and accuracies as numbers, accuracies as fractions."""
        import pandas as pd

        rows = [
            {
                "cell": cell.title,
                "batch_size": cell.batch_size,
                "regime": ", ".join(cell.regimes),
                "trials": cell.trials,
                "diverged": cell.diverged,
                "learning_rate": cell.rate,
                **{f"best_{name}": value for name, value in cell.other.items()},
                "interior": cell.interior,
                **dict(zip(("near_low", "near_high"), cell.near or (None, None), strict=True)),
                **bounds("validation_accuracy", cell.accuracy),
                "validation_loss": cell.loss,
                "learning_rate_of_lowest_loss": cell.rate_of_lowest_loss,
                "n": cell.accuracy.n if cell.accuracy else 0,
                "folds": self.folds,
            }
            for cell in self.cells
        ]
        return pd.DataFrame(rows)

    def trials_frame(self) -> pd.DataFrame:
        """Returns one row for every learning rate that was tried at a cell's best other values, with its mean accuracy as a fraction."""
        import pandas as pd

        tried = ((cell, one, one.accuracy) for cell in self.cells for one in cell.tried)
        rows = ({"cell": cell, "one": one, "n": found.n if found else 0, "eligible": found is not None} for cell, one, found in tried)
        return pd.DataFrame(records(OF_TRIED, rows))

    def __repr__(self) -> str:
        best = ", ".join(f"{cell.title}: {'none' if cell.rate is None else f'{cell.rate:g}'}" for cell in self.cells)
        return f"Tuned({self.suite!r}, {'complete' if self.complete else 'not finished'}: {best})"

    def _repr_html_(self) -> str:
        return str(self.frame().to_html(index=False, na_rep=""))


def read_tuned(runs: pd.DataFrame, report: Mapping[str, Any]) -> Tuned:
    """Returns what a search came to.

    Args:
        runs: the run table of a directory of trials.
        report: the report settings that are stored with it.

    Raises:
        StoreError: they are of no search.
    """
    if KEY not in report:
        raise StoreError("these are the results of a suite and not the trials of `gapbench tune`")
    return _Reader(report[KEY], runs).read()


class _Reader:
    def __init__(self, stored: Mapping[str, Any], runs: pd.DataFrame) -> None:
        self._stored = stored
        self._rules = Rules(**stored["rules"])
        self._metric = catalog.measured_task(runs.columns).headline
        self._outcomes = {str(row["run_id"]): _ended(row, self._metric) for row in runs.to_dict("records")}
        self._runs: dict[tuple[str, Point, Stage], dict[int, list[str]]] = {}
        for position, power, other, stage, seed, _, run_id in stored["trials"]:
            key = (stored["cells"][position]["title"], Point(power, other), stage)
            self._runs.setdefault(key, {}).setdefault(seed, []).append(run_id)
        self._score = scores_of(self._run_ids, self._outcomes.get, self._metric)
        self._values = values_of(self._run_ids, self._outcomes.get, stored["folds"])
        self._alike = alike_by(self._values)

    def read(self) -> Tuned:
        stored = self._stored
        same: dict[str, Any] = {name: stored[name] for name in ("suite", "step", "holdout", "folds")}
        same |= {name: tuple(stored[name]) for name in ("search", "seeds", "check_seeds")}
        return Tuned(
            **same,
            rules=self._rules,
            held_out=tuple(dict.fromkeys(cell["held_out"] for cell in stored["cells"])),
            cells=tuple(self._cell(cell) for cell in stored["cells"]),
            complete=self._search.complete,
            rounds=tuple(tried.name for tried in self._search.rounds),
            failed=sum(one is not None and one[0] not in (Outcome.OK, Outcome.DIVERGED) for one in self._outcomes.values()),
        )

    @cached_property
    def _search(self) -> Search:
        return replay({cell["title"]: cell["centre"] for cell in self._stored["cells"]}, self._rules, self._score, self._alike)

    def _run_ids(self, cell: str, point: Point, stage: Stage) -> list[str]:
        return [run_id for ids in self._runs.get((cell, point, stage), {}).values() for run_id in ids]

    def _cell(self, stored: Mapping[str, Any]) -> CellResult:
        title = stored["title"]
        own = self._search.ranges[title]
        points = self._search.tried(title)
        known = {point: score for point in points if (score := self._score(title, point, "trial")) is not None}
        best = self._best(title)
        # While the search goes on, the best point so far says at which other values the rates are shown.
        shown = best or next(iter(ranked(points, known.get)), Point(own.low))
        options = ", ".join(f"{name} {value}" for name, value in stored["model_options"].items() if name in self._varied_options)
        result = CellResult(
            title=title,
            cells=tuple(stored["cells"]),
            batch_size=stored["batch_size"],
            regimes=tuple(stored["regimes"]),
            budget=stored["budget"],
            panel=f"{stored['dataset']}, {stored['model']}" + (f" ({options})" if options else ""),
            tried=tuple(
                Tried(point.power, self._rate(stored, point.power), self._estimate(title, point, "trial"))
                for point in known
                if point.other == shown.other
            ),
            trials=len(known),
            diverged=sum(not score.eligible for score in known.values()),
            words=tuple(map(tuple, stored.get("words") or [name.split(", ") for name in stored["cells"]])),  # not kept by version 0.1
        )
        return result if best is None else self._with_best(result, stored, best, own)

    def _best(self, title: str) -> Point | None:
        return best_of(self._search, title, self._score) if self._search.complete else None

    def _with_best(self, result: CellResult, stored: Mapping[str, Any], best: Point, own: Range) -> CellResult:
        title = result.title
        powers = [tried.power for tried in result.tried]
        low, high = ends_of(self._search, title, best, self._score, self._alike)
        checked = [point for point in self._search.tried(title, "check") if point.other == best.other]
        losses = {point: score.loss for point in checked if (score := self._score(title, point, "check")) and score.eligible}
        others = self._stored["others"]
        chosen = others[best.other]
        tried = {name: {other[name] for other in others} for name in chosen}
        edges = tuple(name for name, value in chosen.items() if len(tried[name]) > 1 and value in (min(tried[name]), max(tried[name])))
        searched = "learning_rate" in self._stored["search"]
        return replace(
            result,
            best=best,
            rate=self._rate(stored, best.power),
            other=chosen,
            other_at_edge=edges,
            interior=own.holds_inside(best.power) if searched else None,
            tried=tuple(replace(tried, alike=low.power <= tried.power <= high.power) for tried in result.tried),
            ends=(low, high),
            near=(self._rate(stored, low.power), self._rate(stored, high.power)),
            near_ends=(low.power > powers[0], high.power < powers[-1]),
            accuracy=self._estimate(title, best, "check"),
            loss=losses[best],
            rate_of_lowest_loss=self._rate(stored, min(losses, key=lambda point: losses[point]).power) if searched else None,
        )

    def _rate(self, stored: Mapping[str, Any], power: int) -> float:
        if stored["rate"] is not None:
            return float(stored["rate"])
        return rate_of(stored["base_rate"], self._stored["step"], power / self._rules.stride)

    def _estimate(self, title: str, point: Point, stage: Stage) -> Estimate | None:
        values = self._values(title, point, stage)
        return None if values is None else t_interval([math.fsum(own) / len(own) for own in values])

    @cached_property
    def _varied_options(self) -> set[str]:
        """The options that not all cells have at one value."""
        options = [cell["model_options"] for cell in self._stored["cells"]]
        return {name for name in set().union(*options) if any(name not in own or own[name] != options[0].get(name) for own in options)}


def _ended(row: Mapping[Any, Any], metric: Metric) -> tuple[str, float, float] | None:
    outcome = str(row["outcome"])
    if outcome in (Outcome.SKIPPED, Outcome.INTERRUPTED):
        return None
    if outcome != Outcome.OK:
        return outcome, math.nan, math.nan
    return outcome, float(row[metric.column("validation")]), float(row["validation_loss"])
