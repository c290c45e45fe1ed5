"""The papers' numbers as data, each with its source and how it was obtained.

published.value("hoffer2017/f1-mnist", "LB").percent        # 97.05
published.table("hoffer2017", "table1").rows[0].values["SB"]
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from gapbench.core.errors import UnknownNameError
from gapbench.core.registry import unknown_name
from gapbench.published.figures import PublishedCurve, PublishedFigure, figure, figures

__all__ = [
    "PAPERS",
    "Paper",
    "PublishedCurve",
    "PublishedFigure",
    "PublishedRow",
    "PublishedTable",
    "PublishedValue",
    "figure",
    "figures",
    "papers",
    "table",
    "tables",
    "value",
]

PAPERS = ("hoffer2017", "keskar2017", "goyal2017")


@dataclass(frozen=True)
class Paper:
    """A paper, as it is cited."""

    title: str
    authors: str
    short: str
    """Such as "Hoffer et al. 2017"."""
    source: str
    """Where it appeared, with its arXiv number."""


@dataclass(frozen=True)
class PublishedValue:
    """A published test accuracy: of one run, or the mean of several."""

    percent: float
    rounding_pp: float
    """Half a unit of the last printed digit, or the error of reading it off a figure, in percentage points."""
    batch_size: int
    source: str
    """Paper and table."""
    how: str
    """How the number was obtained."""
    note: str = ""
    deviation_pp: float | None = None
    """Standard deviation over the runs, in percentage points; None: one run, or not printed."""
    runs: int = 1
    """That `percent` is the mean of."""
    train_examples: int | None = None
    """Size of the training set, where the data set is a user's own folder; None: that of the catalog."""

    @property
    def test_accuracy(self) -> float:
        """The accuracy as a fraction."""
        return self.percent / 100.0


@dataclass(frozen=True)
class PublishedRow:
    """One row of a table: a network on a data set, with a value for each arm."""

    network: str
    dataset: str
    recipe: str
    """The recipe of the catalog that trains the same; empty where there is none."""
    batch_size: int
    """Of the arm SB."""
    large_batch_size: int
    """Of the other arms, where a value does not say its own; where arms are batch sizes, the largest."""
    values: dict[str, PublishedValue]
    """By label of the arm, in the order of the paper."""
    note: str = ""
    regime: str = ""
    """Where arms are batch sizes (as in a figure): the regime of all of them, without ghost batch norm."""


@dataclass(frozen=True)
class PublishedTable:
    """One table of a paper, or the numbers of one of its figures."""

    caption: str
    source: str
    how: str
    ghost_batch_size: int | None
    """None: no ghost batch norm."""
    rows: tuple[PublishedRow, ...]


def papers() -> tuple[Paper, ...]:
    """Returns the papers whose numbers are kept here."""
    return tuple(Paper(**{name: _data(paper)[name] for name in ("title", "authors", "short", "source")}) for paper in PAPERS)


def table(paper: str, name: str) -> PublishedTable:
    """Returns a table of a paper: "table1" of "hoffer2017", for example.

    Raises:
        UnknownNameError: there is no such paper or table.
    """
    if paper not in PAPERS:
        raise UnknownNameError(unknown_name("paper", paper, PAPERS))
    tables = _tables(paper)
    if name not in tables:
        raise UnknownNameError(unknown_name("table", name, tables))
    return tables[name]


def tables(paper: str) -> tuple[str, ...]:
    """Returns the names of a paper's tables.

    Raises:
        UnknownNameError: there is no such paper.
    """
    if paper not in PAPERS:
        raise UnknownNameError(unknown_name("paper", paper, PAPERS))
    return tuple(_tables(paper))


def value(recipe: str, arm: str, batch_size: int | None = None) -> PublishedValue | None:
    """Returns what a paper reports for a recipe and the label of an arm, or None where it reports nothing.

    `batch_size` is that of the arm; None: the first that is reported.
    """
    for paper in PAPERS:
        for published in _tables(paper).values():
            for row in published.rows:
                if recipe and row.recipe == recipe and arm in row.values and batch_size in (None, row.values[arm].batch_size):
                    return row.values[arm]
    return None


def value_at(recipe: str, regime: str, batch_size: int) -> PublishedValue | None:
    """Returns what a paper reports for a recipe at a batch size in a regime without ghost batch norm, or None where it reports nothing."""
    for paper in PAPERS:
        for published in _tables(paper).values():
            for row in published.rows:
                if recipe and regime and (row.recipe, row.regime) == (recipe, regime):
                    return next((found for found in row.values.values() if found.batch_size == batch_size), None)
    return None


@functools.cache
def _tables(paper: str) -> dict[str, PublishedTable]:
    data = _data(paper)
    return {name: _table(entry, data["short"], data["source"]) for name, entry in data.items() if isinstance(entry, dict)}


@functools.cache
def _data(paper: str) -> dict[str, Any]:
    return tomllib.loads(resources.files("gapbench.published").joinpath(f"{paper}.toml").read_text(encoding="utf-8"))


def _table(entry: dict[str, Any], paper: str, address: str) -> PublishedTable:
    source = f"{paper}, {entry['source']}, {address}"
    rows = tuple(_row(row, source, entry) for row in entry["rows"])
    return PublishedTable(entry["caption"], source, entry["how"], entry.get("ghost_batch_size"), rows)


def _row(row: dict[str, Any], source: str, entry: dict[str, Any]) -> PublishedRow:
    note = row.get("note", "")
    sizes = {arm: row["batch_size"] if arm == "SB" else row["large_batch_size"] for arm in row["values"]} | row.get("batch_sizes", {})
    values = {}
    for arm, printed in row["values"].items():
        mean, _, deviation = printed.partition(" +- ")
        values[arm] = PublishedValue(
            percent=float(mean),
            rounding_pp=entry.get("read_within_pp", 0.5 * 10.0 ** -len(mean.partition(".")[2])),
            batch_size=sizes[arm],
            source=source,
            how=entry["how"],
            note=note,
            deviation_pp=float(deviation) if deviation else None,
            runs=entry.get("runs", 1),
            train_examples=row.get("train_examples"),
        )
    sizes_of_row = row["batch_size"], row["large_batch_size"]
    return PublishedRow(row["network"], row["dataset"], row["recipe"], *sizes_of_row, values, note, row.get("regime", ""))
