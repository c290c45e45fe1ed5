"""From the points of a search to runs: which cells are tuned, around which learning rates, on which seeds and folds."""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gapbench import catalog
from gapbench.analysis.frames import grouped
from gapbench.suite.facts import dataset_facts, held_out
from gapbench.suite.runspec import Labels, PlannedRun, RunSpec, run_id
from gapbench.suite.tunable import Tunable, TunableCell
from gapbench.tuning.search import Point, Range, Round, Rules, Search, Stage, alike_by, rate_of, replay, scores_of, values_of

SUFFIX = ".tune"
"""Of the results directory that holds a suite's trials."""

STRIDE = 2
"""Powers in a step: rates are refined by half steps."""
FINALISTS = 5
"""Points that are tried again on fresh seeds."""
FAR = 80
"""A power that no search comes to."""
FEWEST_SEEDS = 3
"""Of the check."""


@dataclass(frozen=True)
class Space:
    """What is searched for cells that only differ in what is searched: they are tuned once."""

    title: str
    """The names of the cells."""
    cells: tuple[TunableCell, ...]
    centre: int
    """The power of the step between the square-root and the linear guess."""

    @property
    def base_rate(self) -> float:
        """The learning rate at the reference batch size, which powers of the step are multiplied with."""
        return self.cells[0].run.spec.reference_learning_rate


@dataclass(frozen=True)
class Trial:
    """One run of the search."""

    title: str
    """Of its space."""
    point: Point
    stage: Stage
    seed: int
    fold: int
    spec: RunSpec

    @functools.cached_property
    def run_id(self) -> str:
        """Its id, as of any run."""
        return run_id(self.spec)


class Trials:
    """The search of one suite: its rules, its spaces, and the runs that its points stand for.

    Raises:
        SuiteError: what [tune] says does not fit the suite, or a trial cannot be made of one of its cells.
    """

    def __init__(self, tunable: Tunable) -> None:
        self.tunable = tunable
        tune = tunable.tune
        self.searches_rate = "learning_rate" in tune.search
        named = [name for name in ("momentum", "weight_decay", "warmup") if name in tune.search]
        self.others = [dict(zip(named, values, strict=True)) for values in itertools.product(*(getattr(tune, name) for name in named))]
        rates, stride = ((tune.trials, tune.extend_by, tune.extend_at_most), STRIDE) if self.searches_rate else ((1, 1, 0), 1)
        self.rules = Rules(*rates, others=len(self.others), stride=stride, finalists=FINALISTS, ends=self.searches_rate)
        self.metric = catalog.task_of(tunable.cells[0].run.spec.model.name).headline
        """What its points are compared by, on held-out examples."""
        self.folds = self._count_folds()
        self.check_seeds = tuple(tune.check_seeds) or self._fresh_seeds()
        """Of every point of the check."""
        self.spaces = {space.title: space for space in self._find_spaces()}
        self.name = f"{tunable.suite.name}{SUFFIX}"

    def replay(self, outcome: Callable[[str], tuple[str, float, float] | None]) -> Search:
        """Returns the rounds that outcomes lead to.

        Args:
            outcome: of a run by its id: outcome, `metric` and loss on the held-out part; None where it has none.
        """

        def runs(title: str, point: Point, stage: Stage) -> list[str]:
            return [trial.run_id for trial in self.of_point(title, point, stage)]

        centres = {title: space.centre for title, space in self.spaces.items()}
        alike = alike_by(values_of(runs, outcome, self.folds))
        return replay(centres, self.rules, scores_of(runs, outcome, self.metric), alike)

    def of_round(self, tried: Round) -> list[Trial]:
        """Returns the runs of a round."""
        return [trial for title, points in tried.points.items() for point in points for trial in self.of_point(title, point, tried.stage)]

    @functools.cache  # noqa: B019 - one search lives as long as its program
    def of_point(self, title: str, point: Point, stage: Stage) -> tuple[Trial, ...]:
        """Returns the runs of a point: every seed, and for each every fold."""
        space, tune = self.spaces[title], self.tunable.tune
        seeds = tune.seeds if stage == "trial" else self.check_seeds
        values = self.values(space, point)
        return tuple(
            Trial(title, point, stage, seed, fold, self._spec(space.cells[0], values, seed, fold))
            for seed in seeds
            for fold in range(self.folds)
        )

    def rate(self, space: Space, power: int) -> float:
        """Returns a learning rate that was tried."""
        if not self.searches_rate:
            return space.cells[0].run.spec.learning_rate
        return rate_of(space.base_rate, self.tunable.tune.step, power / self.rules.stride)

    def values(self, space: Space, point: Point) -> dict[str, Any]:
        """Returns a point as the `set` of an [[override]]."""
        values: dict[str, Any] = {"learning_rate": self.rate(space, point.power)} if self.searches_rate else {}
        for name, value in self.others[point.other].items():
            values |= {"optimizer": {"momentum": value}} if name == "momentum" else {name: value}
        return values

    def held_out(self, space: Space) -> int:
        """Returns the number of training examples that a trial is scored on."""
        return held_out(self._training_set(space.cells[0]), self.tunable.tune.holdout)

    def planned(self, rounds: Iterable[Round]) -> tuple[PlannedRun, ...]:
        """Returns the runs of rounds with their labels: a cell for each point of a space."""
        titles = list(self.spaces)
        trials = [trial for tried in rounds for trial in self.of_round(tried)]
        trials.sort(key=lambda trial: (titles.index(trial.title), trial.point))
        cells = list(dict.fromkeys((trial.title, trial.point) for trial in trials))
        labels = {cell: self._labels(*cell, order) for order, cell in enumerate(cells)}
        return tuple(PlannedRun(run_id=trial.run_id, spec=trial.spec, labels=labels[trial.title, trial.point]) for trial in trials)

    def metadata(self, rounds: Iterable[Round]) -> dict[str, Any]:
        """Returns what tables have to know to read the search from them alone, as plain JSON."""
        tune = self.tunable.tune
        positions = {title: position for position, title in enumerate(self.spaces)}
        return {
            "suite": self.tunable.suite.name,
            "rules": asdict(self.rules),
            "search": list(tune.search),
            "step": tune.step,
            "others": self.others,
            "holdout": tune.holdout,
            "folds": self.folds,
            "seeds": list(tune.seeds),
            "check_seeds": list(self.check_seeds),
            "cells": [self._described(space) for space in self.spaces.values()],
            "trials": [
                [positions[trial.title], trial.point.power, trial.point.other, trial.stage, trial.seed, trial.fold, trial.run_id]
                for tried in rounds
                for trial in self.of_round(tried)
            ],
        }

    def at_most_after(self, search: Search) -> list[Round]:
        """Returns the rounds that may still follow the last one, as many and as large as they can be: for their price.

        Which points they will have is not known; those beyond the range and those of the grid stand for them.
        """
        if search.complete:
            return []
        left = {title: self.rules.extend_at_most - (own.size - self.rules.trials) for title, own in search.ranges.items()}
        refined = search.rounds[-1].name == "refinement"
        beyond = {title: _beyond(own, 0 if refined else left[title]).points(self.rules.others) for title, own in search.ranges.items()}
        between = {title: () if refined else self.rules.between(Point(space.centre)) for title, space in self.spaces.items()}
        tried = {title: (*search.tried(title), *between[title], *beyond[title]) for title in self.spaces}
        if search.rounds[-1].stage == "check":
            beyond, between, check = {}, {}, {}
            left_over = {title: set(search.tried(title)) - set(search.tried(title, "check")) for title in self.spaces}
        else:
            check = {title: points[: self.rules.finalists] for title, points in tried.items()}
            left_over = {title: set(points[self.rules.finalists :]) for title, points in tried.items()}
        # At one combination of whatever else is searched, every rate may come to be an end.
        ends = {title: tuple(point for point in points if self.rules.ends and not point.other) for title, points in left_over.items()}
        names: tuple[tuple[str, Stage, Mapping[str, tuple[Point, ...]]], ...] = (
            ("extensions", "trial", beyond), ("refinement", "trial", between), ("check", "check", check), ("ends", "check", ends)
        )  # fmt: skip
        return [Round(*one) for one in names if any(one[2].values())]

    def _described(self, space: Space) -> dict[str, Any]:
        spec, labels = space.cells[0].run.spec, space.cells[0].run.labels
        return {
            "title": space.title,
            "cells": [cell.name for cell in space.cells],
            "words": [[*cell.run.labels.words.values()] for cell in space.cells],
            "batch_size": spec.batch_size,
            "regimes": list(dict.fromkeys(cell.run.labels.regime for cell in space.cells)),
            "budget": labels.budget,
            "dataset": spec.dataset.name,
            "model": spec.model.name,
            "model_options": spec.model.options,
            "centre": space.centre,
            "base_rate": space.base_rate,
            "rate": None if self.searches_rate else spec.learning_rate,
            "held_out": self.held_out(space),
        }

    def _labels(self, title: str, point: Point, order: int) -> Labels:
        space = self.spaces[title]
        words = {"arm": title, "learning_rate": f"rate {self.rate(space, point.power):g}"}
        words |= {name: f"{name.replace('_', ' ')} {value:g}" for name, value in self.others[point.other].items()}
        labels = space.cells[0].run.labels
        change = labels.change.model_copy(update={"learning_rate_rule": "set", "learning_rate_factor": 1.0, "untuned": False})
        names = {"suite": self.name, "cell": ", ".join(words.values()), "arm": "", "cell_order": order, "words": words}
        return labels.model_copy(update={**names, "reference_cell": False, "learning_rate_rule": change.rate_label, "change": change})

    def _find_spaces(self) -> list[Space]:
        alone = (Space(cell.name, (cell,), self._centre(cell) if self.searches_rate else 0) for cell in self.tunable.cells)
        groups = grouped((self._searched_alike(space), space) for space in alone).values()
        return [Space(" = ".join(one.title for one in own), tuple(one.cells[0] for one in own), own[0].centre) for own in groups]

    def _searched_alike(self, space: Space) -> tuple[Any, ...]:
        """Returns what cells have in common that are tuned once: the runs of their points."""
        # Far below and above, too: a warmup from the reference rate is none below it.
        centre, first_seed = space.centre, self.tunable.tune.seeds[0]
        far = (centre - FAR, centre, centre + FAR) if self.searches_rate else (centre,)
        runs = [self._spec(space.cells[0], self.values(space, Point(power)), first_seed, 0) for power in far]
        return (*map(run_id, runs), centre, space.base_rate)

    def _centre(self, cell: TunableCell) -> int:
        """Returns the power halfway between the square-root and the linear guess, after a look whether the grid holds both."""
        spec, step = cell.run.spec, self.tunable.tune.step
        linear = round(math.log(spec.batch_size / spec.reference_batch_size, step), 9)
        centre = round(0.75 * linear)
        grid = self.rules.grid(centre * self.rules.stride)
        low, high = grid.low / self.rules.stride, grid.high / self.rules.stride
        if not (low <= min(linear, linear / 2) and max(linear, linear / 2) <= high):
            needed = 2 * math.ceil(max(abs(linear - centre), abs(linear / 2 - centre))) + 1
            base = spec.reference_learning_rate
            raise self.tunable.problem(
                ("tune", "trials"),
                f"{self.rules.trials} learning rates by factors of {step:g} do not hold both guesses for {cell.name}, "
                f"{base * step ** (linear / 2):.3g} (square root) and {base * step**linear:.3g} (linear); give {needed} trials, "
                "or a larger step (at most 2)",
            )
        return centre * self.rules.stride

    def _fresh_seeds(self) -> tuple[int, ...]:
        """Returns as many seeds as tell apart what the suite can: at least half as many as its cells have.

        With n seeds a cell the suite sees a gap of 2.8 sqrt(2 / n) spreads with 80 % chance. Two scores over half as many differ by
        chance, as standard error, by less than half of that.
        """
        cells = Counter(run.labels.cell for run in self.tunable.suite.runs)
        first = max(self.tunable.tune.seeds) + 1
        return tuple(range(first, first + max(FEWEST_SEEDS, -(-max(cells.values()) // 2))))

    def _count_folds(self) -> int:
        """Returns how many parts are held out in turn: as many as make up a test set, so that rates are told apart as well as gaps are."""
        tune = self.tunable.tune
        counts = []
        for cell in self.tunable.cells:
            total = self._training_set(cell)
            part = held_out(total, tune.holdout)
            if not 0 < part < total:
                raise self.tunable.problem(
                    ("tune", "holdout"),
                    f"holdout = {tune.holdout:g} takes {part} of {total} training examples; it must take some and leave some",
                )
            if tune.folds * part > total:
                fitting = math.floor(1e4 * (total // tune.folds) / total) / 1e4
                raise self.tunable.problem(
                    ("tune", "folds"),
                    f"{tune.folds} folds of {part} examples are more than the {total} training examples of {cell.name}; "
                    f"set holdout = {fitting:g}, or give fewer folds",
                )
            counts.append(min(-(-self._test_set(cell) // part), total // part))
        return tune.folds or max(counts)

    def _training_set(self, cell: TunableCell) -> int:
        """Returns the number of training examples before any is held out."""
        dataset = cell.run.spec.dataset
        return int(dataset.option("train_size", 0) or dataset_facts(dataset).train_examples)

    def _test_set(self, cell: TunableCell) -> int:
        """Returns the number of test examples that gaps are measured on."""
        dataset = cell.run.spec.dataset
        return int(dataset.option("test_size", 0) or dataset_facts(dataset).test_examples)

    def _spec(self, cell: TunableCell, values: Mapping[str, Any], seed: int, fold: int) -> RunSpec:
        return self.tunable.trial(cell, values, seed=seed, holdout=self.tunable.tune.holdout, fold=fold)


def _beyond(own: Range, count: int) -> Range:
    """Returns as many rates above a range."""
    return Range(own.high + own.stride, own.high + count * own.stride, own.stride)


def specs_of(trials: Sequence[Trial]) -> dict[str, RunSpec]:
    """Returns the specs of trials, each id once."""
    return {trial.run_id: trial.spec for trial in trials}
