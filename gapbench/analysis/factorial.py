"""The grid as a factorial: what each axis of two levels does by itself, and how much that depends on another.

Where arms stack one change on another, the order of stacking decides how much each seems to do. In a factorial every combination of
levels is a cell; the effect of an axis is the mean difference between its levels over all combinations of the others, and the
interaction of two axes is half of what the effect of one changes with the level of the other (Box, Hunter and Hunter, Statistics for
Experimenters). Both are contrasts of cell means with coefficients plus or minus 2 / (number of cells).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from gapbench import catalog
from gapbench.analysis.cells import Cell, Panel, in_unit, is_paired
from gapbench.analysis.formats import gap_digits, interval_text, listed, signed
from gapbench.analysis.frames import Columns, named, records
from gapbench.analysis.stats import Array, Difference, combination, holm, is_separated
from gapbench.catalog import Metric

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Factor:
    """An axis of two levels."""

    name: str
    """Of the field, in words."""
    low: str
    high: str
    """Its levels, in the suite's order: an effect is that of going from the first to the second."""

    def __str__(self) -> str:
        return f"{self.name} {self.low} → {self.high}"


@dataclass(frozen=True, kw_only=True)
class Effect(Difference):
    """A main effect (one factor) or an interaction (two), in the unit of the metric's gaps."""

    factors: tuple[Factor, ...]
    metric: Metric
    """On the test examples."""
    p_holm: float | None = None
    """Adjusted over all effects of the factorial on this measure."""

    @property
    def measure(self) -> str:
        """The column that it is an effect on, such as `test_accuracy`."""
        return self.metric.column("test")

    @property
    def name(self) -> str:
        """Such as "ghost batch size off → 16" or "ghost batch size × budget"."""
        return str(self.factors[0]) if len(self.factors) == 1 else " × ".join(factor.name for factor in self.factors)

    @property
    def separated(self) -> bool:
        """Whether it differs from zero, all effects of the factorial on this measure judged together."""
        return is_separated(self.p_holm)


@dataclass(frozen=True, eq=False)
class Factorial:
    """The factorial of a panel's grid, at one combination of what is no factor."""

    panel: Panel
    stratum: Mapping[str, str]
    """Axes of more than two levels, with the level that this factorial is at."""
    factors: tuple[Factor, ...]
    cells: tuple[Cell, ...] = field(repr=False)
    """2 to the power of the number of factors, the last factor varying fastest."""
    effects: tuple[Effect, ...]
    """By measure: main effects, then interactions of two; empty where `reason` says why."""
    reason: str = ""

    @property
    def headline(self) -> tuple[Effect, ...]:
        """The effects on what the panel's cells are compared by."""
        return self.of(self.panel.metric.column("test"))

    @property
    def at(self) -> str:
        """The stratum in words; empty where there is only one."""
        return ", ".join(f"{words(axis)} {level}" for axis, level in self.stratum.items())

    @property
    def title(self) -> str:
        """Panel, and the stratum where there are several."""
        return f"{self.panel.title}, {self.at}" if self.at else self.panel.title

    def of(self, measure: str) -> tuple[Effect, ...]:
        """Returns the effects on one measure, such as `test_accuracy`."""
        return tuple(effect for effect in self.effects if effect.measure == measure)


def factorials(panels: Sequence[Panel]) -> tuple[Factorial, ...]:
    """Returns the factorials of all panels whose grid has at least two axes of two levels; none is an empty tuple."""
    return tuple(found for panel in panels for found in _of_panel(panel))


def words(axis: str) -> str:
    """Returns the name of a field in words."""
    return axis.replace("_", " ")


def _of_panel(panel: Panel) -> Iterator[Factorial]:
    grid = [cell for cell in panel.cells if not cell.arm and cell.axes]
    axes = dict.fromkeys(axis for cell in grid for axis in cell.axes)
    levels = {axis: [*dict.fromkeys(cell.axes[axis] for cell in grid if axis in cell.axes)] for axis in axes}
    pairs = {axis: known for axis, known in levels.items() if len(known) == 2}
    if len(pairs) < 2:
        return
    factors = tuple(Factor(words(axis), *known) for axis, known in pairs.items())
    strata = _combinations({axis: known for axis, known in levels.items() if len(known) > 2})
    single = {axis: known[0] for axis, known in levels.items() if len(known) == 1}
    by_levels = {frozenset(cell.axes.items()): cell for cell in grid}
    for stratum in strata:
        cells = [by_levels.get(frozenset((single | stratum | own).items())) for own in _combinations(pairs)]
        yield _factorial(panel, stratum, factors, cells)


def _combinations(levels: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Returns every combination of levels by axis, the last axis varying fastest."""
    return [dict(zip(levels, own, strict=True)) for own in itertools.product(*levels.values())]


def _factorial(panel: Panel, stratum: Mapping[str, str], factors: tuple[Factor, ...], cells: Sequence[Cell | None]) -> Factorial:
    found = tuple(cell for cell in cells if cell is not None)
    missing = len(cells) - len(found)
    reason = f"{missing} of {len(cells)} combinations {'is' if missing == 1 else 'are'} not in the grid" if missing else ""
    reason = reason or "; ".join(f"{cell.name}: {cell.ok_of()}" for cell in found if not cell.complete)
    if reason:
        return Factorial(panel, stratum, factors, found, (), reason)
    effects = tuple(effect for metric in catalog.metrics().values() for effect in _effects(factors, found, metric))
    return Factorial(panel, stratum, factors, found, effects, "" if effects else "no split in common")


def _effects(factors: Sequence[Factor], cells: Sequence[Cell], metric: Metric) -> list[Effect]:
    """Returns main effects and interactions of two on a metric, judged together; none where a cell lacks it."""
    samples = [in_unit(cell, metric) for cell in cells]
    chosen = [which for size in (1, 2) for which in itertools.combinations(range(len(factors)), size)] if all(samples) else []
    effects = []
    for which in chosen:
        found = combination(samples, contrast_coefficients(len(factors), which), paired=is_paired(*cells))
        if found is not None:
            effects.append(Effect(**vars(found), factors=tuple(factors[position] for position in which), metric=metric))
    adjusted = holm([effect.p_value for effect in effects])
    return [replace(effect, p_holm=p_holm) for effect, p_holm in zip(effects, adjusted, strict=True)]


def contrast_coefficients(count: int, which: tuple[int, ...]) -> Array:
    """Returns the coefficient of every cell of a factorial of `count` factors, the last varying fastest.

    Args:
        count: number of factors.
        which: positions of the factors whose effect (one) or interaction (two or more) it is.
    """
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=count)))
    coefficients: Array = signs[:, list(which)].prod(axis=1) / 2 ** (count - 1)
    return coefficients


# The factorial in words and as tables: which axis does something by itself, and which ones depend on another.

COLUMNS = ("effect", "n", "test accuracy, pp", "p (Holm)", "test loss, nats", "p (Holm), loss")
OF_EFFECT: Columns = {
    "panel": "one.title", "measure": "effect.measure", "effect": "effect.name", "order": "order",
    **named("estimate", "low", "high", of="effect"), "degrees_of_freedom": "effect.degrees",
    **named("p_value", "p_holm", "separated", "method", "n", of="effect"),
}  # fmt: skip


def effect_sentences(panel: Panel) -> list[str]:
    """Returns what the factorials of a panel come to; nothing where its grid is none."""
    return [sentence for found in factorials([panel]) for sentence in _sentences(found)]


def effects_frame(found: Sequence[Factorial]) -> pd.DataFrame:
    """Returns the effects as tidy numbers, one row for each effect and measure: what `factorial.csv` holds."""
    import pandas as pd

    rows = ({"one": one, "effect": effect, "order": len(effect.factors)} for one in found for effect in one.effects)
    return pd.DataFrame(records(OF_EFFECT, rows))


def effect_rows(found: Factorial) -> list[tuple[str, ...]]:
    """Returns the texts of a table under COLUMNS, one row an effect."""
    accuracies, losses = ({effect.factors: effect for effect in found.of(measure)} for measure in ("test_accuracy", "test_loss"))
    out: list[tuple[str, ...]] = []
    for effect in found.headline:
        both = (accuracies.get(effect.factors), 2), (losses.get(effect.factors), 4)
        texts = [text for one, digits in both for text in ((interval_text(one, digits), _p(one)) if one else ("", ""))]
        out.append((effect.name, str(effect.n), *texts))
    return out


def effect_notes(found: Sequence[Factorial]) -> list[str]:
    """Returns how to read the table."""
    methods = {effect.method for one in found for effect in one.effects if effect.low is not None}
    if not methods:
        return []
    how = "one contrast for each split, t over splits" if methods == {"paired"} else "t with Welch and Satterthwaite's degrees of freedom"
    return [
        "Effect of an axis: mean over all combinations of the others of what its second level has more than its first. Interaction of two: "
        "half of what the effect of one changes from the first to the second level of the other.",
        f"Intervals: 95 % each, {how}. p by Holm's procedure over all effects of a factorial on one measure. Interactions of more than two "
        "axes are not tested; an effect is an average over them.",
    ]


def _sentences(found: Factorial) -> list[str]:
    head = f"Factorial of {listed([factor.name for factor in found.factors])}{f' at {found.at}' if found.at else ''}"
    if found.reason:
        return [f"{head}: no effects ({found.reason})."]
    effects = found.headline
    if any(effect.low is None for effect in effects):
        return [f"{head}: no interval from one seed."]
    main, two = ([effect for effect in effects if len(effect.factors) == order] for order in (1, 2))
    return [
        f"{head}, {len(found.cells)} cells: the largest of {len(main)} main effects is {_said(_largest(main))} (all: tables/factorial.md).",
        f"Of {len(two)} interactions of two, {sum(effect.separated for effect in two)} are separated from zero; "
        f"the largest is {_said(_largest(two))}.",
    ]


def _largest(effects: Sequence[Effect]) -> Effect:
    return max(effects, key=lambda effect: abs(effect.estimate))


def _said(effect: Effect) -> str:
    sign = "+" if effect.estimate >= 0 else ""
    width = 0.0 if effect.low is None else effect.estimate - effect.low
    digits = gap_digits(effect.metric, width or effect.estimate)
    text = f"{effect.name}, {sign}"
    if effect.p_value is None:
        return f"{text}{signed(effect.estimate, digits)} (no spread between seeds)"
    return f"{text}{interval_text(effect, digits, unit=f' {effect.metric.gap_unit}')}{'' if effect.separated else ', not separated'}"


def _p(effect: Effect) -> str:
    if effect.p_holm is None:
        return ""
    return "< 0.001" if effect.p_holm < 0.001 else f"{effect.p_holm:.3f}"
